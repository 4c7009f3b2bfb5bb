"""Batches and parameters on the devices of all processes: rows are dealt out; parameters are on
every device, or cut into parts.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Placement(NamedTuple):
    """What the work is spread over. devices: of all processes, in order; () for all there are.

    shard: whether each device keeps a part of each parameter (and of the optimiser's moments)
    alone, and the whole only while it is used.
    """

    devices: tuple = ()
    shard: bool = False

    def count(self) -> int:
        """How many devices."""
        return len(self.devices or jax.devices())

    def devices_for(self, rows: int) -> int:
        """How many devices share a batch of this many rows: all of them where that divides it, else
        one (each does all of it).
        """
        return self.count() if rows % self.count() == 0 else 1

    def place(self, tree, rows: int, axis: int | None = None):
        """The arrays of a tree, the same on each process, for a batch of `rows` rows: split along
        `axis`, or whole where that is None.

        A batch that its devices cannot share is on the first one, or on all where the parameters or
        the devices of several processes
        must be at hand.
        """
        if self.count() == 1:
            return tree
        if self.devices_for(rows) > 1:
            spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "devices")
        elif self.shard or jax.process_count() > 1:
            spec = PartitionSpec()
        else:
            return jax.device_put(tree, (self.devices or jax.devices())[0])
        return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(self._mesh(), spec)), tree)

    def place_parameters(self, tree, rows: int):
        """Parameters or moments for a batch of `rows` rows."""
        if not self.shard or self.count() == 1:
            return self.place(tree, rows)
        return jax.tree.map(lambda leaf: _put(leaf, self._part(np.shape(leaf))), tree)

    def kept(self, tree):
        """The same parameters or moments, in compiled code: there they keep the layout of
        `place_parameters`.
        """
        if not self.shard or self.count() == 1:
            return tree
        return jax.tree.map(
            lambda leaf: jax.lax.with_sharding_constraint(leaf, self._part(leaf.shape)), tree
        )

    def _mesh(self):
        return Mesh(np.asarray(self.devices or jax.devices()), ("devices",))

    def _part(self, shape):
        """An array cut along its longest axis that the devices divide; whole on each where there is
        none.
        """
        axes = [axis for axis, size in enumerate(shape) if size and size % self.count() == 0]
        if not axes:
            return NamedSharding(self._mesh(), PartitionSpec())
        longest = max(axes, key=lambda axis: shape[axis])
        return NamedSharding(self._mesh(), PartitionSpec(*[None] * longest, "devices"))


def _put(leaf, sharding):
    """An array, or one that every process has in full, on the devices of all processes."""
    if jax.process_count() == 1 or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
        return jax.device_put(leaf, sharding)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            _put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf)
        )
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
