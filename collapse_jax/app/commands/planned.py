"""The table of memory, time and files that `--dry-run` of any command prints."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from collapse_jax.drivers.estimate import time_words
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console


def print_planned(console: "Console", title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Prints the table.

    Args:
        console: the console.
        title: a description of the run.
        rows: (name, text) of each line.
    """
    from rich.table import Table

    table = Table("", "about", title=f"{title}; nothing was written", title_justify="left")
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)


def time_row(compiled: float, running: float, of: str = "") -> tuple[str, str]:
    """Returns the line about time.

    Args:
        compiled: seconds until everything is compiled.
        running: seconds after that.
        of: the number of compiled programs, such as " of 3 programs".
    """
    return (
        "time",
        f"{time_words(compiled + running)}: {time_words(compiled)} to compile{of}, "
        f"{time_words(running)} to run",
    )


def where(folder: RunFolder) -> str:
    """Returns the folder in words, and whether it contains a run to resume."""
    there = " (the run there is resumed)" if (folder.path / "config.json").is_file() else ""
    return f"in {folder.path}{there}"
