"""Unfinished work on disk, from which a killed run goes on within a generation."""

import concurrent.futures
import hashlib
import os
import pathlib
import shutil
import zipfile
from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np

from collapse_jax.errors import first_line
from collapse_jax.runs import distributed
from collapse_jax.runs.archives import load_arrays, save_arrays
from collapse_jax.runs.atomic import LEFT_OVER
from collapse_jax.runs.stopping import Stop

_MADE_OF = "made_of"


class Scratch:
    """Named pieces of unfinished work; this base class keeps nothing.

    `made_of` is the `fingerprint` of what a piece was computed from. A piece is loaded only with
    the fingerprint with which it was saved.
    """

    def load(self, name: str, made_of: str) -> dict[str, np.ndarray] | None:
        """The arrays saved under this name, or None if they are missing, damaged or others'."""
        return None

    def save(self, name: str, made_of: str, arrays: dict) -> None:
        """Keeps named arrays, and forgets those that had this name before."""

    def clear(self) -> None:
        """Forgets every piece, once what they were for is saved elsewhere."""


class FileScratch(Scratch):
    """Pieces as .npz files (with checksums) in a folder that exists only while it holds some.

    Each file is replaced as a whole. Arrays on an accelerator are copied to the host and written by
    a thread while the work goes on, one piece at a time; an error there is raised by the next call.
    In a job of several processes all of them load and save the same pieces, and process 0 writes.

    Args:
        folder: Where the files are.
        say: Gets one line for each file that cannot be used.
        stop: Asked after each piece whether to stop there.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        say: Callable[[str], Any] = print,
        stop: Stop | None = None,
    ):
        self._folder, self._say, self._stop = pathlib.Path(folder), say, stop or Stop()
        self._writer = concurrent.futures.ThreadPoolExecutor(1)
        self._writing = None
        if distributed.is_first():
            # Left by a kill in mid-write: no other process writes here.
            for partial in self._folder.glob(LEFT_OVER):
                partial.unlink()

    def load(self, name: str, made_of: str) -> dict[str, np.ndarray] | None:
        """See `Scratch`."""
        self._finish_writing()
        arrays = self._load(name, made_of)
        distributed.barrier()  # before any process goes on and replaces it
        return arrays

    def _load(self, name, made_of):
        path = self._folder / f"{name}.npz"
        if not path.exists():
            return None
        try:
            arrays = load_arrays(path)
            if str(arrays.pop(_MADE_OF)) == made_of:
                return arrays
            reason = "was made with other settings or other data"
        except (OSError, EOFError, KeyError, ValueError, MemoryError, zipfile.BadZipFile) as error:
            reason = f"is damaged ({first_line(error)})"
        self._say(f"{path} {reason}; this part starts over")
        return None

    def save(self, name: str, made_of: str, arrays: dict) -> None:
        """See `Scratch`."""
        self._finish_writing()
        arrays = {
            key: value if isinstance(value, jax.Array) else np.asarray(value)
            for key, value in arrays.items()
        }
        # Copied from an accelerator now, before the next step reuses the memory.
        host = {key: distributed.to_host(value) for key, value in arrays.items()}
        host = {_MADE_OF: np.asarray(made_of)} | host
        if _on_accelerator(arrays.values()):
            self._writing = self._writer.submit(self._write, name, host)
        else:
            self._write(name, host)
        if self._stop.requested:
            self._finish_writing()
            self._stop.here()

    def clear(self) -> None:
        """See `Scratch`."""
        self._finish_writing()
        if distributed.is_first():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, name, arrays):
        if distributed.is_first():
            save_arrays(self._folder / f"{name}.npz", arrays)

    def _finish_writing(self):
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()


def _on_accelerator(arrays):
    return any(
        isinstance(array, jax.Array) and next(iter(array.devices())).platform != "cpu"
        for array in arrays
    )


def key_name(key: jax.Array) -> str:
    """The words of a key in hexadecimal: a name that is unique in a run."""
    return "".join(f"{word:08x}" for word in np.asarray(jax.random.key_data(key)).ravel().tolist())


def fingerprint(*parts: Any) -> str:
    """A hash of arrays (shape, type and content) and of other things (their repr)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(
                f"{part.shape} {part.dtype}".encode() + np.ascontiguousarray(part).tobytes()
            )
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


class AsFirstWritten:
    """Settings for a `fingerprint`, which stays what it was before some fields came.

    Its repr is that of the settings without later fields that have their defaults.
    """

    def __init__(self, settings: Any, later: Collection[str]):
        """settings: A named tuple. later: Fields that its first version did not have."""
        self._settings, self._later = settings, later

    def __repr__(self) -> str:
        defaults = self._settings._field_defaults
        fields = [
            f"{name}={value!r}"
            for name, value in self._settings._asdict().items()
            if name not in self._later or value != defaults[name]
        ]
        return f"{type(self._settings).__name__}({', '.join(fields)})"


def pack(prefix: str, tree: Any) -> dict[str, Any]:
    """The leaves of a tree as named arrays."""
    return {f"{prefix}.{i}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def unpack(prefix: str, arrays: dict[str, np.ndarray], like: Any) -> Any:
    """The tree whose leaves `pack` named, as NumPy arrays; KeyError if one is missing.

    Args:
        like: A tree with the same structure and types.
    """
    leaves, structure = jax.tree.flatten(like)
    # NumPy's files have no bfloat16: such leaves come back as bytes of the same width.
    return jax.tree.unflatten(
        structure, [arrays[f"{prefix}.{i}"].view(leaf.dtype) for i, leaf in enumerate(leaves)]
    )
