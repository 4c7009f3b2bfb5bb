"""The three splits of a text, which are gone through and need not be held in memory."""

import hashlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from collapse_jax.errors import InputError
from collapse_jax.models.lm.embedded_text import embedded_corpus
from collapse_jax.models.lm.hub_texts import from_hub, is_hub_name
from collapse_jax.models.lm.notice import Say, tell
from collapse_jax.models.lm.splits import WORDS, find_splits, is_text, named
from collapse_jax.models.lm.text_files import stream_rows

# Characters of a text up to which its rows are held, rather than read again for each use.
MOST_HELD = 1 << 27
# Rows of the held-out splits that are looked for in the training text: shorter ones recur anyway.
_LONG_ROW = 40
# The share of them that is more than chance: of WikiText-2's, less than .2 % stand there.
_MUCH = 0.01


class StreamedRows:
    """Rows that are read anew for each use, of a text that is too large to be held.

    It has a length, is gone through with `for`, and a slice of it is of the same kind.
    """

    def __init__(self, read: Callable[[], Iterator[str]], length: int, first: int = 0):
        """Of what `read()` goes through, `length` rows after the `first` ones."""
        self._read, self._length, self._first = read, length, first

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        return itertools.islice(self._read(), self._first, self._first + self._length)

    def __getitem__(self, part: slice) -> "StreamedRows":
        start, stop, _ = part.indices(self._length)
        return StreamedRows(self._read, max(stop - start, 0), self._first + start)


Rows = list[str] | StreamedRows


class Text(NamedTuple):
    """A text by its splits "train", "valid" and "test".

    rows: of each split.
    digests: the hash of each split's rows, as of `runs.made_of.of_texts`.
    """

    rows: dict[str, Rows]
    digests: dict[str, str]


def open_text(source: str, say: Say | None = None, text_column: str | None = None) -> Text:
    """The splits of a text, for `load_corpus`, whose arguments these are."""
    path = pathlib.Path(source).expanduser()
    names, left_out = dict.fromkeys(WORDS, ""), []
    if source == "embedded":
        _refuse_column(source, text_column)
        splits: dict[str, Rows] = embedded_corpus()._asdict()
    elif path.is_dir():
        splits, names, left_out = _from_folder(path, text_column)
    elif path.is_file():
        rows = rows_of(lambda: stream_rows(path, text_column))
        splits = in_parts(rows)
    elif is_hub_name(source):
        given, names = from_hub(source, text_column)
        splits = _of_hub(given)
    else:
        raise InputError(
            f"corpus {source!r} is neither a file nor a folder; give one, or 'embedded', or a hub "
            "name such as wikitext-2-raw-v1"
        )
    surveys = _surveys(splits)
    for split, survey in surveys.items():
        if survey.is_blank:
            raise InputError(f"corpus {source!r}: its {split} split is empty; it must hold text")
    read = [
        f"{split}: {names[split]}{survey.count:,} rows, {survey.characters:,} characters"
        for split, survey in surveys.items()
    ]
    remarks, doubtful = _remarks(surveys)
    if left_out:
        remarks = [f"left out: {named(left_out, path)}", *remarks]
    # Another text was not taken, or a text is not what it should be. In the text that comes with
    # Python, which is for trying things, that is known.
    matters = source != "embedded" and (doubtful or any(map(is_text, left_out)))
    tell(say, f"corpus {source}: {'; '.join(read + remarks)}", matters=matters)
    return Text(splits, {split: survey.digest for split, survey in surveys.items()})


def rows_of(read: Callable[[], Iterator[str]]) -> Rows:
    """The rows that `read()` goes through: held, if they have at most `MOST_HELD` characters."""
    held: list[str] = []
    characters, rows = 0, read()
    for row in rows:
        held.append(row)
        characters += len(row)
        if characters > MOST_HELD:
            return StreamedRows(read, len(held) + sum(1 for _ in rows))
    return held


def in_parts(rows: Rows) -> dict[str, Rows]:
    """A text that is not split, as 80 %, 10 % and 10 %."""
    first, second = len(rows) * 8 // 10, len(rows) * 9 // 10
    return {"train": rows[:first], "valid": rows[first:second], "test": rows[second:]}


def _of_hub(given: Mapping[str, Callable[[], Iterator[str]]]) -> dict[str, Rows]:
    """The splits of a hub's text, which has all three, or one, or lacks one of the two to test."""
    splits = {split: rows_of(read) for split, read in given.items()}
    if splits.keys() == {"train"}:
        return in_parts(splits["train"])
    if "test" not in splits or "valid" not in splits:
        both = splits.pop("valid" if "valid" in splits else "test")
        return splits | {"valid": both[: len(both) // 2], "test": both[len(both) // 2 :]}
    return {split: splits[split] for split in WORDS}


def _refuse_column(source, text_column):
    if text_column is not None:
        raise InputError(
            f"text_column is {text_column!r}, but corpus {source!r} has no columns; give None"
        )


def _from_folder(folder, text_column):
    """The splits, the names of each split's files, and the paths that are left out."""
    found, splits, names = find_splits(folder), {}, {}
    for split in WORDS:
        files = found.files.get(split)
        if not files:
            left_out = f"; left out: {named(found.left_out, folder)}" if found.left_out else ""
            raise InputError(
                f"corpus folder {folder} has no {split} file; it needs one such as {split}.txt "
                f"(.xz, .gz, .json, .jsonl, .parquet){left_out}"
            )
        splits[split] = rows_of(lambda files=files: _of_shards(files, text_column))
        count = f"{len(files)} files, " if len(files) > 1 else ""
        names[split] = f"{count}{named(files, folder)}, "
    return splits, names, found.left_out


def _of_shards(files, text_column):
    """Rows of one file after another, each of which must hold text if there are several."""
    for file in files:
        holds_text = len(files) == 1
        for row in stream_rows(file, text_column):
            holds_text = holds_text or bool(row)
            yield row
        if not holds_text:
            raise InputError(f"corpus file {file} is empty; a shard must hold text")


class _Survey(NamedTuple):
    """What one pass over a split gives; `long`: hashes of its rows of `_LONG_ROW` characters on."""

    count: int
    characters: int
    digest: str
    has_returns: bool
    is_blank: bool
    long: set[int]


def _surveys(splits):
    """One of each split. Of the training text, `long` are the rows that another split has too."""
    held_out = {split: _survey(splits[split], None) for split in ("valid", "test")}
    known = set[int]().union(*(survey.long for survey in held_out.values()))
    return {"train": _survey(splits["train"], known), **held_out}


def _survey(rows: Iterable[str], known: set[int] | None) -> _Survey:
    digest, long, count, characters, returns, blank = hashlib.sha256(), set(), 0, 0, False, True
    for row in rows:
        digest.update(row.encode(errors="surrogatepass") + b"\0")
        count += 1
        characters += len(row)
        returns = returns or row.endswith("\r\n")
        blank = blank and not row.strip()
        if len(row) >= _LONG_ROW and (known is None or hash(row) in known):
            long.add(hash(row))
    return _Survey(count, characters, digest.hexdigest(), returns, blank, long)


def _remarks(surveys: dict[str, _Survey]) -> tuple[list[str], bool]:
    """Words on what makes scores on the held-out splits doubtful, and whether it is much."""
    remarks, doubtful = [], False
    for one, other in itertools.combinations(surveys, 2):
        if surveys[one].digest == surveys[other].digest:
            remarks.append(f"{one} and {other} contain the same text")
            doubtful = True
    train = surveys["train"]
    for split in ("valid", "test"):
        long = surveys[split].long
        shared = long & train.long
        if shared and surveys[split].digest != train.digest:
            remarks.append(
                f"{len(shared):,} of the {len(long):,} different rows of {_LONG_ROW} characters or "
                f"more in {split} also occur in train"
            )
            doubtful |= len(shared) > _MUCH * len(long)
    returns = [split for split, survey in surveys.items() if survey.has_returns]
    if 0 < len(returns) < len(surveys):
        remarks.append(f"only {' and '.join(returns)} has lines that end in a carriage return")
        doubtful = True
    return remarks, doubtful


def name_of(what: str, source: Any) -> str:
    """A name or path as text; an empty one would be the folder that one stands in.

    Raises:
        InputError: If it is neither.
    """
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        raise InputError(f"{what} is {source!r:.200}; it must be the name of one, or a path")
    return os.fsdecode(source)
