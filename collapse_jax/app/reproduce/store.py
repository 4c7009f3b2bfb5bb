"""Results in a run folder: results/ID.json, one whole file an entry, from which figures, table and
page are drawn.
"""

import functools
import hashlib
import json
import math
import pathlib

import numpy as np

from collapse_jax.app.reproduce.compare import Comparison
from collapse_jax.app.reproduce.entries import Entry, Paper, check_id
from collapse_jax.app.reproduce.judge import Result
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

_ARRAYS = ("at", "ours", "error", "expected", "z")


def save(folder: RunFolder, result: Result) -> None:
    """Writes the result of an entry, with a stamp of all code that made it."""
    entry = result.entry._replace(check=None, file=None)._asdict() | {
        "paper": result.entry.paper._asdict()
    }
    comparisons = [
        one._asdict() | {name: _plain(getattr(one, name)) for name in _ARRAYS}
        for one in result.comparisons
    ]
    values = result._asdict() | {
        "entry": entry,
        "comparisons": comparisons,
        "stamp": stamp(result.entry),
    }
    folder.write_text(f"results/{result.entry.id}.json", json.dumps(values, indent=1) + "\n")


def load(folder: RunFolder) -> list[Result]:
    """All results of a folder, in the order of papers and ids.

    Raises `InputError` for a file that holds anything else.
    """
    results = [_read(path) for path in sorted((folder.path / "results").glob("*.json"))]
    return sorted(
        results,
        key=lambda result: (result.entry.paper.name, result.entry.paper.arxiv, result.entry.id),
    )


def _read(path):
    try:
        result = _result(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is no result ({error!r}); delete it, and collapse-jax reproduce makes it again"
        ) from None
    check_id(result.entry.id, str(path))
    if result.entry.id != path.stem:
        raise InputError(
            f"{path} holds the result of {result.entry.id!r}; a file has the name of its entry"
        )
    return result


def reusable(folder: RunFolder, entry: Entry, level: float) -> Result | None:
    """The result of an entry that was judged at this level by the very code that is here now; None
    where there is none.

    level: the chance of a false alarm that an entry may have.
    """
    path = folder.path / "results" / f"{entry.id}.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        result = _result(values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    compared = max(sum(not one.refuted for one in result.comparisons), 1)
    same = (
        values["stamp"] == stamp(entry)
        and result.comparisons
        and math.isclose(result.level * compared, level)
    )
    return result._replace(entry=entry) if same else None


def stamp(entry: Entry) -> str:
    """A hash of the entry's file, the whole package and the version of jax."""
    file = entry.file.read_bytes() if entry.file else b""
    return hashlib.sha256(file + _package_hash()).hexdigest()[:16]


@functools.cache
def _package_hash():
    import jax

    package = pathlib.Path(__file__).parents[2]
    files = sorted(
        path for path in package.rglob("*.py") if "published" not in path.relative_to(package).parts
    )
    return hashlib.sha256(
        b"".join(path.read_bytes() for path in files) + jax.__version__.encode()
    ).digest()


def _plain(array):
    return array.tolist() if array.dtype.kind in "US" else [float(value) for value in array]


def _are_points(comparison):
    arrays = [getattr(comparison, name) for name in _ARRAYS]
    numbers = all(
        array.dtype.kind in "fiu"
        for name, array in zip(_ARRAYS, arrays, strict=True)
        if name != "at"
    )
    return (
        numbers and arrays[0].ndim == 1 and all(array.shape == arrays[0].shape for array in arrays)
    )


def _result(values):
    values = {name: value for name, value in values.items() if name != "stamp"}
    comparisons = tuple(
        Comparison(**one | {name: np.array(one[name]) for name in _ARRAYS})
        for one in values["comparisons"]
    )
    if not all(type(one.p_value) in (int, float) and _are_points(one) for one in comparisons):
        raise ValueError("its comparisons are none")
    entry = values["entry"] | {"paper": Paper(**values["entry"]["paper"])}
    return Result(**values | {"entry": Entry(**entry), "comparisons": comparisons})
