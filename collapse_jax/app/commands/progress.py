"""Progress: generation and stage, tokens per second, time left; as bars, or as lines in a log."""

import time
from typing import Any, Self

from collapse_jax.app.config.lm import PERPLEXITY_WORDS, perplexities_shown
from collapse_jax.drivers.run import Watcher
from collapse_jax.runs.log_lines import LogLines, shows_bars, time_words


class StageProgress:
    """A rich bar for the current stage; `stage` is the `progress` of a `Session`.

    Without a terminal it prints a line from time to time, as `LogLines` does.

    Args:
        total: Units of a second bar above it, for the whole run; 0 shows no second bar.
        unit: Name of these units.
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
        self._lines = None if shows_bars(console) else LogLines(self.line)

    def __enter__(self) -> Self:
        if self._lines is None:
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._lines is None:
            self._bars.stop()

    def stage(self, name: str, done: int, total: int | None = None, /) -> None:
        """Shows that `done` tokens of a stage are done; total is None if unknown."""
        if self._lines is not None:
            where = f"{self._where}: {name}" if self._where else name
            self._lines.at(where, done, total, "tokens", self._more(name, done, total))
            return
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

    def _more(self, name: str, done: int, total: int | None) -> str:
        """What a log line states about a stage in addition to its name."""
        return ""

    def line(self, text: str) -> None:
        """Prints a line above the bars."""
        self._console.print(text, highlight=False)


class LanguageModelProgress(StageProgress):
    """Adds a bar for the generations of all seeds, and a line for each finished generation.

    `watcher` receives the driver's events. `name` is printed before each seed: the run it belongs
    to.

    Args:
        protocol: Protocol of the run, which selects the test perplexity that is shown.
        context: Words on the context of that perplexity.
        epochs: Epochs of a fit; 0 does not show them.
    """

    def __init__(
        self,
        console: Any,
        chains: int,
        generations: int,
        protocol: str = "paper",
        context: str = "",
        *,
        epochs: int = 0,
    ):
        super().__init__(console, chains * (generations + 1), "all generations")
        self._chains, self._protocol, self._epochs = chains, protocol, epochs
        self._context, self.name = f", {context}" if context else "", ""
        # Generations that are done, and of those that this call made how many, in what time.
        self._done, self._all = 0, chains * (generations + 1)
        self._made, self._seconds, self._is_made = 0, 0.0, False
        self.watcher = Watcher(begin=self._begin, end=self._end, say=self.line)

    def _more(self, name, done, total):
        if name != "fit" or not total or not self._epochs:
            return ""
        epoch = min(done * self._epochs // total + 1, self._epochs)
        return f"epoch {epoch} of {self._epochs}"

    def _begin(self, chain, generation):
        seed = f"seed {chain} " if self._chains > 1 else ""
        self._where, self._is_made = f"{self.name}{seed}generation {generation}", True

    def _end(self, chain, generation, row):
        self._bars.advance(self._run)
        name = perplexities_shown(self._protocol, row)[0]
        self.line(
            f"{self.name}seed {chain} generation {generation}: test perplexity {row[name]:.2f}, "
            f"{PERPLEXITY_WORDS[name]}{self._context}; median perplexity of its training set "
            f"under generation 0 {row['train_perplexity_first_median']:.2f} "
            f"({row['seconds']:.0f} s{self._left(row['seconds'])})"
        )

    def _left(self, seconds):
        """The words of a log line on the rest of the run, after a generation of this call."""
        self._done += 1
        if self._is_made:
            self._made, self._seconds, self._is_made = (
                self._made + 1,
                self._seconds + seconds,
                False,
            )
        left = self._all - self._done
        if self._lines is None or not self._made or not left:
            return ""
        words = time_words(left * self._seconds / self._made)
        return f"; {self._done} of {self._all} generations, about {words} left"
