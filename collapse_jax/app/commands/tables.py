"""Rows and tables of simulated chains: quantiles and means, next to those that theory gives."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from collapse_jax.app.config.simulate import SimulateConfig, SimulateSettings
from collapse_jax.app.laws import expected_means
from collapse_jax.drivers.chunks import Records
from collapse_jax.drivers.summary import summarise_chunks
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import visible

if TYPE_CHECKING:
    import xarray
    from rich.table import Table

# More rows than this in metrics.jsonl help nobody: then only those of the last generation stay.
_MOST_ROWS = 20_000
# Numbers of a metric, and generations, that become rows at once.
_NUMBERS_AT_ONCE, _ROWS_AT_ONCE = 2**20, 2**12
_MOST_POINTS = 24
_COLUMNS = ("median", "5 to 95%", "mean", "exact mean", "z")

# Metric -> statistic (mean, std, quantile) -> [points, recorded, ...].
Statistics = Mapping[str, Mapping[str, np.ndarray]]


def summary_rows(trace: Trace) -> Iterator[dict]:
    """One row per generation: mean, and quantiles over chains, of each scalar metric."""
    scalars = {name: values for name, values in trace.items() if values.ndim == 2}
    chains = len(next(iter(scalars.values()), []))
    recorded = min(max(_NUMBERS_AT_ONCE // max(chains, 1), 1), _ROWS_AT_ONCE)
    for first in range(0, len(trace.generations), recorded):
        part = slice(first, first + recorded)
        arrays = {name: values[:, part] for name, values in scalars.items()}
        generations, statistics = summarise_chunks(
            [Records(trace.generations[part], arrays)], chains
        )
        yield from rows_of(generations, statistics, 0)


def rows_of(generations: np.ndarray, statistics: Statistics, point: int) -> Iterator[dict]:
    """Yields one row per generation of the statistics at a point.

    A row contains NAME_mean, NAME_std, NAME_q05, NAME_median and NAME_q95.
    """
    for position, generation in enumerate(generations):
        row = {"generation": int(generation)}
        for name, of_metric in statistics.items():
            mean, std = (float(of_metric[kind][point, position]) for kind in ("mean", "std"))
            low, _, median, _, high = map(float, of_metric["quantile"][point, position])
            row |= {f"{name}_mean": mean, f"{name}_std": std}
            row |= {f"{name}_q05": low, f"{name}_median": median, f"{name}_q95": high}
        yield row


def grid_rows(
    config: SimulateConfig,
    points: list[SimulateSettings],
    generations: np.ndarray,
    statistics: Statistics,
) -> list[dict]:
    """Returns the rows of all points; for many points, only those of the last generation."""
    if len(points) * len(generations) > _MOST_ROWS:
        generations = generations[-1:]
        statistics = {
            name: {statistic: values[:, -1:] for statistic, values in of_metric.items()}
            for name, of_metric in statistics.items()
        }
    rows = []
    for number, point in enumerate(points):
        place = {name: point.value_of(name) for name in config.axes()}
        rows += [place | row for row in rows_of(generations, statistics, number)]
    return rows


def chains_table(last: Mapping[str, Any], settings: SimulateSettings) -> "Table":
    """Returns a table of the last generation: chains, the exact mean, and their distance (z).

    last: the row of the last generation, from `rows_of`.
    """
    from rich.table import Column, Table

    from collapse_jax.app.plots.chains import title

    generation = last["generation"]
    exact = expected_means(settings, np.array([generation]))
    heading = f"{title(settings)}, generation {generation}"
    named = Column("metric", min_width=max(map(len, settings.metrics), default=0))
    table = Table(named, *_COLUMNS, title=heading, title_justify="left")
    for name in settings.metrics:
        if f"{name}_mean" in last:
            mean, std, low, median, high = (
                last[f"{name}_{kind}"] for kind in ("mean", "std", "q05", "median", "q95")
            )
            few = carried_by_few(name, last.get("log_variance_std"), settings.chains)
            expected = exact.get(name, [np.nan])[0]
            error = std / np.sqrt(settings.chains)
            table.add_row(name, *_cells((low, median, high), mean, expected, error, few))
    return table


def entries_table(results: "xarray.Dataset") -> "Table | None":
    """Returns a table of the last generation's vectors with named entries; None without any.

    results: of chains, labelled.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table("entry", *_COLUMNS[:3])
    for name, values in results.data_vars.items():
        axis = f"{name}_0"
        if values.ndim != 3 or values.dims[-1] != axis or axis not in results.coords:
            continue
        last = values.values[:, -1].astype(float)
        quantiles = np.quantile(last, (0.05, 0.5, 0.95), axis=0)
        for place, label in enumerate(results[axis].values.tolist()[:_MOST_POINTS]):
            cells = _cells(quantiles[:, place], last[:, place].mean(), np.nan, 0.0, False)
            table.add_row(escape(visible(f"{name} {label}")), *cells[:3])
        left_out = len(results[axis]) - _MOST_POINTS
        if left_out > 0:
            table.add_row(f"{name}: {left_out:,} more", "", "", "")
    return table if table.row_count else None


def grid_table(
    config: SimulateConfig,
    points: list[SimulateSettings],
    generations: np.ndarray,
    statistics: Statistics,
) -> "Table":
    """Returns a table of one metric at up to 24 points, evenly spaced."""
    from rich.table import Table

    name = _that_moves([name for name in config.metrics if name in statistics], statistics)
    count = min(len(points), _MOST_POINTS)
    shown = np.unique(np.linspace(0, len(points) - 1, count).round().astype(int))
    heading = (
        f"{name} at generation {generations[-1]}, {config.chains:,} chains per point, "
        f"{streams_in_words(config)} ({len(shown)} of {len(points):,} points)"
    )
    if config.resolved().streams == "common":
        heading += "; the errors of all points, and so all z, are fully correlated"
    heading += "; 5 to 95% is a range of chains, not a confidence interval"
    table = Table(*config.axes(), *_COLUMNS, title=heading, title_justify="left")
    for number in shown:
        point = points[number]
        last = {kind: values[number, -1] for kind, values in statistics[name].items()}
        expected = expected_means(point, np.array([generations[-1]])).get(name, [np.nan])[0]
        error = last["std"] / np.sqrt(config.chains)
        log_std = None
        if "log_variance" in statistics:
            log_std = statistics["log_variance"]["std"][number, -1]
        few = carried_by_few(name, log_std, config.chains)
        low, _, median, _, high = last["quantile"]
        place = (point.value_of(axis) for axis in config.axes())
        place = (value if isinstance(value, str) else f"{value:g}" for value in place)
        table.add_row(*place, *_cells((low, median, high), last["mean"], expected, error, few))
    return table


def _that_moves(names, statistics):
    """The first metric that differs between chains or points."""
    for name in names:
        median = statistics[name]["quantile"][..., 2]
        if np.any(statistics[name]["std"] > 0) or np.any(median != median.flat[0]):
            return name
    return names[0]


def streams_in_words(config: SimulateConfig) -> str:
    """Describes whether the points of a grid share their random numbers."""
    if config.resolved().streams == "common":
        return "the same random numbers at all points"
    return "independent random numbers at each point"


def _cells(quantiles, mean, expected, error, few):
    """The cells below `_COLUMNS`; expected is nan without an exact mean."""
    low, median, high = quantiles
    exact = f"{expected:.5g}" if np.isfinite(expected) else ""
    z = z_of(mean, expected, error, few)
    return f"{median:.5g}", f"{low:.4g} to {high:.4g}", f"{mean:.5g}", exact, z


def carried_by_few(name: str, log_std: float | None, chains: int) -> bool:
    """Whether chains rarer than one in `chains` dominate the mean of a variance.

    In that case no average over these chains is close to the mean. If log(variance) is normal with
    this standard deviation, exp(log_std^2) chains are needed to estimate the mean with a relative
    error of 1.
    """
    return name == "variance" and log_std is not None and log_std**2 > np.log(max(chains, 2)) - 2


def z_of(mean: float, exact: float, error: float, carried_by_few: bool = False) -> str:
    """Returns the distance of the mean over chains from the exact mean, in standard errors.

    It is a signed number as text; "" without an exact mean, and "rare chains" if the number is
    meaningless.
    """
    if not np.isfinite(exact) or error <= 0:
        return ""
    return "rare chains" if carried_by_few else f"{(mean - exact) / error:+.2f}"
