"""Chains one after the other on a CPU, where a batch would wait for its slowest loop."""

import functools
from collections.abc import Callable

import jax


def one_by_one(function: Callable) -> Callable:
    """A function of one chain whose chains, under `vmap` on a CPU, go one after the other.

    None waits then for another's loop, and each chain's points are vector enough for a core.
    Elsewhere chains are batched as always. Derived here.
    """
    mapped = jax.custom_batching.sequential_vmap(function)

    @functools.wraps(function)
    def of_one(*arrays):
        return mapped(*arrays) if jax.default_backend() == "cpu" else function(*arrays)

    return of_one
