"""Figures of the language-model loop, as in Shumailov et al. 2024, Fig. 1b and 1c."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.app.config.lm import PERPLEXITY_WORDS, LMConfig, perplexities_shown
from collapse_jax.app.plots import style
from collapse_jax.app.plots.perplexities import histogram_3d_figure, histogram_figure
from collapse_jax.app.plots.recorded import recorded
from collapse_jax.app.plots.text import tails_figure, variety_figure
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


def draw(folder: RunFolder, config: LMConfig) -> list[pathlib.Path]:
    """Draws every figure that the results allow; returns the paths of the PNGs.

    Older runs lack some columns.

    Raises:
        InputError: If there are no results of this run.
    """
    results = recorded(folder, ("test_perplexity",))
    figures = {
        "perplexity": perplexity_figure(results, title(config), config.protocol),
        "histogram": histogram_figure(results, "train_perplexity_first", title(config)),
        "histogram_own": histogram_figure(results, "train_perplexity_own", title(config)),
        "histogram_3d": histogram_3d_figure(results, "train_perplexity_first", title(config)),
        "tails": tails_figure(results, title(config)),
        "variety": variety_figure(results, title(config)),
    }
    return [style.save(fig, folder, name) for name, fig in figures.items() if fig is not None]


def perplexity_figure(results: "xarray.Dataset", title: str, protocol: str = "paper") -> "Figure":
    """The real test text's perplexity under each generation, and under the pretrained model.

    Args:
        results: Those of a run; older ones lack the mean over blocks.
        title: Of the figure.
        protocol: That of the run, which says how blocks are averaged.
    """
    fig, axes = style.figure()
    axis = axes[0, 0]
    name = perplexities_shown(protocol, results)[0]
    values = results[name].values
    axis.set_yscale("log")
    style.seeds(axis, results["generation"].values, values, style.BAND, label=True)
    before = _before(results, name)
    if before is not None:
        measure, value = before
        words = "" if measure == name else f", {PERPLEXITY_WORDS[measure]}"
        label = f"before fine-tuning: {value:.0f}{words}"
        axis.axhline(value, color=style.REAL, lw=1, ls="--", label=label)
    style.plain_ticks(axis.yaxis)
    axis.set_xlabel("generation (0: fitted to real text)", fontsize=8)
    axis.set_ylabel(f"perplexity on the real test text,\n{PERPLEXITY_WORDS[name]}", fontsize=8)
    axis.set_title(title, fontsize=8)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False)
    return fig


def _before(results, name):
    """(measure, value) before fine-tuning, of the measure `name` or the one there is; or None."""
    for measure in sorted(PERPLEXITY_WORDS, key=lambda measure: measure != name):
        values = results.get(f"pretrained_{measure}")
        if values is not None and np.isfinite(values.values).any():
            return measure, float(np.nanmean(values.values))
    return None


def title(config: LMConfig) -> str:
    """The settings that matter most, in a line."""
    config = config.resolved()
    kept = config.workflow
    if kept == "replace":
        kept = f"{_amount(config)} real text kept"
    if config.beta:
        kept += f", {config.beta:.0%} of the previous set"
    if config.control != "none":
        kept += f", control: {config.control}"
    seeds = f"{config.seeds} seed{'s' * (config.seeds > 1)}"
    return f"{kept}, {_fit_words(config)}, {seeds}, start: {config.start}"


def _fit_words(config):
    """How long each fit is at most, and whether it is LoRA."""
    budgets = {"steps": config.max_steps, "tokens": config.max_tokens}
    given = [f"{value:,} {name}" for name, value in budgets.items() if value is not None]
    words = f"{config.epochs} epochs"
    if given:
        words = f"at most {' or '.join([words, *given])}"
    return words + (f", LoRA of rank {config.lora_rank}" if config.lora_rank else "")


def _amount(config):
    """How much real text is kept, in words."""
    if config.real_fraction is not None:
        return f"{config.real_fraction:.0%}"
    if config.real_blocks is not None:
        return f"{config.real_blocks:,} blocks of"
    return f"{config.real_tokens:,} tokens of"
