"""Draws curves and phase diagrams of any records on an `Axes` of the caller."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from collapse_jax.app.collapse_profile.series import LEVEL, Chains
from collapse_jax.app.plots import style
from collapse_jax.app.plots.grid import draw_cells, dress_axes, positions
from collapse_jax.drivers.recorded import Records, recorded
from collapse_jax.errors import InputError, one_of

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

_KINDS = ("median", "mean")


def trajectories(
    records: "Records | Mapping[str, Records]",
    metric: str,
    ax: "Axes | None" = None,
    *,
    centre: str = "median",
    band: tuple[float, float] | None = (0.05, 0.95),
    theory: Any = None,
) -> "Axes":
    """Draws a metric by generation: the median over chains with a quantile band, or the mean.

    Args:
        records: a trace, a summary, a data set, a run folder or its path; or name -> any of these,
            for several in one figure.
        metric: a metric with one number per generation that all records contain.
        ax: where to draw; by default the current axes of pyplot.
        centre: "median", with its 95% interval by order statistics if the records contain all
            chains; or "mean", with its 95% interval by Student's t. A few chains may dominate the
            mean (docs/mean-and-typical-path.md); the label then says so.
        band: two quantiles over chains, which bound the band; None for no band.
        theory: exact values [generation] to draw on top, or name -> such values.

    Returns:
        The axes.

    Raises:
        InputError: for a metric that the records lack; the message lists those that they have.
    """
    one_of("centre", centre, _KINDS)
    if band is not None and not 0 <= band[0] < band[1] <= 1:
        raise InputError(f"band is {band}; it must be two quantiles, the lower one first")
    named = _by_name(records)
    axis, colours = current_axes(ax), style.generation_colours(len(named))
    colours = [style.BAND] if len(named) == 1 else colours
    for (label, run), colour in zip(named.items(), colours, strict=True):
        _draw(axis, recorded(run), metric, str(label), colour, centre, band)
    exact = theory if isinstance(theory, Mapping) else {"exact": theory}
    for label, values in exact.items():
        if values is not None:
            found = recorded(next(iter(named.values())))
            line = {"color": style.THEORY, "lw": 1.2, "ls": "--", "label": label}
            axis.plot(found.generations, _by_generation(values, found), **line)
    axis.set_xlabel("generation (0: fitted to real data)")
    axis.set_ylabel(metric)
    axis.legend(fontsize="small", frameon=False)
    return axis


def phase(
    data: "xarray.Dataset",
    metric: str,
    ax: "Axes | None" = None,
    *,
    x: str | None = None,
    y: str | None = None,
    generation: int | None = None,
    statistic: str = "median",
) -> "Axes":
    """Draws a phase diagram: the median or mean of a metric over two settings of a grid.

    Args:
        data: the result of `cj.simulate_grid`, or the results.nc of a grid.
        metric: a metric with one number per generation.
        ax: where to draw; by default the current axes of pyplot.
        x: the setting along the horizontal axis; by default the last one.
        y: the setting along the vertical axis; by default the one before it.
        generation: a recorded generation; by default the last.
        statistic: "median" or "mean".

    Returns:
        The axes; its colour bar belongs to its figure.

    Raises:
        InputError: if the data do not have exactly two settings, or lack the metric or generation.
    """
    one_of("statistic", statistic, _KINDS)
    found = recorded(data)
    values = _values(found, metric, statistic)
    names = list(found.axes)
    if len(names) != 2:
        raise InputError(
            f"data vary by {', '.join(names) or 'no setting'}; a phase diagram needs exactly two "
            "settings: select values of the others, for example by data.isel(NAME=0)"
        )
    x = x if x is not None else next(name for name in reversed(names) if name != y)
    y = y if y is not None else next(name for name in names if name != x)
    one_of("x", x, tuple(names))
    one_of("y", y, tuple(name for name in names if name != x))
    known = found.generations.tolist()
    if generation is not None and generation not in known:
        raise InputError(
            f"generation is {generation}; recorded are {known[0]} to {known[-1]} ({len(known)})"
        )
    place = -1 if generation is None else known.index(generation)
    cells = style.finite(values[..., place])
    axis = current_axes(ax)
    columns, rows = (x, found.axes[x]), (y, found.axes[y])
    cells = cells if names == [y, x] else cells.T
    image = draw_cells(axis, positions(columns[1]), positions(rows[1]), cells)
    dress_axes(axis, columns, rows)
    axis.set_title(f"generation {known[place]}", fontsize="medium")
    axis.figure.colorbar(image, ax=axis).set_label(f"{statistic} {metric}")
    return axis


def _by_name(records: Any) -> dict[str, Any]:
    """Several records by name; a single one, which may be a dict of arrays, under ""."""
    if type(records) is dict and records:
        if not any(isinstance(one, np.ndarray) for one in records.values()):
            return records
    return {"": records}


def current_axes(ax: "Axes | None") -> "Axes":
    """Returns the axes given, or the current axes of pyplot."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.gca()


def _by_generation(values, found):
    values = np.asarray(values, float)
    if values.shape != found.generations.shape:
        raise InputError(
            f"theory has shape {list(values.shape)}; it must have a value for each recorded "
            f"generation, {list(found.generations.shape)}"
        )
    return values


def _draw(axis, found, metric, label, colour, centre, band):
    """Draws the curve of one run, with its bands."""
    if found.axes:
        raise InputError(
            f"{found.name} is a grid over {', '.join(found.axes)}; select one point, for example "
            "by data.isel(NAME=0), or use `phase`"
        )
    generation, name = found.generations, label or centre
    values = found.scalars().get(metric)
    if values is None:
        line = _values(found, metric, centre)
        if band is not None:
            ends = [_values(found, metric, level) for level in band]
            axis.fill_between(generation, *map(style.finite, ends), color=colour, alpha=0.15, lw=0)
        axis.plot(generation, style.finite(line), color=colour, lw=1.6, label=name)
        return
    if band is not None and len(values) > 1:
        ends = np.quantile(values, band, axis=0, method="nearest")
        words = f"{band[0]:.0%} to {band[1]:.0%} of {len(values):,} chains"
        axis.fill_between(
            generation, *map(style.finite, ends),
            **{"color": colour, "alpha": 0.15, "lw": 0, "label": None if label else words},
        )  # fmt: skip
    found_centre = getattr(Chains(np.asarray(values, float)), centre)()
    if len(values) > 1:
        words = f"{LEVEL:.0%} interval of the {centre}"
        axis.fill_between(
            generation, style.finite(found_centre.low), style.finite(found_centre.high),
            **{"color": colour, "alpha": 0.35, "lw": 0, "label": None if label else words},
        )  # fmt: skip
    if centre == "mean" and found_centre.few.any():
        name += f" (a few chains dominate it from generation {generation[found_centre.few][0]} on)"
    axis.plot(generation, style.finite(found_centre.number), color=colour, lw=1.6, label=name)


def _values(found, metric, which):
    """A statistic over chains [*axes, generation]: "median", "mean", or a level of the quantiles.

    Raises:
        InputError: if the records lack it.
    """
    chains = found.scalars().get(metric)
    if chains is not None:
        axis = len(found.axes)
        if which == "mean":
            return chains.mean(axis)
        level = 0.5 if which == "median" else which
        return np.quantile(chains, level, axis=axis, method="linear" if level == 0.5 else "nearest")
    if metric not in found.statistics:
        names = sorted({*found.scalars(), *found.statistics})
        raise InputError(f"metric is {metric!r}; {found.name} contains {', '.join(names)}")
    statistics = found.statistics[metric]
    if which == "mean":
        return statistics.mean
    level = 0.5 if which == "median" else which
    at = [place for place, known in enumerate(found.levels) if abs(known - level) < 1e-9]
    if not at:
        levels = ", ".join(f"{known:g}" for known in found.levels)
        raise InputError(f"band has {level:g}; {found.name} contains the quantiles {levels}")
    return statistics.quantile[..., at[0]]
