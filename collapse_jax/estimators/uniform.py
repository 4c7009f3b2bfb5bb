"""Uniform distribution on [0, maximum] by its largest point, on the log scale."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import PointCheck
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import real
from collapse_jax.numerics.resolution import underflows
from collapse_jax.random.bits import key_words, variate_words
from collapse_jax.random.bits import uniform as uniform_of_words
from collapse_jax.random.exponential import exponential_vector

__all__ = ["uniform", "uniform_params"]


class UniformParams(NamedTuple):
    """log_maximum: [], the logarithm of the upper end; -inf where all the mass is at 0."""

    log_maximum: jax.Array


class Largest(NamedTuple):
    """Sufficient statistic: the logarithm [] of the largest point; -inf of no points."""

    log_maximum: jax.Array


@named
def uniform() -> Estimator:
    """Uniform distribution on [0, maximum] by maximum likelihood, the largest point; x is [n] >= 0.

    The maximum is kept as a logarithm (where points are held, down to the smallest float: there the
    model becomes nan). The largest of n draws is the maximum times U^(1/n): a
    generation costs the same for every n. This is the edge of what regular likelihoods do: the
    error is of order 1 / n, not 1 / sqrt(n), and has one sign. Under `replace` each sampling of M
    lowers the log maximum by 1 / M on average. Under `accumulate` nothing that a model makes lies
    beyond what is there already, so that generation 0 stays for ever.

    Metrics: mean, maximum, log_maximum, variance (maximum^2 / 12), log_variance, entropy in nats.
    Distances to the real distribution: wasserstein2 (|difference of the maxima| / sqrt(3)),
    squared_wasserstein2, total_variation, kl_model_to_real (inf where the model reaches further),
    kl_real_to_model (inf where it reaches less far). A temperature changes nothing.

    References:
        Derived here.
    """
    return estimator(
        _fit,
        _sample,
        init=_init,
        statistics=Largest,
        summarise=_summarise,
        merge=_merge,
        draw=_draw,
        check=CHECK,
        metrics=METRICS,
        distances=DISTANCES,
        log_prob=_log_prob,
        tempered=_tempered,
        chain_axis=-1,
        weighed="takes the largest point, whatever it weighs",
    )


def example() -> tuple[Estimator, UniformParams]:
    """(Estimator, params) of the uniform distribution on [0, 3]."""
    return uniform(), uniform_params(3.0)


def uniform_params(maximum: ArrayLike) -> UniformParams:
    """Parameters from the upper end; `InputError` unless it is finite and above 0."""
    maximum = real("maximum", maximum, above=0)
    return UniformParams(jnp.asarray(math.log(maximum), jnp.result_type(float)))


def _init(key, statistics):
    return UniformParams(jnp.zeros_like(statistics.log_maximum))


def _fit(key, params, statistics):
    return UniformParams(statistics.log_maximum), FitInfo.exact()


def _sample(key, params, n):
    return jnp.exp(params.log_maximum) * uniform_of_words(
        *variate_words(*key_words(key), jnp.arange(n, dtype=jnp.uint32))
    )


def _summarise(x, weight):
    largest = jnp.max(jnp.where(weight > 0, x, 0))
    return Largest(jnp.where(underflows(largest), jnp.nan, jnp.log(largest)))


def _draw(key, params, n):
    points = max(n, 1) if isinstance(n, int) else jnp.maximum(n, 1)
    lowered = -exponential_vector(key, 1)[0] / points
    return Largest(jnp.where(jnp.asarray(n) > 0, params.log_maximum + lowered, -jnp.inf))


def _merge(a, b):
    return Largest(jnp.maximum(a.log_maximum, b.log_maximum))


def _log_prob(params, x):
    """By the logarithm of x, so that a maximum below the smallest float still has its density.

    Of a collapsed model: inf at 0.
    """
    inside = (x >= 0) & (jnp.log(jnp.maximum(x, 0)) <= params.log_maximum)
    return jnp.where(inside, -params.log_maximum, -jnp.inf)


def _tempered(params, temperature):
    return params


def _kl(p, q):
    """Where p has nothing beyond q: the logarithm of the ratio of their lengths."""
    inside = p.log_maximum <= q.log_maximum
    apart = jnp.where(p.log_maximum == q.log_maximum, 0, q.log_maximum - p.log_maximum)
    return jnp.where(inside, apart, jnp.inf)


def _squared_wasserstein2(params, real):
    return (jnp.exp(params.log_maximum) - jnp.exp(real.log_maximum)) ** 2 / 3


def _total_variation(params, real):
    """What the longer of the two has beyond the shorter."""
    apart = jnp.abs(params.log_maximum - real.log_maximum)
    return -jnp.expm1(-jnp.where(params.log_maximum == real.log_maximum, 0, apart))


METRICS = {
    "mean": lambda params: jnp.exp(params.log_maximum) / 2,
    "maximum": lambda params: jnp.exp(params.log_maximum),
    "log_maximum": lambda params: params.log_maximum,
    "variance": lambda params: jnp.exp(2 * params.log_maximum) / 12,
    "log_variance": lambda params: 2 * params.log_maximum - math.log(12),
    "entropy": lambda params: params.log_maximum,
}
CHECK = PointCheck("uniform", "numbers of at least 0", low=0, keeps="sizes")
DISTANCES = {
    "total_variation": _total_variation,
    "kl_model_to_real": _kl,
    "kl_real_to_model": lambda params, real: _kl(real, params),
    "squared_wasserstein2": _squared_wasserstein2,
    "wasserstein2": lambda params, real: jnp.sqrt(_squared_wasserstein2(params, real)),
}
FAMILY = Family(uniform, example)
