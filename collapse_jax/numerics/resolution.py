"""Detects samples whose points have lost the digits that a fit needs.

The resolution of floats limits how far points can collapse: floats near their mean differ by whole
roundings, and floats near 0 by the smallest float. A fit to such points is nan, so that a driver
stops (`DivergenceError`) instead of continuing with a wrong distribution. Points that are all equal
are not such a case: their variance is 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

# A range of fewer roundings than this has a variance that is wrong by more than about 1%.
_ROUNDINGS = 8
# Below this many times the smallest normal float, sums and products of points lose digits.
_SMALLEST = 2.0**10


class Centred(NamedTuple):
    """The mean [d], the points about it [n, d] (0 in empty slots), whether digits are lost []."""

    mean: Array
    points: Array
    lost: Array


def centred(x: Array, weight: Array) -> Centred:
    """Points [n, d] of weights [n] about their mean; a coordinate in which all are equal is 0.

    Digits are lost where the range of a coordinate is not 0, but below 8 roundings of its size.
    """
    there = weight[:, None] > 0
    count = jnp.sum(weight)
    mean = jnp.matmul(weight, x, precision="highest") / jnp.maximum(count, 1)
    low = jnp.min(jnp.where(there, x, jnp.inf), axis=0)
    high = jnp.max(jnp.where(there, x, -jnp.inf), axis=0)
    size = jnp.maximum(jnp.abs(low), jnp.abs(high))
    # The mean of equal numbers may be off by a rounding.
    mean = jnp.where(low == high, low, mean)
    few = (low < high) & (high - low < _ROUNDINGS * jnp.finfo(x.dtype).eps * size)
    return Centred(mean, jnp.where(there, x - mean, 0), jnp.any(few))


def underflows(largest: Array) -> Array:
    """Whether the largest of points from 0 on is so small that the others lose digits."""
    return (largest > 0) & (largest < _SMALLEST * jnp.finfo(largest.dtype).tiny)


def within_rounding_of_one(largest: Array) -> Array:
    """Whether the largest logarithm of points from 1 on is not 0, but below 8 roundings."""
    return (largest > 0) & (largest < _ROUNDINGS * jnp.finfo(largest.dtype).eps)
