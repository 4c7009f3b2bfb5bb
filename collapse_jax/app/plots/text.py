"""Figures of what the training sets of each generation are like: their variety, and how much of the
real text's tails they hold.
"""

import numpy as np

from collapse_jax.app.plots import style

_DISTINCT = {f"distinct_{n}": f"n = {n}" for n in (1, 2, 3, 4)}
_VARIETY = (
    ("different n-grams / n-grams", _DISTINCT),
    ("4-grams seen before in their sequence", {"repeated_4_grams": None}),
    ("tokens among the 16 before them", {"repeated_within_16": None}),
    ("different tokens / tokens of a sequence", {"type_token_ratio": None}),
    ("vocabulary in use", {"vocabulary_in_use": None}),
    ("self-BLEU", {"self_bleu": None}),
)
_TAILS = (
    ("below the 10% quantile", {"share_below_real_10": None}, 0.1),
    ("above the 90% quantile", {"share_above_real_90": None}, 0.1),
    ("above the 99% quantile", {"share_above_real_99": None}, 0.01),
)


def variety_figure(results, title: str):
    """A small panel a measure of the training sets, by generation; None where the results hold none
    of them.
    """
    panels = [(name, kept) for name, columns in _VARIETY if (kept := _present(results, columns))]
    if not panels:
        return None
    made, axes = style.figure(*_grid(len(panels)), width=2.7, height=2.2)
    for axis, (name, columns) in zip(axes.flat, panels, strict=False):
        if len(columns) > 1:  # distinct-n: from thousandths to nearly 1
            axis.set_yscale("log")
        _panel(axis, results, columns)
        axis.set_title(name, fontsize=8)
        if len(columns) > 1:
            style.plain_ticks(axis.yaxis, long=100)
            axis.legend(
                fontsize=6.5,
                frameon=False,
                loc="center left",
                bbox_to_anchor=(1, 0.5),
                handlelength=1,
                borderpad=0,
                reverse=True,
            )
    _finish(made, axes, len(panels), title)
    return made


def tails_figure(results, title: str):
    """Shares of the training sets that lie beyond quantiles of the real one's perplexity; None
    where the results hold none of them.
    """
    panels = [
        (name, kept, real) for name, columns, real in _TAILS if (kept := _present(results, columns))
    ]
    if not panels:
        return None
    made, axes = style.figure(1, len(panels), width=2.7, height=2.4)
    for axis, (name, columns, real) in zip(axes.flat, panels, strict=True):
        _panel(axis, results, columns)
        axis.axhline(real, color=style.REAL, lw=1, ls="--")
        axis.set_title(name, fontsize=8)
    axes[0, 0].set_ylabel("share of sequences", fontsize=8)
    _finish(
        made,
        axes,
        len(panels),
        "Perplexity under generation 0, against quantiles of the real text (dashed: its "
        f"own share)\n{title}",
    )
    return made


def _present(results, columns):
    return {
        name: label
        for name, label in columns.items()
        if name in results and np.isfinite(results[name].values).any()
    }


def _grid(count):
    rows = 1 if count <= 3 else 2
    return rows, -(-count // rows)


def _panel(axis, results, columns):
    colours = style.generation_colours(len(columns)) if len(columns) > 1 else [style.BAND]
    for (name, label), colour in zip(columns.items(), colours, strict=True):
        style.seeds(axis, results["generation"].values, results[name].values, colour, label=label)
    axis.xaxis.get_major_locator().set_params(nbins=5, integer=True)
    if axis.get_yscale() == "linear":
        axis.set_ylim(0, 1.03 * axis.get_ylim()[1])


def _finish(made, axes, used, title):
    for axis in axes.flat[used:]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("generation", fontsize=8)
    made.suptitle(title, fontsize=8)
