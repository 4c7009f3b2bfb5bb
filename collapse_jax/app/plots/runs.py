"""Draws perplexities and histograms of language-model runs on an `Axes` of the caller."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.app.plots import style
from collapse_jax.app.plots.curves import current_axes
from collapse_jax.app.plots.perplexities import draw_histograms
from collapse_jax.app.plots.recorded import recorded as results_of
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Run = RunFolder | str | os.PathLike


def perplexity(
    run: "Run | Mapping[str, Run]",
    ax: "Axes | None" = None,
    *,
    column: str = "test_perplexity_mean",
) -> "Axes":
    """Draws the test perplexity by generation: a line per seed, mean and standard deviation.

    Args:
        run: a run folder of `lm` or its path, or name -> any of these.
        ax: where to draw; by default the current axes of pyplot.
        column: any column with one number per generation, such as "test_entropy".

    Returns:
        The axes. A dashed line shows the model before any fine-tuning, if the run recorded it.

    Raises:
        InputError: if a run has no such column, or the folder is not a run folder.
    """
    runs = run if isinstance(run, Mapping) else {"": run}
    axis = current_axes(ax)
    colours = [style.BAND] if len(runs) == 1 else style.generation_colours(len(runs))
    for (label, one), colour in zip(runs.items(), colours, strict=True):
        results = _results(one, column)
        values = results[column].transpose("chain", "generation").values
        style.seeds(axis, results["generation"].values, values, colour, label=label or True)
        before = results.get(f"pretrained_{column}")
        if before is not None and np.isfinite(before.values).any():
            words = None if label else "before fine-tuning"
            axis.axhline(
                float(np.nanmean(before.values)), color=colour, ls="--", lw=0.8, label=words
            )
    axis.set_xlabel("generation (0: fine-tuned on real text)")
    axis.set_ylabel(column)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize="small", frameon=False)
    return axis


def histograms(
    run: Run, ax: "Axes | None" = None, *, column: str = "train_perplexity_first"
) -> "Axes":
    """Draws the histogram of training-sequence perplexities of each generation; seeds are pooled.

    Args:
        run: a run folder of `lm`, or its path.
        ax: where to draw; by default the current axes of pyplot.
        column: "train_perplexity_first", under the model of generation 0, or
            "train_perplexity_own", under the model fitted to the training set.

    Returns:
        The axes.

    Raises:
        InputError: if the run did not record it, or the folder is not a run folder.
    """
    axis = current_axes(ax)
    draw_histograms(axis, _results(run, column), column)
    return axis


def _results(run, column):
    if not isinstance(run, RunFolder | str | os.PathLike):
        raise InputError(
            f"run is {type(run).__name__}; it must be a run folder of `lm` or its path (for a "
            "metric of chains use trajectories)"
        )
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    return results_of(folder, [column])
