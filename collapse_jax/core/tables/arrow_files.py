"""Parquet files, read group by group."""

import decimal
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from collapse_jax.core.tables.arrow import compute
from collapse_jax.core.tables.batches import Columns, Wanted
from collapse_jax.core.tables.columns import (
    LARGEST_WHOLE,
    Numbers,
    Words,
    missing_texts,
    no_value,
    place,
)
from collapse_jax.errors import InputError

_ROWS_AT_ONCE = 2**16
# What pandas calls an index without a name.
_INDEX = "__index_level_"


class ParquetBatches:
    """A parquet file that is open; see `core.tables.batches.Batches`."""

    def __init__(self, file: Any, wanted: Wanted):
        schema = file.schema_arrow
        chosen = wanted.chosen(list(schema.names))
        self._file, self.names = file, tuple(schema.names[place] for place in chosen)
        self.width, self.is_default = len(self.names), not wanted.columns
        if self.is_default and any(name.startswith(_INDEX) for name in self.names):
            raise InputError(
                "one of its columns is an index of pandas; name the columns to read (columns=)"
            )
        readers = [
            _reader(name, schema.field(place).type, name in wanted.categories)
            for name, place in zip(self.names, chosen, strict=True)
        ]
        self._columns = Columns(self.names, tuple(readers))

    def __iter__(self) -> Iterator["ParquetBatch"]:
        """Its batches."""
        for batch in self._file.iter_batches(_ROWS_AT_ONCE, columns=list(self.names)):
            cells = [batch.column(batch.schema.get_field_index(name)) for name in self.names]
            yield ParquetBatch(self._columns.columns, cells)

    def values(self) -> tuple[np.ndarray, tuple]:
        """(values, categories) of all rows that were added."""
        return self._columns.values()


class ParquetBatch:
    """Some rows of a parquet file; see `core.tables.batches.Batch`."""

    def __init__(self, columns: tuple, cells: list):
        self._columns, self._cells, self.size = columns, cells, len(cells[0])

    def missing(self) -> list[np.ndarray]:
        """[columns] of bool [size], where no value is: null, nan, or a text that says so."""
        pairs = zip(self._columns, self._cells, strict=True)
        return [_missing(cells, column) for column, cells in pairs]

    def shown(self, column: int, row: int) -> str:
        """What stands there in the place of a value."""
        value = self._cells[column][row].as_py()
        if isinstance(value, str) and value.strip():
            return no_value(value.strip(), self._columns[column].name)
        return f"is {'null' if value is None else repr(value)}, which is no value"

    def add(self, kept: np.ndarray | None, rows: np.ndarray) -> None:
        """Appends the kept rows, with these numbers, to the columns."""
        import pyarrow

        for column, cells in zip(self._columns, self._cells, strict=True):
            cells = cells if kept is None else cells.filter(pyarrow.array(kept))
            if isinstance(column, Numbers):
                column.add(_numbers(cells, column.name, rows), rows)
                continue
            encoded = _texts(cells).dictionary_encode()
            codes = encoded.indices.to_numpy(zero_copy_only=False)
            column.add(encoded.dictionary.to_pylist(), codes, rows)


def open_parquet(file: pathlib.Path, wanted: Wanted) -> ParquetBatches:
    """A parquet file.

    Raises:
        InputError: If it is none, or a column is of a type that is neither numbers nor words.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        opened = parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise InputError(f"it is no parquet file ({str(error)[:100]})") from None
    return ParquetBatches(opened, wanted)


def _reader(name, kind, is_category):
    """What collects a column of a type of Arrow."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if types.is_boolean(kind):
        return Words(name, is_truth=True)
    if types.is_duration(kind) or types.is_interval(kind):
        raise InputError(
            f"column {name!r} holds durations ({kind}), of which a text of the same table may hold "
            "numbers or words; write numbers, as seconds"
        )
    if _is_text(kind) or types.is_temporal(kind) or types.is_null(kind):
        return Words(name, is_category=is_category)
    if is_number:
        if is_category and not types.is_integer(kind):
            raise InputError(
                f"column {name!r} is of type {kind}, and categories are words or whole numbers"
            )
        return Words(name) if is_category else Numbers(name)
    raise InputError(
        f"column {name!r} is of type {kind}; it must hold numbers, words or truth values (of lists "
        "make a column for each place)"
    )


def _plain(cells):
    import pyarrow

    is_coded = pyarrow.types.is_dictionary(cells.type)
    return cells.dictionary_decode() if is_coded else cells


def _is_text(kind):
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _missing(cells, column):
    cells = _plain(cells)
    absent = compute().is_null(cells, nan_is_null=True).to_numpy(zero_copy_only=False)
    if _is_text(cells.type):
        absent = absent | missing_texts(_texts(cells), column.is_category)
    return absent


def _numbers(cells, name, rows):
    import pyarrow

    cells = _plain(cells)
    if pyarrow.types.is_decimal(cells.type):
        exact, cells = cells, compute().cast(cells, pyarrow.float64())
        far = np.abs(cells.to_numpy(zero_copy_only=False)) > LARGEST_WHOLE
        for number in np.flatnonzero(far):
            value = exact[int(number)].as_py()
            if value == int(value) and value != decimal.Decimal(cells[int(number)].as_py()):
                raise InputError(
                    f"{place(rows[number], name)} is {value}, which float64 does not hold; leave "
                    "the column out if it is an identifier"
                )
    return cells.to_numpy(zero_copy_only=False)


def _texts(cells):
    import pyarrow

    cells = _plain(cells)
    is_ready = pyarrow.types.is_string(cells.type) or pyarrow.types.is_large_string(cells.type)
    return cells if is_ready else compute().cast(cells, pyarrow.string())
