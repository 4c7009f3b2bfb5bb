"""Sample means as statistics, which are pooled directly or as logarithms.

Arguments are numbers [] or arrays that broadcast.
"""

import jax.numpy as jnp
from jax import Array

from collapse_jax.numerics.resolution import underflows


def share(count_a: Array, count_b: Array) -> Array:
    """The share of b in the pooled sample, in [0, 1]; 0 if both are empty."""
    total = count_a + count_b
    return count_b / jnp.where(total > 0, total, 1)


def pooled(count_a: Array, mean_a: Array, count_b: Array, mean_b: Array) -> Array:
    """The mean of the pooled sample of two with these counts and means."""
    return mean_a + share(count_a, count_b) * (mean_b - mean_a)


def pooled_log(count_a: Array, log_mean_a: Array, count_b: Array, log_mean_b: Array) -> Array:
    """The log of the pooled sample's mean, from the logs of both means; -inf if all are zero."""
    a, b = (
        jnp.where(count_a > 0, log_mean_a, -jnp.inf),
        jnp.where(count_b > 0, log_mean_b, -jnp.inf),
    )
    largest = jnp.maximum(a, b)
    finite = jnp.where(jnp.isfinite(largest), largest, 0)
    part_b = share(count_a, count_b)
    # As a distance from the larger one, so that a small addition to a large pool keeps its digits.
    grown = jnp.log1p((1 - part_b) * jnp.expm1(a - finite) + part_b * jnp.expm1(b - finite))
    return jnp.where(jnp.isfinite(largest), finite + grown, largest)


def log_mean(x: Array, weight: Array) -> Array:
    """log of the weighted mean of points x [n] >= 0 with weights [n].

    -inf where all points are 0, or all weights; nan if the largest point is so close to the
    smallest float that the others have lost digits.
    """
    x = jnp.where(weight > 0, x, 0)
    unit = jnp.max(x)
    some = jnp.where(unit > 0, unit, 1)
    mean = jnp.sum(weight * (x / some)) / jnp.maximum(jnp.sum(weight), jnp.finfo(x.dtype).tiny)
    logarithm = jnp.where(unit > 0, jnp.log(mean) + jnp.log(some), -jnp.inf)
    return jnp.where(underflows(unit), jnp.nan, logarithm)
