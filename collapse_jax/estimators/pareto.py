"""Pareto distribution with a known minimum by maximum likelihood of its shape, drawn through the
exact law of its log-excesses.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, FitInfo
from collapse_jax.errors import InputError, number
from collapse_jax.metrics.divergence import exponential_beyond_line
from collapse_jax.numerics import averages
from collapse_jax.random.exponential import exponential_vector, log_mean_of_exponentials


class ParetoParams(NamedTuple):
    """log_shape: [], the logarithm of the exponent a in P(x > t) = (minimum / t)^a; inf where all
    the mass is at the minimum.
    """

    log_shape: jax.Array


class LogExcess(NamedTuple):
    """Evidence of a Pareto family: count [], and the logarithm [] of the sample's mean of log(x /
    minimum), floats.
    """

    count: jax.Array
    log_mean: jax.Array


@named
def pareto(minimum: float = 1.0) -> Estimator:
    """Pareto distribution with a known minimum, its shape by maximum likelihood (1 / mean of log(x
    / minimum)); x is [n] >= minimum.

    The log-excesses are exponential of mean 1 / shape, so the sum of n of them is Gamma(n): a
    generation costs the same for every n. Under `replace` the tail goes: 1 / shape is right on
    average, and the shape grows by M / (M - 1) a sampling of M on average.
    Metrics: shape and log_shape (-shape is the natural parameter of log(x / minimum)), mean (inf
    for shape <= 1), variance (inf for
    shape <= 2), log_variance, entropy in nats. Distances to the real distribution:
    kl_model_to_real, kl_real_to_model, wasserstein2 and squared_wasserstein2 (inf where either
    variance is, but 0 of a model to itself). Temperatures T for which (shape + 1) / T <= 1 leave no
    distribution; `tempered` then gives shape 0.
    Raises `InputError` unless the minimum is finite and above 0.
    Source: derived here (Hill 1975 for the estimator).
    """
    if (
        isinstance(minimum, bool)
        or not isinstance(minimum, int | float)
        or not 0 < minimum < math.inf
    ):
        raise InputError(f"minimum is {minimum!r}; it must be a finite number above 0")
    log_minimum = math.log(minimum)

    def draw(key, params, n):
        return LogExcess(
            jnp.asarray(n, params.log_shape.dtype),
            log_mean_of_exponentials(key, n) - params.log_shape,
        )

    def sample(key, params, n):
        return minimum * jnp.exp(jnp.exp(-params.log_shape) * exponential_vector(key, n))

    def summarise(x, weight):
        return LogExcess(
            jnp.sum(weight),
            averages.log_mean(
                jnp.maximum(jnp.log(jnp.where(weight > 0, x / minimum, 1)), 0), weight
            ),
        )

    def log_prob(params, x):
        inside = x >= jnp.asarray(minimum, params.log_shape.dtype)
        log_x = jnp.log(jnp.where(inside, x, minimum))
        excess = jnp.where(
            log_x > log_minimum, jnp.exp(params.log_shape) * (log_x - log_minimum), 0
        )
        return jnp.where(inside & (excess < jnp.inf), params.log_shape - excess - log_x, -jnp.inf)

    def mean(params):
        inverse = jnp.exp(-params.log_shape)
        return jnp.where(inverse < 1, minimum / jnp.where(inverse < 1, 1 - inverse, 1), jnp.inf)

    def log_variance(params):
        inverse = jnp.exp(-params.log_shape)
        known = jnp.where(inverse < 0.5, inverse, 0)
        logarithm = (
            2 * log_minimum - 2 * params.log_shape - 2 * jnp.log1p(-known) - jnp.log1p(-2 * known)
        )
        return jnp.where(inverse < 0.5, logarithm, jnp.inf)

    def squared_wasserstein2(params, real):
        """Derived: the integral of (minimum v^(-1/a) - minimum v^(-1/b))^2 over v in (0, 1)."""
        a, b = jnp.exp(-params.log_shape), jnp.exp(-real.log_shape)
        finite = (a < 0.5) & (b < 0.5)
        small_a, small_b = jnp.where(finite, a, 0), jnp.where(finite, b, 0)
        distance = (
            2
            * (minimum * (small_a - small_b)) ** 2
            / ((1 - small_a - small_b) * (1 - 2 * small_a) * (1 - 2 * small_b))
        )
        return jnp.where(
            finite, distance, jnp.where(params.log_shape == real.log_shape, 0, jnp.inf)
        )

    return estimator(
        lambda key, params, statistics: (ParetoParams(-statistics.log_mean), FitInfo.exact()),
        sample,
        init=lambda key, statistics: ParetoParams(jnp.zeros_like(statistics.log_mean)),
        summarise=summarise,
        draw=draw,
        merge=lambda a, b: LogExcess(a.count + b.count, averages.pooled_log(*a, *b)),
        metrics={
            "mean": mean,
            "variance": lambda params: jnp.exp(log_variance(params)),
            "log_variance": log_variance,
            "shape": lambda params: jnp.exp(params.log_shape),
            "log_shape": lambda params: params.log_shape,
            "entropy": lambda params: (
                log_minimum - params.log_shape + jnp.exp(-params.log_shape) + 1
            ),
        },
        distances={
            "kl_model_to_real": lambda params, real: exponential_beyond_line(
                real.log_shape - params.log_shape
            ),
            "kl_real_to_model": lambda params, real: exponential_beyond_line(
                params.log_shape - real.log_shape
            ),
            "squared_wasserstein2": squared_wasserstein2,
            "wasserstein2": lambda params, real: jnp.sqrt(squared_wasserstein2(params, real)),
        },
        statistics=LogExcess,
        chain_axis=-1,
        log_prob=log_prob,
        tempered=_tempered,
    )


def example():
    """(Estimator, params) of shape 3 above 1."""
    return pareto(), pareto_params(3.0)


def pareto_params(shape) -> ParetoParams:
    """Parameters from the shape. Raises `InputError` unless it is finite and above 0."""
    shape = number("shape", shape)
    if not (math.isfinite(shape) and shape > 0):
        raise InputError(f"shape is {shape}; it must be finite and above 0")
    return ParetoParams(jnp.asarray(math.log(shape), jnp.result_type(float)))


def _tempered(params, temperature):
    """x^-(a + 1) to the power 1 / T has the shape (a + 1 - T) / T."""
    temperature = jnp.asarray(temperature, params.log_shape.dtype)
    cold = jnp.where(temperature < 1, 1 - temperature, 0)
    taken = jnp.maximum(temperature - 1, 0) * jnp.exp(-params.log_shape)
    hot = jnp.where(
        taken < 1, params.log_shape + jnp.log1p(-jnp.where(taken < 1, taken, 0)), -jnp.inf
    )
    return ParetoParams(
        jnp.where(temperature < 1, jnp.logaddexp(params.log_shape, jnp.log(cold)), hot)
        - jnp.log(temperature)
    )
