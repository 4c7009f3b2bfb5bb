"""What simulations say that they hold, and what they do: run in a process of its own.

    python tests/drivers/held_memory.py CASE ...    a line of JSON for each: [case, said, held]

Held is the peak of resident memory above what it was before the second of two equal calls: the
first compiles, which is the program's own memory.
"""

import gc
import json
import pathlib
import sys
from typing import NamedTuple

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax.drivers.plan import Plan, memory_needed, recorded_generations
from collapse_jax.runs.memory import give_back


class Case(NamedTuple):
    """A family of a size under a workflow, and how it is simulated.

    models: those that read each other alike, where there are several.
    rows: of a fixed data set that is drawn from; 0 draws from the population.
    """

    family: str
    size: int
    chains: int
    generations: int
    record: int
    chunk: int = 100
    summary: bool = False
    models: int = 1
    rows: int = 0


CASES = {
    "categorical": Case("categorical 1000", 1000, 10**3, 20, 20),
    "categorical, summary": Case("categorical 1000", 1000, 10**3, 20, 1, summary=True),
    "many records": Case("gaussian 1", 100, 10**3, 10**4, 1),
    "many records, summary": Case("gaussian 1", 100, 10**3, 10**4, 1, 1000, True),
    "kde": Case("kde 1", 100, 10**3, 20, 1),
    "kde, summary": Case("kde 1", 100, 10**3, 20, 20, summary=True),
    "kde, d = 10": Case("kde 10", 100, 10**3, 10, 10),
    "10^5 records": Case("gaussian 1", 100, 10**3, 10**5, 1),
    "10^5 records, d = 10": Case("gaussian 10", 100, 10**3, 10**5, 1),
    "10^5 records, summary": Case("gaussian 1", 100, 10**3, 10**5, 1, 100, True),
    "10^6 chains": Case("gaussian 1", 100, 10**6, 10, 1),
    "10^6 chains, summary": Case("gaussian 1", 100, 10**6, 10, 1, summary=True),
    "10^6 chains, d = 10": Case("gaussian 10", 100, 10**6, 4, 1),
    "10^6 chains, d = 10, summary": Case("gaussian 10", 100, 10**6, 4, 4, summary=True),
    "10^6 chains, kde": Case("kde 1", 20, 10**6, 2, 2),
    "10^6 chains, kde, summary": Case("kde 1", 20, 10**6, 2, 2, summary=True),
    "2 10^5 chains, categorical": Case("categorical 1000", 1000, 2 * 10**5, 2, 2),
    "ecosystem, kde": Case("kde 1", 200, 10**3, 5, 5, models=8),
    "ecosystem, 2 10^5 chains": Case("gaussian 1", 100, 2 * 10**5, 4, 1, models=8),
    "ecosystem, rows": Case("gaussian 1", 600, 500, 2, 2, models=4, rows=2_000),
}
METRICS = {"gaussian": "log_variance", "categorical": "heterozygosity", "kde": "variance"}


def process_of(case):
    """The process, and its metric."""
    kind, number = case.family.split()
    number = int(number)
    workflow = cj.workflows.accumulate() if kind == "kde" else cj.workflows.replace()
    if kind == "categorical":
        family = cj.estimators.categorical(number)
        real = cj.sources.categorical(np.full(number, 1 / number))
    else:
        kde = kind == "kde"
        family = cj.estimators.kde(number, 0.1) if kde else cj.estimators.gaussian(number)
        real = cj.sources.normal(np.zeros(number), np.eye(number))
    if case.rows:
        x = np.random.default_rng(0).normal(size=(case.rows, number))
        real, workflow = cj.sources.dataset(x), cj.workflows.mix(gamma=0.2)
    if case.models > 1:
        coupling = np.full((case.models, case.models), 1 / case.models)
        process = cj.ecosystem(family, real, coupling, case.size, workflows=workflow)
        return process, (METRICS[kind],)
    process = cj.generational_process(family, real, workflow, sample_size=case.size)
    return process, (METRICS[kind],)


def resident(name):
    """VmRSS or VmHWM, in bytes."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def said_and_held(case):
    """Bytes that are said before it starts, and those that it holds."""
    (process, metrics), key = process_of(case), jax.random.key(0)
    plan = Plan(case.generations, case.chains, metrics, case.record, case.chunk)
    records = len(recorded_generations(case.generations, case.record))
    if case.summary:
        records = min(case.chunk, records)
    said = memory_needed(process, key, plan, records, on_devices=case.summary)
    simulate = cj.simulate_summary if case.summary else cj.simulate
    held = 0
    for _ in range(2):
        gc.collect()
        give_back()
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        simulate(
            process,
            key,
            generations=case.generations,
            chains=case.chains,
            metrics=metrics,
            record=case.record,
            chunk=case.chunk,
        )
        held = resident("VmHWM") - before
    return said, held


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps([name, *said_and_held(CASES[name])]), flush=True)
