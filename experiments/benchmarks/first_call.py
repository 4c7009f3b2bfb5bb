"""What the first simulation of a process costs, from `import` to its numbers, by family.

    python experiments/benchmarks/first_call.py                       all, about 3 minutes of a core
    python experiments/benchmarks/first_call.py "gaussian d=20"       rows whose names have a text

Every row runs three times in fresh processes: without a compilation cache, with an empty one, and
with the cache that the second run left. All columns are CPU seconds of all threads, so that other
users of the machine change them little. "Second call" is the same simulation with another key:
nothing is compiled any more. With PYTHONPATH set to another checkout, that one is measured.
"""

import argparse
import itertools
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

COLUMNS = ("import", "process", "first call", "second call")
# name -> (family, its size, workflow, sample size, chains, generations, metrics).
GAUSSIAN, CATEGORICAL = ("mean", "variance", "log_variance"), ("heterozygosity",)
ROWS = {
    "README: gaussian d=1, accumulate": ("gaussian", 1, "accumulate", 100, 10_000, 200, GAUSSIAN),
    "gaussian d=1, M=100": ("gaussian", 1, "replace", 100, 10_000, 200, GAUSSIAN),
    "gaussian d=2, M=100": ("gaussian", 2, "replace", 100, 1_000, 100, GAUSSIAN),
    "gaussian d=10, M=100": ("gaussian", 10, "replace", 100, 1_000, 100, GAUSSIAN),
    "gaussian d=20, M=100": ("gaussian", 20, "replace", 100, 1_000, 100, GAUSSIAN),
    "gaussian d=64, M=1,000": ("gaussian", 64, "replace", 1_000, 256, 20, GAUSSIAN),
    "categorical K=100, M=1,000": ("categorical", 100, "replace", 1_000, 1_000, 200, CATEGORICAL),
    "categorical K=100, accumulate": (
        "categorical",
        100,
        "accumulate",
        1_000,
        1_000,
        50,
        CATEGORICAL,
    ),
}


def measured(name: str) -> dict[str, float]:
    """CPU-seconds of each column, in this process, which has imported nothing yet."""
    times = [time.process_time()]
    import jax
    import numpy as np

    import collapse_jax as cj

    parts = (cj.estimators, cj.sources, cj.workflows, cj.generational_process, cj.simulate)
    assert parts
    times.append(time.process_time())
    family, size, workflow, sample_size, chains, generations, metrics = ROWS[name]
    if family == "gaussian":
        estimator = cj.estimators.gaussian(dim=size)
        source = cj.sources.normal(np.zeros(size), np.eye(size))
    else:
        estimator = cj.estimators.categorical(size)
        source = cj.sources.categorical(np.full(size, 1 / size))
    process = cj.generational_process(
        estimator, source, getattr(cj.workflows, workflow)(), sample_size=sample_size
    )
    times.append(time.process_time())
    for seed in range(2):
        cj.simulate(
            process,
            jax.random.key(seed),
            generations=generations,
            chains=chains,
            metrics=metrics,
        )
        times.append(time.process_time())
    # What starting Python took is not ours.
    return dict(zip(COLUMNS, (b - a for a, b in itertools.pairwise(times)), strict=True))


def in_a_process(name: str, cache: str | None) -> dict[str, float]:
    """`measured` in a fresh process, with a folder for compiled programs or none."""
    environment = {
        variable: value
        for variable, value in os.environ.items()
        if variable != "JAX_COMPILATION_CACHE_DIR"
    }
    if cache is not None:
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), "--one", name]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def processor() -> str:
    """The name of the processor, its cores for this process, and its widest vectors."""
    told = pathlib.Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    values = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = values.get("flags", "").split()
    name = values.get("model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    widest = [said for said, flag in (("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in flags]
    return f"{name}, {cores} cores, {widest[0] if widest else 'vectors unknown'}"


def main(words: str) -> None:
    """Measures the rows whose names hold the words, and prints the table."""
    import jax

    import collapse_jax

    print(f"{processor()}; jax {jax.__version__}; {pathlib.Path(collapse_jax.__file__).parent}\n")
    head = ("CPU-s", "compilation cache", *COLUMNS, "import to first numbers")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name in ROWS:
        if words not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for kind, cache in (("none", None), ("empty", folder), ("warm", folder)):
                found = in_a_process(name, cache)
                total = sum(found[column] for column in COLUMNS[:3])
                cells = [f"{found[column]:.2f}" for column in COLUMNS]
                print(f"| {name} | {kind} | {' | '.join(cells)} | {total:.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="?", default="", help="a part of the names of rows")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one)))
    else:
        main(given.words)
