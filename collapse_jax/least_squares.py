"""Linear systems of least squares that stay finite where the points do not determine the solution."""

import jax
import jax.numpy as jnp


def solve(gram, right, tolerance: float | None = None):
    """(solution [d], kept [d]) of gram [d, d] solution = right [d], for a symmetric gram without negative eigenvalues.

    A feature that the ones before it explain (its pivot is below `tolerance` of its own entry on the diagonal) is left out: its weight
    is 0 and kept is False there, as R's lm does it. tolerance: by default 8 d times the rounding of the float type.
    Every step is one operation on the whole matrix, so that thousands of small systems under `vmap` are long vectors.
    Source: the sweep operator, Goodnight 1979, "A tutorial on the SWEEP operator".
    """
    dim, dtype = len(right), gram.dtype
    tolerance = 8 * dim * jnp.finfo(dtype).eps if tolerance is None else tolerance
    diagonal = jnp.diagonal(gram)
    # Features in units of their own length: scales of any kind then round alike.
    unit = jnp.where(diagonal > 0, jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)), 0)
    table = jnp.concatenate([gram * unit[:, None] * unit, (right * unit)[:, None]], axis=1)

    def eliminate(j, carry):
        table, kept = carry
        pivot = table[j, j]
        alive = pivot > tolerance
        row = jnp.where(alive, table[j] / jnp.where(alive, pivot, 1), 0)
        column = table[:, j].at[j].set(0)
        return (table - column[:, None] * row).at[j].set(row), kept.at[j].set(alive)

    table, kept = jax.lax.fori_loop(0, dim, eliminate, (table, jnp.zeros(dim, bool)))
    # A row that was left out holds zeros, and later pivots add nothing to it because their columns do not reach it.
    return jnp.where(kept, table[:, -1] * unit, 0), kept


def minimum_norm(gram, right, count):
    """(solution [d] of least norm, rank []) of gram [d, d] solution = right [d], where the gram is that of `count` [] points.

    Only the `count` largest eigenvalues count, and of those the ones above d times the rounding of the largest: directions in which
    the points have less than 1/900 (float32, d = 10) of their largest extent are lost, which the squares cannot tell from none.
    Source: the pseudo-inverse by eigenvalues (Golub and Van Loan, section 5.5), on the Gram matrix.
    """
    dim = len(right)
    values, vectors = jnp.linalg.eigh(gram)
    largest = jnp.arange(dim) >= dim - count
    kept = largest & (values > dim * jnp.finfo(gram.dtype).eps * values[-1])
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    coordinates = jnp.matmul(vectors.T, right, precision="highest") * inverse
    return jnp.matmul(vectors, coordinates, precision="highest"), jnp.sum(kept, dtype=jnp.int32)
