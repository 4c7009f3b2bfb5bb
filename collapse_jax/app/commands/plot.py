"""`collapse-jax plot`: every figure of a run again, from its files alone."""

from collapse_jax.app.plots import draw_run
from collapse_jax.runs.folder import RunFolder


def plot(console, run: str) -> None:
    """Draws the figures (or the table) of a run folder again, and prints their paths.

    Raises:
        InputError: If the run has nothing to draw yet.
    """
    for path in draw_run(RunFolder(run)):
        console.print(str(path), highlight=False)
