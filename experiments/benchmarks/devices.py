"""Chain-generations per second by number of devices.

    python experiments/benchmarks/devices.py
        1, 2, 4 and 8 virtual devices of the CPU, about 2 minutes on 2 cores
    python experiments/benchmarks/devices.py real  1, 2, 4, ... of the available accelerators

Virtual devices share the cores of the machine, so the table shows the overhead of distribution, not
the gain from more devices. Each row runs in a separate process; times are the best of three,
without compilation. Results: docs/scale.md.
"""

import os
import subprocess
import sys
import time

COUNTS = (1, 2, 4, 8)
# Name -> chains, generations.
CASES = {
    "Gaussian d=1, M=100": (100_000, 200),
    "Gaussian d=10, M=1,000": (8192, 40),
    "categorical K=100, M=1,000": (16_384, 40),
}


def process_of(case):
    import numpy as np

    import collapse_jax as cj

    if case.startswith("categorical"):
        estimator, source = (
            cj.estimators.categorical(100),
            cj.sources.categorical(np.full(100, 0.01)),
        )
    else:
        dim = int(case.split("d=")[1].split(",")[0])
        estimator, source = (
            cj.estimators.gaussian(dim),
            cj.sources.normal(np.zeros(dim), np.eye(dim)),
        )
    size = int(case.split("M=")[1].replace(",", ""))
    return cj.generational_process(estimator, source, cj.workflows.replace(), sample_size=size)


def measure(count):
    """Chain-generations a second of each case on the first `count` devices.

    The last column is CPU seconds a wall second.
    """
    import jax

    import collapse_jax as cj

    row = []
    for case, (chains, generations) in CASES.items():
        metric = "heterozygosity" if case.startswith("categorical") else "log_variance"
        options = {
            "generations": generations,
            "chains": chains,
            "metrics": (metric,),
            "record": generations,
        }
        process, times = process_of(case), []
        for _ in range(4):
            began, busy = time.perf_counter(), time.process_time()
            cj.simulate(process, jax.random.key(0), **options, devices=jax.devices()[:count])
            times.append((time.perf_counter() - began, time.process_time() - busy))
        wall, cpu = min(times[1:])
        row.append(
            f"{chains * generations / wall / 1e6:,.1f} ({chains * generations / cpu / 1e6:,.1f})"
        )
    print(f"| {count} | {' | '.join(row)} |", flush=True)


def main(kind):
    counts = COUNTS
    if kind == "real":
        code = "import jax; print(len(jax.devices()))"
        there = int(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout
        )
        counts = [count for count in COUNTS if count <= there]
    print("millions of chain-generations a second of wall time (in brackets: of CPU time)\n")
    print(f"| devices | {' | '.join(CASES)} |\n|{'---|' * (len(CASES) + 1)}", flush=True)
    for count in counts:
        virtual = (
            {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "JAX_PLATFORMS": "cpu"}
            if kind != "real"
            else {}
        )
        subprocess.run(
            [sys.executable, __file__, "row", str(count)], env=os.environ | virtual, check=True
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["row"]:
        measure(int(sys.argv[2]))
    else:
        main("".join(sys.argv[1:2]))
