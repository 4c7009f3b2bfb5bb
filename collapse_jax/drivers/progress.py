"""How far a driver is, where nobody gave a function that is told: a bar, or lines in a log."""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator

from collapse_jax.errors import InputError
from collapse_jax.runs import distributed
from collapse_jax.runs.log_lines import LogLines
from collapse_jax.runs.watching import in_notebook, is_watched

# What takes less is done before anyone has read that it goes on.
_SECONDS = 2.0

# Told how far a driver is; None and True show it, False does not.
Progress = Callable[[int], object] | bool | None


@contextlib.contextmanager
def shown(progress: Progress, what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Yields what is called with how far a driver is.

    After two seconds a terminal or notebook shows a bar on standard error, which runs on while
    nothing is reported and is gone at the end. Elsewhere a line is written at most once a minute
    (`LogLines`). Of the processes of a job the first alone writes.

    Args:
        progress: a function, which is called instead; None or True shows, False does not.
        what: what is counted.
        total: how many there are.

    Raises:
        InputError: if progress is anything else.
    """
    if callable(progress):
        yield progress
    elif progress not in (None, True, False):
        raise InputError(
            f"progress is {progress!r:.200}; it must be a function of how far it is, or True or "
            "False"
        )
    elif progress is False or total < 1 or not distributed.is_first():
        yield lambda done: None
    elif is_watched(sys.stderr):
        with _bar(what, total) as report:
            yield report
    else:
        lines = LogLines(functools.partial(print, file=sys.stderr, flush=True))
        yield lambda done: lines.at("", done, total, what)


@contextlib.contextmanager
def _bar(what, total):
    """A rich bar that appears after a while."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (SpinnerColumn(), TextColumn(what), BarColumn(), MofNCompleteColumn())
    console = Console() if in_notebook() else Console(stderr=True)
    bar = Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True
    )
    task, lock, ended = bar.add_task(what, total=total), threading.Lock(), False

    def appear():
        with lock:
            if not ended:
                bar.start()

    timer = threading.Timer(_SECONDS, appear)
    timer.daemon = True
    timer.start()
    try:
        yield lambda done: bar.update(task, completed=done)
    finally:
        timer.cancel()
        with lock:
            ended = True
            bar.stop()
