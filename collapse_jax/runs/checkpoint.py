"""Checkpoints, one per generation, in the file format of Orbax.

Only this file and `small_checkpoint`, which it calls for a few small arrays, depend on Orbax.
Damaged checkpoints are found by checksums, reported and renamed.
"""

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from collapse_jax.errors import DamagedError, InputError, first_line, size_words
from collapse_jax.runs import distributed, later, small_checkpoint, strict_json
from collapse_jax.runs.checksums import checksum
from collapse_jax.runs.environment import check_numbers, numbers
from collapse_jax.runs.free_memory import available_memory
from collapse_jax.runs.plain_path import plain_path

_SUMS = "checksums"
_LONGEST_REASON = 200
_NUMBER = re.compile(r"0|[1-9][0-9]*")
# What Orbax and `small_checkpoint` write to before the final name.
_LEFT_OVER = re.compile(r"[0-9]+(-old)?" + re.escape(small_checkpoint.TEMPORARY) + r"(-[0-9]+)?")


class Checkpoints:
    """Generations on disk: state, record of scalars, and arrays, saved together or not at all.

    Each part has a checksum, and the environment of the numbers is saved with them
    (`environment.numbers`). In a job of several processes all make the same calls: arrays that are
    distributed over devices of all processes are written by all, others by process 0.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        keep: int | None = None,
        say: Callable[[str], object] = print,
        read_only: bool = False,
    ):
        """Opens or creates a folder of checkpoints.

        Args:
            folder: The folder.
            keep: The number of newest checkpoints to keep; by default all are kept.
            say: Called with one line for each damaged checkpoint.
            read_only: Whether the folder must not be changed, because a run may be writing there.

        Raises:
            InputError: If the newest was made with options of JAX that give other numbers, or the
                path is not a folder.
            OSError: If the folder cannot be created.
        """
        self.folder, self._say = pathlib.Path(folder).absolute(), say
        self._keep = keep
        if self.folder.is_symlink():
            raise InputError(
                f"{self.folder} is a link to {os.readlink(self.folder)}, which must not be "
                "changed; delete the link"
            )
        if read_only and not self.folder.is_dir():
            raise InputError(f"{self.folder} is not a folder; there are no checkpoints")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"{self.folder} is not a folder; delete or rename it") from None
        self._plain = plain_path(self.folder, self)
        if not read_only:
            distributed.on_first(self._remove_left_overs)
        # What is there, and what was made here since.
        self._generations = set(self._found())
        self._reader = ocp.StandardCheckpointHandler()
        self._numbers = numbers()
        # Generation -> what its checksums item holds.
        self._sums: dict[int, dict[str, Any]] = {}
        for newest in self.generations()[-1:]:
            check_numbers(self.numbers_of(newest), str(self.folder))

    def generations(self) -> list[int]:
        """The finished generations, ascending."""
        return sorted(self._generations)

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
        sums |= {"bytes": {"state": _size(leaves), "arrays": _size(arrays)}}
        sums |= {"numbers": self._numbers}
        trees = {"state": leaves, **({"arrays": arrays} if arrays else {})}
        self._sums.pop(generation, None)
        try:
            with _quiet():
                self._write(generation, trees, {"record": record, _SUMS: sums})
        except (ValueError, RuntimeError) as error:
            # Tensorstore raises errors of the file system as these.
            raise OSError(
                f"checkpoint {self._step_folder(generation)} could not be written "
                f"({_last_cause(error)})"
            ) from None
        self._generations.add(generation)
        for old in self.generations()[: -self._keep] if self._keep else ():
            self.delete(old)

    def _write(self, generation, trees, texts):
        """Writes one under its final name; nothing goes on in a thread after an interrupt."""
        folder = self._plain / str(generation)
        if distributed.processes() == 1 and small_checkpoint.is_small(trees):
            return small_checkpoint.save(folder, trees, texts)
        items: dict[str, Any] = {n: ocp.args.StandardSave(tree) for n, tree in trees.items()}
        items |= {name: ocp.args.JsonSave(text) for name, text in texts.items()}
        writer = ocp.Checkpointer(ocp.CompositeCheckpointHandler())
        with contextlib.closing(writer):
            writer.save(folder, args=ocp.args.Composite(**items), force=True)

    def numbers_of(self, generation: int) -> dict[str, Any]:
        """What a generation was made with (`environment.numbers`); {} of an older version."""
        try:
            found = self._saved_sums(generation).get("numbers", {})
        except DamagedError:
            return {}
        return found if isinstance(found, dict) else {}

    def add(self, generation: int, values: Mapping[str, Any]) -> None:
        """Adds named scalars and arrays to a finished generation, measured of its saved state."""
        folder = self._step_folder(generation)
        distributed.on_first(lambda: later.write(folder, values))

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
        stored = self.restore_leaves(generation, numpy=jax.device_count() > 1)
        leaves, structure = jax.tree_util.tree_flatten_with_path(template)
        names = [_name(path) for path, _ in leaves]
        odd = sorted(set(names) ^ set(stored))
        if odd:
            raise InputError(
                f"checkpoint of generation {generation} has another structure; these differ: "
                f"{', '.join(odd[:8])}"
            )
        return jax.tree_util.tree_unflatten(structure, [stored[name] for name in names])

    def restore_leaves(self, generation: int, numpy: bool = True) -> dict[str, Any]:
        """Name -> array of the state of a generation: the names of its path, joined by dots.

        Args:
            generation: Its number.
            numpy: Whether they are NumPy arrays, or on the default device.

        Raises:
            DamagedError: If it cannot be read or is not what was saved.
        """
        read = functools.partial(self._restore, generation, "state", numpy=numpy)
        return self._verified(generation, "state", read)

    def drop_state(self, generation: int) -> None:
        """Deletes the state of a generation; its record and arrays stay, and it stays finished."""
        state = self._step_folder(generation) / "state"
        distributed.on_first(lambda: shutil.rmtree(state, ignore_errors=True))

    def restore_record(self, generation: int) -> tuple[dict, dict[str, np.ndarray]]:
        """The record and the arrays of a generation, with what was added to them.

        Raises:
            DamagedError: If they cannot be read or are not what was saved.
        """
        read = functools.partial(self._text, generation, "record")
        record = strict_json.from_json(self._verified(generation, "record", read))
        if not isinstance(record, dict):
            raise self._damaged(generation, "record is not an object")
        folder, arrays = self._step_folder(generation), {}
        if (folder / "arrays").exists() or self._saved_sums(generation).get("arrays"):
            arrays = self._verified(
                generation, "arrays", lambda: self._restore(generation, "arrays", numpy=True)
            )
        scalars, more = later.read(folder, self._say)
        return scalars | record, more | arrays

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
        self._say(f"{error}; it is renamed to {aside.name} and computed again")

        def rename():
            shutil.rmtree(aside, ignore_errors=True)
            self._step_folder(generation).rename(aside)

        distributed.on_first(rename)
        self._forget(generation)

    def close(self) -> None:
        """Ends the use of the folder."""
        self._reader.close()

    def delete(self, generation: int) -> None:
        """Deletes a finished generation, so that it can be saved again."""
        distributed.on_first(lambda: small_checkpoint.delete(self._step_folder(generation)))
        self._forget(generation)

    def _forget(self, generation):
        self._sums.pop(generation, None)
        self._generations.discard(generation)

    def _found(self):
        for path in self.folder.iterdir():
            if _NUMBER.fullmatch(path.name) and path.is_dir():
                yield int(path.name)

    def _remove_left_overs(self):
        """Removes what a killed process has left half written or half deleted."""
        for path in self.folder.iterdir():
            if _LEFT_OVER.fullmatch(path.name) and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)

    def _step_folder(self, generation):
        return self.folder / str(generation)

    def _restore(self, generation, item, numpy=False):
        """Name -> array of an item, on a device, or as NumPy arrays of the type that was saved."""
        folder = self._plain / str(generation) / item
        tree: Any = self._reader.metadata(epath.Path(folder))
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

        def target(leaf):
            # JAX without 64 bits would hold fewer bits than were saved.
            narrowed = jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype
            if numpy or narrowed:
                return np.empty(0, leaf.dtype)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)

        targets = {name: target(leaf) for name, leaf in tree.tree.items()}
        self._check_size(generation, item, tree.tree)
        with _quiet():
            return self._reader.restore(epath.Path(folder), args=ocp.args.StandardRestore(targets))

    def _text(self, generation, item):
        """The JSON values of an item."""
        path = self._step_folder(generation) / item / "metadata"
        return json.loads(path.read_text(encoding="utf-8"))

    def _check_size(self, generation, item, leaves):
        """Raises `ValueError` before arrays are made that are larger than those that were saved.

        An edited file may claim any shape: what is not on the disk is read as zeros.
        """
        size = sum(
            math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in leaves.values()
        )
        saved = self._saved_sums(generation).get("bytes", {}).get(item, size)
        left = available_memory()
        if size != saved or (left is not None and size > left):
            raise ValueError(f"its header claims {size_words(size)}")

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
        if generation not in self._sums:
            try:
                is_there = (self._step_folder(generation) / _SUMS).exists()
                found = self._text(generation, _SUMS) if is_there else {}
                self._sums[generation] = dict(found)
            except Exception as error:
                raise self._damaged(generation, _unreadable(_SUMS, error)) from error
        return self._sums[generation]

    def _damaged(self, generation, reason):
        return DamagedError(f"checkpoint {self._step_folder(generation)} is damaged ({reason})")


@contextlib.contextmanager
def read_only(folder: str | os.PathLike) -> Iterator[Checkpoints]:
    """Yields the checkpoints of a folder that another call may be writing to; nothing is changed.

    Args:
        folder: As for `Checkpoints`.
    """
    with contextlib.closing(Checkpoints(folder, read_only=True)) as checkpoints:
        yield checkpoints


@contextlib.contextmanager
def _quiet():
    """Keeps Orbax from logging the stack of an error that it raises as well."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _sums(tree):
    return {name: checksum(leaf) for name, leaf in tree.items()}


def _size(tree):
    return sum(leaf.nbytes for leaf in tree.values())


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
