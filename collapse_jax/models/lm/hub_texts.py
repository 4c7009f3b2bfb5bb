"""Texts of the hub, by name, through the package datasets."""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from collapse_jax.errors import InputError
from collapse_jax.models.lm.notice import listed
from collapse_jax.models.lm.text_files import TEXT_COLUMN, columns_of_texts


class HubText(NamedTuple):
    """Where a text is: the arguments of `datasets.load_dataset`, and the column that is read."""

    where: tuple[str, ...]
    column: str = TEXT_COLUMN


# Short names, and those whose text has another column than "text".
HUB_TEXTS = {
    **{
        f"wikitext-{size}{kind}-v1": HubText(("Salesforce/wikitext", f"wikitext-{size}{kind}-v1"))
        for size in (2, 103)
        for kind in ("", "-raw")
    },
    "tinystories": HubText(("roneneldan/TinyStories",)),
    "xsum": HubText(("EdinburghNLP/xsum",), "document"),
    "EdinburghNLP/xsum": HubText(("EdinburghNLP/xsum",), "document"),
}
# Where the hub keeps data sets that it had to convert, because they were programs.
_CONVERTED = "refs/convert/parquet"
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(:[\w.-]{1,95})?", re.ASCII)


def is_hub_name(source: str) -> bool:
    """Whether a corpus is one of `HUB_TEXTS`, or owner/name or owner/name:configuration."""
    return source in HUB_TEXTS or _NAME.fullmatch(source) is not None


def from_hub(
    source: str, text_column: str | None = None
) -> tuple[Mapping[str, Callable[[], Iterator[str]]], dict[str, str]]:
    """The splits of a text of the hub.

    Args:
        source: Its name.
        text_column: By default that of `HUB_TEXTS`, or "text".

    Returns:
        Split -> a function that goes through its rows; "train", and "valid" and "test" as far as
        the hub has them. Split -> words on it, where it is a part of another.

    Raises:
        InputError: If it cannot be loaded, or has no training text or no such column.
    """
    repository, _, configuration = source.partition(":")
    where = (repository, configuration) if configuration else (repository,)
    text = HUB_TEXTS.get(source, HubText(where))
    loaded: Any = _loaded(source, text)
    column = text.column if text_column is None else text_column
    if "train" not in loaded:
        raise InputError(f"corpus {source!r}: the hub has no train split, but {listed([*loaded])}")
    parts = {ours: loaded[theirs] for ours, theirs in _SPLITS.items() if theirs in loaded}
    for part in parts.values():
        columns = list(getattr(part, "column_names", None) or part)
        if column not in columns:
            texts = {name: next(iter(part[name]), None) for name in columns}
            raise InputError(
                f"corpus {source!r} has no column {column!r:.100}; it has "
                f"{listed([repr(name) for name in columns])}{columns_of_texts(texts)}"
            )
    rows = {
        split: functools.partial(_rows, source, split, part[column])
        for split, part in parts.items()
    }
    return rows, _words(parts)


def _words(parts):
    """What is said of splits that are parts of others, before their numbers of rows."""
    words = dict.fromkeys(_SPLITS, "")
    if len(parts) == 1:
        return {split: "part of the hub's train, " for split in words}
    missing = words.keys() - parts
    if missing:
        whole = "validation" if "valid" in parts else "test"
        words |= {split: f"half of the hub's {whole}, " for split in ("valid", "test")}
    return words


def _rows(source, split, rows):
    for number, row in enumerate(rows, 1):
        if not isinstance(row, str):
            raise InputError(
                f"corpus {source!r}, row {number} of {split}: contains {row!r:.200}; it must be a "
                "text"
            )
        yield row


def _loaded(source, text):
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError(
            f"corpus {source!r} is read from the hub by the package 'datasets': pip install "
            "datasets"
        ) from None
    try:
        try:
            return load_dataset(*text.where)
        except RuntimeError as error:  # that programs are not run any more
            if "script" not in str(error):
                raise
            return load_dataset(*text.where, revision=_CONVERTED)
    except Exception as error:  # the hub client raises many kinds
        raise InputError(
            f"corpus {source!r} is not a local file or folder, and cannot be loaded from the hub "
            f"({type(error).__name__}); give a local folder"
        ) from None
