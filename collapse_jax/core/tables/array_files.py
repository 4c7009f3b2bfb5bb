"""npy and npz files: arrays whose first axis is that of the rows."""

import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from collapse_jax.core.tables.batches import Columns, Wanted
from collapse_jax.core.tables.columns import Numbers, Words, no_value, option, tokens_of
from collapse_jax.errors import InputError

_ROWS_AT_ONCE = 2**16


class ArrayBatches:
    """Arrays of one length as columns; see `core.tables.batches.Batches`."""

    def __init__(self, columns: Mapping[str, np.ndarray], wanted: Wanted):
        there = list(columns)
        self.names = tuple(there[place] for place in wanted.chosen(there))
        self.width, self.is_default = len(self.names), not wanted.columns
        self._arrays = [columns[name] for name in self.names]
        readers = [
            _reader(name, array, name in wanted.categories)
            for name, array in zip(self.names, self._arrays, strict=True)
        ]
        self._columns = Columns(self.names, tuple(readers))

    def __iter__(self) -> Iterator["ArrayBatch"]:
        """Its batches."""
        for first in range(0, len(self._arrays[0]), _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            yield ArrayBatch(self._columns.columns, [array[part] for array in self._arrays])

    def values(self) -> tuple[np.ndarray, tuple]:
        """(values, categories) of all rows that were added."""
        return self._columns.values()


class ArrayBatch:
    """Some rows of columns; see `core.tables.batches.Batch`."""

    def __init__(self, columns: tuple, cells: list[np.ndarray]):
        self._columns, self._cells, self.size = columns, cells, len(cells[0])

    def missing(self) -> list[Any]:
        """[columns] of bool [size], where no value is: nan, or a text that says so."""
        pairs = zip(self._columns, self._cells, strict=True)
        return [_missing(cells, getattr(column, "is_category", False)) for column, cells in pairs]

    def shown(self, column: int, row: int) -> str:
        """What stands there in the place of a value."""
        value = self._cells[column][row]
        if value.dtype.kind not in "US":
            return f"is {value}, which is no value"
        text = _text(value.item()).strip()
        return no_value(text, self._columns[column].name) if text else "is empty"

    def add(self, kept: np.ndarray | None, rows: np.ndarray) -> None:
        """Appends the kept rows, with these numbers, to the columns."""
        for column, cells in zip(self._columns, self._cells, strict=True):
            cells = np.asarray(cells if kept is None else cells[kept])
            if isinstance(column, Numbers):
                column.add(cells, rows)
                continue
            labels, codes = np.unique(cells, return_inverse=True)
            column.add([_text(one) for one in labels.tolist()], codes.ravel(), rows)


class PointBatches:
    """One array of more than two axes, whose rows are points of that shape."""

    def __init__(self, name: str, array: np.ndarray):
        self.names, self.is_default, self._array = (name,), False, array
        self.width = int(np.prod(array.shape[1:]))
        self._parts = []

    def __iter__(self) -> Iterator["PointBatch"]:
        """Its batches."""
        rows = max(_ROWS_AT_ONCE // max(self.width, 1), 1)
        for first in range(0, len(self._array), rows):
            yield PointBatch(self._parts, np.asarray(self._array[first : first + rows]))

    def values(self) -> tuple[np.ndarray, tuple]:
        """(values [N, ...], (None,))."""
        return np.concatenate(self._parts), (None,)


class PointBatch:
    """Some points of one array."""

    def __init__(self, parts: list[np.ndarray], points: np.ndarray):
        self._parts, self._points, self.size = parts, points, len(points)

    def missing(self) -> list[Any]:
        """One bool [size]: where a point holds nan."""
        return [_missing(self._points, False).reshape(self.size, -1).any(1)]

    def shown(self, column: int, row: int) -> str:
        """What stands there in the place of a value."""
        return "holds nan"

    def add(self, kept: np.ndarray | None, rows: np.ndarray) -> None:
        """Appends the kept points."""
        points = self._points if kept is None else self._points[kept]
        numbers = Numbers("the array")
        numbers.add(points.reshape(-1), np.repeat(rows, points[0].size if len(points) else 1))
        self._parts.append(numbers.column()[0].reshape(points.shape))


def open_npy(file: pathlib.Path, wanted: Wanted) -> Any:
    """An npy file: [N], [N, d] with the columns "0", "1", ..., records, or points [N, ...].

    Raises:
        InputError: If it is no such array.
    """
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise InputError(_why(error)) from None
    return _batches({"": array}, wanted)


def open_npz(file: pathlib.Path, wanted: Wanted) -> Any:
    """An npz file: its arrays [N] are columns; of an array [N, d] they are NAME_0, NAME_1, ...

    Raises:
        InputError: If it is none, or its arrays have different lengths.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            names = archive.files
            chosen = [*wanted.columns, wanted.target] if wanted.columns else names
            stems = {name for name in names for one in chosen if _is_of(one, name)}
            arrays = {name: archive[name] for name in names if name in stems or not stems}
    except (ValueError, zipfile.BadZipFile) as error:
        raise InputError(_why(error)) from None
    if not arrays:
        raise InputError("it holds no array")
    return _batches(arrays, wanted)


def _is_of(column, array):
    return column == array or (
        column.startswith(f"{array}_") and column[len(array) + 1 :].isdecimal()
    )


def _batches(arrays, wanted):
    """The columns of arrays by name; "" names that of an npy file."""
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise InputError(f"{name or 'the array'} is one number; its first axis must be rows")
        if array.dtype.names:
            if array.ndim != 1:
                raise InputError("its records are no list; they must be one row each")
            parts = {field: array[field] for field in array.dtype.names}
        elif array.ndim == 1:
            parts = {name or "0": array}
        elif array.ndim == 2:
            begin = f"{name}_" if name else ""
            parts = {f"{begin}{place}": array[:, place] for place in range(array.shape[1])}
        elif len(arrays) == 1:
            return _points(name or "0", array, wanted)
        else:
            raise InputError(
                f"array {name!r} has shape {list(array.shape)}; choose it alone "
                f"({option('columns', name)})"
            )
        for column, values in parts.items():
            if column in columns:
                raise InputError(f"two columns are called {column!r}")
            columns[column] = values
    lengths = {name: len(array) for name, array in columns.items()}
    if len(set(lengths.values())) > 1:
        pairs = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:6])
        raise InputError(f"its arrays have different numbers of rows ({pairs}); choose columns")
    if not columns:
        raise InputError("it has no columns")
    return ArrayBatches(columns, wanted)


def _points(name, array, wanted):
    if wanted.target or wanted.categories or wanted.columns not in ((), (name,)):
        raise InputError(
            f"it is an array of shape {list(array.shape)}, whose rows are points without columns; "
            "leave columns, target and categories out"
        )
    _reader(name, array, False)
    return PointBatches(name, array)


def _reader(name, array, is_category):
    """What collects a column of a type of NumPy."""
    kind = array.dtype.kind
    if array.ndim > 1 and kind not in "iuf":
        raise InputError(f"column {name!r} is of type {array.dtype}; it must hold numbers")
    if kind == "b":
        return Words(name, is_truth=True)
    if kind in "US" or (kind in "iu" and is_category):
        return Words(name, is_category=is_category)
    if kind in "iuf" and not is_category:
        return Numbers(name)
    if is_category:
        raise InputError(
            f"column {name!r} is of type {array.dtype}, and categories are words or whole numbers"
        )
    raise InputError(
        f"column {name!r} is of type {array.dtype}; it must hold numbers, words or truth values"
    )


def _missing(cells, is_category):
    kind = cells.dtype.kind
    if kind == "f":
        return np.isnan(cells)
    if kind not in "US":
        return np.zeros(len(cells), bool)
    tokens = tokens_of(is_category)
    known = [one.encode() for one in tokens] if kind == "S" else tokens
    return np.isin(np.char.strip(cells), np.array(known))


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _why(error):
    text = " ".join(str(error).split())
    if "pickle" in text or "bjects" in text:
        return (
            "it holds Python objects (or is no array file), which would run code when read; save "
            "an array of numbers or of text"
        )
    return f"it is no array file ({text[:100]})"
