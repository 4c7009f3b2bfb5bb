"""Where real data comes from (`cj.sources`)."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.types import Estimator, Params, Source
from collapse_jax.errors import InputError, made_by, numbers
from collapse_jax.estimators.categorical import categorical as categorical_family
from collapse_jax.estimators.categorical import categorical_params
from collapse_jax.estimators.gaussian import gaussian, gaussian_params


def population(estimator: Estimator, params: Params) -> Source:
    """Any model as the truth: fresh draws from it on every request.

    Args:
        estimator: one of `cj.estimators`, or your own.
        params: its parameters, to which distances are measured.

    Raises:
        InputError: if the estimator is something else.
    """
    made_by("estimator", estimator, Estimator, "one of cj.estimators")

    def sample(key, n):
        return estimator.sample(key, params, n)

    def draw(key, n):
        return estimator.draw(key, params, n)

    has_law = estimator.draw is not None
    return Source(sample, draw if has_law else None, estimator.statistics.kind, params=params)


def normal(mean: ArrayLike, covariance: ArrayLike) -> Source:
    """Fresh draws from Normal(mean [d], covariance [d, d]), or from two numbers for d = 1.

    Raises:
        InputError: if the shapes do not fit, or the covariance is not one.
    """
    params = gaussian_params(mean, covariance)
    return population(gaussian(len(params.mean)), params)


def categorical(probabilities: ArrayLike) -> Source:
    """Fresh draws of categories with probabilities [K].

    Raises:
        InputError: unless they are non-negative and sum to 1.
    """
    values = numbers("probabilities", probabilities)
    if (
        values.ndim != 1
        or not len(values)
        or not np.isfinite(values).all()
        or values.min() < 0
        or abs(values.sum() - 1) > 1e-6
    ):
        raise InputError(f"probabilities {values.tolist()} must be [K], non-negative, and sum to 1")
    return population(categorical_family(len(values)), categorical_params(values / values.sum()))


def dataset(x: ArrayLike) -> Source:
    """One fixed real data set x [N, ...], drawn from without replacement.

    n of its rows come in random order; all of them where n = N.

    Raises:
        InputError: if it is empty or not finite, or, in `generational_process`, if more than N
            points are asked for.
    """
    try:
        points = jnp.asarray(x)
    except (TypeError, ValueError):
        raise InputError(
            f"the real data set is {x!r:.200}; it must be an array of numbers [N, ...]"
        ) from None
    if points.ndim < 1 or points.shape[0] < 1:
        raise InputError(
            f"the real data set has shape {points.shape}; it must hold at least one point"
        )
    if jnp.issubdtype(points.dtype, jnp.inexact) and not bool(jnp.isfinite(points).all()):
        raise InputError(
            f"the real data set holds nan or infinity in {int((~jnp.isfinite(points)).sum())} "
            "places; it must be finite"
        )
    size = points.shape[0]

    def sample(key, n):
        if n > size:
            raise InputError(f"{n} real points are asked for, but the data set has {size}")
        return points[jax.random.permutation(key, size)[:n]]

    return Source(sample, size=size)
