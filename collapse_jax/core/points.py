"""Operations on a `Dataset` of points: pooling, subsampling and buffers of fixed size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.types import Dataset
from collapse_jax.errors import one_key

# Points of a subsample up to which comparing each with all others is quicker than marking them.
_COMPARED = 512
# The weight of a point that is there and counts nothing: as small as a float32 can be multiplied by
# others without loss.
_WEIGHTLESS = 2.0**-120


def summarise(x: jax.Array, weight: jax.Array) -> Dataset:
    """Returns the `Dataset` of points x [n, ...] with weights [n]."""
    return Dataset(x, weight)


def of_sample(x: jax.Array, n: Any = None) -> Dataset:
    """Returns the `Dataset` of the first n points of x [slots, ...]; the rest are empty slots.

    Args:
        x: [slots, ...].
        n: number of points, by default all; may be traced.
    """
    slots = x.shape[0]
    weight = jnp.ones(slots) if n is None else (jnp.arange(slots) < n).astype(float)
    return Dataset(x, weight)


def merge(a: Dataset, b: Dataset) -> Dataset:
    """Returns the pooled points, with the slots of both."""
    return Dataset(jnp.concatenate([a.x, b.x]), jnp.concatenate([a.weight, b.weight]))


def reserve(data: Dataset, slots: int) -> Dataset:
    """Returns the same points in a buffer of `slots` slots, the filled ones first."""
    return compact(data, slots)


def append(pool: Dataset, data: Dataset) -> Dataset:
    """Returns the pool with the points of `data` appended to its points.

    The pool must have space for every slot of `data`.
    """
    data = compact(data, data.weight.shape[0])
    used = jnp.sum(_is_taken(pool))

    def write(buffer, new):
        return jax.lax.dynamic_update_slice_in_dim(buffer, new.astype(buffer.dtype), used, 0)

    return Dataset(*map(write, pool, data))


def compact(data: Dataset, slots: int) -> Dataset:
    """Returns the filled slots, moved to the front in their order, in `slots` slots.

    Points beyond the last slot are dropped.
    """
    taken = _is_taken(data)
    place = jnp.where(taken, jnp.cumsum(taken) - 1, slots)

    def move(leaf):
        empty = jnp.zeros((slots, *leaf.shape[1:]), leaf.dtype)
        return empty.at[place].set(leaf, mode="drop")

    return Dataset(*map(move, data))


def subsample(key: jax.Array, data: Dataset, n: Any, slots: int) -> Dataset:
    """Returns n of the filled points, drawn without replacement, in `slots` slots.

    The choice depends only on the key and on the filled points in their order, not on their slots
    or the size of the buffer. It takes n steps, whatever the number of points is: about a second
    for n = 10^6.

    Args:
        key: one typed key.
        data: the points; empty slots may be anywhere.
        n: number of points to draw; may be traced.
        slots: number of slots in the result.

    References:
        Floyd's method: Bentley and Floyd 1987, "A sample of brilliance".
    """
    one_key("key", key)
    if isinstance(slots, int) and slots == 0:
        return Dataset(data.x[:0], data.weight[:0])
    filled = _is_taken(data)
    total = jnp.sum(filled, dtype=jnp.int32)
    n = jnp.asarray(n, jnp.int32)

    def candidate_of(i):
        """(the highest number of step i, one drawn up to it)."""
        last = total - n + i.astype(jnp.int32)
        own_key = jax.random.fold_in(key, i)
        return last, jax.random.randint(own_key, (), 0, jnp.maximum(last + 1, 1), jnp.int32)

    chosen = (_chosen_by_comparing if slots <= _COMPARED else _chosen_by_marking)(
        candidate_of, slots, len(filled)
    )
    place = _places(filled, total, chosen)
    return Dataset(data.x[place], jnp.where(jnp.arange(slots) < n, data.weight[place], 0))


def _chosen_by_comparing(candidate_of, slots, size):
    """The numbers [slots] that are chosen, each candidate compared with all before it."""

    def choose(i, chosen):
        last, candidate = candidate_of(i)
        return chosen.at[i].set(jnp.where(jnp.any(chosen == candidate), last, candidate))

    return jax.lax.fori_loop(0, slots, choose, jnp.full(slots, -1, jnp.int32))


def _chosen_by_marking(candidate_of, slots, size):
    """The same numbers, in one step each: those that are chosen are marked, in `size` bytes."""

    def choose(i, carry):
        chosen, marked = carry
        last, candidate = candidate_of(i)
        number = jnp.where(marked[candidate], last, candidate)
        return chosen.at[i].set(number), marked.at[number].set(True)

    start = jnp.full(slots, -1, jnp.int32), jnp.zeros(size, bool)
    return jax.lax.fori_loop(0, slots, choose, start)[0]


def _places(filled, total, numbers):
    """The slots [n] of the points of these numbers [n], counted among the filled ones [slots]."""

    def counted(carry):
        # Tied to the loop, out of which XLA would move the sums.
        here, _ = jax.lax.optimization_barrier((filled, carry))
        # Clipped, because numbers beyond the points, which nobody uses, must stay in the buffer.
        place = jnp.searchsorted(jnp.cumsum(here, dtype=jnp.int32), numbers + 1)
        return jnp.minimum(place, len(filled) - 1).astype(jnp.int32), jnp.asarray(False)

    # A loop, which costs nothing where all points are at the front in every chain.
    behind_last = jnp.max(jnp.where(filled, jnp.arange(1, len(filled) + 1, dtype=jnp.int32), 0))
    apart = behind_last != total
    return jax.lax.while_loop(lambda carry: carry[1], counted, (numbers, apart))[0]


def weighed(data: Dataset, w: Any) -> Dataset:
    """Returns the points with each counted w times; points of weight 0 keep their slots.

    Args:
        data: the points.
        w: the factor, at least 0; may be traced.
    """
    weight = jnp.asarray(data.weight)
    # nan is greater than nothing, and stays to be seen.
    times = weight * jnp.asarray(w, weight.dtype)
    return data._replace(weight=jnp.where(weight > 0, jnp.maximum(times, _WEIGHTLESS), weight))


def without_weightless(data: Dataset) -> Dataset:
    """Returns the points that have weight; slots of points without weight become empty."""
    weight = jnp.asarray(data.weight)
    return data._replace(weight=jnp.where(weight <= _WEIGHTLESS, 0, weight))


def filled(data: Dataset) -> np.ndarray:
    """Returns the points of the filled slots as a NumPy array (host only)."""
    return np.asarray(data.x)[np.asarray(data.weight) > 0]


def _is_taken(data):
    """[slots], whether a slot is filled. A nan weight counts as filled, so that it is noticed."""
    return ~(data.weight <= 0)
