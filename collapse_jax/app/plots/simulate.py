"""Figures of a simulation: its chains, or the points of its grid."""

import pathlib

from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.plots import chains, ecosystem, grid
from collapse_jax.app.plots.recorded import recorded
from collapse_jax.runs.folder import RunFolder


def draw(folder: RunFolder, config: SimulateConfig) -> list[pathlib.Path]:
    """Draws every figure of a simulation; returns the paths of the PNGs.

    Raises:
        InputError: If there are no results of this run.
    """
    results = recorded(folder, config.resolved().metrics)
    if config.axes():
        return grid.draw(folder, config, results)
    if config.has_ecosystem():
        return [ecosystem.draw(folder, config, results)]
    return [chains.draw(folder, config, results)]
