"""Exponential distribution, fitted by the sample mean, which is stored as a logarithm."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import PointCheck
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import real
from collapse_jax.metrics.divergence import exponential_beyond_line
from collapse_jax.numerics import averages
from collapse_jax.random.exponential import exponential_vector, log_mean_of_exponentials

__all__ = ["exponential", "exponential_params"]


class ExponentialParams(NamedTuple):
    """log_mean: [], logarithm of the mean (= standard deviation); -inf if all mass is at 0."""

    log_mean: jax.Array


class ExponentialAverage(NamedTuple):
    """Sufficient statistics: the number of points [] and the logarithm [] of their mean, floats."""

    count: jax.Array
    log_mean: jax.Array


@named
def exponential() -> Estimator:
    """Exponential distribution, its mean fitted by maximum likelihood (the sample mean).

    Points x are [n], at least 0. The sum of n draws is Gamma(n) times the mean, so a generation
    costs the same for every n. The model stores the logarithm of the mean, which therefore never
    underflows. Under a workflow that stores points, the model becomes nan when the points reach the
    smallest float.

    Under `replace` the fitted mean is unbiased, and yet the model collapses: each generation of M
    points changes the log mean by psi(M) - ln M on average, about -1 / (2 M).

    Metrics: mean, log_mean, rate (1 / mean; its negative is the natural parameter), variance
    (mean^2), log_variance, entropy in nats. Distances to the real distribution: kl_model_to_real,
    kl_real_to_model, wasserstein2 (sqrt(2) times the difference of the means),
    squared_wasserstein2.

    References:
        Derived here (sums of exponentials are Gamma).
    """
    return estimator(
        _fit,
        _sample,
        init=_init,
        statistics=ExponentialAverage,
        summarise=_summarise,
        merge=_merge,
        draw=_draw,
        check=CHECK,
        metrics=METRICS,
        distances=DISTANCES,
        log_prob=_log_prob,
        tempered=_tempered,
        weighed=_weighed,
        chain_axis=-1,
    )


def example() -> tuple[Estimator, ExponentialParams]:
    """Returns (Estimator, params) with mean 2."""
    return exponential(), exponential_params(2.0)


def exponential_params(mean: ArrayLike) -> ExponentialParams:
    """Returns parameters with this mean.

    Raises:
        InputError: unless the mean is finite and above 0.
    """
    mean = real("mean", mean, above=0)
    return ExponentialParams(jnp.asarray(math.log(mean), jnp.result_type(float)))


def _init(key, statistics):
    return ExponentialParams(jnp.zeros_like(statistics.log_mean))


def _fit(key, params, statistics):
    return ExponentialParams(statistics.log_mean), FitInfo.exact()


def _sample(key, params, n):
    return jnp.exp(params.log_mean) * exponential_vector(key, n)


def _summarise(x, weight):
    return ExponentialAverage(jnp.sum(weight), averages.log_mean(x, weight))


def _draw(key, params, n):
    return ExponentialAverage(
        jnp.asarray(n, params.log_mean.dtype), params.log_mean + log_mean_of_exponentials(key, n)
    )


def _weighed(statistics, w):
    return statistics._replace(count=statistics.count * w)


def _merge(a, b):
    return ExponentialAverage(a.count + b.count, averages.pooled_log(*a, *b))


def _log_prob(params, x):
    """Log-densities; a collapsed model has inf at 0 and -inf elsewhere."""
    scaled = jnp.where(x > 0, x * jnp.exp(-params.log_mean), 0)
    return jnp.where((x >= 0) & (scaled < jnp.inf), -params.log_mean - scaled, -jnp.inf)


def _tempered(params, temperature):
    return ExponentialParams(params.log_mean + jnp.log(temperature))


def _squared_wasserstein2(params, real):
    return 2 * (jnp.exp(params.log_mean) - jnp.exp(real.log_mean)) ** 2


def _kl(p, q):
    return exponential_beyond_line(p.log_mean - q.log_mean)


METRICS = {
    "mean": lambda params: jnp.exp(params.log_mean),
    "log_mean": lambda params: params.log_mean,
    "rate": lambda params: jnp.exp(-params.log_mean),
    "variance": lambda params: jnp.exp(2 * params.log_mean),
    "log_variance": lambda params: 2 * params.log_mean,
    "entropy": lambda params: 1 + params.log_mean,
}
CHECK = PointCheck("exponential", "numbers of at least 0", low=0, keeps="sizes")
DISTANCES = {
    "kl_model_to_real": _kl,
    "kl_real_to_model": lambda params, real: _kl(real, params),
    "squared_wasserstein2": _squared_wasserstein2,
    "wasserstein2": lambda params, real: jnp.sqrt(_squared_wasserstein2(params, real)),
}
FAMILY = Family(exponential, example)
