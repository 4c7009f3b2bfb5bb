"""Borkar 2025: with any external source of data the chain keeps a spread-out distribution.

Without one it ends in a single outcome.
"""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2506.09401", "Borkar 2025", "A theoretical basis for model collapse in recursive training"
)


@entry(
    "borkar-external",
    claim="Without external data a two-outcome model is absorbed in one outcome. One real point "
    "in a thousand is enough to prevent absorption for ever.",
    status="derived here",
    setting="Bernoulli, p = 0.3, M = 30, 0 or 0.1% real data, generation 600, 10,000 chains",
    oracle="the exact distribution of the count: "
    "theory.exponential_families.bernoulli_sum_distribution, "
    "theory.categorical.count_distribution; the two asymptotics: abstract of the paper",
    x="ones among 30",
    y="share of chains",
)
def external(key):
    family, out = cj.estimators.bernoulli(), []
    real = cj.sources.population(family, cj.estimators.bernoulli_params(0.3))
    exact = {
        0.0: theory.categorical.count_distribution(600, 30, 0.3),
        0.001: theory.exponential_families.bernoulli_sum_distribution(
            600, 30, 0.3, workflow="mix", gamma=0.001
        ),
    }
    for share, law in exact.items():
        process = cj.generational_process(
            family, real, cj.workflows.mix(1 - share, 0.0, share), sample_size=30
        )
        mean = cj.simulate(
            process,
            jax.random.fold_in(key, share > 0),
            generations=600,
            chains=10_000,
            metrics=("mean",),
            record=[600],
        )["mean"][:, -1]
        counts = np.bincount(np.rint(mean * 30).astype(int), minlength=31)
        out.append(
            compare.counts(
                counts, law, at=np.arange(31), what=f"law of the count, {share:.1%} real"
            )
        )
        out.append(
            compare.proportions(
                counts[0] + counts[30],
                10_000,
                law[0] + law[30],
                at=[f"{share:.1%}"],
                what="absorbed",
            )
        )
    return out
