"""What regressions share: fixed designs, weights, and the sizes that a design allows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.errors import InputError, numbers


def checked_design(design: ArrayLike | None, dim: int) -> np.ndarray | None:
    """A design [T, dim] as a float64 array, or None.

    Raises:
        InputError: if it has another shape, no rows, or is not finite.
    """
    if design is None:
        return None
    rows = numbers("design", design)
    if rows.ndim != 2 or rows.shape[1] != dim or not len(rows) or not np.isfinite(rows).all():
        raise InputError(f"design has shape {rows.shape}; it must be [T, {dim}], finite")
    return rows


def checked_weights(weights: ArrayLike) -> jax.Array:
    """Weights [dim] of a regression.

    Raises:
        InputError: unless they are finite numbers in one row.
    """
    values = numbers("weights", weights)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(f"weights {values.tolist()} must be [dim], finite")
    return jnp.asarray(values, jnp.result_type(float))


def check_size(design: np.ndarray | None, n: Any) -> None:
    """Raises `InputError` unless a training set of n points has as many rows as the design."""
    known = isinstance(n, int | np.integer)
    if design is None or (known and n == len(design)):
        return
    asked = f"{n}" if known else "a random number"
    raise InputError(
        f"design has {len(design)} rows, and {asked} of points is asked for; with a design every "
        f"set must have {len(design)}"
    )


def times(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """A matrix times a vector, in full precision."""
    return jnp.matmul(matrix, vector, precision="highest")
