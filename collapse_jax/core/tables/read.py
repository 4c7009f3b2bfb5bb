"""`cj.read_data`: reads a file of rows and columns as a `Table`."""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from collapse_jax.core.tables import array_files, arrow_files, text_files
from collapse_jax.core.tables.batches import Batches, Wanted
from collapse_jax.core.tables.columns import place
from collapse_jax.core.tables.table import Table
from collapse_jax.errors import InputError, first_line, one_of, real, size_words

# What ends the name of a file -> what opens it.
_KINDS = {
    ".csv": text_files.open_text,
    ".tsv": text_files.open_text,
    ".tab": text_files.open_text,
    ".parquet": arrow_files.open_parquet,
    ".pq": arrow_files.open_parquet,
    ".npy": array_files.open_npy,
    ".npz": array_files.open_npz,
}
_TAKES = "CSV, TSV (also with .gz), parquet, npy or npz"


class Reading(NamedTuple):
    """A table, and the places of its rows in the file.

    table: the table.
    rows: int [N], numbers of the rows that were read, counted from 1.
    dropped: number of rows that were left out because a value is missing.
    """

    table: Table
    rows: np.ndarray
    dropped: int


def read_data(
    path: str | os.PathLike,
    columns: Sequence[str] = (),
    *,
    target: str = "",
    categories: Sequence[str] = (),
    missing: Literal["refuse", "drop"] = "refuse",
    memory_limit: float = 8.0,
) -> Table:
    """Reads a CSV, TSV, parquet, npy or npz file as a `Table`.

    A column of numbers is read as numbers and a column of words as categories; a column with both
    is refused. The columns of an array [N, d] are named "0", "1", ...; those of an npz file are its
    arrays.

    Args:
        path: the file; its name ends with .csv, .tsv, .csv.gz, .tsv.gz, .parquet, .npy or .npz.
        columns: names of the columns to read, in this order; by default all.
        target: the label of a regression, which becomes the last column of the table.
        categories: columns that are read as categories, even if they contain numbers.
        missing: "refuse": a missing value is an error that names its row and column. "drop": rows
            with a missing value are left out.
        memory_limit: the largest size of the table in GiB.

    Raises:
        InputError: for a file that cannot be read as such a table; the message names the row and
            the column.
    """
    return read_file(path, columns, target, categories, missing, memory_limit).table


def read_file(
    path: str | os.PathLike,
    columns: Sequence[str] = (),
    target: str = "",
    categories: Sequence[str] = (),
    missing: str = "refuse",
    memory_limit: float = 8.0,
) -> Reading:
    """Returns the table of `read_data` and the numbers of its rows."""
    columns, categories = _names("columns", columns), _names("categories", categories)
    one_of("missing", missing, ("refuse", "drop"))
    limit = real("memory_limit", memory_limit, above=0, finite=False) * 2**30
    if not isinstance(target, str):
        raise InputError(f"target is {target!r:.100}; it must be the name of a column")
    file = pathlib.Path(path).expanduser()
    try:
        opened = _opener(file)(file, Wanted(columns, target, categories))
        return _collected(opened, missing, limit)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except Exception as error:  # a damaged file fails in any way
        reason = getattr(error, "strerror", None) or first_line(error, 200)
        raise InputError(f"{file} cannot be read ({reason})") from None


def _opener(file):
    suffixes = [suffix.lower() for suffix in file.suffixes]
    kind = "".join(suffixes[-1:])
    if kind == ".gz":
        kind = suffixes[-2] if len(suffixes) > 1 else ""
        if _KINDS.get(kind) is not text_files.open_text:
            raise InputError(f"it must be {_TAKES}")
    if not file.exists():
        raise InputError("there is no such file")
    if file.is_dir():
        raise InputError(f"it is a folder; it must be one file, {_TAKES}")
    if kind not in _KINDS:
        raise InputError(f"it must be {_TAKES}, and its name must end so")
    if not file.stat().st_size:
        raise InputError("it is empty")
    return _KINDS[kind]


def _collected(opened: Batches, missing, limit):
    """The `Reading` of what was opened."""
    names, given, rows, dropped = opened.names, 0, [], 0
    for batch in opened:
        numbers = np.arange(given + 1, given + batch.size + 1)
        given += batch.size
        absent = batch.missing()
        gone = np.any(absent, axis=0)
        if gone.any() and missing == "refuse":
            row = int(np.argmax(gone))
            column = int(np.argmax([one[row] for one in absent]))
            text = batch.shown(column, row)
            raise InputError(
                f"{place(numbers[row], names[column])} {text}; write a value, leave the column "
                'out, or leave out rows with such values (missing="drop")'
            )
        dropped += int(np.count_nonzero(gone))
        rows.append(numbers[~gone])
        batch.add(~gone if gone.any() else None, rows[-1])
        needed = 8 * (given - dropped) * opened.width
        if needed > limit:
            raise InputError(
                f"its values take more than memory_limit, {size_words(int(limit))}; choose columns"
            )
    if given == dropped:
        held = f"all of its {given} rows have a missing value" if given else "it has no rows"
        raise InputError(held)
    values, categories = opened.values()
    numbers = np.concatenate(rows)
    if opened.is_default:
        _refuse_index(names, values, categories)
    return Reading(Table(values, names, categories), numbers, dropped)


def _refuse_index(names, values, categories):
    """Raises `InputError` where a column that nobody asked for only counts the rows."""
    if values.ndim != 2 or len(values) < 3:
        return
    for column, name in enumerate(names):
        counted = values[:, column] - np.arange(len(values))
        if categories[column] is None and counted[0] in (0, 1) and np.all(counted == counted[0]):
            raise InputError(
                f"column {name!r} counts the rows from {int(counted[0])}, as an index does; name "
                f"the columns to read (columns=), with or without it"
            )


def _names(what, names):
    if isinstance(names, str):
        names = (names,)
    if not isinstance(names, Iterable):
        raise InputError(f"{what} is {names!r:.100}; it must be names of columns")
    names = tuple(names)
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{what} has {name!r:.100}; it must be the name of a column, a string")
        if names.count(name) > 1:
            raise InputError(f"{what} has {name!r} more than once; give it once")
    return names
