"""Wishart matrices as the triangular factor of Bartlett's decomposition."""

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.random.bits import key_words, variate_words
from collapse_jax.random.chi_square import log_chi_square
from collapse_jax.random.lanes import lanes
from collapse_jax.random.normal import normal
from collapse_jax.random.bits import split


def wishart_factor(key, degrees_of_freedom, dim: int):
    """Lower-triangular T [dim, dim] with T T^T ~ Wishart(degrees_of_freedom, I).

    degrees_of_freedom: at least 0, traced or not; below dim the law is singular and the last columns are 0.
    Source: Bartlett 1933; Smith and Hocking 1972, algorithm AS 53.
    """
    normal_key, *chi_keys = split(key, dim + 1)
    diagonal = jnp.stack([jnp.exp(log_chi_square(one, degrees_of_freedom - j) / 2) for j, one in enumerate(chi_keys)])
    rows, columns = np.tril_indices(dim, -1)
    below = jnp.zeros((dim, dim)).at[rows, columns].set(normals(normal_key, len(rows))) if dim > 1 else 0
    alive = degrees_of_freedom - jnp.arange(dim) > 0
    return jnp.where(alive, below + jnp.diag(diagonal), 0)


def normals(key, count: int):
    """Standard normal variates [count]."""
    return _normals(*key_words(key), count=count)[0]


@lanes
def _normals(key0, key1, *, count):
    index = jnp.arange(count, dtype=jnp.uint32)
    if key0.shape[-1] == 1:
        return [normal(*variate_words(key0, key1, index[:, None]))]
    # A loop, because XLA on the CPU computes a fused sampler anew for each of its consumers.
    return [jax.lax.map(lambda one: normal(*variate_words(key0, key1, one)), index)]
