"""What a generation of K = 8 models costs, beside as many single chains.

    python experiments/benchmarks/ecosystems.py             all rows, some minutes
    python experiments/benchmarks/ecosystems.py gaussian    one family
    python experiments/benchmarks/ecosystems.py gaussian ring star

Of each family 80,000 single chains under `replace`, and under `mix` of two sources, then 10,000
chains of 8 models by who reads whom. Times are CPU-seconds of the process with all its threads, for
machines that others use too: those of 12 generations less those of 2, the least of three.
"""

import sys
import time

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.couplings import coupling_of
from collapse_jax.core.ecosystems.ecosystem import ecosystem
from collapse_jax.core.process import generational_process
from collapse_jax.drivers.simulate import simulate

MODELS, CHAINS, SIZE = 8, 10_000, 100
SHAPES = ("alone", "ring", "star", "complete")
FAMILIES = {
    "gaussian": (
        lambda: cj.estimators.gaussian(1),
        lambda: cj.sources.normal([0.0], [[1.0]]),
        "log_variance",
    ),
    "categorical": (
        lambda: cj.estimators.categorical(10),
        lambda: cj.sources.categorical(np.full(10, 0.1)),
        "heterozygosity",
    ),
}


def processor_seconds(process, chains, metric):
    """CPU-seconds of one generation of all chains, without compilation."""

    def run(generations):
        before = time.process_time()
        simulate(
            process,
            jax.random.key(0),
            generations=generations,
            chains=chains,
            metrics=metric,
            record=[generations],
            progress=False,
        )
        return time.process_time() - before

    run(2)
    return min((run(12) - run(2)) / 10 for _ in range(3))


def main(family, shapes):
    """Prints a line for each process, with its cost over that of the single chains."""
    estimator, source, metric = FAMILIES[family]
    estimator, source = estimator(), source()
    single = {}
    for name, flow in (
        ("replace", cj.workflows.replace()),
        ("mix(.8, 0, .2)", cj.workflows.mix(0.8, 0.0, 0.2)),
    ):
        process = generational_process(estimator, source, flow, sample_size=SIZE)
        single[name] = processor_seconds(process, MODELS * CHAINS, metric)
        print(f"{family}, {name}, 80,000 single chains: {1e3 * single[name]:.1f} ms", flush=True)
    for shape in shapes:
        coupling = np.eye(MODELS)
        if shape != "alone":
            settings = SimulateConfig(ecosystem=MODELS, coupling=shape, exchange=0.2).resolve()
            coupling = np.asarray(coupling_of(settings, 0.2).weights, float)
            coupling /= coupling.sum(1, keepdims=True)
        process = ecosystem(estimator, source, coupling, SIZE)
        began = time.process_time()
        cost = processor_seconds(process, CHAINS, metric)
        over = ", ".join(f"{cost / value:.2f} times {name}" for name, value in single.items())
        took = time.process_time() - began
        print(f"{family}, {shape}: {1e3 * cost:.1f} ms, {over} ({took:.0f} s in all)", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    chosen = [name for name in given if name in SHAPES] or list(SHAPES)
    for name in [name for name in given if name in FAMILIES] or list(FAMILIES):
        main(name, chosen)
