"""Bernoulli distribution, fitted by the share of ones (the neutral Wright-Fisher chain)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import PointCheck
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import real
from collapse_jax.metrics.divergence import entropy_beyond_line
from collapse_jax.random.binomial import binomial_of_words
from collapse_jax.random.bits import key_words, uniform, variate_words
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.derivatives import CHOICES, CUT, step_function
from collapse_jax.random.multinomial import multivariate_hypergeometric

__all__ = ["bernoulli", "bernoulli_params"]


class BernoulliParams(NamedTuple):
    """Weights [] of the two outcomes, proportional to their probabilities.

    A fitted model has the counts of its sample (int32); other models may have floats.
    """

    zeros: jax.Array
    ones: jax.Array


class BernoulliCounts(NamedTuple):
    """Sufficient statistics: the numbers of zeros [] and ones [] in the sample, int32."""

    zeros: jax.Array
    ones: jax.Array


@named
def bernoulli() -> Estimator:
    """Bernoulli distribution, p fitted by maximum likelihood (the share of ones).

    Points x are int32 [n], 0 or 1. The number of ones in n draws is Binomial(n, p), so a generation
    costs the same for every n up to 2^31 - 1. Under `replace` the chain is eventually absorbed at
    p = 0 or p = 1. The model stores the counts of both outcomes, so that the probability of a rare
    outcome keeps its relative precision.

    Metrics: mean and probability (both p), log_odds (log(p / (1 - p)), the natural parameter),
    variance, log_variance, entropy in nats, support (the number of outcomes with positive
    probability), absorbed (1 if one outcome has probability 1, else 0). Distances to the real
    distribution, which has probability q: total_variation (|p - q|), squared_wasserstein2 (also
    |p - q|), wasserstein2, kl_model_to_real, kl_real_to_model (inf once the model has lost an
    outcome).

    References:
        Suresh et al. 2024, the Bernoulli setting; Shumailov et al. 2024, "Discrete distributions
        with exact approximation".
    """
    return estimator(
        _fit,
        _sample,
        init=_init,
        statistics=BernoulliCounts,
        summarise=_summarise,
        merge=_merge,
        draw=_draw,
        subsample=_subsample,
        check=CHECK,
        metrics=METRICS,
        distances=DISTANCES,
        log_prob=_log_prob,
        tempered=_tempered,
        nucleus=_nucleus,
        chain_axis=-1,
        weighed="counts its points in whole numbers",
    )._replace(mixtures=_mixtures)


def example() -> tuple[Estimator, BernoulliParams]:
    """Returns (Estimator, params) with p = 0.3."""
    return bernoulli(), bernoulli_params(0.3)


def bernoulli_params(probability: ArrayLike) -> BernoulliParams:
    """Returns parameters with this probability of a one.

    Raises:
        InputError: unless the probability is in [0, 1].
    """
    probability = real("probability", probability, at_least=0, at_most=1)
    return BernoulliParams(
        *(jnp.asarray(weight, jnp.result_type(float)) for weight in (1 - probability, probability))
    )


def _shares(params):
    """(1 - p, p), each with its own relative precision."""
    zeros, ones = (weight.astype(jnp.result_type(float)) for weight in params)
    return zeros / (zeros + ones), ones / (zeros + ones)


@chains_last
def _counts(key0, key1, n, zeros, ones):
    rare = jnp.minimum(*_shares((zeros, ones)))
    count = binomial_of_words(variate_words(key0, key1, jnp.uint32(0)), n, rare)
    of_ones = jnp.where(ones <= zeros, count, n - count)
    return [n - of_ones, of_ones]


def _init(key, statistics):
    return BernoulliParams(jnp.ones_like(statistics.zeros), jnp.ones_like(statistics.ones))


def _fit(key, params, statistics):
    return BernoulliParams(*statistics), FitInfo.exact()


def _sample(key, params, n):
    rare = jnp.minimum(*_shares(params))
    hit = uniform(*variate_words(*key_words(key), jnp.arange(n, dtype=jnp.uint32))) < rare
    x = jnp.where(params.ones <= params.zeros, hit, ~hit).astype(jnp.int32)
    return step_function(x, params, CHOICES)


def _summarise(x, weight):
    counted = weight > 0
    return BernoulliCounts(
        *(jnp.sum(counted & (x == outcome), dtype=jnp.int32) for outcome in (0, 1))
    )


def _draw(key, params, n):
    return BernoulliCounts(*_counts(*key_words(key), jnp.asarray(n, jnp.int32), *params))


def _merge(a, b):
    return BernoulliCounts(a.zeros + b.zeros, a.ones + b.ones)


def _subsample(key, statistics, n):
    return BernoulliCounts(*multivariate_hypergeometric(key, jnp.stack(statistics), n))


def _log_prob(params, x):
    log_zero, log_one = (jnp.log(share) for share in _shares(params))
    return jnp.where(x == 1, log_one, jnp.where(x == 0, log_zero, -jnp.inf))


def _mixtures(params, weights):
    """Models [G] that are mixtures of K models with weights [G, K]."""
    return BernoulliParams(*_mixed(*params, weights))


@chains_last
def _mixed(zeros, ones, weights):
    """Two arrays [G, chains] of two [K, chains] of models, and [G, K, chains] of mixtures."""
    return [jnp.sum(weights * shares, axis=1) for shares in _shares((zeros, ones))]


def _tempered(params, temperature):
    shares = _shares(params)
    largest = jnp.maximum(*shares)
    return BernoulliParams(
        *((share / largest) ** (1 / jnp.asarray(temperature, largest.dtype)) for share in shares)
    )


def _nucleus(params, p):
    """The likelier outcome alone where its probability reaches p; zero of two that are equal."""
    enough = step_function(jnp.maximum(*_shares(params)) >= p, p, CUT)
    return BernoulliParams(
        jnp.where(enough & (params.ones > params.zeros), 0, params.zeros),
        jnp.where(enough & (params.ones <= params.zeros), 0, params.ones),
    )


def _variance(params):
    zero, one = _shares(params)
    return zero * one


def _log_variance(params):
    zero, one = _shares(params)
    return jnp.log(zero) + jnp.log(one)


def _log_odds(params):
    zero, one = _shares(params)
    return jnp.log(one) - jnp.log(zero)


def _support(params):
    return (params.zeros > 0).astype(jnp.int32) + (params.ones > 0).astype(jnp.int32)


def _total_variation(params, real):
    return jnp.abs(_shares(params)[1] - _shares(real)[1])


def _kl(p, q):
    return sum(
        entropy_beyond_line(one, other) for one, other in zip(_shares(p), _shares(q), strict=True)
    )


METRICS = {
    "mean": lambda params: _shares(params)[1],
    "probability": lambda params: _shares(params)[1],
    "log_odds": _log_odds,
    "variance": _variance,
    "log_variance": _log_variance,
    "entropy": lambda params: sum(jax.scipy.special.entr(share) for share in _shares(params)),
    "support": _support,
    "absorbed": lambda params: (_support(params) == 1).astype(jnp.int32),
}


def _hint(smallest, largest):
    hints = {(1, 2): "1 and 2: subtract 1", (-1, 1): "-1 and 1: give (x + 1) / 2"}
    return hints.get((smallest, largest), "")


CHECK = PointCheck("bernoulli", "0 and 1", whole=True, low=0, high=1, hint=_hint)
DISTANCES = {
    "total_variation": _total_variation,
    "squared_wasserstein2": _total_variation,
    "wasserstein2": lambda params, real: jnp.sqrt(_total_variation(params, real)),
    "kl_model_to_real": _kl,
    "kl_real_to_model": lambda params, real: _kl(real, params),
}
FAMILY = Family(bernoulli, example)
