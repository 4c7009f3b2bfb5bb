"""Figures of the language-model loop, as in Shumailov et al. 2024, Fig. 1b and 1c: which there are,
and perplexity on real text.
"""

import numpy as np

from collapse_jax.app.config import LMConfig
from collapse_jax.app.plots import style
from collapse_jax.app.plots.perplexities import histogram_3d_figure, histogram_figure
from collapse_jax.app.plots.text import tails_figure, variety_figure
from collapse_jax.runs.folder import RunFolder


def draw(folder: RunFolder, config: LMConfig, results) -> list:
    """Every figure that the results allow (older runs lack some columns); the paths of the PNGs."""
    made = {
        "perplexity": perplexity_figure(results, title(config)),
        "histogram": histogram_figure(results, "train_perplexity_first", title(config)),
        "histogram_own": histogram_figure(results, "train_perplexity_own", title(config)),
        "histogram_3d": histogram_3d_figure(results, "train_perplexity_first", title(config)),
        "tails": tails_figure(results, title(config)),
        "variety": variety_figure(results, title(config)),
    }
    return [style.save(figure, folder, name) for name, figure in made.items() if figure is not None]


def perplexity_figure(results, title: str):
    """Perplexity of the real test text under the model of each generation, seeds and their band,
    and the pretrained model's.
    """
    made, axes = style.figure()
    axis = axes[0, 0]
    values = results["test_perplexity"].values
    axis.set_yscale("log")
    style.seeds(axis, results["generation"].values, values, style.BAND, label=True)
    pretrained = results.get("pretrained_test_perplexity")
    if pretrained is not None and np.isfinite(pretrained.values).any():
        before = float(np.nanmean(pretrained.values))
        axis.axhline(
            before, color=style.REAL, lw=1, ls="--", label=f"before fine-tuning: {before:.0f}"
        )
    style.plain_ticks(axis.yaxis)
    axis.set_xlabel("generation (0: fitted to real text)", fontsize=8)
    axis.set_ylabel("perplexity on the real test text", fontsize=8)
    axis.set_title(title, fontsize=8)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False)
    return made


def title(config: LMConfig) -> str:
    """The settings that matter most, in a line."""
    kept = (
        f"{config.resolved().real_fraction:.0%} real text kept"
        if config.workflow == "replace"
        else config.workflow
    )
    kept += f", {config.beta:.0%} of the previous set" if config.beta else ""
    return (
        f"{kept}, {config.resolved().epochs} epochs, {config.seeds} "
        f"seed{'s' * (config.seeds > 1)}, start: {config.start}"
    )
