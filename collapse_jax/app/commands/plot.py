"""`collapse-jax plot`: every figure of a run again, from its files alone."""

import pathlib

from collapse_jax.app.config import ReproduceConfig
from collapse_jax.app.plots import draw_run
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder


def redraw(folder: RunFolder) -> list[pathlib.Path]:
    """The paths of what was drawn. Raises `InputError` where the run has nothing to draw yet."""
    config = folder.config()
    if not isinstance(config, ReproduceConfig):
        return draw_run(folder)
    from collapse_jax.app.reproduce import report, store

    results = store.load(folder)
    if not results:
        raise InputError(f"{folder.path} holds no results yet; let the run finish an entry first")
    return report.write(folder, results, config.seed)
