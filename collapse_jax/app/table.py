"""Tables of simulated chains for a paper: medians and means, each with its uncertainty."""

from typing import Any, NamedTuple

import numpy as np

from collapse_jax.app.collapse_profile.series import LEVEL, Chains
from collapse_jax.core.html import html_table
from collapse_jax.drivers.recorded import Records, recorded
from collapse_jax.errors import InputError

_HEAD = ("metric", "generation", "chains", "median", "95% interval", "mean", "error", "carried by")


class Row(NamedTuple):
    """One metric at one generation.

    metric, generation: name of the metric, number of the generation.
    chains: number of chains with a finite value there.
    median, low, high: the median over chains and its 95% interval, by order statistics.
    mean, error: the mean over chains and its standard error.
    carried_by: effective number of chains that determine the mean, (sum |x|)^2 / sum x^2. If it is
        much smaller than the number of chains, report the median (docs/mean-and-typical-path.md).
    settings: (name, value) of each axis of a grid at this point; () for one run.
    """

    metric: str
    generation: int
    chains: int
    median: float
    low: float
    high: float
    mean: float
    error: float
    carried_by: float
    settings: tuple[tuple[str, Any], ...] = ()


class Table(tuple):
    """The rows of `table`; they print as text, and as HTML in a notebook."""

    def __str__(self) -> str:
        cells = [self._head(), *map(_cells, self)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in cells
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._head(), map(_cells, self))

    def _head(self):
        axes = (name for name, _ in self[0].settings) if self else ()
        return (*axes, *_HEAD)


def table(records: Records, generation: int | None = None) -> Table:
    """Returns median and mean of each metric over chains, with intervals and standard errors.

    Args:
        records: a trace, a data set with every chain, one run or a grid, a dict of arrays
            [chain, generation], a run folder or its path.
        generation: a recorded one; by default the last.

    Returns:
        A row for each metric that is one number per generation, at each point of a grid; `print`
        shows them.

    Raises:
        InputError: if the generation was not recorded, or the records contain no single chains.
    """
    found = recorded(records)
    if not found.scalars():
        raise InputError(
            f"{found.name} contains no metric of single chains; it already contains means, "
            "standard deviations and quantiles over chains"
            if found.statistics
            else f"{found.name} contains no metric that is one number per generation"
        )
    known = found.generations.tolist()
    if generation is not None and generation not in known:
        raise InputError(
            f"generation is {generation}; recorded are {known[0]} to {known[-1]} ({len(known)})"
        )
    place = -1 if generation is None else known.index(generation)
    return Table(
        _row(name, known[place], values[:, place])._replace(settings=tuple(settings.items()))
        for settings, point in found.points()
        for name, values in point.scalars().items()
    )


def _row(name, generation, values):
    x = np.asarray(values, float)
    x = x[~np.isnan(x)]
    if not len(x):
        return Row(name, generation, 0, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan)
    median = Chains(x[:, None]).median()
    number, low, high = (float(part[0]) for part in (median.number, median.low, median.high))
    with np.errstate(invalid="ignore"):
        mean = float(x.mean())
        error = float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else np.nan
        size = np.abs(x).max()
        relative = np.abs(x) / size if size > 0 else np.ones_like(x)
        carried = float(relative.sum() ** 2 / (relative**2).sum())
    # One chain, or a few, have no interval of so high a level.
    low, high = (low, high) if median.level >= LEVEL else (np.nan, np.nan)
    return Row(name, generation, len(x), number, low, high, mean, error, carried)


def _cells(row):
    interval = "" if np.isnan(row.low) else f"{row.low:.4g} to {row.high:.4g}"
    error = "" if np.isnan(row.error) else f"{row.error:.2g}"
    carried = "" if np.isnan(row.carried_by) else f"{row.carried_by:,.0f}"
    settings = (f"{v:g}" if isinstance(v, float) else str(v) for _, v in row.settings)
    return (
        *settings, row.metric, f"{row.generation:,}", f"{row.chains:,}", f"{row.median:.4g}",
        interval, f"{row.mean:.4g}", error, carried,
    )  # fmt: skip
