"""A training set as sorted transitions: how it is made, searched, and backed off."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.core.types import Dataset

# Two columns are sorted as one number where it fits 32 bits: XLA sorts a single array several times
# as fast as two.
_LARGEST_PACKED = 2**16 - 1


class NGramParams(NamedTuple):
    """A training set as its transitions, sorted.

    A transition is a token and the order - 1 tokens before it, within one block.

    columns: order arrays [N] int32, lexicographically sorted: the token before, the one before
        that, and the token itself last.
    offset: [V + 1] int32, where each value of the first column starts; offset[V] is the number of
        transitions. What is behind is empty.
    following: (start, count) [N] int32 of the transitions that may come next, with what a dead
        context backs off to; () where looked up.
    starts: order - 1 arrays [n] int32, the first tokens of the blocks in their order.
    blocks: [], how many of the starts are filled.
    """

    columns: tuple[jax.Array, ...]
    offset: jax.Array
    following: tuple[jax.Array, ...]
    starts: tuple[jax.Array, ...]
    blocks: jax.Array


def transitions(x: jax.Array, order: int) -> list[jax.Array]:
    """Of blocks x [n, L]: the columns of `NGramParams`, order arrays [n, L - order + 1]."""
    length = x.shape[1]
    return [x[:, order - 2 - back : length - 1 - back] for back in range(order - 1)] + [
        x[:, order - 1 :]
    ]


def fitted(data: Dataset, order: int, vocabulary_size: int, smoothing: float) -> NGramParams:
    """The model of the blocks of a training set, sorted."""
    filled = data.weight > 0
    columns = transitions(data.x, order)
    columns[0] = jnp.where(filled[:, None], columns[0], vocabulary_size)  # behind everything
    params = _sorted_model([column.ravel() for column in columns], vocabulary_size)
    params = params._replace(
        starts=tuple(data.x[:, place] for place in range(order - 1)),
        blocks=jnp.sum(filled, dtype=jnp.int32),
    )
    if order == 1 or smoothing > 0:
        return params
    return params._replace(
        following=backed_off(params, [params.columns[-1], *params.columns[: order - 2]])
    )


def _sorted_model(columns, vocabulary_size):
    """The model of transitions as columns [N] in any order.

    The first column is vocabulary_size where a slot is empty.
    """
    if len(columns) > 1 and vocabulary_size <= _LARGEST_PACKED:
        base = jnp.uint32(vocabulary_size + 1)
        both, *rest = jax.lax.sort(
            (columns[0].astype(jnp.uint32) * base + columns[1].astype(jnp.uint32), *columns[2:]),
            num_keys=len(columns) - 1,
            is_stable=False,
        )
        columns = ((both // base).astype(jnp.int32), (both % base).astype(jnp.int32), *rest)
    else:
        columns = jax.lax.sort(tuple(columns), num_keys=len(columns), is_stable=False)
    counts = jnp.zeros(vocabulary_size, jnp.int32).at[columns[0]].add(1, mode="drop")
    return NGramParams(
        tuple(columns), jnp.pad(jnp.cumsum(counts, dtype=jnp.int32), (1, 0)), (), (), jnp.int32(0)
    )


def find(params: NGramParams, query: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """(start, count) of the transitions whose first columns are `query`, arrays of one shape."""
    low, high = jnp.int32(0), params.offset[-1]
    for place, (column, value) in enumerate(zip(params.columns, query, strict=False)):
        if place == 0:
            low, high = params.offset[value], params.offset[value + 1]
        else:
            low, high = (
                _first_not_below(column, value, low, high),
                _first_not_below(column, value + 1, low, high),
            )
    return low, high - low


@jax.jit
def _first_not_below(column, value, low, high):
    """The first place in [low, high) whose entry is not below `value`, or high.

    The column ascends there.
    """

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        below = (low < high) & (column[jnp.minimum(middle, column.size - 1)] < value)
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    return jax.lax.fori_loop(0, column.size.bit_length(), halve, (low, high))[0]


def backed_off(params: NGramParams, context: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """(start, count) of the transitions from the longest end of a context that has any.

    context: arrays, newest token first.
    """
    start, count = find(params, context)
    for length in range(len(context) - 1, -1, -1):
        wider_start, wider_count = find(params, context[:length])
        start, count = (
            jnp.where(count > 0, start, wider_start),
            jnp.where(count > 0, count, wider_count),
        )
    return start, count


def log_law(params: NGramParams, columns: Sequence[jax.Array], smoothing: float) -> jax.Array:
    """Log-probability [N] of the last of `columns` [N] given the others."""
    count = find(params, columns[:-1])[1]
    seen = find(params, columns)[1]
    if smoothing > 0:
        size = params.offset.size - 1
        return jnp.log(seen + smoothing) - jnp.log(count + smoothing * size)
    own = jnp.log(seen) - jnp.log(jnp.maximum(count, 1))
    if len(columns) == 1:
        return own
    # A model of lower order over the same transitions: they must be sorted without the oldest
    # token.
    size = params.offset.size - 1
    *shorter, _, last = params.columns
    if not shorter:
        last = jnp.where(jnp.arange(last.size) < params.offset[-1], last, size)
    lower = _sorted_model([*shorter, last], size)
    return jnp.where(count > 0, own, log_law(lower, [*columns[:-2], columns[-1]], smoothing))
