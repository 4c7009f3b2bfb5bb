"""Gaussian chains by dimension: CPU time of a chain-generation, and of a first call.

    python experiments/benchmarks/dimensions.py                   about two minutes on 2 CPU cores
    XLA_FLAGS=--xla_cpu_max_isa=AVX2 python experiments/benchmarks/dimensions.py
                                                                  as on a CPU without AVX-512

CPU time, not wall time, so that other load on the machine matters less; the smallest of several
runs, every generation recorded. Every row runs in a separate process, without a compilation cache.
First call: tracing and compilation, and one run.
"""

import os
import time

import numpy as np
from chains import alone, amount, gaussian_process

DIMENSIONS = (1, 2, 5, 10, 12, 13, 16, 20, 32, 64)
SIZE, GENERATIONS, REPEATS = 1000, 20, 5


def row(dim: int) -> list[float]:
    """[CPU-seconds a chain-generation, CPU-seconds of the first call beyond a later one]."""
    import jax

    import collapse_jax as cj

    process, chains = gaussian_process(dim, SIZE), max(2**22 // (dim + 4) ** 2, 1024)

    def spent():
        began = time.process_time()
        cj.simulate(
            process,
            jax.random.key(0),
            generations=GENERATIONS,
            chains=chains,
            metrics=("mean", "log_variance"),
        )
        return time.process_time() - began

    first, later = spent(), min(spent() for _ in range(REPEATS))
    return [later / (chains * GENERATIONS), first - later]


def main() -> None:
    """Prints the table."""
    print(f"M = {SIZE:,}; {os.environ.get('XLA_FLAGS') or 'all instructions of the CPU'}")
    print("| d | CPU, a chain-generation | over d^2 | first call, CPU | peak memory |")
    print("|---|---|---|---|---|")
    for dim in DIMENSIONS:
        each, first, memory = alone(row, dim)
        cells = [str(dim), amount(each), amount(each / np.square(dim)), f"{first:.1f} s"]
        print("| " + " | ".join([*cells, f"{memory:.0f} MiB"]) + " |", flush=True)


if __name__ == "__main__":
    main()
