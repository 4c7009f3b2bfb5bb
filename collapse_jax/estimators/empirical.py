"""Empirical distribution function: the weighted training points themselves."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import PointCheck
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.functions import check_arguments
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, numbers
from collapse_jax.random.bits import key_words, uniform, variate_words
from collapse_jax.random.derivatives import CHOICES, step_function
from collapse_jax.random.multinomial import inverted

__all__ = ["empirical", "empirical_params"]


class EmpiricalParams(NamedTuple):
    """Sorted points and their weights.

    x: [slots], ascending; empty slots come last and repeat the largest point.
    weight: [slots], 0 where the slot is empty; a point's probability is weight / sum of weights.
    """

    x: jax.Array
    weight: jax.Array


@named
def empirical(cdf: Callable[[jax.Array], jax.Array] | None = None) -> Estimator:
    """Empirical distribution of the training points: a model draws from its own points.

    Points x are [n] and may be weighted. A chain of such models is a repeated bootstrap: under
    `replace` the points of generation 0 are lost one after another, as categories are. For a
    continuous real distribution the expected integral of (F - cdf)^2 d cdf tends to 1 / 6, its
    value for a model of a single point.

    Metrics: mean, variance, log_variance; support, the number of distinct points; heterozygosity,
    the probability that two draws are different points. With `cdf` also cramer_von_mises, the
    integral of (F - cdf)^2 d cdf, and kolmogorov_smirnov, the largest |F - cdf|, both exact.
    Distances to another such model: squared_distance, the integral of (F - G)^2 dG,
    kolmogorov_smirnov_distance, wasserstein1, wasserstein2 and squared_wasserstein2.

    Args:
        cdf: the continuous distribution function of the real distribution, x [n] -> [n], written
            with `jax.numpy`, such as `jax.scipy.stats.norm.cdf`.

    Raises:
        InputError: if `cdf` is not a function of points.

    References:
        He, Xu and Cheng 2025, arXiv 2502.18049, use it in a generational chain; the formula of the
        integral is derived here.
    """
    metrics = METRICS
    if cdf is not None:
        check_arguments("cdf", cdf, ("x",))
        metrics = metrics | {
            "cramer_von_mises": lambda params: _cramer_von_mises(params, cdf),
            "kolmogorov_smirnov": lambda params: _kolmogorov_smirnov(params, cdf),
        }
    return estimator(
        _fit,
        _sample,
        init=lambda key, data: EmpiricalParams(*data),
        check=PointCheck("empirical", "real numbers", keeps="differences"),
        metrics=metrics,
        distances=DISTANCES,
        copied=_copied,
    )


def example() -> tuple[Estimator, EmpiricalParams]:
    """Returns (Estimator, params) with eight points."""
    return empirical(), empirical_params([-1.5, -0.7, -0.2, 0.1, 0.4, 0.9, 1.3, 2.0])


def empirical_params(x: ArrayLike, weight: ArrayLike | None = None) -> EmpiricalParams:
    """Returns parameters with these points [n] and weights [n], by default equal weights.

    Raises:
        InputError: unless both are finite and of the same length, no weight is negative, and at
            least one weight is above 0.
    """
    points = numbers("x", x)
    weights = numbers("weight", [1.0] * len(points) if weight is None else weight)
    dtype = jnp.result_type(float)
    held = jnp.asarray(points, dtype), jnp.asarray(weights, dtype)
    if points.ndim != 1 or not len(points) or weights.shape != points.shape:
        raise InputError(
            f"x has shape {list(points.shape)} and weight {list(weights.shape)}; they must be [n]"
        )
    if not bool(jnp.isfinite(held[0]).all()) or not bool(
        ((held[1] >= 0) & jnp.isfinite(held[1])).all() & (held[1] > 0).any()
    ):
        raise InputError(
            "x must be finite; weight must be finite and at least 0, with at least one above 0"
        )
    return _sorted(*held)


def _fit(key, params, data):
    return _sorted(*data), FitInfo.exact()


def _sorted(x, weight):
    """Params of points [slots] with weights [slots]."""
    x, order = _in_order(x, weight)
    return EmpiricalParams(x[order], jnp.where(weight <= 0, 0, weight)[order])


def _in_order(x, weight):
    """(points [slots] with something in empty slots, their order [slots])."""
    filled = ~(weight <= 0)
    largest = jnp.max(jnp.where(filled, x, -jnp.inf))
    # An empty set has no points; 0 is as good as any.
    x = jnp.where(filled, x, jnp.where(jnp.any(filled), largest, 0))
    return x, jnp.lexsort((~filled, x))


def _places(key, params, n):
    """The places [n] among the model's points that n draws are at."""
    u = uniform(*variate_words(*key_words(key), jnp.arange(n, dtype=jnp.uint32)))
    return inverted(jnp.cumsum(params.weight), u)


def _sample(key, params, n):
    return params.x[step_function(_places(key, params, n), params.weight, CHOICES)]


def _copied(key, params, data, n):
    """The slots [n] of the training points that `_sample` draws."""
    return _in_order(*data)[1][_places(key, params, n)]


def _shares(params):
    """The probabilities [slots]."""
    total = jnp.sum(params.weight)
    return params.weight / jnp.where(total > 0, total, 1)


def _mean(params):
    return jnp.sum(_shares(params) * params.x)


def _variance(params):
    return jnp.sum(_shares(params) * (params.x - _mean(params)) ** 2)


def _support(params):
    filled = params.weight > 0
    # Slots without weight lie at the ends of runs of equal points.
    new = jnp.concatenate([jnp.ones(1, bool), params.x[1:] != params.x[:-1]])
    return jnp.sum(new & filled, dtype=jnp.int32)


def _heterozygosity(params):
    """1 - sum of the squared shares of distinct points."""
    first = jnp.searchsorted(params.x, params.x, side="left")
    shares = jnp.zeros_like(params.weight).at[first].add(_shares(params))
    return jnp.sum(shares * (1 - shares))


METRICS = {
    "mean": _mean,
    "variance": _variance,
    "log_variance": lambda params: jnp.log(_variance(params)),
    "support": _support,
    "heterozygosity": _heterozygosity,
}


def _cramer_von_mises(params, cdf):
    """The integral of (F - cdf)^2 d cdf: between two points F is constant at c.

    There the integral of (c - u)^2 du for u from a to b is ((b - c)^3 - (a - c)^3) / 3. This
    difference loses digits. The sum ((a + b) / 2 - c)^2 + (b - a)^2 / 12, times (b - a), does not.
    """
    u = jnp.clip(cdf(params.x), 0, 1)
    ends = jnp.concatenate([jnp.zeros(1, u.dtype), u, jnp.ones(1, u.dtype)])
    level = jnp.concatenate([jnp.zeros(1, u.dtype), jnp.cumsum(_shares(params))])
    length, middle = ends[1:] - ends[:-1], (ends[1:] + ends[:-1]) / 2
    return jnp.sum(length * ((middle - level) ** 2 + length**2 / 12))


def _kolmogorov_smirnov(params, cdf):
    """The largest |F - cdf|, at a point or just below one; empty slots are at the last point."""
    u = jnp.clip(cdf(params.x), 0, 1)
    level = jnp.cumsum(_shares(params))
    below = jnp.concatenate([jnp.zeros(1, level.dtype), level[:-1]])
    return jnp.maximum(jnp.max(jnp.abs(level - u)), jnp.max(jnp.abs(below - u)))


def _levels(params, at):
    """F [m] at numbers [m]; it is continuous from the right."""
    levels = jnp.concatenate([jnp.zeros(1), jnp.cumsum(_shares(params))])
    return levels[jnp.searchsorted(params.x, at, side="right")]


def _squared_distance(params, reference):
    """The integral of (F - G)^2 dG."""
    ours, theirs = (_levels(one, reference.x) for one in (params, reference))
    return jnp.sum(_shares(reference) * (ours - theirs) ** 2)


def _kolmogorov_smirnov_distance(params, reference):
    """The largest |F - G|."""
    at = jnp.concatenate([params.x, reference.x])
    return jnp.max(jnp.abs(_levels(params, at) - _levels(reference, at)))


def _mean_power(params, reference, power):
    """The integral over u of |F^-1 - G^-1|^power, piece by piece between the steps of both."""
    ends = [jnp.cumsum(_shares(one)) for one in (params, reference)]
    ends = [one / jnp.where(one[-1] > 0, one[-1], 1) for one in ends]
    steps = jnp.sort(jnp.concatenate(ends))
    middle = (steps + jnp.concatenate([jnp.zeros(1, steps.dtype), steps[:-1]])) / 2
    ours, theirs = (
        one.x[jnp.minimum(jnp.searchsorted(end, middle), len(end) - 1)]
        for one, end in zip((params, reference), ends, strict=True)
    )
    return jnp.sum(jnp.diff(steps, prepend=0) * jnp.abs(ours - theirs) ** power)


DISTANCES = {
    "squared_distance": _squared_distance,
    "kolmogorov_smirnov_distance": _kolmogorov_smirnov_distance,
    "wasserstein1": lambda params, reference: _mean_power(params, reference, 1),
    "wasserstein2": lambda params, reference: jnp.sqrt(_mean_power(params, reference, 2)),
    "squared_wasserstein2": lambda params, reference: _mean_power(params, reference, 2),
}


FAMILY = Family(empirical, example)
