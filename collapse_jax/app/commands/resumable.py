"""The loop of a long command: finished parts are saved, also before a stop."""

import functools
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from collapse_jax.runs import distributed
from collapse_jax.runs.log_lines import LogLines, shows_bars
from collapse_jax.runs.stopping import Stop

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")


def save_as_finished(
    parts: Iterable[tuple[int, T]],
    save: Callable[[int, list[T]], None],
    console: "Console",
    *,
    what: str,
    total: int,
    done: int = 0,
    seconds: float = 0.0,
) -> None:
    """Computes the parts of a computation one by one, and saves those that are finished.

    Args:
        parts: (progress, part) pairs, which are computed on demand.
        save: called with the progress and the parts since the last save: after `seconds`, at the
            total, and before a stop.
        console: shows a bar, or lines in a log, and the line about a stop.
        what: name of the units of `total`.
        total: the progress at the end.
        done: the progress so far.
        seconds: the shortest time between two saves; by default every part is saved immediately.
    """
    unsaved, saved_at = [], time.monotonic()
    say = functools.partial(console.print, highlight=False)
    lines = LogLines(say)
    with _bar(console) as progress, Stop(say) as stop:
        task = progress.add_task(what, total=total, completed=done)
        for at, part in parts:
            unsaved.append(part)
            progress.update(task, completed=at)
            if not shows_bars(console):
                lines.at("", at, total, what)
            # The slowest process decides, for all of them save together.
            elapsed = distributed.largest(int(time.monotonic() - saved_at))
            if elapsed >= seconds or at == total or stop.requested:
                save(at, unsaved)
                unsaved, saved_at = [], time.monotonic()
                stop.here()


def _bar(console):
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    options = {"console": console, "transient": True, "disable": not shows_bars(console)}
    return Progress(*columns, TimeRemainingColumn(), **options)
