"""Fewer listed categories: those that a chain still has, moved to the front."""

import jax
import jax.numpy as jnp

from collapse_jax.core.types import Compaction
from collapse_jax.estimators.categorical.params import CategoricalParams
from collapse_jax.random.chains_last import chains_last


def _num_in_use(params):
    return jnp.sum(params.weights > 0, dtype=jnp.int32)


def _to_size(params, size):
    """The same model with only `size` categories listed, those with weight first, in order."""
    return CategoricalParams(*_moved_to_front(*params, size=size))


@chains_last
def _moved_to_front(weights, categories, *, size):
    """Weights and categories [size, chains] of weights [k, chains], those above 0 first."""
    rows, chains = weights.shape
    in_use = weights > 0
    # A loop over rows: a cumulative sum costs XLA on the CPU ten times as much.
    count, before = jax.lax.scan(
        lambda total, row: (total + row, total),
        jnp.zeros(chains, jnp.int32),
        in_use.astype(jnp.int32),
    )
    place = jnp.where(in_use, before, size) * chains + jnp.arange(chains)
    # One scatter of where to find them, and in bounds: each costs as much as four gathers.
    source = jnp.zeros((size + 1) * chains, jnp.int32)
    source = source.at[place.ravel()].set(
        jnp.arange(rows * chains, dtype=jnp.int32), mode="promise_in_bounds"
    )
    source = source[: size * chains].reshape(size, chains)
    taken = jnp.arange(size)[:, None] < count
    leaves = (jnp.broadcast_to(leaf, weights.shape).ravel() for leaf in (weights, categories))
    return [jnp.where(taken, leaf.at[source].get(mode="promise_in_bounds"), 0) for leaf in leaves]


COMPACTION = Compaction(_num_in_use, _to_size)
