"""Suresh et al. 2024: how fast refitted Bernoulli, Gaussian, mixture and n-gram models forget."""

from typing import NamedTuple

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("2412.17646", "Suresh et al. 2024", "Rate of Model Collapse in Recursive Training")
SAMPLINGS = np.array([10, 50, 100, 200])


@entry(
    "suresh-bern",
    claim="The probability that a rare symbol is still there is between two bounds made of g_1 = "
    "1, g_{k+1} = 1 - exp(-g_k).",
    status="published formula",
    setting="n = 100, p0 = .01, k = 1, 2, 5, 10 fits (generations 0 to 9), 100,000 chains",
    oracle="1 - e^(-n p0 g_k) and 1 - (1 - 3 n p0^2 - 3 k p0) e^(-n p0 g_k): "
    "theory.lineages.survival_bounds (.158 to .436 at k = 10); the exact probability from powers "
    "of the transition matrix, theory.categorical.loss_probability (.1614)",
    y="probability that the symbol is left",
)
def bernoulli(key):
    at, size, rare = np.array([0, 1, 4, 9]), 100, 0.01
    # The second category is the rare one.
    process = cj.generational_process(
        cj.estimators.bernoulli(),
        cj.sources.categorical([1 - rare, rare]),
        cj.workflows.replace(),
        sample_size=size,
    )
    trace = cj.simulate(
        process, key, generations=9, chains=100_000, metrics=("probability",), record=at
    )
    there = trace["probability"] > 0
    low, high = theory.lineages.survival_bounds(at, size, rare)
    exact = 1 - theory.categorical.loss_probability(at, size, rare)
    return [
        compare.proportions(
            there.sum(0), len(there), exact, at=at, what="probability that it is left"
        ),
        compare.at_least(there, low, at=at, what="above the lower bound"),
        compare.at_most(there, high, at=at, what="below the upper bound"),
    ]


def tail(spread, threshold, size, name):
    """Shares of deviations [chains, SAMPLINGS] above a threshold, beside law and published bound.

    The law is that of refitted normals, and exact.
    """
    at = SAMPLINGS - 1
    above = spread > threshold
    exact = [
        1 - float(theory.gaussian.log_variance_cdf(2 * np.log(threshold), g, size, ddof=1))
        for g in at
    ]
    bound = theory.monte_carlo.standard_deviation_tail_bound(threshold, at, size)
    return [
        compare.proportions(
            above.sum(0), len(above), exact, at=at, what=f"P(sigma > {threshold:g}), {name}"
        ),
        compare.at_most(
            above, bound, at=at, what=f"P(sigma > {threshold:g}) below its bound, {name}"
        ),
    ]


@entry(
    "suresh-gauss",
    claim="After k fits the standard deviation of a refitted Gaussian exceeds eps with a "
    "probability of at most (sigma_0/eps) exp(-k/4n).",
    status="published formula",
    setting="n = 10, ddof = 1, k = 10, 50, 100, 200 fits (generations 9 to 199), eps = .1, 100,000 "
    "chains",
    oracle="the bound: theory.monte_carlo.standard_deviation_tail_bound (.82 and .067 at k = 100 "
    "and 200); the exact probability from the distribution of a sum of log chi squares, "
    "theory.gaussian.log_variance_cdf (.082 and .0040)",
    y="P(sigma > .1)",
    log="y",
)
def gaussian(key):
    process = cj.generational_process(
        cj.estimators.gaussian(1, ddof=1),
        cj.sources.normal([0.0], [[1.0]]),
        cj.workflows.replace(),
        sample_size=10,
    )
    trace = cj.simulate(
        process,
        key,
        generations=199,
        chains=100_000,
        metrics=("log_variance",),
        record=SAMPLINGS - 1,
    )
    there = [list(trace.generations).index(g) for g in SAMPLINGS - 1]
    return tail(np.exp(trace["log_variance"][:, there].astype(float) / 2), 0.1, 10, "one Gaussian")


class Pair(NamedTuple):
    """N(+-centre, deviation^2), either sign with probability 1/2. centre, deviation: []."""

    centre: object
    deviation: object


def mirrored_pair():
    """Two components at +-centre of one deviation, by maximum likelihood.

    Jointly in the parameters and the points' components. The best component of a point is that of
    its sign, so centre and deviation are those of |x| (the variance with divisor n - 1).
    """
    import jax
    import jax.numpy as jnp

    def fit(key, params, data):
        size = jnp.sum(data.weight)
        distance = jnp.abs(data.x)
        centre = jnp.sum(data.weight * distance) / size
        variance = jnp.sum(data.weight * (distance - centre) ** 2) / (size - 1)
        return Pair(centre, jnp.sqrt(variance)), cj.FitInfo.exact()

    def sample(key, params, n):
        sign_key, normal_key = jax.random.split(key)
        points = params.centre + params.deviation * jax.random.normal(normal_key, (n,))
        return jax.random.rademacher(sign_key, (n,), jnp.result_type(float)) * points

    return cj.estimator(fit, sample)


def deviation(state):
    """Deviation [] of the components of the newest model."""
    return state.params.deviation


@entry(
    "suresh-gmm",
    claim="The bound for one Gaussian also holds for a mirrored pair that is fitted jointly with "
    "the components of its points.",
    status="published formula",
    setting="n = 10, k = 10, 50, 100, 200 fits, centres at 1,000 (never confused) and 1 "
    "(overlapping) standard deviations, eps = .1, 20,000 chains; the paper: n = 10, 200 "
    "generations, 500 runs",
    oracle="the same bound. Derived here: giving each point the component of its sign never "
    "enlarges the scatter of |x|, so the pair is below one Gaussian at each fit, and if "
    "it is far apart it has exactly its distribution (theory.gaussian.log_variance_cdf). "
    "We had no access to the paper's centres",
    y="P(sigma > .1)",
    log="y",
)
def mixture(key):
    import jax
    import jax.numpy as jnp

    found = []
    for number, centre in enumerate((1_000.0, 1.0)):
        family = mirrored_pair()
        real = cj.sources.population(family, Pair(jnp.array(centre), jnp.array(1.0)))
        process = cj.generational_process(family, real, cj.workflows.replace(), sample_size=10)
        trace = cj.simulate(
            process,
            jax.random.fold_in(key, number),
            generations=199,
            chains=20_000,
            metrics=(deviation,),
            record=SAMPLINGS - 1,
        )
        there = [list(trace.generations).index(g) for g in SAMPLINGS - 1]
        law, bound = tail(trace["deviation"][:, there], 0.1, 10, f"centre {centre:g}")
        if centre == 1:
            # No law of its own: at most that of one Gaussian.
            law = compare.at_most(
                trace["deviation"][:, there] > 0.1,
                law.expected,
                at=law.at,
                what="overlapping pair below one Gaussian",
            )
        found += [law, bound]
    return found


@entry(
    "suresh-bigram",
    claim="Unigram and bigram models both lose words as if these were drawn independently: a "
    "word lasts in proportion to its count.",
    status="derived here",
    setting="100,000 words, Zipf with exponent 1.2 on 10^5 ranks, blocks of 500, replace, "
    "generations 1 to 10; 100 chains (bigram: 6)",
    oracle="a word of count c among N is left with probability 1 - "
    "theory.lineages.loss_probability(g - 1, N, c/N), exact for the unigram. Published: 'the time "
    "to forget a word is approximately linearly dependent on the number of times it occurred' "
    "(abstract)",
    y="share of the distinct words left",
)
def words(key):
    import jax

    length, total = 500, 100_000
    ranks = theory.zipf.probabilities(100_000, 1.2)
    # One text for every seed, so that one oracle serves all.
    text = np.random.default_rng(0).choice(len(ranks), total, p=ranks)
    names, text, counts = np.unique(text, return_inverse=True, return_counts=True)
    at = np.arange(1, 11)
    kinds, each = np.unique(counts, return_counts=True)
    exact = (1 - theory.lineages.loss_probability(at - 1, total, kinds / total)) @ each / len(names)
    found = {}
    for order, chains in ((1, 100), (2, 6)):
        process = cj.generational_process(
            cj.estimators.ngram(order, len(names), length),
            cj.sources.dataset(text.astype(np.int32).reshape(-1, length)),
            cj.workflows.replace(),
            sample_size=total // length,
            remember_first=True,
        )
        trace = cj.simulate(
            process,
            jax.random.fold_in(key, order),
            generations=10,
            chains=chains,
            metrics=("surviving_vocabulary_to_first",),
        )
        found[order] = trace["surviving_vocabulary_to_first"][:, 1:]
    return [
        compare.means(found[1], exact, at=at, what="words left, unigram"),
        compare.means(
            found[2],
            exact,
            at=at,
            what="words left, bigram",
            tolerance=0.005,
            why="the counts are nearly, not exactly, independent",
        ),
    ]
