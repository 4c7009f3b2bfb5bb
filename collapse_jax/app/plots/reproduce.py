"""The small plot of a published result: what was simulated, on what was expected."""

import io
import pathlib

import numpy as np

from collapse_jax.app.plots import style
from collapse_jax.runs.atomic import atomic

COLOURS = (style.BAND, "#e08e2b", "#6a4c93", "#4f8a4b", "#222222", "#9c6644")
_PANELS, _MANY = 3, 40


def draw(path: pathlib.Path, entry, comparisons) -> pathlib.Path:
    """Writes a PNG of an entry's comparisons: points with their standard errors on the expected
    values, in red.

    Comparisons at the same places share a panel; there are three at the most, and single points are
    left out where there are others.
    What is refuted is drawn in grey.
    """
    panels = panels_of(comparisons)
    made, axes = style.figure(1, len(panels), width=3.2 if len(panels) == 1 else 2.5, height=2.2)
    for number, (axis, shown) in enumerate(zip(axes[0], panels, strict=True)):
        _panel(axis, entry, shown, number == 0)
    _save_small(made, path)
    return path


def panels_of(comparisons) -> list[list]:
    """The comparisons that are drawn, those at the same places together."""
    groups = {}
    for one in comparisons:
        groups.setdefault(tuple(one.at.tolist()), []).append(one)
    several = [group for places, group in groups.items() if len(places) > 1]
    return (several or list(groups.values()))[:_PANELS]


def _panel(axis, entry, comparisons, first):
    named = comparisons[0].at.dtype.kind in "US"
    place = np.arange(len(comparisons[0].at)) if named else comparisons[0].at.astype(float)
    order = np.argsort(place, kind="stable")
    many = len(place) > _MANY
    for number, one in enumerate(comparisons):
        colour = COLOURS[number % len(COLOURS)]
        expected = {"color": style.REAL if one.refuted else style.THEORY, "zorder": 3}
        if named or len(place) == 1:
            axis.plot(place, one.expected, ls="", marker="_", ms=12, mew=1.6, **expected)
        else:
            axis.plot(
                place[order],
                one.expected[order],
                ls="--",
                lw=1,
                marker=None if many else "_",
                ms=8,
                mew=1.4,
                **expected,
            )
        points = {"color": colour, "label": one.what if len(comparisons) > 1 else None, "zorder": 2}
        axis.errorbar(
            place,
            one.ours,
            yerr=np.nan_to_num(one.error),
            fmt="o",
            ms=1.5 if many else 3.5,
            lw=1,
            **points,
        )
    if named:
        long = sum(len(name) for name in comparisons[0].at) > 24
        axis.set_xticks(
            place, comparisons[0].at, rotation=30 if long else 0, ha="right" if long else "center"
        )
        axis.margins(x=0.15)
    _scales(axis, entry.log, comparisons, named)
    axis.tick_params(labelsize=6.5)
    axis.set_xlabel("" if named else entry.x, fontsize=7)
    axis.set_ylabel(entry.y if first else "", fontsize=7)
    if len(comparisons) == 1:
        axis.set_title(comparisons[0].what, fontsize=6.5)
    elif len(comparisons) <= len(COLOURS):
        axis.legend(fontsize=5.5, frameon=False)


def _scales(axis, log, comparisons, named):
    values = np.concatenate([part for one in comparisons for part in (one.ours, one.expected)])
    if "y" in log and np.nanmin(values) > 0:
        axis.set_yscale("log")
        style.plain_ticks(axis.yaxis, 200)
    if "x" in log and not named:
        axis.set_xscale("symlog" if comparisons[0].at.min() <= 0 else "log")
        if comparisons[0].at.min() > 0:
            style.plain_ticks(axis.xaxis, 200)


def _save_small(made, path):
    """A PNG of 32 colours: a hundred of them go into one page."""
    from PIL import Image

    drawn = io.BytesIO()
    made.savefig(drawn, dpi=110, format="png")
    with atomic(path) as temporary:
        small = Image.open(drawn).convert("RGB").quantize(32)
        small.save(temporary, format="PNG", optimize=True)
