"""Checkpoints, one per generation: the only file that knows Orbax.

What is damaged is found, named and set aside.
"""

import hashlib
import json
import pathlib
import re
import shutil
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from collapse_jax.core.types import State
from collapse_jax.errors import DamagedError, InputError
from collapse_jax.runs import distributed

_SUMS = "checksums"


class Checkpoints:
    """Generations on disk: the state, its record of scalars, and its arrays, saved together or not
    at all, with checksums of all three.

    keep: how many of the newest stay; None keeps all. say: gets one line for each checkpoint that
    is damaged.
    In a job of several processes all make the same calls: arrays that lie on devices of all are
    written by all, the rest by process 0.
    """

    def __init__(self, folder, keep: int | None = None, say: Callable[[str], None] = print):
        self.folder, self._say = pathlib.Path(folder).absolute(), say
        options = ocp.CheckpointManagerOptions(create=True, max_to_keep=keep)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def generations(self) -> list[int]:
        """The finished generations, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, generation: int, state: State, record: dict, arrays: dict) -> None:
        """Returns once everything is on disk under its final name.

        Raises `OSError` where the disk does not take it.
        """
        state, arrays = _flat(state), {name: np.asarray(value) for name, value in arrays.items()}
        record = json.loads(json.dumps(record))
        items = {
            "state": ocp.args.StandardSave(state),
            "record": ocp.args.JsonSave(record),
            _SUMS: ocp.args.JsonSave(
                {"state": _sums(state), "record": _text_sum(record), "arrays": _sums(arrays)}
            ),
        }
        if arrays:
            items["arrays"] = ocp.args.StandardSave(arrays)
        try:
            # Without force Orbax would refuse a generation before the newest one, made again
            # because it was damaged.
            self._manager.save(generation, args=ocp.args.Composite(**items), force=True)
            self._manager.wait_until_finished()
        except (ValueError, RuntimeError) as error:
            # Tensorstore gives errors of the file system as these.
            raise OSError(
                f"checkpoint {self._step_folder(generation)} could not be written "
                f"({_last_cause(error)})"
            ) from None

    def has_state(self, generation: int) -> bool:
        """Whether the state of a finished generation is there; `drop_state` takes it away."""
        return (self._step_folder(generation) / "state").is_dir()

    def restore_state(self, generation: int, template: State) -> State:
        """The state of a generation, on the default device; `template` gives its structure, the
        file its shapes.

        Where there are several devices it is in NumPy arrays instead, for it may not fit on one.
        Raises `InputError` if the file holds the parameters of another model, `DamagedError` if it
        cannot be read or is not what was saved.
        """
        stored = self._whole(
            generation,
            "state",
            lambda: self._restore(generation, "state", numpy=jax.device_count() > 1),
        )
        leaves, structure = jax.tree_util.tree_flatten_with_path(template)
        names = [_name(path) for path, _ in leaves]
        if set(names) != set(stored):
            odd = sorted(set(names) ^ set(stored))
            raise InputError(
                f"checkpoint of generation {generation} has another structure; these "
                f"differ: {', '.join(odd[:8])}"
            )
        return jax.tree_util.tree_unflatten(structure, [stored[name] for name in names])

    def drop_state(self, generation: int) -> None:
        """Deletes the state of a generation; its record and arrays stay, and it stays finished."""
        distributed.on_first(
            lambda: shutil.rmtree(self._step_folder(generation) / "state", ignore_errors=True)
        )

    def restore_record(self, generation: int) -> tuple[dict, dict]:
        """The record and the arrays (NumPy) of a generation.

        Raises `DamagedError` if they cannot be read or are not what was saved.
        """

        def read():
            args = ocp.args.Composite(record=ocp.args.JsonRestore())
            return self._manager.restore(generation, args=args)["record"]

        record = self._whole(generation, "record", read)
        has_arrays = (self._step_folder(generation) / "arrays").exists() or self._saved_sums(
            generation
        ).get("arrays")
        arrays = (
            self._whole(
                generation, "arrays", lambda: self._restore(generation, "arrays", numpy=True)
            )
            if has_arrays
            else {}
        )
        return record, arrays

    def newest_whole(self, template: State):
        """(generation, state, record, arrays) of the newest one that is whole, or None; those above
        it are set aside.
        """
        for generation in reversed(self.generations()):
            try:
                return (
                    generation,
                    self.restore_state(generation, template),
                    *self.restore_record(generation),
                )
            except DamagedError as error:
                self.set_aside(generation, error)
        return None

    def set_aside(self, generation: int, error: DamagedError) -> None:
        """Says what is wrong with a generation, and renames its folder to damaged-GENERATION, so
        that it no longer counts as finished.
        """
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
        metadata = (
            ocp.StandardCheckpointer()
            .metadata(self._step_folder(generation) / item)
            .item_metadata.tree
        )
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

        def target(leaf):
            narrowed = (
                jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype
            )  # JAX would hold fewer bits than were saved
            return (
                np.empty(0, leaf.dtype)
                if numpy or narrowed
                else jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
            )

        args = ocp.args.Composite(
            **{
                item: ocp.args.StandardRestore(
                    {name: target(leaf) for name, leaf in metadata.items()}
                )
            }
        )
        return self._manager.restore(generation, args=args)[item]

    def _whole(self, generation, item, read):
        """What `read` gives, if it is what was saved; checkpoints of older versions have no
        checksums, and only need to be readable.
        """
        where = f"checkpoint {self._step_folder(generation)} is damaged"
        try:
            found = read()
        except Exception as error:
            raise DamagedError(f"{where} ({item} cannot be read: {_first_line(error)})") from error
        expected = self._saved_sums(generation).get(item)
        if expected is not None and expected != (
            _text_sum(found) if item == "record" else _sums(found)
        ):
            raise DamagedError(f"{where} ({item} is not what was saved)")
        return found

    def _saved_sums(self, generation):
        path = self._step_folder(generation) / _SUMS
        if not path.exists():
            return {}
        try:
            return self._manager.restore(
                generation, args=ocp.args.Composite(**{_SUMS: ocp.args.JsonRestore()})
            )[_SUMS]
        except Exception as error:
            raise DamagedError(
                f"checkpoint {path.parent} is damaged ({_SUMS} cannot be read: "
                f"{_first_line(error)})"
            ) from error


def checksum(leaf) -> int:
    """A number that changes with any bit of an array; the same for every layout of it over devices.

    The sum modulo 2^32 of its 32-bit (or narrower) words, each times an odd number of its place.
    """
    return int(_on_device(leaf) if isinstance(leaf, jax.Array) else _checksum(np.asarray(leaf), np))


@jax.jit
def _on_device(leaf):
    return _checksum(leaf, jnp)


def _checksum(leaf, numpy):
    words = _words(leaf, numpy).ravel()
    place = numpy.arange(words.size, dtype=numpy.uint32) * numpy.uint32(0x9E3779B1) | numpy.uint32(
        1
    )
    return numpy.sum(words * place, dtype=numpy.uint32)


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


def _first_line(error, most=200):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


def _last_cause(error):
    """Tensorstore's messages go from what was tried down to what the system said, with colons
    between them.
    """
    return re.sub(r"\s*\[.*?\]$", "", _first_line(error, 10_000)).rpartition(": ")[2]


def _flat(state):
    """Name -> leaf; what each process of a job has for itself as NumPy, because Orbax would take
    such arrays for parts of one.
    """
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    own = lambda leaf: (
        distributed.processes() > 1 and isinstance(leaf, jax.Array) and leaf.is_fully_addressable
    )
    return {_name(path): np.asarray(leaf) if own(leaf) else leaf for path, leaf in leaves}


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator=".")
