"""The figure of models that read each other: panels of the pool, and one of all models."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.app.config.ecosystem import OF_MODEL
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.plots import style, thin
from collapse_jax.app.plots.chains import LABELS, draw_panel, dress, is_scalar, title
from collapse_jax.drivers.summary import QUANTILES, summarise
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

_MEDIAN = QUANTILES.index(0.5)


def draw(folder: RunFolder, config: SimulateConfig, results: "xarray.Dataset") -> pathlib.Path:
    """Draws the metrics of the pool, and medians of single models; returns the PNG's path."""
    names = [name for name in config.resolved().metrics if is_scalar(results, name)]
    of_pool = [name for name in names if OF_MODEL not in name]
    of_models: dict[str, list[str]] = {}
    for name in names:
        if OF_MODEL in name:
            of_models.setdefault(name.partition(OF_MODEL)[0], []).append(name)
    fig, axes = style.figure(1, max(len(of_pool) + len(of_models), 1))
    recorded = results.sizes["generation"]
    drawn = [
        draw_panel(axis, config, results, name)
        for axis, name in zip(axes[0], of_pool, strict=False)
    ]
    left = axes[0][len(of_pool) :]
    for axis, (metric, own) in zip(left, of_models.items(), strict=False):
        drawn.append(_models(axis, config, results, metric, own))
    fig.suptitle(title(config) + thin.caption(max(drawn, default=recorded), recorded), fontsize=9)
    return style.save(fig, folder, "chains")


def _models(
    axis: "Axes", config: SimulateConfig, results: "xarray.Dataset", metric: str, names: list[str]
) -> int:
    """Draws the median over chains of each model; returns the number of generations drawn."""
    generation = results["generation"].values
    medians = np.stack([_median(results, name) for name in names])
    places = thin.kept(medians.T)
    at = generation[places]
    for colour, name, median in zip(
        style.generation_colours(len(names)), names, medians, strict=True
    ):
        label = f"model {name.rpartition('_')[2]}"
        axis.plot(at, style.finite(median[places]), color=colour, lw=1.2, label=label)
    dress(axis, config, metric, medians)
    axis.set_ylabel(f"{LABELS.get(metric, metric)}, each model", fontsize=8)
    axis.legend(fontsize=6, frameon=False, title="median of chains", title_fontsize=6)
    return len(at)


def _median(results, name):
    """[generation] of a metric of every chain, or of its summary."""
    if name in results:
        return summarise(results[name].values, len(results[name]))["quantile"][0][:, _MEDIAN]
    return results[f"{name}_quantile"].values[:, _MEDIAN]
