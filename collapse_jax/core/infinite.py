"""Infinite samples: a one-dimensional family is fitted to densities, without sampling error."""

import jax.numpy as jnp
import numpy as np

from collapse_jax.core.protocols import Params
from collapse_jax.core.recipes.made import with_recipe
from collapse_jax.core.types import Estimator, Source
from collapse_jax.errors import InputError, number, whole


def infinite_sample(
    estimator: Estimator,
    truth: Estimator,
    params: Params,
    *,
    low: float,
    high: float,
    nodes: int = 1000,
) -> tuple[Estimator, Source]:
    """Returns (estimator, source) of a chain without sampling error.

    The data of n points is the density at quadrature nodes, with a total weight of n. Estimators
    still correct for the sample size; use maximum likelihood (`gaussian(1, ddof=0)`).

    Args:
        estimator: the family that is fitted, in one dimension (x is [n, 1]), with `log_prob`.
        truth: the family of the real distribution.
        params: the parameters of the real distribution.
        low: the lowest node.
        high: the highest node. The trapezoid rule is exact up to rounding if all densities are
            smooth on the scale of two nodes and vanish at both ends.
        nodes: number of equidistant nodes.

    Raises:
        InputError: unless both families have `log_prob`, low < high and nodes >= 2.

    References:
        Derived here (the trapezoid rule); the limit of infinite data of Shumailov et al. 2024,
        "What is model collapse?".
    """
    if estimator.log_prob is None or truth.log_prob is None:
        raise InputError("estimator and truth must both have log_prob for an infinite sample")
    low, high = number("low", low), number("high", high)
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(
            f"low is {low:g} and high is {high:g}; they must be finite, with low below high"
        )
    whole("nodes", nodes, 2)
    x = jnp.linspace(low, high, nodes)[:, None]
    step = (high - low) / (nodes - 1)

    def data(log_density, n):
        return estimator.summarise(x, n * step * jnp.exp(log_density))

    made = (
        estimator._replace(
            draw=lambda key, model, n: data(estimator.log_prob(model, x), n), subsample=None
        ),
        Source(
            lambda key, n: truth.sample(key, params, n),
            lambda key, n: data(truth.log_prob(params, x), n),
            estimator.statistics.kind,
            params=params,
        ),
    )
    args, options = (estimator, truth, params), {"low": low, "high": high, "nodes": nodes}
    return (
        with_recipe(made[0], infinite_estimator, args, options),
        with_recipe(made[1], infinite_source, args, options),
    )


def infinite_estimator(
    estimator: Estimator,
    truth: Estimator,
    params: Params,
    *,
    low: float,
    high: float,
    nodes: int = 1000,
) -> Estimator:
    """Returns the estimator of `infinite_sample`; unpickling calls this."""
    return infinite_sample(estimator, truth, params, low=low, high=high, nodes=nodes)[0]


def infinite_source(
    estimator: Estimator,
    truth: Estimator,
    params: Params,
    *,
    low: float,
    high: float,
    nodes: int = 1000,
) -> Source:
    """Returns the source of `infinite_sample`; unpickling calls this."""
    return infinite_sample(estimator, truth, params, low=low, high=high, nodes=nodes)[1]
