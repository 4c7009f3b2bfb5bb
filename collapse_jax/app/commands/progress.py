"""Progress in a terminal: which generation, what it is doing, tokens a second, time left."""

import time

from collapse_jax.drivers.run import Watcher


class StageProgress:
    """A rich bar for the stage at hand: `stage(name, done, total)` takes tokens, total None where
    nobody knows it.
    """

    def __init__(self, console):
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
        self._stage = self._bars.add_task("", total=None, rate="", visible=False)
        self._name, self._began, self._at_first = None, 0.0, 0

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *error):
        self._bars.stop()

    def stage(self, name: str, done: int, total: int | None = None) -> None:
        """Tells that `done` tokens of a stage are through; the first call of a stage tells its rate
        nothing.
        """
        if name != self._name:
            self._name, self._began, self._at_first = name, time.perf_counter(), done
            self._bars.reset(self._stage, total=total, description=name, visible=True, rate="")
        rate = (done - self._at_first) / max(time.perf_counter() - self._began, 1e-9)
        said = (f"{done:,} tokens" if done else "") + (
            f", {rate:,.0f} a second" if done > self._at_first else ""
        )
        self._bars.update(self._stage, completed=done, rate=said)

    def line(self, text: str) -> None:
        """Prints a line above the bar."""
        self._console.print(text, highlight=False)


class LanguageModelProgress:
    """A rich display with one bar for the generations of all seeds, and one for the stage at hand;
    a line for each finished generation.

    `stage(name, done, total)` takes tokens; `watcher` follows the driver.
    """

    def __init__(self, console, chains: int, generations: int):
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console, self._chains = console, chains
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=console, transient=True)
        self._all = self._bars.add_task(
            "all generations", total=chains * (generations + 1), rate=""
        )
        self._stage = self._bars.add_task("", total=None, rate="", visible=False)
        self._name, self._where, self._began, self._at_first = None, "", 0.0, 0
        self.watcher = Watcher(begin=self._begin, end=self._end)

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *error):
        self._bars.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        """Tells that `done` of `total` tokens of a stage are through."""
        bar = self._bars.tasks[self._stage]
        if name != self._name or total != bar.total or done <= bar.completed:
            # The first report tells the rate nothing: compilation came before it, and nobody said
            # when the stage began.
            self._name, self._began, self._at_first = name, time.perf_counter(), done
            self._bars.reset(
                self._stage,
                total=total,
                description=f"{self._where}: {name}",
                visible=True,
                rate="",
            )
        rate = (done - self._at_first) / max(time.perf_counter() - self._began, 1e-9)
        self._bars.update(
            self._stage,
            completed=done,
            rate=f"{rate:,.0f} tokens/s" if done > self._at_first else "",
        )

    def _begin(self, chain, generation):
        self._where = (
            f"seed {chain} generation {generation}"
            if self._chains > 1
            else f"generation {generation}"
        )

    def _end(self, chain, generation, row):
        self._bars.advance(self._all)
        self._console.print(
            f"seed {chain} generation {generation}: test perplexity "
            f"{row['test_perplexity']:.2f}, median perplexity of its training set "
            f"under generation 0 {row['train_perplexity_first_median']:.2f} "
            f"({row['seconds']:.0f} s)",
            highlight=False,
        )
