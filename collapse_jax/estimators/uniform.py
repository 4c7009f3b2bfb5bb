"""Uniform distribution on [0, maximum], fitted by the largest point, stored as a logarithm."""

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
    """log_maximum: [], the logarithm of the upper end; -inf if all mass is at 0."""

    log_maximum: jax.Array


class Largest(NamedTuple):
    """Sufficient statistic: the logarithm [] of the largest point; -inf if there are no points."""

    log_maximum: jax.Array


@named
def uniform() -> Estimator:
    """Uniform distribution on [0, maximum], fitted by maximum likelihood (the largest point).

    Points x are [n], at least 0. The largest of n draws is maximum * U^(1 / n) with U uniform on
    [0, 1], so a generation costs the same for every n. The model stores the logarithm of the
    maximum, which therefore never underflows. Under a workflow that stores points, the model
    becomes nan when the points reach the smallest float.

    The likelihood is not regular: the error of the maximum is of order 1 / n instead of
    1 / sqrt(n), and always has the same sign. Under `replace` each generation of M points lowers
    the log maximum by 1 / M on average. Under `accumulate` no synthetic point lies beyond the
    largest real point, so the model of generation 0 never changes.

    Metrics: mean, maximum, log_maximum, variance (maximum^2 / 12), log_variance, entropy in nats.
    Distances to the real distribution: wasserstein2 (|difference of the maxima| / sqrt(3)),
    squared_wasserstein2, total_variation, kl_model_to_real (inf if the model's maximum is larger),
    kl_real_to_model (inf if the model's maximum is smaller). A temperature has no effect.

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
        weighed="is fitted by the largest point, whose weight has no effect",
    )


def example() -> tuple[Estimator, UniformParams]:
    """Returns (Estimator, params) with maximum 3."""
    return uniform(), uniform_params(3.0)


def uniform_params(maximum: ArrayLike) -> UniformParams:
    """Returns parameters with this upper end.

    Raises:
        InputError: unless the maximum is finite and above 0.
    """
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
    """Log-densities, by the logarithm of x: a maximum below the smallest float works too.

    A collapsed model has inf at 0.
    """
    inside = (x >= 0) & (jnp.log(jnp.maximum(x, 0)) <= params.log_maximum)
    return jnp.where(inside, -params.log_maximum, -jnp.inf)


def _tempered(params, temperature):
    return params


def _kl(p, q):
    """The logarithm of the ratio of the lengths; inf if p reaches beyond q."""
    inside = p.log_maximum <= q.log_maximum
    apart = jnp.where(p.log_maximum == q.log_maximum, 0, q.log_maximum - p.log_maximum)
    return jnp.where(inside, apart, jnp.inf)


def _squared_wasserstein2(params, real):
    return (jnp.exp(params.log_maximum) - jnp.exp(real.log_maximum)) ** 2 / 3


def _total_variation(params, real):
    """The probability that the longer one has beyond the shorter."""
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
