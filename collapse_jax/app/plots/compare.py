"""The figure of several language-model runs: perplexity, and the share of the gain lost."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from collapse_jax.app.config.lm import PERPLEXITY_WORDS
from collapse_jax.app.plots import style
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from collapse_jax.app.commands.compare import ComparedRun


def draw(folder: RunFolder, runs: "Sequence[ComparedRun]", name: str) -> pathlib.Path:
    """Draws the figure into a folder; returns the path of the PNG."""
    return style.save(compare_figure(runs, name), folder, "compare")


def compare_figure(runs: "Sequence[ComparedRun]", name: str) -> "Figure":
    """Draws a curve for each run: the mean of its seeds, with a band of one standard deviation.

    Args:
        runs: The runs to draw.
        name: The perplexity, a key of `PERPLEXITY_WORDS`.
    """
    losts = [run.gain_lost() for run in runs]
    has_lost = any(np.isfinite(lost).any() for lost in losts)
    fig, axes = style.figure(columns=2 if has_lost else 1)
    axis = axes[0, 0]
    axis.set_yscale("log")
    before: dict[float, list] = {}
    for run, colour in zip(runs, colours(len(runs)), strict=True):
        values = run.values(name)
        style.seeds(axis, run.generations(), style.finite(values), colour, run.label)
        if np.isfinite(run.before(name)):
            before.setdefault(run.before(name), []).append(colour)
    for value, of in before.items():
        # One line for the model that several runs begin from.
        axis.axhline(value, color=of[0] if len(before) > 1 else style.REAL, lw=1, ls="--")
    if before:
        axis.plot([], [], color=style.REAL, lw=1, ls="--", label="before fine-tuning")
    style.plain_ticks(axis.yaxis)
    axis.set_xlabel("generation (0: fitted to real text)", fontsize=8)
    axis.set_ylabel(f"perplexity on the real test text,\n{PERPLEXITY_WORDS[name]}", fontsize=8)
    if has_lost:
        _draw_lost(axes[0, 1], runs, losts)
    handles, labels = axis.get_legend_handles_labels()
    fig.legend(
        handles, labels, loc="outside lower center", ncols=2 if has_lost else 1, fontsize=7,
        frameon=False,
    )  # fmt: skip
    return fig


def _draw_lost(axis, runs, losts):
    """Draws the share of the first fit's gain that is lost, in percent."""
    for run, lost, colour in zip(runs, losts, colours(len(runs)), strict=True):
        style.seeds(axis, run.generations(), 100 * style.finite(lost), colour)
    axis.axhline(100, color=style.REAL, lw=1, ls=":")
    axis.annotate(
        "whole gain lost", (1, 100), (-2, 2), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", fontsize=7, color=style.REAL,
    )  # fmt: skip
    axis.set_xlabel("generation (0: fitted to real text)", fontsize=8)
    axis.set_ylabel("share of the fine-tuning gain lost\n(test text, in nats; %)", fontsize=8)


def colours(count: int) -> list:
    """Returns one colour for each run, different from each other and from greys."""
    if count <= 9:
        return [matplotlib.colormaps["tab10"](place) for place in range(10) if place != 7][:count]
    return [matplotlib.colormaps["turbo"](0.05 + 0.9 * i / (count - 1)) for i in range(count)]
