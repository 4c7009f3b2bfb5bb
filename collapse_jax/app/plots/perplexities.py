"""Histograms of the perplexity of single training sequences by generation, in 2D and 3D.

Seeds are pooled.
"""

from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.app.plots import style

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MODELS = {
    "train_perplexity_first": "the model of generation 0",
    "train_perplexity_own": "the model fitted to the set",
}
_BINS_PER_DECADE = 25
# The share at either end that lies in the outermost bins, wherever it is.
_BEYOND = 0.0001


def shared_bins(results: "xarray.Dataset") -> np.ndarray:
    """Returns edges [bins + 1] of bins of 1/25 decade, the same for every histogram of a run.

    They span all but the outermost 0.01% at either end, so that a single sequence cannot determine
    the scale of the figure.
    """
    values = np.concatenate([results[name].values.ravel() for name in _MODELS if name in results])
    values = values[np.isfinite(values)]
    ends = (
        np.quantile(values, _BEYOND, method="higher"),
        np.quantile(values, 1 - _BEYOND, method="lower"),
    )
    low, high = np.log10(sorted(ends)) * _BINS_PER_DECADE
    return 10 ** (np.arange(np.floor(low), np.floor(high) + 2) / _BINS_PER_DECADE)


def shares(results: "xarray.Dataset", name: str) -> dict[int, np.ndarray]:
    """Returns generation -> share [bins] of its sequences in each of the `shared_bins`.

    The outermost bins include everything beyond them, so that shares sum to 1. Generations without
    values are left out.
    """
    bins, by_generation = shared_bins(results), {}
    for generation in results["generation"].values:
        values = results[name].sel(generation=generation).values
        values = values[np.isfinite(values)]
        if values.size:
            counts = np.histogram(np.clip(values, bins[0], bins[-1]), bins)[0]
            by_generation[int(generation)] = counts / values.size
    return by_generation


def histogram_figure(results: "xarray.Dataset", name: str, title: str) -> "Figure | None":
    """Draws a curve per generation, probability over perplexity; None without the column."""
    if name not in results:
        return None
    fig, axes = style.figure(width=5.4)
    draw_histograms(axes[0, 0], results, name)
    axes[0, 0].set_title(title, fontsize=8)
    return fig


def draw_histograms(axis: "Axes", results: "xarray.Dataset", name: str) -> None:
    """Draws a curve per generation: the share of its training sequences by their perplexity."""
    bins, curves = shared_bins(results), shares(results, name)
    colours = style.generation_colours(len(curves))
    for (generation, share), colour in zip(curves.items(), colours, strict=True):
        label = "0 (real text)" if generation == 0 else str(generation)
        axis.stairs(share, bins, color=colour, lw=1.2, label=label)
    axis.set_xscale("log")
    axis.set_xlim(bins[0], bins[-1])
    style.plain_ticks(axis.xaxis)
    axis.set_xlabel(f"perplexity of a training sequence under {_MODELS[name]}", fontsize=8)
    axis.set_ylabel("probability", fontsize=8)
    axis.legend(
        title="training set of generation",
        fontsize=7,
        title_fontsize=7,
        frameon=False,
        ncols=2 if len(curves) > 6 else 1,
    )


def histogram_3d_figure(results: "xarray.Dataset", name: str, title: str) -> "Figure | None":
    """Draws the same in 3D, with the generation as depth; None without the column."""
    if name not in results:
        return None
    fig, axis = style.figure_3d()
    # Axes in space have no log scale: positions are logarithms, and ticks name the values.
    bins, curves = np.log10(shared_bins(results)), shares(results, name)
    _outlines(axis, bins, curves)
    highest = max(map(np.max, curves.values()))
    axis.set_xlim(bins[0], bins[-1])
    axis.set_ylim(max(curves) + 0.3, min(curves) - 0.3)
    axis.set_zlim(0, 1.02 * highest)
    _ticks(axis, bins)
    axis.set_xlabel(f"perplexity under {_MODELS[name]}", fontsize=8, labelpad=4)
    axis.set_ylabel("training set of generation", fontsize=8)
    axis.set_zlabel("probability", fontsize=8)
    axis.set_title(title, fontsize=8, y=1.0)
    return fig


def _outlines(axis, bins, curves):
    """Draws a filled histogram per generation, with the first generation in front."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    colours = style.generation_colours(len(curves))
    for (generation, share), colour in reversed(list(zip(curves.items(), colours, strict=True))):
        x, y = np.repeat(bins, 2), np.concatenate([[0], np.repeat(share, 2), [0]])
        outline = np.stack([x, np.full_like(x, generation), y], axis=1)  # [points, 3]
        colouring = {"facecolors": (*colour[:3], 0.55), "edgecolors": [colour]}
        axis.add_collection3d(Poly3DCollection([outline], linewidths=0.8, **colouring))


def _ticks(axis, bins):
    """Sets ticks 1, 2, 5, 10, ... on the logarithmic axis; powers of ten on a long axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    steps = (1, 2, 5) if bins[-1] - bins[0] < 2.5 else (1,)
    ticks = np.log10([step * 10.0**power for power in range(-3, 39) for step in steps])
    axis.set_xticks(ticks[(bins[0] <= ticks) & (ticks <= bins[-1])])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:g}"))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.zaxis.set_major_locator(MaxNLocator(4))
