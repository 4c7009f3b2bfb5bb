"""Converts the columns of a file to the points that a family takes.

The options of a family's factory determine what it takes. num_categories: one column of categories.
vocabulary_size and block_length: tokens. dim and design: features and a target. columns and
categories: a table of both. height and width: images. All other families: numbers, [N, dim] or [N].
"""

import inspect
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from collapse_jax.app.config.data import DataSettings
from collapse_jax.core.tables.columns import as_categories, place
from collapse_jax.core.tables.read import Reading
from collapse_jax.core.tables.table import TRUTH_VALUES, Table
from collapse_jax.errors import InputError

_INTERCEPT = "intercept"
# Codes that begin with 0 are none.
_NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Points(NamedTuple):
    """Real points as a family takes them.

    x: [N, ...].
    rows: [N] row numbers in the file; for blocks, those of their first rows.
    columns: names of the entries of a point; a target is the last one.
    labels: labels of the categories, or ().
    options: numeric options of the family that follow from the data.
    more: other options that follow from the data and are not settings.
    features: whether the points are features and a target.
    left_out: number of rows at the end that do not fill a block.
    """

    x: np.ndarray
    rows: np.ndarray
    columns: tuple[str, ...]
    labels: tuple[str, ...] = ()
    options: Mapping[str, int] = {}
    more: Mapping[str, Any] = {}
    features: bool = False
    left_out: int = 0


def kind_of(factory: Callable[..., Any]) -> str:
    """Returns what a family takes: tokens, categories, a target, a table, images or numbers."""
    options = inspect.signature(factory).parameters.keys()
    if {"vocabulary_size", "block_length"} <= options:
        return "tokens"
    if "num_categories" in options:
        return "categories"
    if {"dim", "design"} <= options:
        return "target"
    if {"columns", "categories"} <= options:
        return "table"
    return "images" if {"height", "width"} <= options else "numbers"


def check_for_family(settings: DataSettings, family: str, factory: Callable[..., Any]) -> None:
    """Raises `InputError` for settings that a family ignores or lacks, without reading the file."""
    is_regression = kind_of(factory) == "target"
    if settings.target and not is_regression:
        raise InputError(
            f"target is {settings.target!r} with family {family}, which has no target; choose the "
            "columns by --columns"
        )
    if is_regression and not settings.target:
        raise InputError(
            f"family {family} explains one column by the others; give its name by --target"
        )
    if not settings.intercept and not is_regression:
        raise InputError(
            f"intercept is False with family {family}, which has no intercept; leave it out"
        )


def points_of(
    reading: Reading, settings: DataSettings, family: str, factory: Callable, given: Mapping
) -> Points:
    """Returns the points of a file for a family.

    Args:
        reading: the content of the file.
        settings: the settings by which it was read.
        family: its name, for messages.
        factory: the factory of the family.
        given: the options of the family.

    Raises:
        InputError: if the family does not take such columns.
    """
    kind = kind_of(factory)
    make = {"tokens": _tokens, "categories": _categories, "target": _target, "images": _images}
    table = reading.table
    if table.values.ndim > 2 and kind != "images":
        raise InputError(
            f"the array has shape {list(table.values.shape)}; {family} takes columns, [N, d]"
        )
    if kind == "table":
        _refuse_numbers_as_text(table, settings)
        more = {"columns": table.names, "categories": table.categories}
        return Points(table.values, reading.rows, table.names, more=more)
    if kind in make:
        return make[kind](reading, settings, family, given)
    x, count = _numbers(table, family), len(table.names)
    options = {"dim": count} if "dim" in inspect.signature(factory).parameters else {}
    x = x if options or count > 1 else x[:, 0]
    return Points(x, reading.rows, table.names, options=options)


def _refuse_numbers_as_text(table, settings):
    """Raises `InputError` for numbers that a typed file keeps as text.

    In a CSV the same column is one of numbers.
    """
    for name, labels in zip(table.names, table.categories, strict=True):
        if labels and name not in settings.categories and all(map(_NUMBER.fullmatch, labels)):
            raise InputError(
                f"column {name!r} is of text, and all of it is numbers, as {labels[0]!r}; store it "
                f"as numbers, or read it as categories (--categories {shlex.quote(name)})"
            )


def in_words_of_the_file(text: str, points: Points) -> str:
    """Replaces x[17, 3] in the message of a check by the row and the column of the file."""

    def named(found):
        row, column = found.group(1), found.group(2)
        number = int(points.rows[int(row)])
        position = int(column) if column else 0
        is_block = points.x.ndim == 2 and len(points.columns) == 1
        name = points.columns[0 if is_block else min(position, len(points.columns) - 1)]
        return place(number, name)

    def of_column(found):
        return f" in column {points.columns[int(found.group(1))]!r}"

    if len(points.columns) == points.x[0].size:
        text = re.sub(r" in coordinate (\d+)", of_column, text)
    if len(points.columns) == 1:
        text = re.sub(r"^x (has mean|is about)", f"column {points.columns[0]!r} \\1", text)
    return re.sub(r"x\[(\d+)(?:, (\d+))?(?:, \d+)*\]", named, text)


def _numbers(table: Table, family):
    for name, categories in zip(table.names, table.categories, strict=True):
        if categories in (None, TRUTH_VALUES):
            continue
        decimal = any(re.fullmatch(r"[+-]?[\d.]*,\d+", label) for label in categories)
        hint = "; if these are decimal commas, write 1.5" if decimal else ""
        raise InputError(
            f"column {name!r} contains words, such as {categories[0]!r}, but {family} takes "
            f"numbers{hint}; choose other columns (--columns), or a family of categories"
        )
    return table.values


def _coded(reading, column, settings, family):
    """(codes [N], labels) of a column as categories."""
    table = reading.table
    name, labels = table.names[column], table.categories[column]
    codes = table.values[:, column]
    if labels is None:
        codes, labels = as_categories(codes, name, reading.rows)
    labels = tuple(labels)
    if len(labels) == len(codes) > 2 and name not in settings.categories:
        raise InputError(
            f"each row has a different category in column {name!r}, like an identifier; if this is "
            f"intended, give --categories {shlex.quote(name)}"
        )
    return codes, labels


def _categories(reading, settings, family, given):
    names = reading.table.names
    if len(names) > 1:
        raise InputError(
            f"{family} takes one column of categories, but {len(names)} columns are read "
            f"({', '.join(names[:6])}); choose one, for example --columns {shlex.quote(names[0])}"
        )
    codes, labels = _coded(reading, 0, settings, family)
    return Points(
        codes.astype(np.int32),
        reading.rows,
        names,
        labels,
        {"num_categories": len(labels)},
    )


def _tokens(reading, settings, family, given):
    names = reading.table.names
    if len(names) == 1:
        return _stream(reading, settings, family, given)
    coded = [_coded_tokens(reading, column) for column in range(len(names))]
    every = {label for _, labels in coded for label in labels}
    whole = all(label.lstrip("-").isdecimal() for label in every)
    labels = tuple(sorted(every, key=int if whole else str))
    number = {label: code for code, label in enumerate(labels)}
    columns = [
        np.array([number[label] for label in own], np.int32)[codes.astype(int)]
        for codes, own in coded
    ]
    options = {"vocabulary_size": len(labels), "block_length": len(names)}
    return Points(np.column_stack(columns), reading.rows, names, labels, options)


def _coded_tokens(reading, column):
    labels, codes = reading.table.categories[column], reading.table.values[:, column]
    if labels is None:
        return as_categories(codes, reading.table.names[column], reading.rows)
    return codes, labels


def _stream(reading, settings, family, given):
    """Blocks of one column, as a stream of consecutive rows."""
    name = reading.table.names[0]
    if reading.dropped:
        raise InputError(
            f"{reading.dropped} rows of column {name!r} are missing, and leaving them out would "
            "join tokens that are not consecutive; fill in the missing values"
        )
    codes, labels = _coded_tokens(reading, 0)
    length = given.get("block_length")
    if length is None:
        raise InputError(
            f"{family} reads column {name!r} as a stream of {len(codes):,} tokens, cut into "
            "blocks; give the length of a block, for example --options block_length=32"
        )
    if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= len(codes):
        raise InputError(
            f"block_length is {length!r}; it must be an integer from 1 to {len(codes):,}, the "
            "number of rows"
        )
    blocks = len(codes) // length
    x = codes[: blocks * length].astype(np.int32).reshape(blocks, length)
    rows = reading.rows[: blocks * length : length]
    options = {"vocabulary_size": len(labels)}
    left_out = len(codes) - blocks * length
    return Points(x, rows, (name,), tuple(labels), options, left_out=left_out)


def _target(reading, settings, family, given):
    x, names = _numbers(reading.table, family), reading.table.names
    if settings.intercept:
        if _INTERCEPT in names:
            raise InputError(
                "a column is called 'intercept', which is the name of the column of ones; give "
                "--no-intercept, or rename the column"
            )
        x, names = np.column_stack([np.ones(len(x)), x]), (_INTERCEPT, *names)
    return Points(x, reading.rows, names, options={"dim": len(names) - 1}, features=True)


def _images(reading, settings, family, given):
    x = reading.table.values
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.ndim != 3:
        raise InputError(
            f"the data has shape {list(x.shape)}; {family} takes images [N, height, width], as an "
            "npy file"
        )
    options = {"height": x.shape[1], "width": x.shape[2]}
    return Points(x, reading.rows, reading.table.names, options=options)
