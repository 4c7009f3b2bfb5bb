"""Strobeck 1987: the mean time to a common ancestor within a part does not depend on migration.

Models that read each other are such populations.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry
from collapse_jax.random.bits import split

PAPER = Paper(
    "",
    "Strobeck 1987",
    "Average number of nucleotide differences in a sample from a single subpopulation",
)


@entry(
    "strobeck-invariance",
    claim="However models read each other, the diversity within one, summed over the "
    "generations, is that of one model of K M points: K (M - 1).",
    status="published formula",
    setting="three Gaussians (ddof = 0), M = 5; 10% of one neighbour on a ring, or all alike; sums "
    "over generations 0 to 150, 3,000 chains",
    oracle="theory.subdivision.total_diversity = 12, of which less than .01 comes later",
    x="coupling",
    y="sum of the variance within a model",
)
def invariance(key):
    own = np.eye(3)
    couplings = {
        "ring": 0.9 * own + 0.1 * np.roll(own, 1, axis=1),
        "alike": np.full((3, 3), 1 / 3),
    }
    family, real, sums = cj.estimators.gaussian(1, ddof=0), cj.sources.normal([0.0], [[1.0]]), []
    for one, coupling in zip(split(key), couplings.values(), strict=True):
        trace = cj.simulate(
            cj.ecosystem(family, real, coupling, 5),
            one,
            generations=150,
            chains=3_000,
            metrics=("within_variance",),
        )
        sums.append(trace["within_variance"].astype(float).sum(1))
    total = theory.subdivision.total_diversity(3, 5)
    return compare.means(
        np.stack(sums, 1),
        [total, total],
        at=list(couplings),
        what="sum of the variance within",
        tolerance=0.01,
        why="what comes after generation 150",
    )
