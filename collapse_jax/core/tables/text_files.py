"""CSV and TSV files, read as a stream."""

import contextlib
import csv
import gzip
import io
import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from collapse_jax.core.tables.batches import Columns, Wanted
from collapse_jax.core.tables.columns import Texts, no_value
from collapse_jax.errors import InputError

_BLOCK = 2**22
# Bytes in which the header must end.
_LONGEST_HEADER = 2**20
_GZIP, _ZIP, _PARQUET, _NUMPY = b"\x1f\x8b", b"PK\x03\x04", b"PAR1", b"\x93NUMPY"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|\.\d+)([eE][+-]?\d+)?\s*")
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


class TextBatches:
    """A file of text that is open; see `core.tables.batches.Batches`."""

    def __init__(self, file: pathlib.Path, separator: str, header: list[str], wanted: Wanted):
        self._file, self._separator, self._header = file, separator, header
        self._chosen = wanted.chosen(header)
        self.names = tuple(header[place] for place in self._chosen)
        self.width, self.is_default = len(self.names), not wanted.columns
        self._columns = Columns(
            self.names, tuple(Texts(name, name in wanted.categories) for name in self.names)
        )

    def __iter__(self) -> Iterator["TextBatch"]:
        """Its batches; raises `InputError` for rows of another length."""
        import pyarrow
        from pyarrow import csv as arrow_csv

        known = [str(place) for place in range(len(self._header))]
        read = [str(place) for place in self._chosen]
        options = {
            "read_options": arrow_csv.ReadOptions(
                use_threads=False, block_size=_BLOCK, skip_rows=1, column_names=known
            ),
            "parse_options": arrow_csv.ParseOptions(
                delimiter=self._separator, newlines_in_values=True, ignore_empty_lines=False
            ),
            "convert_options": arrow_csv.ConvertOptions(
                include_columns=read,
                column_types=dict.fromkeys(read, pyarrow.string()),
                strings_can_be_null=False,
            ),
        }
        with _opened(self._file) as opened:
            stream = _WithoutBlankEnd(opened)
            try:
                for batch in arrow_csv.open_csv(stream, **options):
                    yield TextBatch(self._columns.columns, batch.columns)
            except pyarrow.ArrowInvalid as error:
                if "Empty CSV" in str(error) or "Could not skip" in str(error):
                    return
                raise InputError(_in_words(str(error))) from None
        if stream.quotes % 2:
            raise InputError("it ends within a quote; one of its quotes is left open")

    def values(self) -> tuple[np.ndarray, tuple]:
        """(values, categories) of all rows that were added."""
        return self._columns.values()


class TextBatch:
    """Some rows of a file of text; see `core.tables.batches.Batch`."""

    def __init__(self, columns: tuple[Texts, ...], cells: list):
        self._columns, self._cells, self.size = columns, cells, len(cells[0])

    def missing(self) -> list[np.ndarray]:
        """[columns] of bool [size], where no value is."""
        pairs = zip(self._columns, self._cells, strict=True)
        return [column.missing(cells) for column, cells in pairs]

    def shown(self, column: int, row: int) -> str:
        """What stands there in the place of a value."""
        text = self._cells[column][row].as_py().strip()
        return no_value(text, self._columns[column].name) if text else "is empty"

    def add(self, kept: np.ndarray | None, rows: np.ndarray) -> None:
        """Appends the kept rows, with these numbers, to the columns."""
        import pyarrow

        for column, cells in zip(self._columns, self._cells, strict=True):
            column.add(cells if kept is None else cells.filter(pyarrow.array(kept)), rows)


class _WithoutBlankEnd(io.RawIOBase):
    """A stream of bytes without the line ends at its very end, where no rows are.

    quotes: how many it has had so far.
    """

    def __init__(self, stream):
        super().__init__()
        self._stream, self._held, self.quotes = stream, b"", 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while True:
            chunk = self._stream.read(size)
            if not chunk:
                return b""
            self.quotes += chunk.count(b'"')
            data = self._held + chunk
            kept = data.rstrip(b"\r\n")
            self._held = data[len(kept) :]
            if kept:
                return kept


def open_text(file: pathlib.Path, wanted: Wanted) -> TextBatches:
    """A CSV or TSV file, by its name.

    Raises:
        InputError: If it is no such file, or its header or separators are not what they must be.
    """
    separator = "," if ".csv" in [suffix.lower() for suffix in file.suffixes[-2:]] else "\t"
    header = _header(_first_line(file), separator)
    if not (wanted.columns or wanted.target):
        numbers = [name for name in header if _NUMBER.fullmatch(name)]
        if numbers:
            raise InputError(
                f"its first line holds numbers, as {numbers[0].strip()}, where names of columns "
                "must stand; write a header (or name the columns, if these are their names)"
            )
    if "" in header and not wanted.columns:
        raise InputError(
            f"column {header.index('') + 1} has no name, as an index has; name the columns to read "
            "(columns=)"
        )
    batches = TextBatches(file, separator, header, wanted)
    _refuse_missing_header(file, separator, batches.names, header)
    return batches


def _opened(file) -> Any:
    with open(file, "rb") as raw:
        is_packed = raw.read(2) == _GZIP
    return gzip.open(file, "rb") if is_packed else open(file, "rb")


def _first_line(file):
    """The text of the first line."""
    with _opened(file) as stream:
        start = stream.read(_LONGEST_HEADER)
    kinds = {_ZIP: "a zip archive, as Excel writes", _PARQUET: "a parquet file", _NUMPY: "npy"}
    for magic, kind in kinds.items():
        if start.startswith(magic):
            raise InputError(f"it is {kind}, and no text; name it so, or save it as CSV")
    if start.startswith(_UTF16) or b"\0" in start[:1000]:
        raise InputError("it is no text in UTF-8 (UTF-16?); save it as UTF-8")
    start = start.removeprefix(_BOM)
    line = re.split(rb"\r\n|\n|\r", start, maxsplit=1)[0]
    if len(line) == _LONGEST_HEADER:
        raise InputError("its first line does not end within 1 MiB; it must be a header")
    if not start.strip():
        raise InputError("it is empty")
    if not line.strip():
        raise InputError("its first line is empty; it must be a header, the names of the columns")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError("its first line is no text in UTF-8; save it as UTF-8") from None


def _header(line, separator):
    """The names of the columns."""
    if line.count('"') % 2:
        raise InputError("a name of its header holds a line break or an open quote; mend it")
    (names,) = csv.reader([line], delimiter=separator)
    if len(names) == 1:
        bare = re.sub(r'"[^"]*"', "", line)
        for other in _SEPARATORS.keys() - {separator}:
            if other in bare:
                raise InputError(_other_separator(other, separator))
    return [name.strip() for name in names]


def _other_separator(other, wanted):
    if wanted == "\t":
        return (
            f"its columns stand apart by {_SEPARATORS[other]}, and those of a .tsv by tabs; save "
            "it so, or a file with commas as .csv"
        )
    decimal = ", with decimal points (1.5, not 1,5)" if other == ";" else ""
    also = ", or name it .tsv" if other == "\t" else ""
    return (
        f"its columns stand apart by {_SEPARATORS[other]}, and those of a .csv by commas; save it "
        f"with commas{decimal}{also}"
    )


def _refuse_missing_header(file, separator, names, header):
    """Raises `InputError` where the first line looks like a row: its names are values below."""
    with _opened(file) as stream, io.TextIOWrapper(stream, "utf-8-sig", "replace") as text:
        rows = csv.reader(text, delimiter=separator)
        for row in itertools.islice(_readable(rows), 1, 1000):
            for name in names:
                place = header.index(name)
                if name and len(row) == len(header) and row[place].strip() == name:
                    raise InputError(
                        f"{name!r} stands in the first line, where names of columns must stand, "
                        "and below as a value; write a header"
                    )


def _readable(rows):
    """Rows up to the first that Python does not read, which may be one of very long texts."""
    with contextlib.suppress(csv.Error):
        yield from rows


def _in_words(error):
    """What pyarrow says of a text that it cannot read."""
    error = " ".join(error.split()).removeprefix("CSV parse error: ")
    found = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)(?:: (.*))?", error)
    if found:
        row, wanted, got, text = found.groups()
        where = f"row {int(row) - 1}" if row else "a row"
        shown = f" ({text[:60]!r})" if text else ""
        hint = "; are these decimal commas? write 1.5" if re.search(r"\d,\d", text or "") else ""
        return f"{where} has {got} columns, and the header {wanted}{shown}{hint}"
    if "UTF8" in error:
        return "it holds bytes that are no text in UTF-8; save it as UTF-8"
    if "straddling" in error:
        return f"a row is longer than {_BLOCK // 2**20} MiB; is a quote left open?"
    return error[:200]
