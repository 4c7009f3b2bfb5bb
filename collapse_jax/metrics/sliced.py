"""Sliced Wasserstein distance of two sets of points: a mean over one-dimensional projections."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from collapse_jax.errors import InputError, one_key, one_of, whole
from collapse_jax.metrics.manifolds import checked_pair, unit_of


def sliced_wasserstein(
    points: Array,
    real: Array,
    *,
    order: Literal[1, 2] = 2,
    directions: int = 128,
    key: Array | None = None,
) -> Array:
    """Sliced Wasserstein distance [] of points [n, ...] and real ones [m, ...], in their units.

    It is (the mean over random directions of W_p^p)^(1/p), computed exactly for the projected
    empirical distributions. Images are compared by their pixels. In one dimension there is one
    direction. Two samples of the same distribution have a distance of about 1 / sqrt(n), their
    sampling error.

    Args:
        points: [n, ...], points of a model.
        real: [m, ...], points of the real distribution.
        order: p.
        directions: Number of them.
        key: Key of the directions; by default a fixed one, so that all models use the same
            directions.

    Raises:
        InputError: If the points have different shapes, a set is empty, a number is not finite, or
            an argument is out of range.

    References:
        Rabin et al. 2011; Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters".
    """
    points, real = checked_pair(points, real)
    order, count = one_of("order", order, (1, 2)), whole("directions", directions, 1)
    if not (len(points) and len(real)):
        raise InputError("points or real is empty; both must have at least one point")
    of_directions = jax.random.key(0) if key is None else one_key("key", key)
    dim = points.shape[1]
    along = jax.random.normal(of_directions, (count, dim)) if dim > 1 else jnp.ones((1, 1))
    along = along / jnp.linalg.norm(along, axis=1, keepdims=True)
    unit = unit_of(points, real)
    a, b = (jnp.sort(_projected(x / unit, along), axis=1) for x in (points, real))
    return unit * jnp.mean(_powers(a, b, order)) ** (1 / order)


def _projected(x, along):
    """Projections [directions, n] of points [n, d]."""
    return jnp.matmul(along, x.T, precision="highest")


def _powers(a, b, order):
    """W_p^p [directions] of sorted numbers [directions, n] and [directions, m].

    Both quantile functions are constant between the levels i / n and j / m.
    """
    n, m = a.shape[1], b.shape[1]
    # In whole numbers, so that equal levels are equal.
    levels = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    shares = np.diff(levels, prepend=0) / (n * m)
    differences = jnp.abs(a[:, -(-levels // m) - 1] - b[:, -(-levels // n) - 1])
    return jnp.sum(differences**order * jnp.asarray(shares, a.dtype), axis=1)
