"""Slatkin 1991: inbreeding coefficients of subdivided populations as ratios of mean times.

Models that read each other are such populations.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "Slatkin 1991", "Inbreeding coefficients and coalescence times")


def diversities(key, coupling, size, generations, chains):
    """Sums over generations of the variance within models and of the pool [chains, 2]."""
    process = cj.ecosystem(
        cj.estimators.gaussian(1, ddof=0), cj.sources.normal([0.0], [[1.0]]), coupling, size
    )
    names = ("within_variance", "pooled_variance")
    trace = cj.simulate(process, key, generations=generations, chains=chains, metrics=names)
    return np.stack([trace[name].astype(float).sum(1) for name in names], 1)


@entry(
    "slatkin-fst",
    claim="Of K models that each read a share m of the others, 1 / (1 + 2 M m (K / (K - 1))^2) "
    "of the pool's diversity, summed over the generations, is between models.",
    status="published formula",
    setting="four Gaussians (ddof = 0), M = 5, m = 0.1, sums over generations 0 to 250, 4,000 "
    "chains; the formula at M = 500, m = 0.001",
    oracle="theory.islands summed; theory.subdivision.fixation_index, exact, and "
    "wright_fixation_index, its limit for large M and small m",
    x="diversity, or a share of it",
    y="sum over generations",
)
def fixation(key):
    size, share, every = 5, 0.1, np.arange(251)
    coupling = np.full((4, 4), share / 3)
    np.fill_diagonal(coupling, 1 - share)
    sums = diversities(key, coupling, size, 250, 4_000)
    within = theory.islands.retention(every, size, coupling).mean(1).sum()
    pool = theory.islands.pooled_retention(every, size, coupling).sum()
    ends = sums.mean(0)
    ratios = sums[:, 0] / ends[0] - sums[:, 1] / ends[1]
    error = ends[0] / ends[1] * ratios.std(ddof=1) / np.sqrt(len(sums))
    rule, index = "ratio of two means of 4,000", theory.subdivision.fixation_index
    return [
        compare.means(sums, [within, pool], at=["within", "pool"], what="sums over generations"),
        compare.estimates(
            [1 - ends[0] / ends[1]],
            [error],
            [index(4, size, share)],
            at=["share"],
            what="share between models",
            tolerance=1e-4,
            why="what comes after generation 250",
            rule=rule,
        ),
        compare.equal(
            index(4, 500, 0.001),
            theory.subdivision.wright_fixation_index(4, 500, 0.001),
            0.001,
            "of order m and 1/M",
            at=["formula"],
            what="formula",
        ),
    ]
