"""The small plot of a published result: simulated values and expected values."""

import io
import pathlib
from collections.abc import Sequence

import numpy as np

from collapse_jax.app.plots import style
from collapse_jax.app.reproduce.compare import Comparison
from collapse_jax.app.reproduce.entries import Entry
from collapse_jax.runs.atomic import atomic

COLOURS = (style.BAND, "#e08e2b", "#6a4c93", "#4f8a4b", "#222222", "#9c6644")
# More points than this are drawn small; longer names, in all, are turned.
_MOST_PANELS, _MANY_POINTS, _LONG_NAMES = 3, 40, 24


def draw(path: pathlib.Path, entry: Entry, comparisons: Sequence[Comparison]) -> pathlib.Path:
    """Writes a PNG of an entry's comparisons; returns its path.

    Points have standard errors; expected values are red, or grey if they are refuted. Comparisons
    at the same places share a panel. There are at most three panels, and single points are left out
    if there are others.
    """
    panels = panels_of(comparisons)
    fig, axes = style.figure(1, len(panels), width=3.2 if len(panels) == 1 else 2.5, height=2.2)
    for axis, shown in zip(axes[0], panels, strict=True):
        _panel(axis, entry, shown)
    axes[0, 0].set_ylabel(entry.y, fontsize=7)
    _save_small(fig, path)
    return path


def panels_of(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """Returns the comparisons to draw, grouped by place."""
    groups = {}
    for comparison in comparisons:
        groups.setdefault(tuple(comparison.at.tolist()), []).append(comparison)
    several = [group for places, group in groups.items() if len(places) > 1]
    return (several or list(groups.values()))[:_MOST_PANELS]


def _panel(axis, entry, comparisons):
    at = comparisons[0].at
    named = at.dtype.kind in "US"
    place = np.arange(len(at)) if named else at.astype(float)
    for number, comparison in enumerate(comparisons):
        _draw_expected(axis, place, comparison, apart=named or len(place) == 1)
        axis.errorbar(
            place,
            comparison.ours,
            yerr=np.nan_to_num(comparison.error),
            fmt="o",
            ms=1.5 if len(place) > _MANY_POINTS else 3.5,
            lw=1,
            color=COLOURS[number % len(COLOURS)],
            label=comparison.what if len(comparisons) > 1 else None,
            zorder=2,
        )
    if named:
        turned = {"rotation": 30, "ha": "right"} if sum(map(len, at)) > _LONG_NAMES else {}
        axis.set_xticks(place, list(map(style.tick_name, at)), **turned)
        axis.margins(x=0.15)
    _scales(axis, entry.log, comparisons, named)
    axis.tick_params(labelsize=6.5)
    axis.set_xlabel("" if named else entry.x, fontsize=7)
    if len(comparisons) == 1:
        axis.set_title(comparisons[0].what, fontsize=6.5)
    elif len(comparisons) <= len(COLOURS):
        axis.legend(fontsize=5.5, frameon=False)


def _draw_expected(axis, place, comparison, apart):
    """Draws expected values: as single bars if `apart`, else as a dashed line."""
    look = {"color": style.REAL if comparison.refuted else style.THEORY, "zorder": 3}
    if apart:
        axis.plot(place, comparison.expected, ls="", marker="_", ms=12, mew=1.6, **look)
        return
    order = np.argsort(place, kind="stable")
    look |= {"marker": None if len(place) > _MANY_POINTS else "_", "ms": 8, "mew": 1.4}
    axis.plot(place[order], comparison.expected[order], ls="--", lw=1, **look)


def _scales(axis, log, comparisons, named):
    values = np.concatenate([part for one in comparisons for part in (one.ours, one.expected)])
    if "y" in log and np.nanmin(values) > 0:
        axis.set_yscale("log")
        style.plain_ticks(axis.yaxis, 200)
    if "x" in log and not named:
        axis.set_xscale("symlog" if comparisons[0].at.min() <= 0 else "log")
        if comparisons[0].at.min() > 0:
            style.plain_ticks(axis.xaxis, 200)


def _save_small(fig, path):
    """Saves a PNG with 32 colours, since one page contains a hundred of them."""
    from PIL import Image

    style.literal(fig)
    drawn = io.BytesIO()
    fig.savefig(drawn, dpi=110, format="png")
    with atomic(path) as temporary:
        small = Image.open(drawn).convert("RGB").quantize(32)
        small.save(temporary, format="PNG", optimize=True)
