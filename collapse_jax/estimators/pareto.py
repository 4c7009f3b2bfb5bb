"""Pareto distribution with a known minimum, its shape fitted by maximum likelihood."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import DIGITS, PointCheck
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, real
from collapse_jax.metrics.divergence import exponential_beyond_line
from collapse_jax.numerics import averages
from collapse_jax.numerics.resolution import within_rounding_of_one
from collapse_jax.random.exponential import exponential_vector, log_mean_of_exponentials

__all__ = ["pareto", "pareto_params"]


class ParetoParams(NamedTuple):
    """log_shape: [], the logarithm of the exponent a in P(x > t) = (minimum / t)^a.

    inf if all mass is at the minimum.
    """

    log_shape: jax.Array


class LogExcess(NamedTuple):
    """Sufficient statistics: the number of points [] and log of the mean of log(x / minimum) []."""

    count: jax.Array
    log_mean: jax.Array


@named
def pareto(minimum: float = 1.0) -> Estimator:
    """Pareto distribution with a known minimum, its shape fitted by maximum likelihood.

    Points x are [n], at least `minimum`. The fitted shape is 1 / mean of log(x / minimum). These
    logarithms are exponential with mean 1 / shape, so the sum of n of them is Gamma(n) / shape, and
    a generation costs the same for every n.

    Under `replace` the tail is lost: 1 / shape is unbiased, and the shape grows by the factor
    M / (M - 1) on average per generation of M points. Under a workflow that stores points, the
    model becomes nan when points differ from the minimum by no more than 8 units of rounding.

    Metrics: shape and log_shape (-shape is the natural parameter of log(x / minimum)), mean (inf
    for shape <= 1), variance (inf for shape <= 2), log_variance, entropy in nats. Distances to the
    real distribution: kl_model_to_real, kl_real_to_model, wasserstein2 and squared_wasserstein2
    (inf if either variance is inf, but 0 between equal models). A temperature T with
    (shape + 1) / T <= 1 leaves no normalisable density; `tempered` then returns shape 0.

    Args:
        minimum: the known lower end of the distribution, above 0.

    Raises:
        InputError: unless the minimum is finite and above 0.

    References:
        Derived here (Hill 1975 for the estimator).
    """
    family = _Pareto(real("minimum", minimum, above=0, must_be="a finite number above 0"))
    return estimator(
        _fit,
        family.sample,
        init=_init,
        statistics=_excess_above(family.minimum),
        summarise=family.summarise,
        merge=_merge,
        draw=_draw,
        check=family.check,
        metrics=METRICS
        | {
            "mean": family.mean,
            "variance": lambda params: jnp.exp(family.log_variance(params)),
            "log_variance": family.log_variance,
            "entropy": family.entropy,
        },
        distances=DISTANCES
        | {
            "squared_wasserstein2": family.squared_wasserstein2,
            "wasserstein2": lambda params, real: jnp.sqrt(
                family.squared_wasserstein2(params, real)
            ),
        },
        log_prob=family.log_prob,
        tempered=_tempered,
        weighed=_weighed,
        chain_axis=-1,
    )


def example() -> tuple[Estimator, ParetoParams]:
    """Returns (Estimator, params) with shape 3 and minimum 1."""
    return pareto(), pareto_params(3.0)


def pareto_params(shape: ArrayLike) -> ParetoParams:
    """Returns parameters with this shape.

    Raises:
        InputError: unless the shape is finite and above 0.
    """
    shape = real("shape", shape, above=0)
    return ParetoParams(jnp.asarray(math.log(shape), jnp.result_type(float)))


class _Pareto(NamedTuple):
    """The functions that depend on the minimum."""

    minimum: float

    def check(self, x):
        """The points in the type in which they are stored; see `core.data_checks`."""
        takes = f"numbers of at least {self.minimum:g}"
        held = PointCheck(f"pareto(minimum={self.minimum:g})", takes, low=self.minimum)(x)
        excess = np.log(x.ravel().astype(float) / self.minimum).mean()
        grain = float(np.finfo(held.dtype).eps) / 2
        if 0 < excess and grain > DIGITS * excess:
            raise InputError(
                f"x is {excess:.3g} of the minimum above it on average, and numbers of "
                f"{held.dtype.name} are {2 * grain:.3g} of it apart: less than three digits of the "
                "shape would be left; jax.config.update('jax_enable_x64', True), or give larger x"
            )
        return held

    def sample(self, key, params, n):
        return self.minimum * jnp.exp(jnp.exp(-params.log_shape) * exponential_vector(key, n))

    def summarise(self, x, weight):
        excess = jnp.maximum(jnp.log(jnp.where(weight > 0, x / self.minimum, 1)), 0)
        lost = within_rounding_of_one(jnp.max(excess))
        log_mean = jnp.where(lost, jnp.nan, averages.log_mean(excess, weight))
        return LogExcess(jnp.sum(weight), log_mean)

    def log_prob(self, params, x):
        log_minimum = math.log(self.minimum)
        inside = x >= jnp.asarray(self.minimum, params.log_shape.dtype)
        log_x = jnp.log(jnp.where(inside, x, self.minimum))
        excess = jnp.where(
            log_x > log_minimum, jnp.exp(params.log_shape) * (log_x - log_minimum), 0
        )
        return jnp.where(inside & (excess < jnp.inf), params.log_shape - excess - log_x, -jnp.inf)

    def mean(self, params):
        inverse = jnp.exp(-params.log_shape)
        return jnp.where(
            inverse < 1, self.minimum / jnp.where(inverse < 1, 1 - inverse, 1), jnp.inf
        )

    def log_variance(self, params):
        inverse = jnp.exp(-params.log_shape)
        known = jnp.where(inverse < 0.5, inverse, 0)
        logarithm = (
            2 * math.log(self.minimum)
            - 2 * params.log_shape
            - 2 * jnp.log1p(-known)
            - jnp.log1p(-2 * known)
        )
        return jnp.where(inverse < 0.5, logarithm, jnp.inf)

    def entropy(self, params):
        return math.log(self.minimum) - params.log_shape + jnp.exp(-params.log_shape) + 1

    def squared_wasserstein2(self, params, real):
        """Derived: the integral of (minimum v^(-1/a) - minimum v^(-1/b))^2 over v in (0, 1)."""
        a, b = jnp.exp(-params.log_shape), jnp.exp(-real.log_shape)
        finite = (a < 0.5) & (b < 0.5)
        small_a, small_b = jnp.where(finite, a, 0), jnp.where(finite, b, 0)
        distance = (
            2
            * (self.minimum * (small_a - small_b)) ** 2
            / ((1 - small_a - small_b) * (1 - 2 * small_a) * (1 - 2 * small_b))
        )
        same = jnp.where(params.log_shape == real.log_shape, 0, jnp.inf)
        return jnp.where(finite, distance, same)


@functools.cache
def _excess_above(minimum):
    """A type of statistics for each minimum, so that those of different minima are not pooled."""
    return LogExcess if minimum == 1 else type("LogExcess", (LogExcess,), {"__slots__": ()})


def _init(key, statistics):
    return ParetoParams(jnp.zeros_like(statistics.log_mean))


def _fit(key, params, statistics):
    return ParetoParams(-statistics.log_mean), FitInfo.exact()


def _draw(key, params, n):
    return LogExcess(
        jnp.asarray(n, params.log_shape.dtype),
        log_mean_of_exponentials(key, n) - params.log_shape,
    )


def _weighed(statistics, w):
    return statistics._replace(count=statistics.count * w)


def _merge(a, b):
    return LogExcess(a.count + b.count, averages.pooled_log(*a, *b))


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


def _kl(p, q):
    return exponential_beyond_line(q.log_shape - p.log_shape)


METRICS = {
    "shape": lambda params: jnp.exp(params.log_shape),
    "log_shape": lambda params: params.log_shape,
}
DISTANCES = {
    "kl_model_to_real": _kl,
    "kl_real_to_model": lambda params, real: _kl(real, params),
}
FAMILY = Family(pareto, example)
