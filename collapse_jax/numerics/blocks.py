"""Points in blocks that fit the caches, and sums over them that keep their digits."""

from typing import Any

import jax.numpy as jnp
from jax import Array

# Sums over more points are made of sums over so many: the features of a block fit the caches, and
# float32 sums keep their digits.
_BLOCK = 8192


def in_blocks(x: Array, weight: Array) -> tuple[Array, Array]:
    """(x [blocks, d, n], weight [blocks, n]) of points x [N, d] and weights [N].

    Empty slots, and those that fill the last block, are 0.
    """
    slots = x.shape[0]
    blocks = -(-slots // _BLOCK)
    size = -(-slots // blocks)
    weight = jnp.pad(weight.astype(x.dtype), (0, blocks * size - slots))
    x = jnp.where(weight > 0, jnp.pad(x, ((0, blocks * size - slots), (0, 0))).T, 0)
    return jnp.moveaxis(x.reshape(len(x), blocks, size), 1, 0), weight.reshape(blocks, size)


def product(rows: Array, weight: Array) -> Array:
    """[R]: rows [R, n] times weights [n], in full precision on accelerators too."""
    return jnp.matmul(rows, weight, precision="highest")


def pooled(rows: Array, weight: Array) -> Any:
    """[R]: sums of the rows [blocks, R, n] of features times weights [blocks, n]."""
    return sum(product(rows[b], weight[b]) for b in range(len(rows)))
