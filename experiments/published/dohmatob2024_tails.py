"""Dohmatob et al. 2024: words of Zipf's law whose tail was cut off.

By the decoder, or by the data of a first model.
"""

import jax
import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2402.07043",
    "Dohmatob et al. 2024",
    "A Tale of Tails: Model Collapse as a Change of Scaling Laws",
)
EXPONENT = 1.5


@entry(
    "tails-cut",
    claim="If the tail is cut at rank k, the missing mass no longer falls as the power law "
    "T^-(1-1/b) but reaches a plateau, the mass beyond k.",
    status="derived here",
    setting="b = 1.5, k = 100, T = 10^2 .. 10^6 fresh draws of the cut distribution, 5,000 chains",
    oracle="sum over i > k of p_i, plus the sum over i <= k: theory.zipf.tail_mass, "
    "expected_missing_mass(cut=k)",
    x="draws",
    y="missing mass",
    log="xy",
)
def cut(key):
    k, sizes = 100, 10 ** np.arange(2, 7)
    plateau = float(theory.zipf.tail_mass(k, EXPONENT))
    real = cj.sources.categorical(theory.zipf.probabilities(k, EXPONENT))
    # Fresh real data in every generation, ten times as many as before: one run gives the whole
    # curve.
    process = cj.generational_process(
        cj.estimators.categorical(k),
        real,
        cj.workflows.mix(0.0, 0.0, 1.0),
        sample_size=lambda generation: 100 * 10**generation,
    )
    missing = cj.simulate(process, key, generations=4, chains=5_000, metrics=("missing_mass",))[
        "missing_mass"
    ]
    missing = plateau + (1 - plateau) * missing.astype(float)
    exact = np.array([theory.zipf.expected_missing_mass(size, EXPONENT, cut=k) for size in sizes])
    return [
        compare.means(missing, exact, at=sizes, what="missing mass"),
        compare.equal(
            missing[:, -1].mean(), plateau, 1e-6, "float32", at=[sizes[-1]], what="plateau"
        ),
    ]


@entry(
    "tails-copied",
    claim="Draws from a model that was fitted to T_0 real draws contain no more words than "
    "those: their missing mass has the missing mass of T_0 draws as its plateau.",
    status="derived here",
    setting="2,000 Zipf words, b = 1.5, T_0 = 200 real draws, T = 100 and 10,000 from their model, "
    "5,000 chains",
    oracle="averaged over distinct ancestors of T draws: theory.lineages.distinct_distribution, "
    "theory.zipf.expected_missing_mass",
    x="draws from the model",
    y="missing mass",
    log="x",
)
def copied(key):
    ranks, seen, sizes = 2_000, 200, np.array([100, 10_000])
    real, traces = cj.sources.categorical(theory.zipf.probabilities(ranks, EXPONENT)), []
    for one, size in zip(jax.random.split(key, len(sizes)), sizes.tolist(), strict=True):
        process = cj.generational_process(
            cj.estimators.categorical(ranks),
            real,
            cj.workflows.replace(),
            sample_size=lambda generation, size=size: jnp.where(generation == 0, seen, size),
        )
        traces.append(
            cj.simulate(process, one, generations=1, chains=5_000, metrics=("missing_mass",))[
                "missing_mass"
            ]
        )
    mass = np.array(
        [
            theory.zipf.expected_missing_mass(size, EXPONENT, num_categories=ranks)
            for size in range(1, seen + 1)
        ]
    )
    exact = [theory.lineages.distinct_distribution(size, seen) @ mass for size in sizes]
    made = np.stack([missing[:, 1] for missing in traces], axis=1)
    return [
        compare.means(made, exact, at=sizes, what="missing mass of the copies"),
        compare.means(traces[0][:, :1], mass[-1], at=[seen], what="of the real draws"),
        compare.at_least(
            made, np.full(2, mass[-1]), at=sizes, what="never below what the real draws miss"
        ),
    ]
