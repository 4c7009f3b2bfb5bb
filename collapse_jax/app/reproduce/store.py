"""Results in a run folder: results/ID.json per entry, from which table, page and plots are made."""

import functools
import hashlib
import math
import pathlib

import numpy as np

from collapse_jax.app.reproduce.compare import Comparison
from collapse_jax.app.reproduce.entries import Entry, Paper, check_id
from collapse_jax.app.reproduce.judge import Result
from collapse_jax.errors import InputError
from collapse_jax.runs import strict_json
from collapse_jax.runs.folder import RunFolder

_ARRAYS = ("at", "ours", "error", "expected", "z")
# What reading a file may raise that holds anything else.
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def save(folder: RunFolder, result: Result) -> None:
    """Writes the result of an entry, with a stamp of all code that computed it."""
    entry = result.entry._replace(check=None, file=None)._asdict()
    values = result._asdict() | {
        "entry": entry | {"paper": result.entry.paper._asdict()},
        "comparisons": [_plain(comparison) for comparison in result.comparisons],
        "stamp": stamp(result.entry),
    }
    text = strict_json.dumps(values, indent=1)
    folder.write_text(f"results/{result.entry.id}.json", f"{text}\n")


def load(folder: RunFolder) -> list[Result]:
    """All results of a folder, sorted by paper and id.

    Raises:
        InputError: If a file holds anything else.
    """
    results = [_read(path) for path in sorted((folder.path / "results").glob("*.json"))]
    return sorted(
        results,
        key=lambda result: (result.entry.paper.name, result.entry.paper.arxiv, result.entry.id),
    )


def reusable(folder: RunFolder, entry: Entry, level: float) -> Result | None:
    """The result of an entry, if it was judged at this level by the code that is here now.

    Args:
        folder: Where it may lie.
        entry: The entry.
        level: The probability of a false alarm that an entry may have.
    """
    path = folder.path / "results" / f"{entry.id}.json"
    try:
        values = strict_json.loads(path.read_text(encoding="utf-8"))
        result = _result(values)
    except _UNREADABLE:
        return None
    compared = max(sum(not comparison.refuted for comparison in result.comparisons), 1)
    is_same = (
        values["stamp"] == stamp(entry)
        and result.comparisons
        and math.isclose(result.level * compared, level)
    )
    return result._replace(entry=entry) if is_same else None


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
    text = b"".join(path.read_bytes() for path in files)
    return hashlib.sha256(text + jax.__version__.encode()).digest()


def _read(path):
    try:
        result = _result(strict_json.loads(path.read_text(encoding="utf-8")))
    except _UNREADABLE as error:
        raise InputError(
            f"{path} is not a result ({error!r}); delete it, and collapse-jax reproduce makes it "
            "again"
        ) from None
    check_id(result.entry.id, str(path))
    if result.entry.id != path.stem:
        raise InputError(
            f"{path} holds the result of {result.entry.id!r}; a file has the name of its entry"
        )
    return result


def _plain(comparison):
    """A comparison as JSON values."""
    values = comparison._asdict()
    for name in _ARRAYS:
        array = values[name]
        is_text = array.dtype.kind in "US"
        values[name] = array.tolist() if is_text else [float(value) for value in array]
    return values


def _result(values):
    """The `Result` of JSON values; other values raise one of `_UNREADABLE`."""
    values = {name: value for name, value in values.items() if name != "stamp"}
    comparisons = tuple(
        Comparison(**plain | {name: np.array(plain[name]) for name in _ARRAYS})
        for plain in values["comparisons"]
    )
    if not all(map(_is_comparison, comparisons)):
        raise ValueError("its comparisons are not made of points")
    entry = values["entry"] | {"paper": Paper(**values["entry"]["paper"])}
    return Result(**values | {"entry": Entry(**entry), "comparisons": comparisons})


def _is_comparison(comparison):
    arrays = {name: getattr(comparison, name) for name in _ARRAYS}
    shape = arrays["at"].shape
    return (
        type(comparison.p_value) in (int, float)
        and len(shape) == 1
        and all(array.shape == shape for array in arrays.values())
        and all(array.dtype.kind in "fiu" for name, array in arrays.items() if name != "at")
    )
