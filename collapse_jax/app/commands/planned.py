"""What `--dry-run` prints, of any command: a table of memory, time and files."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from collapse_jax.drivers.estimate import time_words
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console


def print_planned(console: "Console", title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Prints the table.

    Args:
        console: where.
        title: what would be run.
        rows: (name, text) of each line.
    """
    from rich.table import Table

    table = Table("", "about", title=f"{title}; nothing was written", title_justify="left")
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)


def time_row(compiled: float, running: float, of: str = "") -> tuple[str, str]:
    """The line about time.

    Args:
        compiled: seconds until everything is compiled.
        running: seconds after that.
        of: what is compiled, as " of 3 programs".
    """
    return (
        "time",
        f"{time_words(compiled + running)}: {time_words(compiled)} to compile{of}, "
        f"{time_words(running)} to run",
    )


def where(folder: RunFolder) -> str:
    """The folder, and whether a run goes on in it."""
    there = " (goes on there)" if (folder.path / "config.json").is_file() else ""
    return f"in {folder.path}{there}"
