"""Real data that comes late, and real data that a model wrote in part. Not from a paper."""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "", "collapse_jax", "Derived here: schedules, recovery, contamination (theory.schedules)"
)
REAL = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])


def kept(key, workflow, at, *, size=20, chains=20_000):
    """1 - sum p^2 [chain, at] of counts of six categories, over that of the real distribution."""
    process = cj.generational_process(
        cj.estimators.categorical(6), cj.sources.categorical(REAL), workflow, sample_size=size
    )
    trace = cj.simulate(
        process, key, generations=int(at[-1]), chains=chains, metrics="heterozygosity", record=at
    )
    return trace["heterozygosity"] / (1 - np.sum(REAL**2))


@entry(
    "recovery-half-life",
    claim="A collapsed chain that gets 10% real data recovers half of what it has lost in 2.6 "
    "generations, whatever it has lost: each generation leaves (1 - .1)^2 (1 - 1/M) of the "
    "loss.",
    status="derived here",
    setting="six categories (.4 to .03), M = 20, replace for 99 generations, then mix(.9, 0, .1), "
    "20,000 chains",
    oracle="theory.schedules.retention, half_life and plateau",
    y="diversity kept",
)
def recovery(key):
    at = np.array([0, 5, 20, 50, 99, 100, 101, 103, 106, 110, 120, 150])
    flow = cj.workflows.switch({0: cj.workflows.replace(), 100: cj.workflows.mix(gamma=0.1)})
    gamma = np.where(np.arange(at[-1] + 1) < 100, 0.0, 0.1)
    exact = theory.schedules.retention(at, 20, gamma=gamma)
    plateau = 1 - theory.schedules.plateau(20, 0.1)
    half = theory.schedules.half_life(20, 0.1)
    return [
        compare.means(kept(key, flow, at), exact, at=at, what="diversity kept"),
        compare.equal(
            (plateau - exact[-4]) / (plateau - exact[4]),
            0.5 ** (7 / half),
            1e-9,
            "float64",
            at=[106],
            what="missing at generation 106, of what was missing at 99",
        ),
    ]


@entry(
    "contaminated-real",
    claim="If half of the real data was written by the newest model, it is worth half as much "
    "real data. If a model ten generations older wrote it, the loss is a quarter of that.",
    status="derived here",
    setting="six categories, M = 20, mix(.7, 0, .3), half of the real data written by generation "
    "g - 1 or g - 10, generations 0 to 60, 20,000 chains",
    oracle="theory.schedules.retention with contamination; with lag 1 it is mix(.85, 0, .15)",
    y="diversity kept",
)
def contamination(key):
    at, out = np.array([0, 1, 5, 10, 11, 20, 60]), []
    for place, lag in enumerate((1, 10)):
        flow = cj.workflows.contaminated(cj.workflows.mix(gamma=0.3), 0.5, lag=lag)
        exact = theory.schedules.retention(at, 20, gamma=0.3, contamination=0.5, lag=lag)
        found = kept(jax.random.fold_in(key, place), flow, at)
        out.append(compare.means(found, exact, at=at, what=f"diversity kept, lag {lag}"))
    same = theory.schedules.retention(at, 20, gamma=0.15)
    one = theory.schedules.retention(at, 20, gamma=0.3, contamination=0.5)
    return [*out, compare.equal(one, same, 1e-12, "float64", at=at, what="lag 1 as 15% real")]
