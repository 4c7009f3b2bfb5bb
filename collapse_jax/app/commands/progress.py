"""Progress in a terminal: which generation and stage, tokens a second, time left."""

import time
from typing import Any, Self

from collapse_jax.app.config.lm import PERPLEXITY_WORDS, perplexities_shown
from collapse_jax.drivers.run import Watcher


class StageProgress:
    """A rich bar for the current stage; `stage` is the `progress` of a `Session`.

    Args:
        total: Units of a second bar above it, for the whole run; 0 is no such bar.
        unit: What that bar counts.
    """

    def __init__(self, console: Any, total: int = 0, unit: str = ""):
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._run = self._bars.add_task(unit, total=total, rate="", visible=total > 0)
        self._stage = self._bars.add_task("", total=None, rate="", visible=False)
        self._name, self._where, self._began, self._at_first = None, "", 0.0, 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def stage(self, name: str, done: int, total: int | None = None, /) -> None:
        """Shows that `done` tokens of a stage are done; total is None if unknown."""
        bar = self._bars.tasks[self._stage]
        if name != self._name or total != bar.total or done <= bar.completed:
            # The first report gives no rate: compilation came before it, and when the stage began
            # is unknown.
            self._name, self._began, self._at_first = name, time.perf_counter(), done
            where = f"{self._where}: {name}" if self._where else name
            self._bars.reset(self._stage, total=total, description=where, visible=True, rate="")
        rate = (done - self._at_first) / max(time.perf_counter() - self._began, 1e-9)
        text = f"{done:,} tokens" if done else ""
        if done > self._at_first:
            text += f", {rate:,.0f} tokens/s"
        self._bars.update(self._stage, completed=done, rate=text)

    def line(self, text: str) -> None:
        """Prints a line above the bars."""
        self._console.print(text, highlight=False)


class LanguageModelProgress(StageProgress):
    """Adds a bar for the generations of all seeds, and a line for each that is finished.

    `watcher` follows the driver.

    Args:
        protocol: That of the run: its test perplexity is the one that is shown.
        context: Words on what it has as context.
    """

    def __init__(
        self,
        console: Any,
        chains: int,
        generations: int,
        protocol: str = "paper",
        context: str = "",
    ):
        super().__init__(console, chains * (generations + 1), "all generations")
        self._chains, self._protocol = chains, protocol
        self._context = f", {context}" if context else ""
        self.watcher = Watcher(begin=self._begin, end=self._end, say=self.line)

    def _begin(self, chain, generation):
        seed = f"seed {chain} " if self._chains > 1 else ""
        self._where = f"{seed}generation {generation}"

    def _end(self, chain, generation, row):
        self._bars.advance(self._run)
        name = perplexities_shown(self._protocol, row)[0]
        self.line(
            f"seed {chain} generation {generation}: test perplexity {row[name]:.2f}, "
            f"{PERPLEXITY_WORDS[name]}{self._context}; median perplexity of its training set "
            f"under generation 0 {row['train_perplexity_first_median']:.2f} "
            f"({row['seconds']:.0f} s)"
        )
