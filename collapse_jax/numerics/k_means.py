"""k-means of weighted points: k-means++ and Lloyd's steps."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from collapse_jax.numerics.blocks import pooled
from collapse_jax.random.bits import key_words, uniform, variate_words
from collapse_jax.random.derivatives import CHOICES, step_function

_LLOYD_STEPS, _LLOYD_TOLERANCE = 300, 1e-4


def k_means(key: Array, x: Array, weight: Array, number: int) -> tuple[Array, Array]:
    """k-means++ and Lloyd's steps, as scikit-learn's KMeans starts and stops them.

    Each centre after the first is the best of 2 + log(number) draws in proportion to the squared
    distance from the centres so far. Lloyd's steps end when the centres move by less than 1e-4 of
    the mean variance (squared), at 300 at the latest. An empty centre stays where it is.

    Args:
        x, weight: [blocks, d, n] and [blocks, n], see `in_blocks`.
        number: Of clusters.

    Returns:
        (labels [blocks, n], means [number, d]).

    References:
        Arthur and Vassilvitskii 2007; Lloyd 1982.
    """
    dim, total = x.shape[1], jnp.sum(weight)
    rows = jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1)
    words = key_words(key)

    def distances(centre):
        return sum((x[:, i] - centre[i]) ** 2 for i in range(dim))

    trials = 2 + int(np.log(number))
    centres = [draw_point(*words, 0, x, weight)]
    nearest = distances(centres[0])
    for k in range(1, number):
        chances = weight * nearest
        chances = jnp.where(jnp.any(chances > 0), chances, weight)
        candidates = [draw_point(*words, k * trials + trial, x, chances) for trial in range(trials)]
        candidate_nearest = [jnp.minimum(nearest, distances(candidate)) for candidate in candidates]
        best = jnp.argmin(jnp.stack([jnp.sum(weight * one) for one in candidate_nearest]))
        centres.append(jnp.stack(candidates)[best])
        nearest = jnp.stack(candidate_nearest)[best]

    def labelled(centres):
        best, labels = distances(centres[0]), jnp.zeros(weight.shape, jnp.int32)
        for k in range(1, number):
            one = distances(centres[k])
            labels, best = jnp.where(one < best, k, labels), jnp.minimum(one, best)
        return labels

    safe_total = jnp.where(total > 0, total, 1)
    middle = pooled(rows, weight)[1:] / safe_total
    enough = _LLOYD_TOLERANCE * jnp.sum(distances(middle) * weight) / (safe_total * dim)

    def step(carry):
        centres, _, taken = carry
        labels = labelled(centres)
        sums = jnp.stack([pooled(rows, jnp.where(labels == k, weight, 0)) for k in range(number)])
        occupied = sums[:, :1] > 0
        moved = jnp.where(occupied, sums[:, 1:] / jnp.where(occupied, sums[:, :1], 1), centres)
        return moved, jnp.sum((moved - centres) ** 2), taken + 1

    start = jnp.stack(centres), jnp.asarray(jnp.inf, x.dtype), jnp.asarray(0, jnp.int32)
    centres, _, _ = jax.lax.while_loop(
        lambda carry: (carry[1] > enough) & (carry[2] < _LLOYD_STEPS), step, start
    )
    return labelled(centres), centres


def draw_point(key0: Array, key1: Array, index: int, x: Array, chances: Array) -> Array:
    """One of the points x [blocks, d, n] -> [d], in proportion to `chances` [blocks, n].

    It takes variate `index` of the key.
    """
    dim = x.shape[1]
    flat = step_function(chances, chances, CHOICES).reshape(-1)
    rows = max(int(np.sqrt(len(flat))), 1)
    # Which row of a square of points, then which point of it: XLA is slow at long running sums.
    square = jnp.pad(flat, (0, -len(flat) % rows)).reshape(rows, -1)
    ends = jnp.cumsum(jnp.sum(square, axis=1))
    place = uniform(*variate_words(key0, key1, jnp.uint32(index))) * ends[-1]
    # Strictly below the ends, so that nothing without a chance is hit, whatever is rounded.
    row = jnp.minimum(
        jnp.searchsorted(ends, jnp.minimum(place, jnp.nextafter(ends[-1], 0)), side="right"),
        rows - 1,
    )
    inside = jnp.cumsum(square[row])
    place = (
        (place - (ends[row] - jnp.sum(square[row])))
        / jnp.maximum(jnp.sum(square[row]), jnp.finfo(x.dtype).tiny)
        * inside[-1]
    )
    place = jnp.clip(place, 0, jnp.nextafter(inside[-1], 0))
    number = row * square.shape[1] + jnp.minimum(
        jnp.searchsorted(inside, place, side="right"), square.shape[1] - 1
    )
    number = jnp.minimum(number, len(flat) - 1)
    block, slot = number // x.shape[2], number % x.shape[2]
    start = (block, jnp.zeros_like(block), slot)  # of one type, also with float64
    return jax.lax.dynamic_slice(x, start, (1, dim, 1)).reshape(dim)
