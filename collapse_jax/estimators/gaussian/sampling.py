"""Draws of the moments of n standard normal points: by their law, or point by point."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import InputError
from collapse_jax.estimators.gaussian.moments import Moments, at_least_one, summarise
from collapse_jax.numerics import factored
from collapse_jax.random.bits import key_words, variate_words
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.chi_square import (
    BOOSTS,
    boosts,
    log_gamma_ratio,
    log_ratio_of_normal,
    log_ratios_of_normals,
)
from collapse_jax.random.normal import normal_array, normal_vector, normals


def relative_by_law(key: jax.Array, n: Any, dim: int) -> Moments:
    """The moments of n standard normal points, by their Bartlett factor.

    factor: its entries below the diagonal over those on it.
    """
    root = 1 / jnp.sqrt(jnp.asarray(at_least_one(n), jnp.result_type(float)))
    if dim > factored.LARGEST_WRITTEN_OUT:
        z, log_diagonal, inverse = _by_vectors(key, n, dim, root)
        below = factored.strictly_lower(
            lambda i, size: normal_array(key, (size, size), 2 * dim + i * size * size), dim
        )
        return Moments(n, z * root, log_diagonal, below * inverse, at_least_one(n))
    z = normals(key, 2 * dim + dim * (dim - 1) // 2)
    log_diagonal = _half_log_chi_square_shares(key, z[dim : 2 * dim], n)
    # What stands below a diagonal entry t_j is standard normal; over t_j = exp(log_diagonal_j)
    # sqrt(n).
    inverse = [jnp.where(t > -jnp.inf, jnp.exp(-t) * root, 0) for t in log_diagonal]
    below = [z[2 * dim + factored.place(i, j)] * inverse[j] for i in range(dim) for j in range(i)]
    return Moments(
        n,
        tuple(z[i] * root for i in range(dim)),
        tuple(log_diagonal),
        tuple(below),
        at_least_one(n),
    )


def _by_vectors(key, n, dim, root):
    """(the normals of the mean, the log diagonal, root over the diagonal), each [d]."""
    if not isinstance(n, int) or n <= dim or boosts(n - dim):
        # Where n is traced; and those of few degrees of freedom take uniforms besides, or are none.
        z = normal_array(key, (2 * dim,))
        log_diagonal = jnp.stack(_half_log_chi_square_shares(key, list(z[dim:]), n))
        inverse = jnp.where(log_diagonal > -jnp.inf, jnp.exp(-log_diagonal) * root, 0)
        return z[:dim], log_diagonal, inverse
    freedom = n - 1 - np.arange(dim)

    def row(i):
        z = normal_array(key, (dim,), jnp.minimum(i, 1) * dim)
        log_diagonal = log_ratios_of_normals(z, freedom.tolist(), np.log(freedom / n)) / 2
        return jax.lax.select_n(i, z, log_diagonal, jnp.exp(-log_diagonal) * root)

    # A loop, because XLA on the CPU computes fused vectors anew for each entry of a matrix.
    return tuple(jax.lax.map(row, jnp.arange(3, dtype=jnp.int32)))


def relative_by_points(key: jax.Array, n: Any, dim: int) -> Moments:
    """The moments of n standard normal points, each of which is drawn; n is an int."""
    if not isinstance(n, int):
        raise InputError(
            "by='points' needs a sample size that is known before the run; use by='law'"
        )
    return summarise(normal_vector(key, n * dim).reshape(n, dim), jnp.ones(n), dim)


def _half_log_chi_square_shares(key, z, n):
    """log(chi^2 / n) / 2 with n - 1 - j degrees of freedom, from the standard normals z[j]."""
    if not isinstance(n, int):
        return _traced_shares(*key_words(key), jnp.asarray(n, z[0].dtype), *z)
    shares = []
    for j, normal in enumerate(z):
        left = n - 1 - j
        if left <= 0:
            shares.append(jnp.full_like(normal, -jnp.inf))
            continue
        words = key_words(key)
        extra = [variate_words(*words, jnp.uint32(j), BOOSTS + i) for i in range(boosts(left))]
        shares.append((log_ratio_of_normal(normal, extra, left) + np.log(left / n)) / 2)
    return shares


@chains_last
def _traced_shares(key0, key1, n, *z):
    index = jnp.arange(len(z), dtype=jnp.uint32)[:, None]
    left = n - 1 - index.astype(n.dtype)
    shape = jnp.broadcast_to(left / 2, (len(z), *jnp.broadcast_shapes(n.shape, z[0].shape)))
    ratio = log_gamma_ratio(key0, key1, index, shape, jnp.stack(z))
    share = (ratio + jnp.log(jnp.maximum(left, 0) / jnp.maximum(n, 1))) / 2
    return [share[j] for j in range(len(z))]
