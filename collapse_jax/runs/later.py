"""Values that were measured of a saved state later than the rest, in a file beside it."""

import pathlib
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from collapse_jax.errors import first_line
from collapse_jax.runs.archives import load_arrays, save_arrays

_FILE = "later.npz"
# Before each name in the file, in which some names mean something to NumPy.
_MARK = "value of "


def write(folder: pathlib.Path, values: Mapping[str, Any]) -> None:
    """Writes named scalars and arrays beside a checkpoint; those that are there stay.

    Args:
        folder: Of the checkpoint of one generation.
        values: By name.
    """
    scalars, arrays = read(folder, lambda line: None)
    merged = {**scalars, **arrays, **values}
    save_arrays(folder / _FILE, {_MARK + name: np.asarray(v) for name, v in merged.items()})


def read(
    folder: pathlib.Path, say: Callable[[str], object]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(scalars, arrays) of the file; nothing where there is none.

    Args:
        folder: Of the checkpoint of one generation.
        say: Called with a line about a damaged file, which can be measured again.
    """
    path = folder / _FILE
    if not path.is_file():
        return {}, {}
    try:
        found = {name.removeprefix(_MARK): value for name, value in load_arrays(path).items()}
    except (OSError, EOFError, KeyError, ValueError, MemoryError, zipfile.BadZipFile) as error:
        say(f"{path} is damaged ({first_line(error, 200)}); what it held is measured again")
        return {}, {}
    scalars = {name: value.item() for name, value in found.items() if not value.ndim}
    return scalars, {name: value for name, value in found.items() if value.ndim}
