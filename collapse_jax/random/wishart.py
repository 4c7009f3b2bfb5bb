"""Wishart matrices as the triangular factor of Bartlett's decomposition."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from collapse_jax.random.bits import split
from collapse_jax.random.chi_square import log_chi_square
from collapse_jax.random.normal import normal_vector, normals

# Up to so many dimensions the entries are computed one by one, which XLA fuses best; the time to
# compile grows with their number.
_WRITTEN_OUT = 4


def wishart_factor(key: Array, degrees_of_freedom: ArrayLike, dim: int) -> Array:
    """Lower-triangular T [dim, dim] with T T^T ~ Wishart(degrees_of_freedom, I).

    Args:
        degrees_of_freedom: At least 0, traced or not. Below dim the law is singular and the last
            columns are 0. A negative number and nan give nan.
        dim: Rows of T.

    References:
        Bartlett 1933; Smith and Hocking 1972, algorithm AS 53.
    """
    normal_key, chi_key = split(key)
    rows, columns = np.tril_indices(dim, -1)
    if dim <= _WRITTEN_OUT and isinstance(degrees_of_freedom, int | float):
        logarithms = jnp.stack(
            [
                log_chi_square(one, max(degrees_of_freedom - j, 0))
                for j, one in enumerate(split(chi_key, dim))
            ]
        )
    else:
        logarithms = log_chi_square(
            chi_key, jnp.maximum(jnp.asarray(degrees_of_freedom) - jnp.arange(dim), 0), (dim,)
        )
    entries = (normals if dim <= _WRITTEN_OUT else normal_vector)(normal_key, len(rows))
    below = jnp.zeros((dim, dim)).at[rows, columns].set(entries) if dim > 1 else 0
    alive = degrees_of_freedom - jnp.arange(dim) > 0
    factor = jnp.where(alive, below + jnp.diag(jnp.exp(logarithms / 2)), 0)
    return jnp.where(jnp.asarray(degrees_of_freedom) >= 0, factor, jnp.nan)
