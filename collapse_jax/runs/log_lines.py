"""Progress where nobody watches a terminal: now and then a line, in a log file for example."""

import datetime
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# A line comes at most once a minute, at each tenth of a stage or after ten minutes.
_LEAST_SECONDS, _MOST_SECONDS, _SHARE = 60.0, 600.0, 0.1


def shows_bars(console: "Console") -> bool:
    """Whether a console redraws what it shows, as a terminal or a notebook does."""
    return console.is_interactive or console.is_jupyter


class LogLines:
    """Says how far one stage after another is, if it takes long."""

    def __init__(
        self,
        say: Callable[[str], object],
        clock: Callable[[], float] = lambda: time.perf_counter(),
    ):
        """Says nothing yet.

        Args:
            say: Called with each line.
            clock: Seconds since any moment.
        """
        self._say, self._clock, self._said_at = say, clock, clock()
        self._stage: str | None = None
        # Of the stage: when it began, what was done then, and at its last line.
        self._began, self._at_first, self._at_last = 0.0, 0, 0

    def at(self, stage: str, done: int, total: int | None, unit: str, more: str = "") -> None:
        """A stage is so far.

        Args:
            stage: Its name, which begins the line; "" is none. Another one begins a new stage.
            done: What is done of it, in units.
            total: All of it; None if unknown.
            unit: What is counted.
            more: What the line says after the name, if anything.
        """
        now = self._clock()
        if stage != self._stage or done < self._at_last:
            # Compilation comes before the first report, from which on the rate is counted.
            self._stage, self._began, self._at_first, self._at_last = stage, now, done, 0
        waited = now - self._said_at
        far = total is not None and done - self._at_last >= _SHARE * total
        if waited < _LEAST_SECONDS or not (far or waited >= _MOST_SECONDS):
            return
        self._said_at, self._at_last = now, done
        parts = (stage, more, self._words(now, done, total, unit))
        self._say(", ".join(filter(None, parts)))

    def _words(self, now, done, total, unit):
        words = f"{done:,} {unit}" if not total else f"{done / total:.0%} of {total:,} {unit}"
        counted, seconds = done - self._at_first, now - self._began
        if counted <= 0 or seconds <= 0:
            return words
        words += f", {_short(counted / seconds)} {unit}/s"
        if total:
            words += f", {time_words((total - done) * seconds / counted)} left of it"
        return words


def time_words(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: "1:02:03", or "2 days, 1:02:03"."""
    return str(datetime.timedelta(seconds=round(seconds)))


def _short(rate):
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
