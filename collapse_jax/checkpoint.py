"""Checkpoints, one per generation: the only file that knows Orbax."""

import pathlib
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp

from collapse_jax.errors import InputError
from collapse_jax.types import State


class Checkpoints:
    """Generations on disk: the state, its record of scalars, and its arrays, saved together or not at all.

    keep: how many of the newest stay; None keeps all.
    """

    def __init__(self, folder, keep: int | None = None):
        folder = pathlib.Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(create=True, max_to_keep=keep)
        self._manager = ocp.CheckpointManager(folder, options=options)

    def generations(self) -> list[int]:
        """The finished generations, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, generation: int, state: State, record: dict, arrays: dict) -> None:
        """Returns once everything is on disk under its final name."""
        items = {
            "state": ocp.args.StandardSave(_flat(state)),
            "record": ocp.args.JsonSave(record),
        }
        if arrays:
            items["arrays"] = ocp.args.StandardSave({name: np.asarray(value) for name, value in arrays.items()})
        self._manager.save(generation, args=ocp.args.Composite(**items))
        self._manager.wait_until_finished()

    def restore_state(self, generation: int, template: State) -> State:
        """The state of a generation, on the default device; `template` gives its structure, the file its shapes.

        Raises `InputError` if the file holds the parameters of another model.
        """
        stored = self._restore(generation, "state")
        leaves, structure = jax.tree_util.tree_flatten_with_path(template)
        names = [_name(path) for path, _ in leaves]
        if set(names) != set(stored):
            odd = sorted(set(names) ^ set(stored))
            raise InputError(f"checkpoint of generation {generation} has another structure; these differ: {', '.join(odd[:8])}")
        return jax.tree_util.tree_unflatten(structure, [stored[name] for name in names])

    def drop_state(self, generation: int) -> None:
        """Deletes the state of a generation; its record and arrays stay, and it stays finished."""
        shutil.rmtree(self._step_folder(generation) / "state", ignore_errors=True)

    def restore_record(self, generation: int) -> tuple[dict, dict]:
        """The record and the arrays (NumPy) of a generation."""
        args = ocp.args.Composite(record=ocp.args.JsonRestore())
        record = self._manager.restore(generation, args=args)["record"]
        has_arrays = "arrays" in self._manager.item_metadata(generation) and (self._step_folder(generation) / "arrays").exists()
        arrays = self._restore(generation, "arrays") if has_arrays else {}
        return record, {name: np.asarray(value) for name, value in arrays.items()}

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def _step_folder(self, generation):
        return pathlib.Path(self._manager.directory) / str(generation)

    def _restore(self, generation, item):
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        metadata = ocp.StandardCheckpointer().metadata(self._step_folder(generation) / item).item_metadata.tree
        target = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device) for name, leaf in metadata.items()}
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(target)})
        return self._manager.restore(generation, args=args)[item]


def _flat(state):
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]}


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator=".")
