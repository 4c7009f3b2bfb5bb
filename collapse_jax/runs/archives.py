"""Named arrays in one file: NumPy's .npz, uncompressed, with a checksum of each array."""

import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from collapse_jax.runs.atomic import atomic


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
    """Writes or replaces the file as a whole."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a file that `save_arrays` wrote.

    They take no more memory than the file has bytes: one that was packed by others, and unpacks to
    anything, is refused.

    Raises:
        ValueError, zipfile.BadZipFile, OSError, EOFError, KeyError: If it is anything else.
    """
    size = pathlib.Path(path).stat().st_size
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
                raise ValueError(f"{member.filename} is packed, and this is never written so")
            _check_shape(archive, member)
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _check_shape(archive, member):
    """Raises `ValueError` if an array claims more bytes than the member of the archive has."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        claimed = dtype.itemsize
        for length in shape:
            claimed *= length
        if claimed > member.file_size:
            raise ValueError(f"{member.filename} claims the shape {shape}")
