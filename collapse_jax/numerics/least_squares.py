"""Least-squares systems whose solution stays finite if the points do not determine it."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def solve(gram: Array, right: Array, tolerance: float | None = None) -> tuple[Array, Array]:
    """Solves gram w = right for a symmetric gram without negative eigenvalues.

    A feature that is a linear combination of earlier ones (its pivot is below `tolerance` times its
    diagonal entry) is left out, as in R's lm. Every step is one operation on the whole matrix, so
    that thousands of small systems under `vmap` are long vectors.

    Args:
        gram: [d, d].
        right: [d].
        tolerance: By default 8 d times the rounding of the float type.

    Returns:
        (solution [d], kept [d]). A feature that is left out has weight 0, and kept is False there.

    References:
        Goodnight 1979, "A tutorial on the SWEEP operator".
    """
    dim, dtype = len(right), gram.dtype
    least = 8 * dim * jnp.finfo(dtype).eps if tolerance is None else tolerance
    diagonal = jnp.diagonal(gram)
    # Features in units of their own length: scales of any kind then round alike.
    unit = jnp.where(diagonal > 0, jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)), 0)
    table = jnp.concatenate([gram * unit[:, None] * unit, (right * unit)[:, None]], axis=1)

    def eliminate(j, carry):
        table, kept = carry
        pivot = table[j, j]
        alive = pivot > least
        row = jnp.where(alive, table[j] / jnp.where(alive, pivot, 1), 0)
        column = table[:, j].at[j].set(0)
        return (table - column[:, None] * row).at[j].set(row), kept.at[j].set(alive)

    table, kept = jax.lax.fori_loop(0, dim, eliminate, (table, jnp.zeros(dim, bool)))
    # A row that was left out holds zeros, and later pivots add nothing to it because their columns
    # do not reach it.
    return jnp.where(kept, table[:, -1] * unit, 0), kept


def newton_direction(features: Array, slope: Array, ridge: ArrayLike, gradient: Array) -> Array:
    """The Newton step [d] of a regression; features that others explain take no part.

    Args:
        features: [n, d].
        slope: [n], the second derivative of each point's loss in its linear predictor.
        ridge: [], of the penalty ridge / 2 |w|^2.
        gradient: [d], downhill.
    """
    curvature = jnp.matmul(features.T * slope, features, precision="highest")
    return solve(curvature + ridge * jnp.eye(features.shape[1]), gradient)[0]


def minimum_norm(gram: Array, right: Array, count: ArrayLike) -> tuple[Array, Array]:
    """Solves gram w = right with the least norm.

    Directions whose pivot is below d times the rounding error of the largest squared length are
    treated as rounding errors. These are directions in which the points extend less than 1/900
    (float32, d = 10) of that length. Cholesky factor L [d, rank] with diagonal pivoting: gram = L
    L', L c = right, and the least-norm solution of L' w = c is L (L'L)^-1 c. Plain array
    operations: `simulate` with a batched `jnp.linalg.eigh` in its tiles did not come to an end on
    two cores (jax 0.10.2 on the CPU).

    Args:
        gram: [d, d], of `count` points.
        right: [d].
        count: [], an upper bound on the rank.

    Returns:
        (solution [d], rank []).

    References:
        Higham 1990.
    """
    dim, dtype = len(right), gram.dtype
    floor = dim * jnp.finfo(dtype).eps * jnp.max(jnp.diagonal(gram))

    def eliminate(k, carry):
        gram, right, factor, coordinates, rank = carry
        diagonal = jnp.diagonal(gram)
        j = jnp.argmax(diagonal)
        alive = (diagonal[j] > floor) & (k < count)
        root = jnp.sqrt(jnp.where(alive, diagonal[j], 1))
        column = jnp.where(alive, gram[:, j] / root, 0)
        coordinate = jnp.where(alive, right[j] / root, 0)
        # The pivot's own row is zero from here on, not what rounding leaves of it.
        gram = (gram - column[:, None] * column).at[j].set(0).at[:, j].set(0)
        gram = jnp.where(alive, gram, carry[0])
        right = right - column * coordinate
        return (
            gram,
            right,
            factor.at[:, k].set(column),
            coordinates.at[k].set(coordinate),
            rank + alive,
        )

    nothing = jnp.zeros((dim, dim), dtype), jnp.zeros(dim, dtype), jnp.asarray(0, jnp.int32)
    _, _, factor, coordinates, rank = jax.lax.fori_loop(0, dim, eliminate, (gram, right, *nothing))
    inner, _ = solve(jnp.matmul(factor.T, factor, precision="highest"), coordinates, tolerance=0.0)
    return jnp.matmul(factor, inner, precision="highest"), rank
