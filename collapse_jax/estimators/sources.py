"""Sources: where real data comes from (`cj.sources`)."""

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.types import Estimator, Params, Source
from collapse_jax.errors import InputError, made_by, numbers
from collapse_jax.estimators.categorical import categorical as categorical_family
from collapse_jax.estimators.categorical import categorical_params
from collapse_jax.estimators.gaussian import gaussian, gaussian_params


def population(estimator: Estimator, params: Params) -> Source:
    """Any model as the truth: fresh draws from it on every request.

    Raises `InputError` for an estimator that is none.
    """
    made_by("estimator", estimator, Estimator, "one of cj.estimators")
    draw = None if estimator.draw is None else lambda key, n: estimator.draw(key, params, n)
    return Source(
        lambda key, n: estimator.sample(key, params, n),
        draw,
        estimator.statistics.kind,
        params=params,
    )


def normal(mean, covariance) -> Source:
    """Fresh draws from Normal(mean [d], covariance [d, d]).

    Raises `InputError` for shapes or covariances that are none.
    """
    params = gaussian_params(mean, covariance)
    return population(gaussian(len(params.mean)), params)


def categorical(probabilities) -> Source:
    """Fresh draws of categories with probabilities [K].

    Raises `InputError` unless they are non-negative and sum to 1.
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


def dataset(x) -> Source:
    """One fixed real data set x [N, ...]: n of its rows in random order, without replacement (all
    of it where n = N).

    Raises `InputError` for an empty set, for one that is not finite, or, in `generational_process`,
    when more than N points are asked for.
    """
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError):
        raise InputError(
            f"the real data set is {x!r:.200}; it must be an array of numbers [N, ...]"
        ) from None
    if x.ndim < 1 or x.shape[0] < 1:
        raise InputError(f"the real data set has shape {x.shape}; it must hold at least one point")
    if jnp.issubdtype(x.dtype, jnp.inexact) and not bool(jnp.isfinite(x).all()):
        raise InputError(
            f"the real data set holds nan or infinity in {int((~jnp.isfinite(x)).sum())} "
            "places; it must be finite"
        )
    size = x.shape[0]

    def sample(key, n):
        if n > size:
            raise InputError(f"{n} real points are asked for, but the data set has {size}")
        return x[jax.random.permutation(key, size)[:n]]

    return Source(sample, size=size)
