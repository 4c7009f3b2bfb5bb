"""Figures of the language-model loop, as in Shumailov et al. 2024, Fig. 1b and 1c."""

import numpy as np

from collapse_jax.config import LMConfig
from collapse_jax.plots import style
from collapse_jax.records import RunFolder


def draw(folder: RunFolder, config: LMConfig, results) -> list:
    """Perplexity on real text by generation, and the histograms of training perplexities; the paths of the PNGs."""
    return [draw_perplexity(folder, config, results), draw_histogram(folder, config, results)]


def draw_perplexity(folder: RunFolder, config: LMConfig, results):
    """Perplexity of the real test text under the model of each generation: a line a seed, their mean, and the pretrained model's."""
    made, axes = style.figure()
    axis = axes[0, 0]
    generation = results["generation"].values
    values = results["test_perplexity"].values
    axis.plot(generation, values.T, color=style.BAND, lw=0.8, alpha=0.6 if len(values) > 1 else 0)
    axis.plot(
        generation,
        np.nanmean(values, axis=0),
        color=style.BAND,
        lw=1.8,
        marker="o",
        ms=4,
        label="mean of seeds" if len(values) > 1 else None,
    )
    pretrained = results.get("pretrained_test_perplexity")
    if pretrained is not None and np.isfinite(pretrained.values).any():
        before = float(np.nanmean(pretrained.values))
        axis.axhline(before, color=style.REAL, lw=1, ls="--", label=f"before fine-tuning: {before:.0f}")
    axis.set_yscale("log")
    style.plain_ticks(axis.yaxis)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("generation (0: fitted to real text)", fontsize=8)
    axis.set_ylabel("perplexity on the real test text", fontsize=8)
    axis.set_title(title(config), fontsize=8)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False)
    return style.save(made, folder, "perplexity")


def draw_histogram(folder: RunFolder, config: LMConfig, results):
    """Perplexity of each training sequence of each generation under the generation-0 model of its seed; all seeds pooled."""
    made, axes = style.figure(width=5.2)
    axis = axes[0, 0]
    generation = results["generation"].values
    pooled = [_finite(results["train_perplexity_first"].sel(generation=g).values) for g in generation]
    bins = np.geomspace(min(map(np.min, pooled)), max(map(np.max, pooled)), 61)
    for g, values, colour in zip(generation, pooled, style.generation_colours(len(generation)), strict=True):
        share, _ = np.histogram(values, bins)
        axis.stairs(share / len(values), bins, color=colour, lw=1.3, label="0 (real text)" if g == 0 else str(g))
    axis.set_xscale("log")
    style.plain_ticks(axis.xaxis)
    axis.set_xlabel("perplexity of a training sequence under the generation-0 model", fontsize=8)
    axis.set_ylabel("share of sequences", fontsize=8)
    axis.set_title(title(config), fontsize=8)
    axis.legend(title="training set of generation", fontsize=7, title_fontsize=7, frameon=False)
    return style.save(made, folder, "histogram")


def title(config: LMConfig) -> str:
    """The settings that matter most, in a line."""
    kept = f"{config.resolved().real_fraction:.0%} real text kept" if config.workflow == "replace" else config.workflow
    kept += f", {config.beta:.0%} of the previous set" if config.beta else ""
    return f"{kept}, {config.resolved().epochs} epochs, {config.seeds} seed{'s' * (config.seeds > 1)}, start: {config.start}"


def _finite(values):
    return values[np.isfinite(values)]
