"""Histograms of the perplexity of single training sequences by generation, flat and in space, all
seeds pooled.
"""

import numpy as np

from collapse_jax.app.plots import style

_COLUMNS = ("train_perplexity_first", "train_perplexity_own")
_MODELS = {
    "train_perplexity_first": "the generation-0 model",
    "train_perplexity_own": "the model of its own generation",
}
_BINS_PER_DECADE = 25
_BEYOND = 0.0001


def shared_bins(results) -> np.ndarray:
    """Edges of bins of 1/25 decade, the same for every histogram of a run, and the same widths in
    every run.

    They span all but the outermost 0.01% of what the run holds at either end, so that one sequence
    cannot squeeze the figure.
    """
    values = np.concatenate([results[name].values.ravel() for name in _COLUMNS if name in results])
    values = values[np.isfinite(values)]
    low, high = (
        np.quantile(values, _BEYOND, method="higher"),
        np.quantile(values, 1 - _BEYOND, method="lower"),
    )
    low, high = np.log10(sorted([low, high])) * _BINS_PER_DECADE
    return 10 ** (np.arange(np.floor(low), np.floor(high) + 2) / _BINS_PER_DECADE)


def shares(results, name: str) -> dict[int, np.ndarray]:
    """Generation -> share [bins] of its sequences in each of the `shared_bins`, the outermost
    holding all beyond: they sum to 1.

    Generations without a number are left out.
    """
    bins, found = shared_bins(results), {}
    for generation in results["generation"].values:
        values = results[name].sel(generation=generation).values
        values = values[np.isfinite(values)]
        if values.size:
            found[int(generation)] = (
                np.histogram(np.clip(values, bins[0], bins[-1]), bins)[0] / values.size
            )
    return found


def histogram_figure(results, name: str, title: str):
    """A curve a generation: probability over perplexity, on the log axis of the run; None where the
    results lack the column.
    """
    if name not in results:
        return None
    made, axes = style.figure(width=5.4)
    axis, bins, found = axes[0, 0], shared_bins(results), shares(results, name)
    for (generation, share), colour in zip(
        found.items(), style.generation_colours(len(found)), strict=True
    ):
        axis.stairs(share, bins, color=colour, lw=1.2, label=_label(generation))
    axis.set_xscale("log")
    axis.set_xlim(bins[0], bins[-1])
    style.plain_ticks(axis.xaxis)
    axis.set_xlabel(f"perplexity of a training sequence under {_MODELS[name]}", fontsize=8)
    axis.set_ylabel("probability", fontsize=8)
    axis.set_title(title, fontsize=8)
    columns = 2 if len(found) > 6 else 1
    axis.legend(
        title="training set of generation",
        fontsize=7,
        title_fontsize=7,
        frameon=False,
        ncols=columns,
    )
    return made


def histogram_3d_figure(results, name: str, title: str):
    """The same with the generation as depth; None where the results lack the column."""
    if name not in results:
        return None
    from matplotlib.ticker import FuncFormatter, MaxNLocator
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    made, axis = style.figure_3d()
    # Axes in space have no log scale: positions are logarithms, and the ticks say what they stand
    # for.
    bins, found = np.log10(shared_bins(results)), shares(results, name)
    colours = style.generation_colours(len(found))
    for (generation, share), colour in reversed(list(zip(found.items(), colours, strict=True))):
        x, y = np.repeat(bins, 2), np.concatenate([[0], np.repeat(share, 2), [0]])
        outline = np.stack([x, np.full_like(x, generation), y], axis=1)
        axis.add_collection3d(
            Poly3DCollection(
                [outline], facecolors=(*colour[:3], 0.55), edgecolors=[colour], linewidths=0.8
            )
        )
    axis.set(
        xlim=(bins[0], bins[-1]),
        ylim=(max(found) + 0.3, min(found) - 0.3),
        zlim=(0, 1.02 * max(map(np.max, found.values()))),
    )
    steps = (1, 2, 5) if bins[-1] - bins[0] < 2.5 else (1,)
    ticks = np.log10([step * 10.0**power for power in range(-3, 39) for step in steps])
    axis.set_xticks(ticks[(bins[0] <= ticks) & (ticks <= bins[-1])])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:g}"))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.zaxis.set_major_locator(MaxNLocator(4))
    axis.set_xlabel(f"perplexity under {_MODELS[name]}", fontsize=8, labelpad=4)
    axis.set_ylabel("training set of generation", fontsize=8)
    axis.set_zlabel("probability", fontsize=8)
    axis.set_title(title, fontsize=8, y=1.0)
    return made


def _label(generation):
    return "0 (real text)" if generation == 0 else str(generation)
