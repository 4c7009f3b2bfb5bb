"""A grid of simulations, in batches of points.

Sample sizes and shares are traced, so that one compiled program serves all their values; what
changes shapes has a program for each value.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.app.commands.inputs import of_simulation
from collapse_jax.app.commands.resumable import save_as_finished
from collapse_jax.app.commands.simulation import (
    check_memory,
    plan_of,
    process_of,
    statistics_bytes,
)
from collapse_jax.app.commands.tables import grid_rows, grid_table
from collapse_jax.app.config.simulate import (
    ACCUMULATING,
    NEUTRAL,
    PROGRAM_AXES,
    SimulateConfig,
    SimulateSettings,
)
from collapse_jax.core.process import process_grid
from collapse_jax.core.types import Process
from collapse_jax.drivers.plan import memory_needed, recorded_generations
from collapse_jax.drivers.simulate import simulate_chunks
from collapse_jax.drivers.summary import as_dataset, summarise_chunks
from collapse_jax.errors import DamagedError
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

# Chains of all points in one batch; each batch is saved as it ends.
_BATCH = 2**20
_SHARES = ("alpha", "beta", "gamma")
# What is traced by workflow, beside sample sizes and temperatures.
_TRACED = {"mix": _SHARES} | dict.fromkeys(ACCUMULATING, ("real_share",))


class Batch(NamedTuple):
    """Points that one compiled program covers.

    process: from `process_grid`.
    numbers: [points] their places in the grid.
    settings: name -> [points] what is traced.
    names: [points] what names each of them, for its random numbers.
    """

    process: Process
    numbers: np.ndarray
    settings: dict[str, np.ndarray]
    names: list[str]


def run_grid(
    config: SimulateConfig, out: RunFolder, console: "Console", devices: Sequence | None = None
) -> RunFolder:
    """Runs (or resumes) all points, writes the run folder and prints a table; the folder."""
    say = functools.partial(console.print, highlight=False)
    points, plan = config.points(), plan_of(config, devices)
    traced = traceable_options(config)
    batches = [
        batch for program in programs(points, traced) for batch in _batches(program, config.chains)
    ]
    recorded = len(recorded_generations(config.generations, config.recorded()))
    for batch in batches:
        at_points, key = _plan_at(batch, plan), jax.random.key(0)
        needed = memory_needed(batch.process, key, at_points, min(config.chunk, recorded))
        needed += len(points) * statistics_bytes(batch.process, key, at_points, recorded)
        what = f"{len(batch.numbers):,} of {len(points):,} points of {config.chains:,} chains"
        check_memory(config, needed, what)
    folder = RunFolder.open(out.path, config, inputs=of_simulation(config), say=say)
    checkpoints = Checkpoints(folder.checkpoints / "grid", say=say)
    done = _finished(checkpoints, config.generations)
    say(
        f"{len(points):,} points of {config.chains:,} chains, {len(batches)} batches, "
        f"{len(done)} of them done"
    )
    left = [number for number in range(len(batches)) if number not in done]
    key = jax.random.key(config.seed)
    save_as_finished(
        (
            (place, (number, _statistics(batches[number], key, plan)))
            for place, number in enumerate(left, len(done) + 1)
        ),
        functools.partial(_save, checkpoints, batches),
        console,
        what="batches",
        total=len(batches),
        done=len(done),
    )
    generations, statistics = _gathered(checkpoints, batches, len(points))
    checkpoints.close()
    results = as_dataset(generations, statistics, config.axes())
    folder.write_results(results.assign_attrs(streams=config.streams))
    folder.write_rows(grid_rows(config, points, generations, statistics))
    console.print(grid_table(config, points, generations, statistics))
    return folder


def _statistics(batch, key, plan):
    """(generations, metric -> statistic -> [points, recorded, ...]) of a batch."""
    chunks = simulate_chunks(batch.process, key, _plan_at(batch, plan))
    return summarise_chunks(chunks, plan.chains)


def _plan_at(batch, plan):
    """The plan at the points of a batch."""
    return plan._replace(settings=batch.settings, names=batch.names)


def _save(checkpoints, batches, _, finished):
    for number, (generations, statistics) in finished:
        arrays = {
            f"{statistic}:{name}": values
            for name, of_metric in statistics.items()
            for statistic, values in of_metric.items()
        }
        state = {"points": np.array(len(batches[number].settings))}
        checkpoints.save(number, state, {"generations": generations.tolist()}, arrays)


def _finished(checkpoints, last_generation):
    """The numbers of the saved batches that are whole; damaged ones are set aside.

    A batch holds statistics and no states: one that ends earlier is deleted, and made again.
    """
    numbers = set()
    for number in checkpoints.generations():
        try:
            record, _ = checkpoints.restore_record(number)
        except DamagedError as error:
            checkpoints.set_aside(number, error)
            continue
        if record["generations"][-1] < last_generation:
            checkpoints.delete(number)
        else:
            numbers.add(number)
    return numbers


def programs(points: list[SimulateSettings], options: tuple[str, ...] = ()) -> Iterator[Batch]:
    """The points by the program that they need.

    A share of 0 changes the program too: without it nothing is taken from there.

    Args:
        points: of the grid.
        options: names of the family's options that are traced.
    """
    groups = {}
    for number, point in enumerate(points):
        neutral = tuple(getattr(point, name) == value for name, value in NEUTRAL.items())
        shapes = tuple(getattr(point, name) for name in PROGRAM_AXES)
        others = [option for option in point.options if option.partition("=")[0] not in options]
        # A model that reads others alone reads fewer.
        form = shapes, neutral, tuple(others), point.exchange == 1
        groups.setdefault(form, []).append(number)
    for numbers in groups.values():
        group = [points[number] for number in numbers]
        sizes = np.array([point.sample_size for point in group], np.int32)
        settings: dict[str, np.ndarray] = {"sample_size": sizes}
        size = int(sizes.max())
        fixed = dataclasses.replace(group[0], sample_size=size)
        names = (*_TRACED.get(fixed.workflow, ()), "temperature", "synthetic_weight")
        for name in (*names, *(["exchange"] if fixed.exchange is not None else [])):
            values = np.array([getattr(point, name) for point in group], np.float32)
            if (values != NEUTRAL[name]).any():
                settings[name] = values
            else:
                fixed = dataclasses.replace(fixed, **{name: NEUTRAL[name]})
        for name in options:
            values = [point.value_of(name) for point in group]
            settings[name] = np.array(values, np.float32)
        at = functools.partial(process_of, fixed)
        names = [point.stream_name() for point in group]
        yield Batch(process_grid(at, {"sample_size": size}), np.array(numbers), settings, names)


def traceable_options(config: SimulateConfig) -> tuple[str, ...]:
    """The options in `grid` that the family takes as traced numbers; others need a program each."""
    point = config.points()[0]
    found = []
    for name in config.option_axes():
        with contextlib.suppress(Exception):
            jax.eval_shape(
                lambda value, name=name: process_of(point, {name: value}).init(
                    jax.random.key(0), config.generations
                ),
                jnp.float32(point.value_of(name)),
            )
            found.append(name)
    return tuple(found)


def _batches(program, chains):
    """The same program on parts of its points, of at most `_BATCH` chains each."""
    size = max(_BATCH // chains, 1)
    for first in range(0, len(program.numbers), size):
        part = slice(first, first + size)
        settings = {name: values[part] for name, values in program.settings.items()}
        yield Batch(program.process, program.numbers[part], settings, program.names[part])


def _gathered(checkpoints, batches, count):
    """(generations, metric -> statistic -> [points, recorded, ...]) of all saved batches."""
    statistics = {}
    for number, batch in enumerate(batches):
        record, arrays = checkpoints.restore_record(number)
        for name, values in arrays.items():
            statistic, _, metric = name.partition(":")
            of_metric = statistics.setdefault(metric, {})
            of_all = of_metric.setdefault(statistic, np.empty((count, *values.shape[1:])))
            of_all[batch.numbers] = values
    return np.array(record["generations"]), statistics
