"""Figures, drawn from a run folder's files alone, as PNG and PDF."""

import pathlib

from collapse_jax.app.config import LMConfig, PretrainConfig, QuickstartConfig
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder


def draw_run(folder: RunFolder) -> list[pathlib.Path]:
    """Draws every figure of a run again; the paths of the PNGs.

    Raises `InputError` where the run has nothing to draw yet.
    """
    from collapse_jax.app.plots import chains, grid, language_model, pretraining

    config = folder.config()
    if isinstance(config, QuickstartConfig):
        parts = [RunFolder(path.parent) for path in sorted(folder.path.glob("*/config.json"))]
        unfinished = [part for part in parts if not (part.path / "results.nc").is_file()]
        if unfinished or not parts:
            raise InputError(
                f"{(unfinished or [folder])[0].path} holds no results.nc yet; let the "
                "quickstart finish it first"
            )
        return [
            chains.draw_overview(
                folder, [part for part in parts if not isinstance(part.config(), LMConfig)]
            )
        ] + [
            path for part in parts if isinstance(part.config(), LMConfig) for path in draw_run(part)
        ]
    if isinstance(config, PretrainConfig):
        return pretraining.draw(folder, config)
    results = folder.results()
    if results is None:
        raise InputError(
            f"{folder.path} holds no results.nc yet; let the run finish a generation first"
        )
    _check_holds(
        folder,
        results,
        ("test_perplexity",) if isinstance(config, LMConfig) else config.resolved().metrics,
    )
    if isinstance(config, LMConfig):
        return language_model.draw(folder, config, results)
    if config.axes():
        return grid.draw(folder, config, results)
    return [chains.draw(folder, config, results)]


def _check_holds(folder, results, names):
    """Raises `InputError` for results of something else than this run."""
    found = {str(name) for name in (*results.data_vars, *results.coords)}
    for name in ("generation", *names):
        if not any(one == name or one.startswith(f"{name}_") for one in found):
            raise InputError(
                f"{folder.path / 'results.nc'} holds no {name}, which this run records; it "
                "is not of this run"
            )
