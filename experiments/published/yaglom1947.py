"""Yaglom 1947 after Kolmogorov 1938: critical branching processes that are still alive.

The sum of a Poisson sample whose rate is the last sample's mean is one.
"""

import numpy as np
from scipy import stats

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "", "Yaglom 1947", "Certain limit theorems of the theory of branching random processes"
)


@entry(
    "yaglom-survivors",
    claim="Of refitted Poisson rates a share 2 M rate / n is still above 0 after n fits, and "
    "their sums are exponential with mean n / 2: the surviving rates look larger and "
    "larger.",
    status="published formula",
    setting="M = 4, rate 1, replace, generation 99 (n = 100 fits), 20,000 chains; the survivors' "
    "sums in eight cells",
    oracle="theory.exponential_families.poisson_sum_distribution; the exponential distribution "
    "within 0.03",
    x="sum of a survivor's sample, to",
    y="share of the survivors",
)
def survivors(key):
    size, last = 4, 99
    family = cj.estimators.poisson()
    source = cj.sources.population(family, cj.estimators.poisson_params(1.0))
    process = cj.generational_process(family, source, cj.workflows.replace(), sample_size=size)
    trace = cj.simulate(
        process, key, generations=last, chains=20_000, metrics=("rate",), record=[last]
    )
    sums = np.rint(trace["rate"][:, -1].astype(float) * size).astype(int)
    law = theory.exponential_families.poisson_sum_distribution(last, size, 1.0, 4_000)
    alive, limit = 1 - law[0], stats.expon(scale=(last + 1) / 2)
    ends = np.append(np.floor(limit.ppf(np.arange(1, 8) / 8)).astype(int), 4_000)
    cells = np.diff((np.cumsum(law) - law[0])[ends], prepend=0) / alive
    held = np.histogram(sums[sums > 0], np.concatenate([[0], ends]) + 0.5)[0]
    why = "a hundred fits are not yet all"
    return [
        compare.proportions([np.sum(sums > 0)], len(sums), [alive], at=["alive"], what="alive"),
        compare.equal(
            alive, 2 * size / (last + 1), 0.006, why, at=["2 M rate / n"], what="alive, Kolmogorov"
        ),
        compare.counts(held, cells, at=[str(end) for end in ends], what="sums of survivors"),
        compare.equal(
            np.cumsum(cells)[:-1],
            limit.cdf(ends[:-1]),
            0.03,
            why,
            at=[str(end) for end in ends[:-1]],
            what="their law, Yaglom",
        ),
    ]
