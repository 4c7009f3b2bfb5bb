"""Float arrays carried through a loop two by two, as complex ones.

XLA on the CPU computes what two results share, random bits above all, once for each array of
results.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def complex_pairs(tree) -> tuple[Callable, Callable]:
    """(tree -> list of arrays to carry, that list -> tree); on other devices nothing is paired."""
    leaves, structure = jax.tree.flatten(tree)
    floats = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    pairs = [
        (i, j)
        for i, j in zip(floats[::2], floats[1::2], strict=False)
        if jax.default_backend() == "cpu" and _can_pair(leaves[i], leaves[j])
    ]
    imaginary = {j for _, j in pairs}

    def to_pairs(tree):
        leaves = jax.tree.leaves(tree)
        for i, j in pairs:
            leaves[i] = jax.lax.complex(leaves[i], leaves[j])
        return [leaf for i, leaf in enumerate(leaves) if i not in imaginary]

    def from_pairs(carried):
        arrays = iter(carried)
        count = structure.num_leaves
        leaves: list[Any] = [None if i in imaginary else next(arrays) for i in range(count)]
        for i, j in pairs:
            leaves[i], leaves[j] = jnp.real(leaves[i]), jnp.imag(leaves[i])
        return jax.tree.unflatten(structure, leaves)

    return to_pairs, from_pairs


def _can_pair(leaf, other):
    return (
        leaf.shape == other.shape
        and leaf.dtype == other.dtype
        and leaf.dtype in (jnp.float32, jnp.float64)
    )
