"""Kimura 1962: the probability that a favoured outcome takes over.

A verifier that accepts one outcome more often than the other acts as selection.
"""

import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "Kimura 1962", "On the probability of fixation of mutant genes in a population")


@entry(
    "kimura-takeover",
    claim="A verifier that favours an outcome by s does not save it if it is rare: an outcome "
    "with on average one point among M takes over with probability near 2 s, and is lost "
    "otherwise.",
    status="published formula",
    setting="two outcomes, the better one of real probability 1/30, the other accepted with "
    "probability 1/1.1, M = 30, replace, generations 0, 5 and 150, 4,000 chains",
    oracle="exact: theory.interventions.mapped_count_distribution, at its end "
    "theory.selection.takeover_probability; (1 - e^-2Msp)/(1 - e^-2Ms): "
    "kimura_takeover_probability",
    x="ones among 30",
    y="share of chains",
)
def takeover(key):
    size, advantage, at = 30, 0.1, np.array([0, 5, 150])
    family, real = cj.estimators.bernoulli(), 1 / size
    verifier = cj.curation.verified(lambda x: jnp.where(x == 1, 1.0, 1 / (1 + advantage)))
    process = cj.generational_process(
        family,
        cj.sources.population(family, cj.estimators.bernoulli_params(real)),
        verifier(cj.workflows.replace()),
        sample_size=size,
    )
    trace = cj.simulate(process, key, generations=150, chains=4_000, metrics=("mean",), record=at)
    ones, counts = np.rint(trace["mean"] * size).astype(int), np.arange(size + 1)

    def step(p):
        return p * (1 + advantage) / (p * (1 + advantage) + 1 - p)

    laws = [theory.interventions.mapped_count_distribution(g, size, real, step) for g in at]
    ends = theory.selection.takeover_probability(size, step)
    formula = theory.selection.kimura_takeover_probability(counts / size, size, advantage)
    return [
        *(
            compare.counts(
                np.bincount(ones[:, i], minlength=size + 1),
                laws[i],
                at=counts,
                what=f"law of the count, generation {g}",
            )
            for i, g in enumerate(at)
        ),
        compare.equal(
            laws[0] @ ends,
            laws[0] @ formula,
            0.01,
            "s and 1/M are finite",
            at=["Kimura"],
            what="probability of a takeover",
        ),
    ]
