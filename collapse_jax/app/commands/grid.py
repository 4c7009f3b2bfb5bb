"""A grid of simulations: one compiled program for all values of sample size and shares, one each
for what changes shapes.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np

from collapse_jax.app.commands.simulate import (
    bar,
    carried_by_few,
    options_of,
    process_of,
    rows_of,
    within_limit,
    z_of,
)
from collapse_jax.app.config import PROGRAM_AXES, SimulateConfig
from collapse_jax.app.laws import expected_means
from collapse_jax.core.process import process_grid
from collapse_jax.core.types import Process
from collapse_jax.drivers.simulate import memory_needed, simulate_chunks
from collapse_jax.drivers.summary import as_dataset, summarise_chunks
from collapse_jax.errors import DamagedError
from collapse_jax.metrics import resolve_metrics
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.stopping import Stop

# Chains of all points in one batch; each batch is saved as it ends.
_BATCH = 2**20
# More rows than this in metrics.jsonl help nobody: then only those of the last generation are
# written.
_MOST_ROWS = 20_000
_SHARES = ("alpha", "beta", "gamma")


class _Program(NamedTuple):
    """Points that one compiled program covers. numbers: [points] of the grid. settings: name ->
    [points].
    """

    process: Process
    numbers: np.ndarray
    settings: dict[str, np.ndarray]


def run_grid(config: SimulateConfig, out, console, devices=None) -> RunFolder:
    """Runs (or resumes) all points, a batch at a time, writes the run folder and prints a table of
    some of them; the folder.
    """
    points = config.points()
    batches = [batch for program in _programs(points) for batch in _batches(program, config)]
    for process, numbers, settings in batches:
        resolve_metrics(process.metrics, config.metrics)
        needed = memory_needed(
            process,
            jax.random.key(0),
            config.generations,
            config.chains,
            config.metrics,
            config.chunk,
            settings,
        )
        within_limit(config, needed, f"{len(numbers):,} points of {config.chains:,} chains")
    folder = RunFolder.open(out, config)
    checkpoints = Checkpoints(
        folder.checkpoints / "grid", say=lambda line: console.print(line, highlight=False)
    )
    done = _whole(checkpoints)
    console.print(
        f"{len(points):,} points of {config.chains:,} chains, {len(batches)} batches, "
        f"{len(done)} of them done",
        highlight=False,
    )
    with bar(console) as progress, Stop(lambda line: console.print(line, highlight=False)) as stop:
        task = progress.add_task("batches", total=len(batches), completed=len(done))
        for number, (process, _, settings) in enumerate(batches):
            if number not in done:
                chunks = simulate_chunks(
                    process,
                    jax.random.key(config.seed),
                    **options_of(config),
                    settings=settings,
                    devices=devices,
                )
                generations, statistics = summarise_chunks(chunks, config.chains)
                arrays = {
                    f"{statistic}:{name}": values
                    for name, one in statistics.items()
                    for statistic, values in one.items()
                }
                checkpoints.save(
                    number,
                    {"points": np.array(len(settings))},
                    {"generations": generations.tolist()},
                    arrays,
                )
            progress.update(task, completed=number + 1)
            stop.here()
    generations, statistics = _gathered(
        checkpoints, [batch.numbers for batch in batches], len(points)
    )
    checkpoints.close()
    folder.write_results(as_dataset(generations, statistics, config.axes()))
    folder.write_rows(_rows(config, points, generations, statistics))
    console.print(_table(config, points, generations, statistics))
    return folder


def _whole(checkpoints):
    """The numbers of the saved batches that can be read; damaged ones are set aside."""
    whole = set()
    for number in checkpoints.generations():
        try:
            checkpoints.restore_record(number)
            whole.add(number)
        except DamagedError as error:
            checkpoints.set_aside(number, error)
    return whole


def _programs(points):
    """The points by what changes the program, which a share of 0 does too: without it nothing is
    taken from there.
    """
    groups = {}
    for number, point in enumerate(points):
        zeros = tuple(getattr(point, name) == 0 for name in _SHARES)
        groups.setdefault((tuple(getattr(point, name) for name in PROGRAM_AXES), zeros), []).append(
            number
        )
    for numbers in groups.values():
        here = [points[number] for number in numbers]
        settings = {"sample_size": np.array([point.sample_size for point in here], np.int32)}
        if here[0].workflow == "mix":
            shares = {
                name: np.array([getattr(point, name) for point in here], np.float32)
                for name in _SHARES
            }
            settings |= {name: values for name, values in shares.items() if values.any()}
        zeros = {
            name: 0.0 for name in _SHARES if here[0].workflow == "mix" and name not in settings
        }
        largest = dataclasses.replace(here[0], sample_size=int(settings["sample_size"].max()))
        at = functools.partial(_process_at, largest, zeros)
        yield _Program(
            process_grid(at, {"sample_size": largest.sample_size}), np.array(numbers), settings
        )


def _process_at(config, known, traced):
    return process_of(config, known | dict(traced))


def _batches(program, config):
    """The same program on parts of its points, of no more than a batch of chains each."""
    size = max(_BATCH // config.chains, 1)
    for first in range(0, len(program.numbers), size):
        part = slice(first, first + size)
        yield _Program(
            program.process,
            program.numbers[part],
            {name: values[part] for name, values in program.settings.items()},
        )


def _gathered(checkpoints, batches, count):
    """(generations, metric -> statistic -> [points, recorded, ...]) of all saved batches, in the
    order of the points.
    """
    statistics = {}
    for number, places in enumerate(batches):
        record, arrays = checkpoints.restore_record(number)
        for name, values in arrays.items():
            statistic, _, metric = name.partition(":")
            whole = statistics.setdefault(metric, {}).setdefault(
                statistic, np.empty((count, *values.shape[1:]))
            )
            whole[places] = values
    return np.array(record["generations"]), statistics


def _rows(config, points, generations, statistics):
    last_only = len(points) * len(generations) > _MOST_ROWS
    rows = []
    for number, point in enumerate(points):
        where = {name: getattr(point, name) for name in config.axes()}
        rows += [
            where | row
            for row in rows_of(generations, statistics, number)[-1 if last_only else 0 :]
        ]
    return rows


def _table(config, points, generations, statistics):
    """A rich table of the last generation at up to 24 points, evenly spread: medians, means, and
    what theory expects of those.
    """
    from rich.table import Table

    name = next(name for name in config.metrics if name in statistics)
    shown = np.unique(np.linspace(0, len(points) - 1, min(len(points), 24)).round().astype(int))
    title = (
        f"{name} at generation {generations[-1]}, {config.chains:,} chains a point "
        f"({len(shown)} of {len(points):,} points)"
    )
    table = Table(
        *config.axes(),
        "median",
        "5 to 95%",
        "mean",
        "exact mean",
        "z",
        title=title,
        title_justify="left",
    )
    for number in shown:
        point, one = (
            points[number],
            {key: values[number, -1] for key, values in statistics[name].items()},
        )
        exact = expected_means(point, np.array([generations[-1]])).get(name, [np.nan])[0]
        error = one["std"] / np.sqrt(config.chains)
        few = "log_variance" in statistics and carried_by_few(
            name, statistics["log_variance"]["std"][number, -1], config.chains
        )
        z = z_of(one["mean"], exact, error, few)
        low, _, median, _, high = one["quantile"]
        where = [
            f"{getattr(point, axis):g}"
            if not isinstance(getattr(point, axis), str)
            else getattr(point, axis)
            for axis in config.axes()
        ]
        exact = f"{exact:.5g}" if np.isfinite(exact) else ""
        table.add_row(
            *where, f"{median:.5g}", f"{low:.4g} to {high:.4g}", f"{one['mean']:.5g}", exact, z
        )
    return table
