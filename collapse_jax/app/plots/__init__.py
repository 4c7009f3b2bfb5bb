"""Figures, drawn from a run folder's files alone, as PNG and PDF."""

import pathlib

from collapse_jax.app.commands import COMMANDS, load
from collapse_jax.runs.folder import RunFolder


def draw_run(folder: RunFolder) -> list[pathlib.Path]:
    """Draws every figure of a run again; returns the paths of the PNGs.

    Raises:
        InputError: If the run has nothing to draw yet.
    """
    settings = folder.config()
    return load(COMMANDS[settings.command].draw)(folder, settings)
