"""Holtzman et al. 2020: nucleus sampling (top p), and a model trained on its own samples."""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("1904.09751", "Holtzman et al. 2020", "The Curious Case of Neural Text Degeneration")


@entry(
    "top-p-support",
    claim="Nucleus sampling in a loop cuts the tail again in every generation, for any number of "
    "samples, until nothing that is left can be cut.",
    status="derived here",
    setting="12 categories of Zipf's law, p = 0.9, M = 10^8, generations 0 to 12, 20 chains",
    oracle="the distribution, cut repeatedly: theory.interventions.nucleus_probabilities",
    y="categories left",
)
def support(key):
    law = 1 / np.arange(1, 13)
    law /= law.sum()
    workflow = cj.curation.top_p(0.9)(cj.workflows.replace())
    process = cj.generational_process(
        cj.estimators.categorical(12), cj.sources.categorical(law), workflow, sample_size=10**8
    )
    trace = cj.simulate(process, key, generations=12, chains=20, metrics=("support",))
    left, cut = [12], law
    for _ in range(12):
        cut = theory.interventions.nucleus_probabilities(cut, 0.9)
        left.append(np.count_nonzero(cut))
    at = np.arange(13)
    ours = trace["support"].astype(float)
    return [
        compare.equal(
            ours.max(0),
            left,
            0.0,
            "no cut is near a tie",
            at=at,
            what="categories left, most of 20",
        ),
        compare.equal(
            ours.min(0),
            left,
            0.0,
            "no cut is near a tie",
            at=at,
            what="categories left, fewest of 20",
        ),
    ]


@entry(
    "top-p-law",
    claim="With two categories and few samples, nucleus sampling is random drift that ends as "
    "soon as one of them reaches p.",
    status="derived here",
    setting="Bernoulli, 0.4, p = 0.85, M = 30, generations 2 and 10, 20,000 chains",
    oracle="the exact distribution of the count: theory.interventions.mapped_count_distribution "
    "of nucleus_probabilities",
    x="ones among 30",
    y="share of chains",
)
def law_of_two(key):
    at, family, size = [2, 10], cj.estimators.bernoulli(), 30
    real = cj.sources.population(family, cj.estimators.bernoulli_params(0.4))
    process = cj.generational_process(
        family, real, cj.curation.top_p(0.85)(cj.workflows.replace()), sample_size=size
    )
    trace = cj.simulate(process, key, generations=10, chains=20_000, metrics=("mean",), record=at)
    ones = np.rint(trace["mean"][:, 1:] * size).astype(int)

    def step(p):
        return np.array(
            [theory.interventions.nucleus_probabilities([1 - one, one], 0.85)[1] for one in p]
        )

    return [
        compare.counts(
            np.bincount(ones[:, i], minlength=size + 1),
            theory.interventions.mapped_count_distribution(g, size, 0.4, step),
            at=np.arange(size + 1),
            what=f"law of the count, generation {g}",
        )
        for i, g in enumerate(at)
    ]
