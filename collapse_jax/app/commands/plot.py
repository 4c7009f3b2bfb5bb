"""`collapse-jax plot`: draws all figures of a run again from its files."""

from typing import TYPE_CHECKING

from collapse_jax.app.plots import draw_run
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console


def plot(console: "Console", run: str) -> None:
    """Draws the figures (or the table) of a run folder again, and prints their paths.

    Raises:
        InputError: If the run has nothing to draw yet.
    """
    for path in draw_run(RunFolder(run)):
        console.print(str(path), highlight=False)
