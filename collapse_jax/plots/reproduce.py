"""The small plot of a published result: what was simulated, on what was expected."""

import pathlib

import numpy as np

from collapse_jax.plots import style

COLOURS = (style.BAND, "#e08e2b", "#6a4c93", "#4f8a4b", "#222222", "#9c6644")
_PANELS = 3


def draw(path: pathlib.Path, entry, comparisons) -> pathlib.Path:
    """Writes a PNG of an entry's comparisons: points with their standard errors on the expected values, in red.

    All share one axis where the entry names its y; else each of the first three has a panel of its own.
    """
    panels = [comparisons] if entry.y else [[one] for one in comparisons[:_PANELS]]
    made, axes = style.figure(1, len(panels), width=3.3 if len(panels) == 1 else 2.5, height=2.2)
    for axis, shown in zip(axes[0], panels, strict=True):
        _panel(axis, entry, shown, alone=not entry.y)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial.png")
    made.savefig(partial, dpi=110)
    partial.replace(path)
    return path


def _panel(axis, entry, comparisons, alone):
    names = list(dict.fromkeys(str(at) for one in comparisons for at in one.at if one.at.dtype.kind in "US"))
    for number, one in enumerate(comparisons):
        place = np.array([names.index(at) for at in one.at]) if one.at.dtype.kind in "US" else one.at.astype(float)
        order = np.argsort(place, kind="stable")
        line = "--" if not names and len(place) > 1 else ""
        axis.plot(place[order], one.expected[order], color=style.THEORY, ls=line, lw=1, marker="_", ms=9, mew=1.6, zorder=3)
        colour = COLOURS[number % len(COLOURS)]
        label = one.what if not alone and len(comparisons) > 1 else None
        axis.errorbar(place, one.ours, yerr=np.nan_to_num(one.error), fmt="o", ms=3.5, lw=1, color=colour, label=label, zorder=2)
    if names:
        long = sum(map(len, names)) > 30
        axis.set_xticks(range(len(names)), names, rotation=30 if long else 0, ha="right" if long else "center")
        axis.margins(x=0.15)
    _scales(axis, entry.log, comparisons, bool(names))
    axis.tick_params(labelsize=6.5)
    axis.set_xlabel("" if names and not entry.x else entry.x, fontsize=7)
    axis.set_ylabel(entry.y, fontsize=7)
    if alone:
        axis.set_title(comparisons[0].what, fontsize=7)
    elif 1 < len(comparisons) <= len(COLOURS):
        axis.legend(fontsize=5.5, frameon=False)


def _scales(axis, log, comparisons, named):
    values = np.concatenate([part for one in comparisons for part in (one.ours, one.expected)])
    if "y" in log and np.nanmin(values) > 0:
        axis.set_yscale("log")
    if "x" in log and not named:
        axis.set_xscale("symlog" if min(one.at.min() for one in comparisons) <= 0 else "log")
