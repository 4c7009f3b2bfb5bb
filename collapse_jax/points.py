"""Evidence made of points: pooling, subsampling and buffers of fixed size, for `Dataset`."""

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.types import Dataset


def summarise(x, weight) -> Dataset:
    """`Dataset` of points x [n, ...] with weights [n]."""
    return Dataset(x, weight)


def of_sample(x, n=None) -> Dataset:
    """`Dataset` of the first n points of x [slots, ...] (all of them by default); the rest are empty slots."""
    slots = x.shape[0]
    weight = jnp.ones(slots) if n is None else (jnp.arange(slots) < n).astype(float)
    return Dataset(x, weight)


def merge(a: Dataset, b: Dataset) -> Dataset:
    """The pooled points, in as many slots as both have."""
    return Dataset(jnp.concatenate([a.x, b.x]), jnp.concatenate([a.weight, b.weight]))


def reserve(data: Dataset, slots: int) -> Dataset:
    """The same points in a buffer of `slots` slots, the filled ones first."""
    free = slots - data.weight.shape[0]
    return compact(Dataset(*(jnp.pad(leaf, [(0, free)] + [(0, 0)] * (leaf.ndim - 1)) for leaf in data)), slots)


def append(pool: Dataset, data: Dataset) -> Dataset:
    """The pool with the points of `data` written behind its own; the pool must have room for every slot of `data`."""
    data = compact(data, data.weight.shape[0])
    used = jnp.sum(pool.weight > 0)
    return Dataset(*(jax.lax.dynamic_update_slice_in_dim(a, b.astype(a.dtype), used, 0) for a, b in zip(pool, data, strict=True)))


def compact(data: Dataset, slots: int) -> Dataset:
    """The filled slots, moved to the front in their order, and cut to `slots` slots."""
    order = jnp.argsort(data.weight == 0, stable=True)[:slots]
    return Dataset(data.x[order], data.weight[order])


def subsample(key, data: Dataset, n, slots: int) -> Dataset:
    """n of the filled points without replacement, in random order, in `slots` slots; n may be traced.

    The choice depends on the key and the order of the filled points alone, not on the size of the buffer.
    """
    total = data.weight.shape[0]
    if slots > total:
        data, total = reserve(data, slots), slots
    data = compact(data, total)
    priority = jax.random.bits(key, (total,), "uint32") >> 1
    empty = data.weight == 0
    order = jnp.argsort(jnp.where(empty, jnp.uint32(2**32 - 1), priority), stable=True)[:slots]
    kept = jnp.arange(slots) < n
    return Dataset(data.x[order], jnp.where(kept, data.weight[order], 0))


def filled(data: Dataset) -> np.ndarray:
    """The points of the filled slots as a NumPy array (host only)."""
    return np.asarray(data.x)[np.asarray(data.weight) > 0]
