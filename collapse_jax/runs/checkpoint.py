"""Checkpoints, one per generation: the only file that knows Orbax.

Damage is found by checksums, named, and set aside.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from collapse_jax.errors import DamagedError, InputError, first_line
from collapse_jax.runs import distributed, strict_json

_SUMS = "checksums"
_LONGEST_REASON = 200


class Checkpoints:
    """Generations on disk: state, record of scalars, and arrays, saved together or not at all.

    Each part has a checksum. In a job of several processes all make the same calls: arrays that lie
    on devices of all are written by all, the rest by process 0.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        keep: int | None = None,
        say: Callable[[str], object] = print,
    ):
        """Opens or makes a folder of checkpoints.

        Args:
            folder: The folder.
            keep: How many of the newest stay; by default all.
            say: Called with one line for each damaged checkpoint.
        """
        self.folder, self._say = pathlib.Path(folder).absolute(), say
        options = ocp.CheckpointManagerOptions(create=True, max_to_keep=keep)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def generations(self) -> list[int]:
        """The finished generations, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self, generation: int, state: Any, record: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> None:
        """Saves a generation, and returns once everything is on disk under its final name.

        Args:
            generation: Its number; one that exists is replaced.
            state: A tree of arrays.
            record: JSON values.
            arrays: Arrays by name.

        Raises:
            OSError: If the disk refuses it.
        """
        leaves = _flat(state)
        arrays = {name: np.asarray(value) for name, value in arrays.items()}
        record = json.loads(strict_json.dumps(record))
        sums = {"state": _sums(leaves), "record": _text_sum(record), "arrays": _sums(arrays)}
        items = {
            "state": ocp.args.StandardSave(leaves),
            "record": ocp.args.JsonSave(record),
            _SUMS: ocp.args.JsonSave(sums),
        }
        if arrays:
            items["arrays"] = ocp.args.StandardSave(arrays)
        try:
            # Without force Orbax would refuse a damaged generation, made again, that is not the
            # newest.
            self._manager.save(generation, args=ocp.args.Composite(**items), force=True)
            self._manager.wait_until_finished()
        except (ValueError, RuntimeError) as error:
            # Tensorstore raises errors of the file system as these.
            raise OSError(
                f"checkpoint {self._step_folder(generation)} could not be written "
                f"({_last_cause(error)})"
            ) from None

    def has_state(self, generation: int) -> bool:
        """Whether a finished generation has its state; `drop_state` deletes it."""
        return (self._step_folder(generation) / "state").is_dir()

    def restore_state(self, generation: int, template: Any) -> Any:
        """The state of a generation, on the default device; with several devices as NumPy arrays.

        With several devices it may not fit on one.

        Args:
            template: A tree of the same structure; shapes are those of the file.

        Raises:
            InputError: If the file holds the state of another model.
            DamagedError: If it cannot be read or is not what was saved.
        """
        several = jax.device_count() > 1
        stored = self._verified(
            generation, "state", lambda: self._restore(generation, "state", numpy=several)
        )
        leaves, structure = jax.tree_util.tree_flatten_with_path(template)
        names = [_name(path) for path, _ in leaves]
        odd = sorted(set(names) ^ set(stored))
        if odd:
            raise InputError(
                f"checkpoint of generation {generation} has another structure; these differ: "
                f"{', '.join(odd[:8])}"
            )
        return jax.tree_util.tree_unflatten(structure, [stored[name] for name in names])

    def drop_state(self, generation: int) -> None:
        """Deletes the state of a generation; its record and arrays stay, and it stays finished."""
        state = self._step_folder(generation) / "state"
        distributed.on_first(lambda: shutil.rmtree(state, ignore_errors=True))

    def restore_record(self, generation: int) -> tuple[dict, dict[str, np.ndarray]]:
        """The record and the arrays of a generation.

        Raises:
            DamagedError: If they cannot be read or are not what was saved.
        """

        def read_record():
            args = ocp.args.Composite(record=ocp.args.JsonRestore())
            return self._manager.restore(generation, args=args)["record"]

        record = strict_json.from_json(self._verified(generation, "record", read_record))
        folder = self._step_folder(generation) / "arrays"
        if not folder.exists() and not self._saved_sums(generation).get("arrays"):
            return record, {}
        return record, self._verified(
            generation, "arrays", lambda: self._restore(generation, "arrays", numpy=True)
        )

    def newest_whole(self, template: Any) -> tuple[int, Any, dict, dict[str, np.ndarray]] | None:
        """(generation, state, record, arrays) of the newest undamaged generation, or None.

        Damaged ones above it are set aside.

        Args:
            template: As for `restore_state`.
        """
        for generation in reversed(self.generations()):
            try:
                state = self.restore_state(generation, template)
                return generation, state, *self.restore_record(generation)
            except DamagedError as error:
                self.set_aside(generation, error)
        return None

    def set_aside(self, generation: int, error: DamagedError) -> None:
        """Reports a damaged generation and renames its folder, so that it is not finished."""
        aside = self.folder / f"damaged-{generation}"
        self._say(f"{error}; it is kept as {aside.name} and made again")

        def rename():
            shutil.rmtree(aside, ignore_errors=True)
            self._step_folder(generation).rename(aside)

        distributed.on_first(rename)
        self._manager.reload()

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def delete(self, generation: int) -> None:
        """Deletes a finished generation, so that it can be saved again."""
        self._manager.delete(generation)

    def _step_folder(self, generation):
        return self.folder / str(generation)

    def _restore(self, generation, item, numpy=False):
        """Name -> array of an item, on a device, or as NumPy arrays of the type that was saved."""
        folder = self._step_folder(generation) / item
        tree: Any = ocp.StandardCheckpointer().metadata(folder).item_metadata
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

        def target(leaf):
            # JAX without 64 bits would hold fewer bits than were saved.
            narrowed = jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype
            if numpy or narrowed:
                return np.empty(0, leaf.dtype)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)

        targets = {name: target(leaf) for name, leaf in tree.tree.items()}
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(targets)})
        return self._manager.restore(generation, args=args)[item]

    def _verified(self, generation, item, read):
        """What `read` returns, if it is what was saved.

        Checkpoints of older versions have no checksums, and only need to be readable.
        """
        try:
            value = read()
        except Exception as error:
            raise self._damaged(generation, _unreadable(item, error)) from error
        expected = self._saved_sums(generation).get(item)
        sums = _text_sum(value) if item == "record" else _sums(value)
        if expected is not None and expected != sums:
            raise self._damaged(generation, f"{item} is not what was saved")
        return value

    def _saved_sums(self, generation):
        if not (self._step_folder(generation) / _SUMS).exists():
            return {}
        args = ocp.args.Composite(**{_SUMS: ocp.args.JsonRestore()})
        try:
            return self._manager.restore(generation, args=args)[_SUMS]
        except Exception as error:
            raise self._damaged(generation, _unreadable(_SUMS, error)) from error

    def _damaged(self, generation, reason):
        return DamagedError(f"checkpoint {self._step_folder(generation)} is damaged ({reason})")


def checksum(leaf: Any) -> int:
    """A number that changes with any bit of an array; the same for every layout over devices.

    The sum modulo 2^32 of its words of at most 32 bits, each times an odd number of its place.
    """
    return int(_on_device(leaf) if isinstance(leaf, jax.Array) else _checksum(np.asarray(leaf), np))


@jax.jit
def _on_device(leaf):
    return _checksum(leaf, jnp)


def _checksum(leaf, numpy):
    """numpy: the module that computes it, NumPy or jax.numpy."""
    words = _words(leaf, numpy).ravel()
    place = numpy.arange(words.size, dtype=numpy.uint32)
    odd = place * numpy.uint32(0x9E3779B1) | numpy.uint32(1)
    return numpy.sum(words * odd, dtype=numpy.uint32)


def _words(leaf, numpy):
    if numpy is np:
        width = min(leaf.dtype.itemsize, 4)
        return np.ascontiguousarray(leaf).reshape(-1).view(f"u{width}").astype(np.uint32)
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag], -1)
    kind = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(leaf, kind).astype(jnp.uint32)


def _sums(tree):
    return {name: checksum(leaf) for name, leaf in tree.items()}


def _text_sum(record):
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _unreadable(item, error):
    return f"{item} cannot be read: {first_line(error, _LONGEST_REASON)}"


def _last_cause(error):
    """The end of tensorstore's message, which leads with colons from the attempt to the cause."""
    return re.sub(r"\s*\[.*?\]$", "", first_line(error)).rpartition(": ")[2]


def _flat(state):
    """Name -> leaf; leaves that each process of a job has for itself become NumPy arrays.

    Orbax would take such arrays for parts of one.
    """
    several = distributed.processes() > 1

    def as_saved(leaf):
        is_own = several and isinstance(leaf, jax.Array) and leaf.is_fully_addressable
        return np.asarray(leaf) if is_own else leaf

    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {_name(path): as_saved(leaf) for path, leaf in leaves}


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator=".")
