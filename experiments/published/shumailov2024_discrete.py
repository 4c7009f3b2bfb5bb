"""Shumailov et al. 2024, "Discrete distributions with exact approximation".

Frequencies that are fitted to their own draws. Generation 0 is fitted to M real draws, so
generation g has seen g + 1 of the paper's sampling steps.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2305.17493",
    "Shumailov et al. 2024",
    "AI models collapse when trained on recursively generated data",
)
SIX = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
SIX_TEXT = "six categories (.4 .25 .15 .1 .07 .03)"
ZIPF = 1 / np.arange(1, 301) / np.sum(1 / np.arange(1, 301))


def chains_of(key, probabilities, size, generations, chains, metrics, record):
    """A trace of frequencies refitted to `size` of their own draws."""
    family = cj.estimators.categorical(len(probabilities))
    process = cj.generational_process(
        family, cj.sources.categorical(probabilities), cj.workflows.replace(), sample_size=size
    )
    return cj.simulate(
        process, key, generations=generations, chains=chains, metrics=metrics, record=record
    )


@entry(
    "shum-disc-absorb",
    claim="In every chain all mass ends on one category: on category i with its probability in "
    "the real data.",
    status="published formula",
    setting=SIX_TEXT + ", M = 50, 1,000 generations, 20,000 chains",
    oracle="absorbed with probability 1, at i with p_i (discrete section): "
    "theory.categorical.fixation_probability; absorbed so far: "
    "theory.absorption.absorption_probability",
    x="category (last comparison: generation)",
    y="probability",
)
def absorption(key):
    at = np.array([20, 50, 100, 200, 1000])
    trace = chains_of(key, SIX, 50, 1000, 20_000, ("absorbed", "mean"), at)
    ended = trace["absorbed"][:, 1:]
    winners = np.bincount(np.round(trace["mean"][:, -1]).astype(int), minlength=len(SIX))
    law = theory.absorption.absorption_probability(at[:-1], 50, SIX)
    return (
        compare.counts(
            winners,
            theory.categorical.fixation_probability(SIX),
            what="share of chains that end at a category",
        ),
        compare.equal(
            ended[:, -1].mean(), 1.0, 0.0, "", at=1000, what="share of chains that have ended"
        ),
        compare.proportions(
            ended[:, :-1].sum(0),
            len(ended),
            law,
            at=at[:-1],
            what="share of chains that have ended so far",
        ),
    )


@entry(
    "shum-disc-time",
    claim="The number of samplings until one category is left is proportional to M. Its mean is "
    "exact for any real distribution.",
    status="derived here",
    setting=SIX_TEXT + ", M = 5 and 20, 25 M generations, 20,000 chains",
    oracle="(I - Q)^-1 of the absorbing chain whose end the paper proves: "
    "theory.absorption.expected_samplings_until_fixation",
    x="M",
    y="samplings until one category is left",
)
def time_to_absorption(key):
    sizes, times = (5, 20), []
    for size in sizes:
        absorbed = chains_of(key, SIX, size, 25 * size, 20_000, ("absorbed",), 1)["absorbed"]
        # The sampling that generation 0 is fitted to is the first.
        times.append(1.0 + np.sum(absorbed == 0, axis=1))
    exact = [theory.absorption.expected_samplings_until_fixation(size, SIX) for size in sizes]
    return compare.means(
        np.stack(times, axis=1), exact, at=sizes, what="samplings until one category is left"
    )


@entry(
    "shum-disc-lost",
    claim="A category of probability q is lost sooner or later with probability 1 - q, but in a "
    "single sampling only with (1 - q)^M, which is far less.",
    status="published formula",
    setting=SIX_TEXT + ", M = 20, 300 generations, 20,000 chains",
    oracle="1 - q, 'sampling no data at some generation' (discrete section), true of all "
    "generations together: theory.categorical.eventual_loss_probability; one sampling, and "
    "generations between: theory.categorical.loss_probability",
    x="probability of the category",
    y="probability that it is lost",
)
def loss(key):
    trace = chains_of(key, SIX, 20, 300, 20_000, ("probabilities",), [0, 4, 19])
    chains = len(trace["probabilities"])
    at_once, five, twenty, in_the_end = np.sum(trace["probabilities"] == 0, axis=0)
    sooner_or_later = theory.categorical.eventual_loss_probability(SIX)
    return (
        compare.proportions(
            in_the_end, chains, sooner_or_later, at=SIX, what="lost in the end (1 - q)"
        ),
        compare.proportions(
            at_once,
            chains,
            theory.categorical.loss_probability(0, 20, SIX),
            at=SIX,
            what="lost in one sampling",
        ),
        compare.proportions(
            five,
            chains,
            theory.categorical.loss_probability(4, 20, SIX),
            at=SIX,
            what="lost within 5 samplings",
        ),
        compare.proportions(
            twenty,
            chains,
            theory.categorical.loss_probability(19, 20, SIX),
            at=SIX,
            what="lost within 20 samplings",
        ),
        compare.refuted(
            compare.proportions(
                at_once, chains, sooner_or_later, at=SIX, what="1 - q, read as of one sampling"
            )
        ),
    )


@entry(
    "shum-disc-rare",
    claim="The tail is lost first: a category of probability q <= 1/M is drawn at most once on "
    "average, so at least a third of the chains miss it at once. Of 300 categories 50 "
    "draws leave 32.",
    status="published formula",
    setting="300 categories with p proportional to 1/rank, M = 50, generations 0 to 10, 10,000 "
    "chains",
    oracle="expected count M q, for q <= 1/M below one (discrete section); missed with (1 - q)^M: "
    "theory.categorical.loss_probability; left: expected_distinct_in_sample, and by the exact "
    "Wright-Fisher chain expected_support, expected_missing_mass",
    x="rank of the category, or generation",
    y="draws, probability, or categories",
    log="xy",
)
def rare(key):
    at, ranks = np.array([0, 1, 3, 10]), np.array([8, 9, 20, 50, 100, 200])
    size, q = 50, ZIPF[ranks - 1]
    trace = chains_of(key, ZIPF, size, 10, 10_000, ("probabilities", "support", "missing_mass"), at)
    draws = size * trace["probabilities"][:, :, ranks - 1].astype(float)
    missed = np.sum(draws[:, 0] == 0, axis=0)
    below = q <= 1 / size
    return (
        compare.means(draws[:, 0], size * q, at=ranks, what="draws in the first sample"),
        compare.means(draws[:, 2], size * q, at=ranks, what="draws in the sample of generation 3"),
        compare.at_most(
            draws[:, 0, below], 1.0, at=ranks[below], what="draws where q <= 1/M, beside 1"
        ),
        compare.proportions(
            missed,
            len(draws),
            theory.categorical.loss_probability(0, size, q),
            at=ranks,
            what="missed at once",
        ),
        compare.means(
            trace["support"][:, 0],
            theory.categorical.expected_distinct_in_sample(size, ZIPF),
            what="distinct categories drawn",
        ),
        compare.means(
            trace["support"],
            theory.categorical.expected_support(at, size, ZIPF),
            at=at,
            what="categories left",
        ),
        compare.means(
            trace["missing_mass"],
            theory.categorical.expected_missing_mass(at, size, ZIPF),
            at=at,
            what="real probability lost",
        ),
    )
