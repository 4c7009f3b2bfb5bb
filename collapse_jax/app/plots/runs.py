"""Figures of language-model runs on an `Axes` of the caller's: perplexities, and histograms."""

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
    """Perplexity of the real test text by generation: a line a seed, their mean and deviation.

    Args:
        run: a run folder of `lm` or its path, or name -> any of these.
        ax: where to draw; by default the current axes of pyplot.
        column: any column with one number a generation, as "test_entropy".

    Returns:
        The axes. A dashed line is the model before any fine-tuning, where the run recorded it.

    Raises:
        InputError: where a run has no such column, and for what is no run folder.
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
    """Histograms of the perplexity of training sequences, one curve a generation; seeds pooled.

    Args:
        run: a run folder of `lm`, or its path.
        ax: where to draw; by default the current axes of pyplot.
        column: "train_perplexity_first", under the generation-0 model, or "train_perplexity_own",
            under the model of its own generation.

    Returns:
        The axes.

    Raises:
        InputError: where the run did not record it, and for what is no run folder.
    """
    axis = current_axes(ax)
    draw_histograms(axis, _results(run, column), column)
    return axis


def _results(run, column):
    if not isinstance(run, RunFolder | str | os.PathLike):
        raise InputError(
            f"run is {type(run).__name__}; it must be a run folder of `lm` or its path (a metric "
            "of chains is drawn by trajectories)"
        )
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    return results_of(folder, [column])
