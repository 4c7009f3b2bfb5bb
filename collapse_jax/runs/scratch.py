"""Unfinished work that outlives its process: what a killed run goes on from within a generation."""

import concurrent.futures
import hashlib
import pathlib
import shutil
import zipfile

import jax
import numpy as np

from collapse_jax.runs import distributed
from collapse_jax.runs.stopping import Stop

_MADE_OF = "made_of"


class Scratch:
    """Holds named pieces of unfinished work; this one holds none, for work that need not survive.

    made_of: what the piece was computed from (`fingerprint`). A piece made of anything else is not
    given back.
    """

    def load(self, name: str, made_of: str) -> dict[str, np.ndarray] | None:
        """The arrays saved under this name, or None where there is no whole piece of this make."""
        return None

    def save(self, name: str, made_of: str, arrays: dict) -> None:
        """Keeps named arrays, in the place of those that had this name before."""

    def clear(self) -> None:
        """Forgets every piece: what they were for is saved elsewhere."""


class FileScratch(Scratch):
    """Pieces as .npz files (with checksums) of one folder, which is there only while it holds some.

    Every file is written whole, to a temporary name, then renamed. What lies on an accelerator is
    copied to the host and written by
    a thread of its own while the work goes on: one piece at a time, and a mistake there is raised
    by the next call.
    say: gets one line for each file that cannot be used. stop: asked after each piece whether to
    stop there. In a job of several processes all of them load and save the same pieces, and process
    0 writes.
    """

    def __init__(self, folder, say=print, stop: Stop | None = None):
        self._folder, self._say, self._stop = pathlib.Path(folder), say, stop or Stop()
        self._writer = concurrent.futures.ThreadPoolExecutor(1)
        self._writing = None
        if distributed.is_first():
            for partial in self._folder.glob(
                ".*.partial"
            ):  # a kill in mid-write; nobody else writes here
                partial.unlink()

    def load(self, name, made_of):
        self._finish_writing()
        found = self._load(name, made_of)
        distributed.barrier()  # before any process goes on and replaces it
        return found

    def _load(self, name, made_of):
        path = self._folder / f"{name}.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            if str(arrays.pop(_MADE_OF)) == made_of:
                return arrays
            reason = "was made with other settings or other data"
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            reason = (
                f"is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
            )
        self._say(f"{path} {reason}; this part starts over")
        return None

    def save(self, name, made_of, arrays):
        self._finish_writing()
        arrays = {
            key: value if isinstance(value, jax.Array) else np.asarray(value)
            for key, value in arrays.items()
        }
        # Copies from an accelerator are made here, before the caller gives the memory to its next
        # step.
        host = {_MADE_OF: np.asarray(made_of)} | {
            key: distributed.to_host(value) for key, value in arrays.items()
        }
        if _on_accelerator(arrays.values()):
            self._writing = self._writer.submit(self._write, name, host)
        else:
            self._write(name, host)
        if self._stop.requested:
            self._finish_writing()
            self._stop.here()

    def clear(self):
        self._finish_writing()
        if distributed.is_first():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, name, arrays):
        if not distributed.is_first():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f".{name}.partial"
        with open(partial, "wb") as file:
            np.savez(file, **arrays)
        partial.replace(self._folder / f"{name}.npz")

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
    """The words of a key in hexadecimal: a name that no other draw of the run has."""
    return "".join(f"{word:08x}" for word in np.asarray(jax.random.key_data(key)).ravel().tolist())


def fingerprint(*parts) -> str:
    """A hash of arrays (by shape, type and content) and of other things (by what they print)."""
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


def pack(prefix: str, tree) -> dict:
    """The leaves of a tree as named arrays."""
    return {f"{prefix}.{i}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def unpack(prefix: str, arrays: dict, like):
    """The tree whose leaves `pack` named, as NumPy arrays; `like` gives its structure and types.

    KeyError where one is missing.
    """
    leaves, structure = jax.tree.flatten(like)
    # NumPy files know no bfloat16: such leaves come back as bytes of the same width.
    return jax.tree.unflatten(
        structure, [arrays[f"{prefix}.{i}"].view(leaf.dtype) for i, leaf in enumerate(leaves)]
    )
