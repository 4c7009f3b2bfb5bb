"""Parameters of a categorical model: the weights of the categories that are listed."""

from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.errors import InputError, numbers


class CategoricalParams(NamedTuple):
    """The weights of categories.

    All K categories are listed, but for chains under `replace` in `simulate`, where those that no
    chain has any more may be left out.

    weights: [k], proportional to the probabilities: the counts of the sample (int32) or floats.
    categories: [k] int32, ascending.
    """

    weights: jax.Array
    categories: jax.Array

    @property
    def probabilities(self) -> jax.Array:
        """[k], of the listed categories, summing to 1."""
        return shares(self.weights)


def categorical_params(probabilities: ArrayLike) -> CategoricalParams:
    """Parameters of all K categories from probabilities [K].

    Raises:
        InputError: unless they are finite, not negative, and not all 0.
    """
    if not isinstance(probabilities, jax.core.Tracer):
        values = numbers("probabilities", probabilities)
        if (
            values.ndim != 1
            or not np.isfinite(values).all()
            or values.min(initial=0) < 0
            or not values.sum() > 0
        ):
            raise InputError(
                f"probabilities {values.tolist()} must be [K], finite, not negative, and not all 0"
            )
    weights = jnp.asarray(probabilities, jnp.result_type(float))
    return CategoricalParams(weights, jnp.arange(len(weights), dtype=jnp.int32))


def shares(weights: jax.Array) -> jax.Array:
    """Probabilities [k, ...] of weights [k, ...], whose first axis is that of the categories."""
    return weights / jnp.sum(weights, axis=0).astype(jnp.result_type(float))
