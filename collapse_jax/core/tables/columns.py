"""Columns of a file, batch by batch, as numbers or as codes of categories.

Nothing is guessed in silence: a column is all numbers, all truth values or all words, and a number
is refused where a float64 would be another one.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from collapse_jax.core.tables.arrow import compute
from collapse_jax.core.tables.table import TRUTH_VALUES
from collapse_jax.errors import InputError

# What stands for a value that is not there, in a text.
MISSING = (
    *("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL"),
    *("null", "None", "#N/A N/A", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_LEADING_ZERO = r"^[+-]?0[0-9]"
_LONG_WHOLE = r"^[+-]?[0-9]{16,}$"
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_NO_WIDTH = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))
# Whole numbers up to this are all held by a float64.
LARGEST_WHOLE = 2**53


def _as_seen(label: str) -> str:
    """The label with composed accents and without characters of no width."""
    return unicodedata.normalize("NFC", label.translate(_NO_WIDTH))


def place(row: int, name: str) -> str:
    """The name of a cell; rows are counted from 1, without a header."""
    return f"row {row}, column {name!r}"


class Numbers:
    """A column of numbers; `add` takes the next of them."""

    def __init__(self, name: str):
        self.name, self._parts = name, []

    def add(self, values: np.ndarray, rows: np.ndarray) -> None:
        """Appends numbers [n], which stand in these rows of the file.

        Raises:
            InputError: For one that is infinite, or that float64 does not hold.
        """
        held = _as_float(values, rows, self.name)
        infinite = ~np.isfinite(held)
        if infinite.any():
            first = int(np.argmax(infinite))
            raise InputError(
                f"{place(rows[first], self.name)} is {values[first]}; all must be finite"
            )
        self._parts.append(held)

    def column(self) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """(float64 [N], None)."""
        return np.concatenate(self._parts) if self._parts else np.zeros(0), None


def tokens_of(is_category: bool) -> tuple[str, ...]:
    """Texts, without spaces around them, that stand for no value in a column of texts.

    In a column that is read as categories by its name it is the empty one alone.
    """
    return MISSING[:1] if is_category else MISSING


def option(argument: str, name: str) -> str:
    """How Python gives an argument the name of a column: `categories=["my col"]`.

    The command line shows its own options instead (`app.own_data.reading`).
    """
    return f"{argument}=[{json.dumps(name, ensure_ascii=False)}]"


def no_value(text: str, name: str) -> str:
    """What is said of such a text in a column of this name."""
    return f"is {text!r}, which is no value unless {option('categories', name)} reads it as a word"


def missing_texts(cells: Any, is_category: bool) -> np.ndarray:
    """Which of the cells, a pyarrow array of strings, hold no value: bool [n]."""
    import pyarrow

    trimmed = compute().utf8_trim_whitespace(cells)
    found = compute().is_in(trimmed, pyarrow.array(tokens_of(is_category)))
    return found.to_numpy(zero_copy_only=False)


class Words:
    """A column of categories by their labels.

    is_category: whether it is read as one by its name.
    """

    def __init__(self, name: str, is_truth: bool = False, is_category: bool = False):
        self.name, self.is_category = name, is_category
        self._is_truth, self._parts = is_truth, []
        self._codes: dict[str, int] = {}
        # Label -> the same as it was written.
        self._written: dict[str, str] = {}

    def add(self, labels: Sequence[str], codes: np.ndarray, rows: np.ndarray) -> None:
        """Appends the labels of codes [n], which stand in these rows of the file.

        Raises:
            InputError: For two labels that differ by spaces around them alone or by how Unicode
                writes one text, and for one with a line break.
        """
        new = []
        for label in labels:
            plain = label.strip()
            if "\n" in plain or "\r" in plain:
                raise InputError(
                    f"column {self.name!r} holds {plain[:40]!r}, with a line break; is a quote "
                    "left open?"
                )
            before = self._written.setdefault(_as_seen(plain), label)
            if before != label:
                how, shown = "spaces", repr
                if before.strip() != plain:
                    how, shown = "characters that look alike", ascii
                raise InputError(
                    f"column {self.name!r} holds {shown(before)} and {shown(label)}, which differ "
                    f"by {how} alone; write both in one way"
                )
            new.append(self._codes.setdefault(plain, len(self._codes)))
        self._parts.append(np.array(new, np.int64)[codes] if len(labels) else np.zeros(0, int))

    def column(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """(float64 codes [N], their labels, ascending)."""
        codes = np.concatenate(self._parts) if self._parts else np.zeros(0, int)
        labels = list(self._codes)
        if self._is_truth or (labels and {label.lower() for label in labels} <= set(TRUTH_VALUES)):
            ordered, place_of = TRUTH_VALUES, [label.lower() == "true" for label in labels]
            return np.array(place_of, float)[codes] if labels else codes.astype(float), ordered
        ordered = tuple(sorted(labels, key=_order(labels)))
        numbers = {label: number for number, label in enumerate(ordered)}
        new = np.array([numbers[label] for label in labels], float)
        return new[codes] if labels else codes.astype(float), ordered


class Texts:
    """A column of a text file, whose cells may turn out numbers or words.

    is_category: whether it holds categories whatever its cells look like; then an empty cell alone
        is missing.
    """

    def __init__(self, name: str, is_category: bool = False):
        self.name, self._is_category = name, is_category
        self._kind: Numbers | Words | None = Words(name) if is_category else None
        # (row, cell) of the first one.
        self._first = (0, "")

    def missing(self, cells: Any) -> np.ndarray:
        """Which of the cells, a pyarrow array of strings, hold no value."""
        return missing_texts(cells, self._is_category)

    def add(self, cells: Any, rows: np.ndarray) -> None:
        """Appends cells, a pyarrow array of strings [n], none of them missing.

        Raises:
            InputError: Where numbers and words are mixed, or a number is not held as it is written.
        """
        if not len(rows):
            return
        if self._is_category:
            return self._add_words(cells, rows)
        written, cells = cells, compute().utf8_trim_whitespace(cells)
        is_number = _matches(cells, _NUMBER)
        kind = Numbers if is_number[0] else Words
        if self._kind is None:
            self._kind, self._first = kind(self.name), (int(rows[0]), cells[0].as_py())
        other = is_number != isinstance(self._kind, Numbers)
        if other.any():
            self._refuse_mixed(int(np.argmax(other)), cells, rows)
        if isinstance(self._kind, Words):
            return self._add_words(written, rows)
        self._kind.add(self._numbers(cells, rows), rows)

    def column(self) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """(float64 [N], its categories or None)."""
        kind = self._kind or Numbers(self.name)
        return kind.column()

    def _add_words(self, cells, rows):
        encoded = cells.dictionary_encode()
        labels = encoded.dictionary.to_pylist()
        assert isinstance(self._kind, Words)
        self._kind.add(labels, encoded.indices.to_numpy(zero_copy_only=False), rows)

    def _numbers(self, cells, rows):
        import pyarrow

        zero = _matches(cells, _LEADING_ZERO)
        if zero.any():
            first = int(np.argmax(zero))
            raise InputError(
                f"{place(rows[first], self.name)} is {cells[first].as_py()!r}, which begins with "
                f"0 as a code does; read it as a category ({option('categories', self.name)}), or "
                "write it without"
            )
        values = compute().cast(cells, pyarrow.float64()).to_numpy(zero_copy_only=False)
        wrong = ~np.isfinite(values)
        zeros = values == 0
        if zeros.any():  # 1e-400
            wrong |= zeros & _matches(cells, r"^[^eE]*[1-9]")
        long = _matches(cells, _LONG_WHOLE) & np.isfinite(values)
        for number in np.flatnonzero(long):
            wrong[number] |= int(cells[int(number)].as_py()) != int(values[number])
        if wrong.any():
            first = int(np.argmax(wrong))
            raise InputError(
                f"{place(rows[first], self.name)} is {cells[first].as_py()}, which float64 does "
                "not hold; scale the column, or leave it out if it is an identifier"
            )
        return values

    def _refuse_mixed(self, number, cells, rows):
        cell, row = cells[number].as_py(), int(rows[number])
        if _INFINITE.fullmatch(cell):
            raise InputError(f"{place(row, self.name)} is {cell!r}; all must be finite")
        if isinstance(self._kind, Words) and _INFINITE.fullmatch(self._first[1]):
            first, text = self._first
            raise InputError(f"{place(first, self.name)} is {text!r}; all must be finite")
        first, text = self._first
        raise InputError(
            f"column {self.name!r} holds numbers and words: row {first} is {text!r}, row {row} is "
            f"{cell!r}; write all as numbers, or read it as categories "
            f"({option('categories', self.name)})"
        )


def as_categories(
    values: np.ndarray, name: str, rows: np.ndarray | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(float64 codes [N], labels) of a column of whole numbers [N].

    Raises:
        InputError: For a number with a fraction.
    """
    broken = np.floor(values) != values
    if broken.any():
        first = int(np.argmax(broken))
        row = first + 1 if rows is None else int(rows[first])
        raise InputError(
            f"{place(row, name)} is {values[first]}; categories are words or whole numbers"
        )
    whole, codes = np.unique(values, return_inverse=True)
    return codes.astype(float), tuple(str(int(value)) for value in whole)


def _as_float(values, rows, name):
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and len(values):
        low, high = int(values.min()), int(values.max())
        if max(-low, high) > LARGEST_WHOLE:
            far = (values > LARGEST_WHOLE) | (values < -LARGEST_WHOLE)
            for number in np.flatnonzero(far):
                if int(values[number]) != int(float(values[number])):
                    raise InputError(
                        f"{place(rows[number], name)} is {values[number]}, which float64 does not "
                        "hold; leave the column out if it is an identifier"
                    )
    with np.errstate(over="ignore"):
        return values.astype(np.float64)


def _matches(cells, pattern):
    return compute().match_substring_regex(cells, pattern).to_numpy(zero_copy_only=False)


def _order(labels):
    """The key that sorts labels: whole numbers as such, all others by their characters."""
    is_whole = all(re.fullmatch(r"-?(0|[1-9][0-9]*)", label) for label in labels)
    return int if is_whole else str
