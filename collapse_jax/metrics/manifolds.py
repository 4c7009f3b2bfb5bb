"""Precision, recall, density and coverage of points by nearest neighbours among real points."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from collapse_jax.errors import InputError, numbers, whole

# Points whose distances to all others are held at a time.
_ROWS = 64


class Manifolds(NamedTuple):
    """Four scalars in [0, 1], except density, whose mean is 1 if both distributions are equal.

    precision: share of the points that lie in a ball of a real point.
    recall: share of the real points that lie in a ball of a point.
    density: mean number of real balls that contain a point, over k.
    coverage: share of the real balls that contain at least one point.
    """

    precision: Array
    recall: Array
    density: Array
    coverage: Array


def precision_recall(points: Array, real: Array, k: int = 3) -> Manifolds:
    """Precision, recall, density and coverage of points [n, ...] relative to real ones [m, ...].

    The ball of a point reaches to the k-th nearest of the other points of its own set, and includes
    its boundary. Distances are Euclidean and computed from differences, so that they lose no
    digits. Images are compared by their pixels. Under `jit` all results are nan if a number is not
    finite.

    Args:
        points: [n, ...], points of a model.
        real: [m, ...], points of the real distribution.
        k: Number of neighbours, less than n and m.

    Raises:
        InputError: If the points have different shapes, a set has at most k points, or a number is
            not finite.

    References: Kynkaanniemi et al. 2019, arXiv 1904.06991 (precision, recall); Naeem et al. 2020,
        arXiv 2002.09797 (density, coverage). For images, both papers use features of a network.
    """
    points, real = checked_pair(points, real)
    k = check_neighbours(k, len(points), len(real))
    of = unit_of(points, real)
    return compared(points / of, real / of, radii(points / of, k), radii(real / of, k), k)


def check_neighbours(k: int, *counts: int) -> int:
    """k, or `InputError` unless each set of points has more of them."""
    k = whole("k", k, 1)
    if k >= min(counts):
        raise InputError(f"k is {k} with {min(counts)} points; it must be less than their number")
    return k


def checked_pair(points: Array, real: Array) -> tuple[Array, Array]:
    """Returns both as [., d]; `InputError` unless they are finite and have the same shape."""
    points, real = finite("points", points), finite("real points", real)
    if points.ndim == 0 or real.ndim == 0 or points.shape[1:] != real.shape[1:]:
        raise InputError(
            f"points have shape {list(points.shape[1:])}, and real ones {list(real.shape[1:])}; "
            "they must have the same shape"
        )
    size = math.prod(points.shape[1:])
    return points.reshape(len(points), size), real.reshape(len(real), size)


def finite(name: str, x: Array) -> Array:
    """Returns points as floats; raises `InputError` if one is not a number or not finite in JAX."""
    x = jnp.asarray(x if isinstance(x, jax.Array) else numbers(name, x), float)
    if not isinstance(x, Tracer) and not np.isfinite(np.asarray(x)).all():
        raise InputError(f"{name} have numbers that are nan or infinite; all must be finite")
    return x


def unit_of(*sets: Array) -> Array:
    """A power of two [] near the largest coordinate.

    Divided by it, no point loses a digit, and no square of a distance leaves the range of floats.
    """
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x), initial=0) for x in sets]))
    exponent = jnp.clip(jnp.frexp(jax.lax.stop_gradient(largest))[1], -126, 127)
    return jnp.ldexp(jnp.ones((), largest.dtype), exponent)


def radii(points: Array, k: int) -> Array:
    """Squared distance [n] from each point [n, d] to the k-th nearest of the others."""

    def of_one(point):
        # The nearest of all is the point itself, at 0.
        nearest = jax.lax.top_k(-_squares(point, points), k + 1)[0]
        return -nearest[k]

    return jax.lax.map(of_one, points, batch_size=_ROWS)


def compared(points: Array, real: Array, reach: Array, real_reach: Array, k: int) -> Manifolds:
    """`precision_recall` of points [n, d] and [m, d] whose `radii` are known; nan if any is."""

    def of_one(pair):
        point, own = pair
        squares = _squares(point, real)
        in_real = squares <= real_reach
        return jnp.sum(in_real), in_real, squares <= own

    def row(carry, pair):
        covered, recalled = carry
        count, in_real, in_own = of_one(pair)
        return (covered | in_real, recalled | in_own), count

    nothing = jnp.zeros(len(real), bool)
    (covered, recalled), counts = jax.lax.scan(row, (nothing, nothing), (points, reach))
    found = Manifolds(
        jnp.mean((counts > 0).astype(float)),
        jnp.mean(recalled.astype(float)),
        jnp.mean(counts.astype(float)) / k,
        jnp.mean(covered.astype(float)),
    )
    known = jnp.isfinite(points).all() & jnp.isfinite(real).all()
    return Manifolds(*(jnp.where(known, part, jnp.nan) for part in found))


def _squares(point, points):
    """Squared distances [n] of a point [d] to points [n, d]."""
    return jnp.sum((points - point) ** 2, axis=-1)
