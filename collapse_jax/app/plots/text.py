"""Figures of the training sets of each generation: their variety, and the real text's tails."""

from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.app.plots import style

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

# Title of a panel -> its columns, each with its label.
_VARIETY = {
    "different n-grams / n-grams": {f"distinct_{n}": f"n = {n}" for n in (1, 2, 3, 4)},
    "4-grams seen before in their sequence": {"repeated_4_grams": None},
    "tokens among the 16 before them": {"repeated_within_16": None},
    "different tokens / tokens of a sequence": {"type_token_ratio": None},
    "vocabulary in use": {"vocabulary_in_use": None},
    "self-BLEU": {"self_bleu": None},
    "different sequences": {"different_sequences": None},
    "8-grams of the real text": {"real_8_grams": None},
    "Zipf exponent": {"zipf_exponent": None},
    "divergence from the real unigrams, nats": {"unigram_kl": "KL", "unigram_js": "JS"},
    "Yule's K": {"yules_k": None},
    "MTLD, tokens": {"mtld": None},
    "embedding diversity": {"embedding_diversity": None},
    "MAUVE": {"mauve": None},
}
_TAILS = {
    "below the 10% quantile": {"share_below_real_10": None},
    "above the 90% quantile": {"share_above_real_90": None},
    "above the 99% quantile": {"share_above_real_99": None},
}
# The real text's own share in each tail.
_REAL_SHARES = dict(zip(_TAILS, (0.1, 0.1, 0.01), strict=True))


def variety_figure(results: "xarray.Dataset", title: str) -> "Figure | None":
    """A small panel per measure of the training sets; None if the results hold none of them."""
    panels = _present(results, _VARIETY)
    if not panels:
        return None
    rows = 1 if len(panels) <= 3 else -(-len(panels) // 5) if len(panels) > 8 else 2
    fig, axes = style.figure(rows, -(-len(panels) // rows), width=2.7, height=2.2)
    for axis, (name, columns) in zip(axes.flat, panels.items(), strict=False):
        several = len(columns) > 1
        by_length = "distinct_1" in columns  # from thousandths to nearly 1
        if by_length:
            axis.set_yscale("log")
        _panel(axis, results, columns)
        axis.set_title(name, fontsize=8)
        if by_length:
            style.plain_ticks(axis.yaxis, long=100)
        if several:
            axis.legend(
                fontsize=6.5,
                frameon=False,
                loc="center left",
                bbox_to_anchor=(1, 0.5),
                handlelength=1,
                borderpad=0,
                reverse=True,
            )
    _finish(fig, axes, len(panels), title + _said_of_newest(results, panels))
    return fig


def tails_figure(results: "xarray.Dataset", title: str) -> "Figure | None":
    """Shares of the training sets beyond quantiles of the real one's perplexity.

    None if the results hold none of them.
    """
    panels = _present(results, _TAILS)
    if not panels:
        return None
    fig, axes = style.figure(1, len(panels), width=2.7, height=2.4)
    for axis, (name, columns) in zip(axes.flat, panels.items(), strict=True):
        _panel(axis, results, columns)
        axis.axhline(_REAL_SHARES[name], color=style.REAL, lw=1, ls="--")
        axis.set_title(name, fontsize=8)
    axes[0, 0].set_ylabel("share of sequences", fontsize=8)
    said = (
        "Perplexity under generation 0, against quantiles of the real text (dashed: its own share)"
    )
    _finish(fig, axes, len(panels), f"{said}\n{title}{_said_of_newest(results, panels)}")
    return fig


def _present(results, panels):
    """The panels of which the results hold a number, with the columns that do."""

    def has_numbers(name):
        return name in results and np.isfinite(results[name].values).any()

    kept = {
        title: {name: label for name, label in columns.items() if has_numbers(name)}
        for title, columns in panels.items()
    }
    return {title: columns for title, columns in kept.items() if columns}


def _said_of_newest(results, panels):
    """What dotted lines are, where there are any."""
    shown = any(f"newest_{name}" in results for columns in panels.values() for name in columns)
    return "\nsolid: the whole training set; dotted: what the newest model wrote" if shown else ""


def _panel(axis, results, columns):
    colours = style.generation_colours(len(columns)) if len(columns) > 1 else [style.BAND]
    for (name, label), colour in zip(columns.items(), colours, strict=True):
        style.seeds(axis, results["generation"].values, results[name].values, colour, label=label)
        newest = results.get(f"newest_{name}")
        if newest is not None and np.isfinite(newest.values).any():
            values = newest.transpose("chain", "generation").values
            reached = np.isfinite(values).any(0)
            axis.plot(
                results["generation"].values[reached],
                np.nanmean(values[:, reached], axis=0),
                color=colour,
                lw=1.0,
                ls=":",
            )
    axis.xaxis.get_major_locator().set_params(nbins=5, integer=True)
    if axis.get_yscale() == "linear":
        axis.set_ylim(0, 1.03 * axis.get_ylim()[1])


def _finish(fig, axes, used, title):
    for axis in axes.flat[used:]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("generation", fontsize=8)
    fig.suptitle(title, fontsize=8)
