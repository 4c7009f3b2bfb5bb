"""A batch spread over all devices: its rows are dealt out, the parameters are on every one."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def devices_for(rows: int) -> int:
    """How many devices a batch of this many rows is spread over: all of them where that divides it, else one."""
    count = len(jax.devices())
    return count if rows % count == 0 else 1


def place(tree, rows: int, axis: int | None = None):
    """The arrays of a tree on the devices of a batch of `rows` rows: split along `axis`, or whole on each where that is None.

    Where only one of several devices takes the batch, they are on the first.
    """
    if len(jax.devices()) == 1:
        return tree
    if devices_for(rows) == 1:
        return jax.device_put(tree, jax.devices()[0])
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "data")
    return jax.device_put(tree, NamedSharding(mesh, spec))
