"""Calls of a tokenizer with a time limit, since its file may make it panic or run for ever."""

import contextlib
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from collapse_jax.errors import InputError, first_line

T = TypeVar("T")

# The slowest tokenizers take a second for some 100 kB; this leaves them, and a busy machine, ten
# times as long and a minute.
_SECONDS, _BYTES_A_SECOND = 60.0, 10_000


def encoded(name: str, encode: Callable[[Sequence[str]], T], rows: Sequence[str]) -> T:
    """What `encode(rows)` gives.

    Args:
        name: Of the tokenizer, for the error text.
        encode: (rows) -> anything; it may be left behind in a thread that goes on.
        rows: Texts.

    Raises:
        InputError: If it panics, as a regular expression does that tries too many ways, or is not
            done in a minute and a second per 10 kB of text.
    """
    seconds = _SECONDS + sum(map(len, rows)) / _BYTES_A_SECOND
    results: queue.SimpleQueue = queue.SimpleQueue()

    def call():
        try:
            results.put((encode(rows), None))
        except BaseException as error:  # a panic of Rust is no Exception
            results.put((None, error))

    with no_panics(name):
        # A daemon does not keep the process from ending.
        threading.Thread(target=call, daemon=True).start()
        try:
            result, error = results.get(timeout=seconds)
        except queue.Empty:
            raise InputError(
                f"tokenizer {name!r} did not encode {len(rows)} rows in {seconds:.0f} seconds; a "
                "regular expression in its tokenizer.json may try too many ways; give another"
            ) from None
        if error is not None:
            raise error
    return result


@contextlib.contextmanager
def no_panics(name: str) -> Iterator[None]:
    """Turns a panic of the Rust under a tokenizer into an `InputError`, and keeps its print back.

    Args:
        name: Of the tokenizer, for the error text.

    Raises:
        InputError: In the place of a panic.
    """
    with _errors_held_back() as held:
        try:
            yield
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            held.truncate(0)
            raise InputError(
                f"tokenizer {name!r} failed ({first_line(error, 200)}); a regular expression in "
                "its tokenizer.json may try too many ways; give another"
            ) from None


@contextlib.contextmanager
def _errors_held_back():
    """What is written to file descriptor 2 meanwhile goes to a file, then to where it belongs.

    Rust prints a panic there, with a traceback, before it can be caught.
    """
    with tempfile.TemporaryFile() as held:
        try:
            before = os.dup(2)
        except OSError:  # no standard error at all
            yield held
            return
        os.dup2(held.fileno(), 2)
        try:
            yield held
        finally:
            os.dup2(before, 2)
            os.close(before)
            held.seek(0)
            if text := held.read():
                os.write(2, text)
