"""Where arrays lie: batches are split over devices, parameters are copied or cut."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Placement(NamedTuple):
    """The devices that share the work.

    devices: those of all processes, in order; () for all that JAX sees.
    shard: False copies the parameters to every device. True leaves each device one part of each
        parameter (and of the optimiser's moments), gathered only while it is used.
    """

    devices: tuple = ()
    shard: bool = False

    def count(self) -> int:
        """How many devices."""
        return len(self.devices or jax.devices())

    def devices_for(self, rows: int) -> int:
        """How many devices share a batch: all if their number divides `rows`, else one."""
        return self.count() if rows % self.count() == 0 else 1

    def place(self, tree: Any, rows: int, axis: int | None = None) -> Any:
        """The arrays of a tree, equal on all processes, on the devices that share a batch.

        A batch that the devices cannot share goes to the first one; to all of them, whole, if the
        parameters are cut or the devices belong to several processes.

        Args:
            rows: Rows of the batch.
            axis: The axis to split; None copies the arrays whole.
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

    def place_parameters(self, tree: Any, rows: int) -> Any:
        """Parameters or moments, placed for a batch of `rows` rows."""
        if not self.shard or self.count() == 1:
            return self.place(tree, rows)
        return jax.tree.map(lambda leaf: _put(leaf, self._part(np.shape(leaf))), tree)

    def kept(self, tree: Any) -> Any:
        """In compiled code: parameters or moments with the layout of `place_parameters`."""
        if not self.shard or self.count() == 1:
            return tree
        return jax.tree.map(
            lambda leaf: jax.lax.with_sharding_constraint(leaf, self._part(leaf.shape)), tree
        )

    def _mesh(self):
        return Mesh(np.asarray(self.devices or jax.devices()), ("devices",))

    def _part(self, shape):
        """Cuts the longest axis that the number of devices divides; copies if there is none."""
        axes = [axis for axis, size in enumerate(shape) if size and size % self.count() == 0]
        if not axes:
            return NamedSharding(self._mesh(), PartitionSpec())
        longest = max(axes, key=lambda axis: shape[axis])
        return NamedSharding(self._mesh(), PartitionSpec(*[None] * longest, "devices"))


def _put(leaf, sharding):
    """Places an array of this process, or one that every process has in full."""
    if jax.process_count() == 1 or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            _put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf)
        )
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
