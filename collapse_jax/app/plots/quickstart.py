"""Figures of a quickstart: the chains of all its simulations, and its language model."""

import pathlib

from collapse_jax.app.config.quickstart import QuickstartConfig
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.laws import expected_means
from collapse_jax.app.plots import chains, draw_run, style
from collapse_jax.app.plots.recorded import recorded
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder


def draw(folder: RunFolder, config: QuickstartConfig) -> list[pathlib.Path]:
    """Draws every figure of a quickstart; returns the paths of the PNGs.

    Raises:
        InputError: If a part of it has no results yet.
    """
    parts = parts_of(folder)
    others = [part for part in parts if not isinstance(part.config(), SimulateConfig)]
    return [draw_overview(folder, parts), *(path for part in others for path in draw_run(part))]


def parts_of(folder: RunFolder) -> list[RunFolder]:
    """Returns the run folders of its parts, by name.

    Raises:
        InputError: If a part of it has no results yet.
    """
    parts = [RunFolder(path.parent) for path in sorted(folder.path.glob("*/config.json"))]
    unfinished = [part for part in parts if not (part.path / "results.nc").is_file()]
    if unfinished or not parts:
        raise InputError(
            f"{(unfinished or [folder])[0].path} contains no results.nc yet; wait until the "
            "quickstart has finished it"
        )
    return parts


def draw_overview(folder: RunFolder, parts: list[RunFolder]) -> pathlib.Path:
    """Draws a row of panels per family, a column per workflow; returns the path of the PNG.

    Args:
        folder: Where to save the figure.
        parts: Run folders; those of simulations are drawn.
    """
    results = {
        config: recorded(part, ())
        for part in parts
        if isinstance(config := part.config(), SimulateConfig)
    }
    rows = [
        sorted(
            (config for config in results if config.family == family),
            key=lambda config: config.workflow != "replace",
        )
        for family in sorted({config.family for config in results}, reverse=True)
    ]
    fig, axes = style.figure(len(rows), max(map(len, rows)), sharey="row")
    for row, configs in zip(axes, rows, strict=True):
        for axis, config in zip(row, configs, strict=False):
            known = expected_means(config, 0)
            name = next(name for name in config.resolved().metrics if name in known)
            chains.draw_panel(axis, config, results[config], name)
            axis.set_title(chains.title(config), fontsize=8)
    return style.save(fig, folder, "chains_against_theory")
