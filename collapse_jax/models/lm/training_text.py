"""The text that pretraining reads: files of a folder, as a stream of rows."""

import collections
import hashlib
import pathlib
from collections.abc import Iterator

from collapse_jax.errors import InputError
from collapse_jax.models.lm.embedded_text import embedded_corpus
from collapse_jax.models.lm.notice import Say, listed, tell
from collapse_jax.models.lm.splits import (
    WORDS,
    find_splits,
    is_text,
    named,
    split_of,
    text_files,
)
from collapse_jax.models.lm.text_files import stream_rows


def training_files(source: str) -> list[pathlib.Path]:
    """The files that pretraining reads: one file, a folder's train files, or all its text files.

    Raises:
        InputError: If there are none, or names do not tell whether a file is training text.
    """
    return _training(source)[0]


def tell_training(source: str, say: Say | None = None) -> None:
    """Tells in one line what pretraining reads and what it leaves out, with counts.

    Args:
        source: "embedded", a file or a folder.
        say: Called with the line; by default it is logged, as a warning if a file is left out.

    Raises:
        InputError: As `training_files`.
    """
    if source == "embedded":
        words = f"{len(embedded_corpus().train):,} rows of the text that comes with Python"
        return tell(say, f"corpus {source}: {words}", matters=False)
    path, (files, left_out) = pathlib.Path(source).expanduser(), _training(source)
    size = sum(file.stat().st_size for file in files)
    words = f"{len(files)} file{'s' * (len(files) > 1)}, {size:,} bytes"
    if path.is_dir():
        words += f": {named(files, path)}"
        words += f"; left out: {named(left_out, path)}" if left_out else ""
    tell(say, f"corpus {source}: {words}", matters=any(map(is_text, left_out)))


def _training(source):
    """The files that pretraining reads, and what else lies in their folder."""
    path = pathlib.Path(source).expanduser()
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise InputError(
            f"corpus {source!r} is neither a file nor a folder; give one, or 'embedded'"
        )
    found = find_splits(path)
    texts = [file for file in found.left_out if file.parent == path and is_text(file)]
    unnamed = [file for file in texts if split_of(path, file) is None]
    held_out = [file for split, files in found.files.items() if split != "train" for file in files]
    if "train" in found.files:
        files = found.files["train"]
        entries = {file if file.parent == path else file.parent for file in files}
        is_plain = any(entry.name.lower().split(".")[0] in WORDS["train"] for entry in entries)
        if unnamed and not held_out and not is_plain:
            raise InputError(
                f"corpus folder {path}: {named(files, path)} names the train split and "
                f"{named(unnamed, path)} none, so it is not clear what to train on; give one "
                "file, or rename"
            )
        return files, sorted([*held_out, *found.left_out])
    if held_out:
        raise InputError(
            f"corpus folder {path} has no train file, but {named(held_out, path)} by its name is "
            "held-out text; rename what is training text, or move away what is not"
        )
    files = text_files(path)
    if not files:
        raise InputError(
            f"corpus folder {source!r} has no text file; it needs one such as train.txt "
            "(.xz, .gz, .json, .jsonl, .parquet)"
        )
    return files, [file for file in found.left_out if file not in set(files)]


def training_rows(source: str, text_column: str | None = None) -> Iterator[str]:
    """Rows of `training_files` as a stream, or of the train split of "embedded".

    Args:
        source: "embedded", a file or a folder.
        text_column: Column of parquet or JSON; by default "text".

    Raises:
        InputError: As `stream_rows`; "embedded" has no columns.
    """
    if source == "embedded":
        if text_column is not None:
            raise InputError(
                f"text_column is {text_column!r}, but corpus embedded has no columns; give None"
            )
        yield from embedded_corpus().train
    else:
        for path in training_files(source):
            yield from stream_rows(path, text_column)


def fingerprint(source: str) -> list[list]:
    """[name, bytes, sha256] of each of the `training_files`, or of the embedded text.

    Raises:
        InputError: If there are none, one cannot be read, or two hold the same bytes.
    """
    if source == "embedded":
        text = "".join(embedded_corpus().train).encode()
        return [[source, len(text), hashlib.sha256(text).hexdigest()]]
    files = []
    for path in training_files(source):
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files.append([path.name, path.stat().st_size, digest])
        except OSError as error:
            raise InputError(f"corpus file {path} cannot be read: {error}") from None
    digests = collections.Counter(digest for _, size, digest in files if size)
    twice = [name for name, _, digest in files if digests[digest] > 1]
    if twice:
        raise InputError(
            f"corpus {source!r}: {listed(twice)} have the same content, so a text would be read "
            "twice; keep one of them"
        )
    return files
