"""Figures of the language-model loop, as in Shumailov et al. 2024, Fig. 1b and 1c."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.app.config.lm import (
    PERPLEXITY_WORDS,
    LMConfig,
    context_words,
    perplexities_shown,
    window_words,
)
from collapse_jax.app.config.lm.kept import kept_blocks
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
    results, window = recorded(folder, ("test_perplexity",)), config.window()
    figures = {
        "perplexity": perplexity_figure(
            results,
            title(config),
            config.protocol,
            context_words(config.block_length),
            window_words(window) if window else "",
        ),
        "histogram": histogram_figure(results, "train_perplexity_first", title(config)),
        "histogram_own": histogram_figure(results, "train_perplexity_own", title(config)),
        "histogram_3d": histogram_3d_figure(results, "train_perplexity_first", title(config)),
        "tails": tails_figure(results, title(config)),
        "variety": variety_figure(results, title(config)),
    }
    return [style.save(fig, folder, name) for name, fig in figures.items() if fig is not None]


def perplexity_figure(
    results: "xarray.Dataset",
    title: str,
    protocol: str = "paper",
    context: str = "",
    window: str = "",
) -> "Figure":
    """Draws the real test text's perplexity under each generation and the pretrained model.

    Panels below show the share of the fine-tuning gain lost and the entropy of the predictions, if
    they were recorded.

    Args:
        results: The results of a run; older ones lack the mean over blocks.
        title: Title of the figure.
        protocol: Protocol of the run, which determines how blocks are averaged.
        context: Words on the context of each token of a block.
        window: The same for the strided perplexity.
    """
    below = [panel for panel in (_gain_panel, _entropy_panel) if panel(None, results)]
    ratios = [3.4] + [1.5] * len(below)
    fig, axes = style.figure(
        len(ratios), height=sum(ratios) / len(ratios), height_ratios=ratios, sharex=True
    )
    axis = axes[0, 0]
    name = perplexities_shown(protocol, results)[0]
    values = results[name].values
    axis.set_yscale("log")
    label: bool | str = True
    if _has_numbers(results, "test_perplexity_strided"):
        label = "block by block"
    style.seeds(axis, results["generation"].values, values, style.BAND, label=label)
    _strided(axis, results, window)
    before = _before(results, name)
    if before is not None:
        measure, value = before
        words = "" if measure == name else f", {PERPLEXITY_WORDS[measure]}"
        label = f"before fine-tuning: {value:.0f}{words}"
        axis.axhline(value, color=style.REAL, lw=1, ls="--", label=label)
    style.plain_ticks(axis.yaxis)
    words = f"{PERPLEXITY_WORDS[name]}{',' if context else ''}\n{context}".strip()
    axis.set_ylabel(f"perplexity on the real test text,\n{words}", fontsize=8)
    axis.set_title(title, fontsize=8)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False)
    for panel, place in zip(below, axes[1:, 0], strict=True):
        panel(place, results)
    axes[-1, 0].set_xlabel("generation (0: fitted to real text)", fontsize=8)
    return fig


def _strided(axis, results, window):
    """Draws the strided perplexity if it was recorded, with its context in the legend."""
    if not _has_numbers(results, "test_perplexity_strided"):
        return
    label = f"strided, exp of the mean loss,\n{window}"
    values = results["test_perplexity_strided"].values
    style.seeds(axis, results["generation"].values, values, style.THEORY, label=label)


def _gain_panel(axis, results):
    """Draws the share of the gain lost, if it was recorded; returns whether it was.

    axis: With None nothing is drawn.
    """
    if not _has_numbers(results, "gain_lost"):
        return False
    if axis is not None:
        values = results["gain_lost"].transpose("chain", "generation").values
        style.seeds(axis, results["generation"].values, 100 * values, style.BAND)
        for share in (0, 100):
            axis.axhline(share, color=style.REAL, lw=0.8, ls="--" if share else ":")
        axis.set_ylabel("share of the fine-tuning\ngain lost (nats), %", fontsize=8)
    return True


def _entropy_panel(axis, results):
    """Draws the entropy of the predictions, on the test text and on the training set."""
    shown = {
        "test_entropy": ("on the real test text", style.BAND),
        "train_entropy_own": ("on its training set", style.THEORY),
        "example_entropy": ("on its own text", style.INK),
    }
    shown = {name: how for name, how in shown.items() if _has_numbers(results, name)}
    if axis is not None and shown:
        for name, (label, colour) in shown.items():
            values = results[name].transpose("chain", "generation").values
            style.seeds(axis, results["generation"].values, values, colour, label=label)
        axis.set_ylim(bottom=0)
        axis.set_ylabel("entropy of the model's\npredictions, nats", fontsize=8)
        above = {"loc": "lower left", "bbox_to_anchor": (0, 0.98), "ncols": len(shown)}
        axis.legend(fontsize=6.5, frameon=False, borderpad=0, columnspacing=1, **above)
    return bool(shown)


def _has_numbers(results, name):
    return name in results and np.isfinite(results[name].values).any()


def _before(results, name):
    """(measure, value) before fine-tuning, for `name` or the only recorded measure; or None."""
    for measure in sorted(PERPLEXITY_WORDS, key=lambda measure: measure != name):
        values = results.get(f"pretrained_{measure}")
        if values is not None and np.isfinite(values.values).any():
            return measure, float(np.nanmean(values.values))
    return None


def title(config: LMConfig) -> str:
    """Returns the most important settings as a title."""
    config = config.resolved()
    kept = config.workflow
    if kept == "replace":
        kept = f"{_amount(config)} real text kept"
    elif config.real_share:
        kept += f" ({100 * config.real_share:.3g}% of each batch real)"
    if config.beta:
        kept += f", {100 * config.beta:.3g}% of the previous set"
    if config.control != "none":
        kept += f", control: {config.control}"
    seeds = f"{config.seeds} seed{'s' * (config.seeds > 1)}"
    blocks = f"blocks of {config.block_length} tokens"
    return f"{kept}, {_fit_words(config)}, {seeds}, start: {config.start}\n{blocks}"


def _fit_words(config):
    """The largest length of each fit, and whether it uses LoRA."""
    budgets = {"steps": config.max_steps, "tokens": config.max_tokens}
    given = [f"{value:,} {name}" for name, value in budgets.items() if value is not None]
    words = f"{config.epochs} epochs"
    if given:
        words = f"at most {' or '.join([words, *given])}"
    return words + (f", LoRA of rank {config.lora_rank}" if config.lora_rank else "")


def _amount(config):
    """The amount of real text kept, in words; rounded to blocks if their number is known."""
    if config.real_fraction is not None:
        share = config.real_fraction
        if config.train_blocks:
            share = kept_blocks(config, config.train_blocks) / config.train_blocks
        return f"{100 * share:.3g}%"
    if config.real_blocks is not None:
        return f"{config.real_blocks:,} blocks of"
    return f"{config.real_tokens:,} tokens of"
