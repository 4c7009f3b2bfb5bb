"""Choices among points with equal values: which of them another point is a copy of."""

import jax
import jax.numpy as jnp

from collapse_jax.random.bits import key_words, threefry2x32, whole_below

_NOWHERE = 2**31 - 1


def one_of_equals(
    key: jax.Array, values: jax.Array, weight: jax.Array, wanted: jax.Array
) -> jax.Array:
    """For each wanted value the slot of one of the points that have it, chosen uniformly.

    Args:
        key: typed key.
        values: int [slots].
        weight: [slots], 0 where a slot is empty.
        wanted: int [n]; every value must occur among the points.

    Returns:
        int32 [n].
    """
    own = jnp.where(weight > 0, values, _NOWHERE).astype(jnp.int32)
    ordered, slot = jax.lax.sort((own, jnp.arange(len(own), dtype=jnp.int32)), num_keys=1)
    first = jnp.searchsorted(ordered, wanted, side="left")
    count = jnp.searchsorted(ordered, wanted, side="right") - first
    numbers = jnp.arange(len(wanted), dtype=jnp.uint32)
    words = threefry2x32(*key_words(key), jnp.uint32(0), numbers)
    place = first + whole_below(words, count).astype(first.dtype)
    return slot[jnp.minimum(place, len(own) - 1)]
