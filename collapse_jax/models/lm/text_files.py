"""Rows of one text file: plain lines, JSON or parquet, as it is or packed."""

import gzip
import itertools
import json
import lzma
import os
import pathlib
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from collapse_jax.errors import InputError
from collapse_jax.models.lm.notice import listed

PLAIN, JSON = (".txt", ".raw", ".tokens"), (".json", ".jsonl")
SUFFIXES = (*PLAIN, *JSON, ".parquet")
# Kinds of files that are no running text: their lines would be read with all their commas and tags.
_NO_TEXT = (".csv", ".tsv", ".xml", ".html", ".htm", ".ipynb", ".pdf", ".docx", ".arrow")
_OTHER_PACKING = (".zip", ".tar", ".tgz", ".bz2", ".zst", ".7z")
_OPENERS: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open}
# Of JSON and parquet, where none is given.
TEXT_COLUMN = "text"
# Only an escape gives half of a surrogate pair, and looking for one is quicker than encoding all.
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def packing_of(name: str) -> str:
    """ ".xz", ".gz" or "", by the end of a file's name in any case."""
    suffix = pathlib.PurePath(name).suffix.lower()
    return suffix if suffix in _OPENERS else ""


def kind_of(name: str) -> str:
    """The suffix of a file's name in lower case, without the packing: ".txt" of "A.TXT.gz"."""
    return pathlib.PurePath(name[: len(name) - len(packing_of(name))]).suffix.lower()


def read_rows(path: str | os.PathLike, text_column: str | None = None) -> list[str]:
    """Rows of one text file: lines with their newline, or fields of JSON and parquet.

    Blank ones are "".

    Args:
        path: The file.
        text_column: The field; by default "text".
    """
    return list(stream_rows(path, text_column))


def stream_rows(path: str | os.PathLike, text_column: str | None = None) -> Iterator[str]:
    """The rows of `read_rows` one by one.

    The file is never in memory as a whole, unless it is one JSON array.

    Raises:
        InputError: If reading fails, the file has no such column, or a row is no text; the line
            names the row.
    """
    path = pathlib.Path(path)
    kind = kind_of(path.name)
    column = TEXT_COLUMN if text_column is None else text_column
    if kind in _NO_TEXT or kind in _OTHER_PACKING:
        raise InputError(
            f"corpus file {path} is a {kind} file; it must be plain text, .json, .jsonl or "
            ".parquet, uncompressed or compressed as .xz or .gz"
        )
    if text_column is not None and kind not in (*JSON, ".parquet"):
        raise InputError(
            f"text_column is {text_column!r}, but corpus file {path} is plain text, which has no "
            "columns; give None"
        )
    try:
        if kind == ".parquet":
            rows = _parquet_rows(path, column)
        else:
            lines = _lines(path, _OPENERS.get(packing_of(path.name), open))
            read = {".json": _json, ".jsonl": _json_lines}.get(kind)
            rows = read(path, lines, column) if read else _plain(path, lines)
        for row in rows:
            yield row if row.strip() else ""
    except UnicodeDecodeError as error:
        raise InputError(
            f"corpus file {path} cannot be read: {error}; it must be text in UTF-8"
        ) from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"corpus file {path} cannot be read: {error}") from None


def _lines(path, opener):
    """Lines of a file; a mark of the byte order, which some editors write first, is no text."""
    with opener(path, "rt", encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines):
            yield line if number else line.removeprefix("\ufeff")


def _plain(path, lines):
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise InputError(
                f"corpus file {path}, line {number}: contains the character NUL, so it is not "
                "UTF-8 text (it may be UTF-16 without a byte-order mark); save it as UTF-8"
            )
        yield line


def _json(path, lines, column):
    """Rows of a .json file: one array of objects, or an object on each line."""
    first = next((line for line in lines if line.strip()), "")
    if not first.lstrip().startswith("["):
        # Numbers of lines count from the first that is not blank.
        yield from _json_lines(path, itertools.chain([first], lines), column)
        return
    text = first + "".join(lines)
    where, each = f"corpus file {path}", "each entry of the array"
    may_be_half = _ESCAPED_HALF.search(text)
    for number, item in enumerate(_parsed(text, where, each, column), 1):
        yield _text_of(item, f"{where}, entry {number}", each, may_be_half, column)


def _json_lines(path, lines, column):
    for number, line in enumerate(lines, 1):
        if line.strip():
            where, each = f"corpus file {path}, line {number}", "each line"
            item = _parsed(line, where, each, column)
            yield _text_of(item, where, each, _ESCAPED_HALF.search(line), column)


def _parsed(text, where, each, column):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        wanted = f"a JSON object with a field {column!r:.100}"
        raise InputError(f"{where}: {each} must be {wanted} ({error!r})") from None


def _text_of(item, where, each, may_be_half, column):
    """The field of that name of a JSON object."""
    wanted = f"a JSON object with a field {column!r:.100}"
    if not isinstance(item, dict):
        raise InputError(f"{where}: {each} must be {wanted}; this one is {item!r:.80}")
    if column not in item:
        has, texts = listed([repr(name) for name in item]), columns_of_texts(item)
        raise InputError(f"{where}: {each} must be {wanted}; this one has {has:.200}{texts}")
    text = item[column]
    if not isinstance(text, str):
        raise InputError(f"{where}: contains {text!r:.200}; each {column!r:.100} must be a string")
    if may_be_half:
        whole_text(text, where)
    return text


def whole_text(text: str, where: str) -> None:
    """Raises `InputError` if a text has half of a surrogate pair, which UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise InputError(
            f"{where}: its text has {half} at character {error.start}, half of a surrogate pair, "
            "which is not a character; remove it, or write the whole character"
        ) from None


def columns_of_texts(row: Mapping[str, Any]) -> str:
    """The end of a line on a column that is not there: those that hold text, for text_column."""
    names = [repr(name) for name, value in row.items() if isinstance(value, str)]
    return f"; give one of {listed(names)} as text_column" if names else ""


def _parquet_rows(path, column):
    try:
        from pyarrow import parquet  # comes with datasets, whose own reader logs and shows bars
    except ImportError:
        raise InputError(
            f"corpus file {path} needs the package 'datasets': pip install datasets"
        ) from None
    number = 0
    try:
        with parquet.ParquetFile(os.fspath(path)) as file:
            names = file.schema_arrow.names
            if column not in names:
                texts = {
                    field.name: "" for field in file.schema_arrow if "string" in str(field.type)
                }
                raise InputError(
                    f"corpus file {path} has no column {column!r:.100}; it has "
                    f"{listed([repr(name) for name in names])}{columns_of_texts(texts)}"
                )
            for batch in file.iter_batches(columns=[column]):
                for text in batch[column].to_pylist():
                    number += 1
                    if not isinstance(text, str):
                        raise InputError(
                            f"corpus file {path}, row {number}: contains {text!r:.200}; each "
                            f"{column!r:.100} must be a string"
                        )
                    yield text
    except InputError:
        raise
    except Exception as error:  # pyarrow raises many kinds
        raise InputError(
            f"corpus file {path} cannot be read as parquet with a column {column!r:.100} "
            f"({type(error).__name__})"
        ) from None
