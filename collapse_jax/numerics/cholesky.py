"""Cholesky factors of many small covariances: made, inverted and applied, entry by entry."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

# Up to this dimension small matrices are written out entry by entry.
WRITTEN_OUT = 4
Entries = dict[tuple[int, int], Array]


def lower(factors: Array, dim: int) -> Array:
    """Cholesky factors [K, d, d] of factors of any kind.

    These are [K, d, d], deviations [K, d], or one deviation a component [K].
    """
    if factors.ndim == 3:
        return factors
    deviations = jnp.broadcast_to(
        factors[:, None] if factors.ndim == 1 else factors, (len(factors), dim)
    )
    return deviations[:, None, :] * jnp.eye(dim, dtype=factors.dtype)


def cholesky(covariances: Array, floor: ArrayLike) -> Array:
    """Lower Cholesky factors [K, d, d] of covariances [K, d, d].

    Their eigenvalues are known to be at least `floor`; so is every pivot, whatever rounding says.
    """
    dim = covariances.shape[-1]
    if dim <= WRITTEN_OUT:
        entries = cholesky_entries(
            {(i, j): covariances[:, i, j] for i in range(dim) for j in range(i + 1)}, dim, floor
        )
        return matrices(entries, dim)
    row = jnp.arange(dim)

    def column(j, carry):
        left, factors = carry
        root = jnp.sqrt(jnp.maximum(left[:, j, j], floor))
        entries = jnp.where(row > j, left[:, :, j] / root[:, None], 0).at[:, j].set(root)
        return left - entries[:, :, None] * entries[:, None, :], factors.at[:, :, j].set(entries)

    return jax.lax.fori_loop(0, dim, column, (covariances, jnp.zeros_like(covariances)))[1]


def cholesky_entries(cells: Entries, dim: int, floor: ArrayLike) -> Entries:
    """The lower Cholesky factor's entries (i, j) -> [K], from the covariance's cells, j <= i."""
    entries = {}
    for j in range(dim):
        pivot = cells[j, j] - sum(entries[j, k] ** 2 for k in range(j))
        entries[j, j] = jnp.sqrt(jnp.maximum(pivot, floor))
        for i in range(j + 1, dim):
            entries[i, j] = (
                cells[i, j] - sum(entries[i, k] * entries[j, k] for k in range(j))
            ) / entries[j, j]
    return entries


def inverse_entries(entries: Entries, dim: int) -> Entries:
    """The entries of the inverse of a lower triangle."""
    inverse = {}
    for j in range(dim):
        inverse[j, j] = 1 / entries[j, j]
        for i in range(j + 1, dim):
            inverse[i, j] = -sum(entries[i, k] * inverse[k, j] for k in range(j, i)) / entries[i, i]
    return inverse


def matrices(entries: Entries, dim: int) -> Array:
    """[K, d, d] of entries (i, j) -> [K]; 0 above the diagonal."""
    none = jnp.zeros_like(entries[0, 0])
    return jnp.stack(
        [entries.get((i, j), none) for i in range(dim) for j in range(dim)], axis=-1
    ).reshape(-1, dim, dim)


def inverse_of(factors: Array) -> Array:
    """The inverse of factors [K, d, d] (lower triangular) or [K, d]."""
    if factors.ndim == 2:
        return 1 / factors
    dim = factors.shape[-1]
    if dim <= WRITTEN_OUT:
        return matrices(
            inverse_entries(
                {(i, j): factors[:, i, j] for i in range(dim) for j in range(i + 1)}, dim
            ),
            dim,
        )
    return jax.scipy.linalg.solve_triangular(
        factors, jnp.broadcast_to(jnp.eye(dim, dtype=factors.dtype), factors.shape), lower=True
    )


def half_square(inverse: Array, deviations: Array) -> Any:
    """Half the squared length [N] of inverse [d, d] or [d] times deviations [d, N]."""
    dim = len(inverse)
    if inverse.ndim == 1:
        scaled = [inverse[i] * deviations[i] for i in range(dim)]
    elif dim <= WRITTEN_OUT:
        scaled = [sum(inverse[i, j] * deviations[j] for j in range(i + 1)) for i in range(dim)]
    else:
        return jnp.sum(jnp.matmul(inverse, deviations, precision="highest") ** 2, axis=0) / 2
    return sum(one * one for one in scaled) / 2
