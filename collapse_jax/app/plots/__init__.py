"""Figures: of run folders, as PNG and PDF files, and of any records, on an `Axes`."""

import importlib
import pathlib

from collapse_jax.app.commands import COMMANDS, load
from collapse_jax.runs.folder import RunFolder

_FUNCTIONS = {
    "trajectories": "curves",
    "phase": "curves",
    "perplexity": "runs",
    "histograms": "runs",
}
__all__ = ["draw_run", *_FUNCTIONS]


def draw_run(folder: RunFolder) -> list[pathlib.Path]:
    """Draws every figure of a run again; returns the paths of the PNGs.

    Raises:
        InputError: If the run has nothing to draw yet.
    """
    settings = folder.config()
    return load(COMMANDS[settings.command].draw)(folder, settings)


def __getattr__(name):
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)


def __dir__():
    return sorted(__all__)
