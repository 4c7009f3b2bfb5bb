"""Words that n-gram models lose on their own text: as if each word were drawn independently."""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "collapse_jax", "derived here: docs/families.md, collapse_jax/theory/lineages.py")
VOCABULARY, BLOCKS, LENGTH = 3_000, 40, 250
SETTING = (
    f"{BLOCKS * LENGTH:,} words in blocks of {LENGTH}, drawn from {VOCABULARY:,} Zipf words "
    "(exponent 1), generations 0 to 10"
)


def words(seed=0):
    """[BLOCKS, LENGTH] the real text, one for all: words are drawn one by one."""
    shares = theory.zipf.probabilities(VOCABULARY, 1.0)
    return (
        np.random.default_rng(seed).choice(VOCABULARY, (BLOCKS, LENGTH), p=shares).astype(np.int32)
    )


def share_left(key, order, workflow, chains):
    """[chain, generation 0 to 10]: share of the real text's distinct words in the training text."""
    family = cj.estimators.ngram(order, VOCABULARY, LENGTH)
    process = cj.generational_process(
        family, cj.sources.dataset(words()), workflow, sample_size=BLOCKS, remember_first=True
    )
    metric = "surviving_vocabulary_to_first"
    return cj.simulate(
        process, key, generations=10, chains=chains, metrics=(metric,), record=(0, 1, 2, 5, 10)
    )[metric]


def exact_share_left(samplings):
    """The same for words drawn independently, with their frequencies in the real text."""
    counts = np.bincount(words().ravel(), minlength=VOCABULARY)
    shares = counts[counts > 0] / counts.sum()
    return 1 - theory.lineages.loss_probability(samplings - 1, counts.sum(), shares).mean(-1)


@entry(
    "ngram-vocabulary",
    claim="Unigram and bigram models lose words at the same rate as independent draws: only the "
    "frequencies of the words matter.",
    status="derived here",
    setting=SETTING + ", replace; unigram 100 chains, bigram 60",
    oracle="P(no living ancestor has the word), averaged over the words of the text: "
    "theory.lineages.loss_probability; Poisson offspring",
    y="share of words left",
)
def vocabulary(key):
    at = np.array([1, 2, 5, 10])
    unigram, bigram = (
        share_left(key, 1, cj.workflows.replace(), 100)[:, 1:],
        share_left(key, 2, cj.workflows.replace(), 60)[:, 1:],
    )
    exact = exact_share_left(at)
    counts = np.bincount(words().ravel())
    branching = 1 - np.exp(
        -np.outer(theory.lineages.branching_survival(at - 1), counts[counts > 0])
    ).mean(1)
    why = "a rare word's context is rare too"
    return [
        compare.means(unigram, exact, at=at, what="share of words left, unigram"),
        compare.means(
            bigram, exact, at=at, what="share of words left, bigram", tolerance=0.004, why=why
        ),
        compare.equal(
            exact / branching, 1.0, 0.002, "M is finite", at=at, what="exact over Poisson offspring"
        ),
    ]


@entry(
    "ngram-order",
    claim="Bigram text: fewest words are left under replace, more with 10% real text in every "
    "generation, and all if everything is kept.",
    status="derived here",
    setting=SETTING + ", 10 chains (accumulate 5)",
    oracle="the ordering (Suresh et al. 2024 plot the first); accumulate: no word of a kept text "
    "is lost",
    x="generation",
    y="share of words left",
)
def ordering(key):
    keys = jax.random.split(key, 3)
    replace = share_left(keys[0], 2, cj.workflows.replace(), 10)
    mix = share_left(keys[1], 2, cj.workflows.mix(0.9, 0.0, 0.1, random_counts=False), 10)
    accumulate = share_left(keys[2], 2, cj.workflows.accumulate(), 5)
    late = [5, 10]
    return [
        compare.exceeds(mix[:, 3:], replace[:, 3:], at=late, what="10% real beside replace"),
        compare.equal(
            accumulate.min(0),
            1.0,
            0.0,
            "everything is kept",
            at=[0, 1, 2, 5, 10],
            what="accumulate, fewest of all chains",
        ),
        compare.exceeds(accumulate[:, 3:], mix[:, 3:], at=late, what="accumulate beside 10% real"),
    ]
