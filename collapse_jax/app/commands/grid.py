"""A grid of simulations, in batches of points.

Sample sizes and shares are traced, so that one compiled program serves all their values. Settings
that change shapes need one program per value.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.app.commands.begun import saved_settings
from collapse_jax.app.commands.chains import start_over
from collapse_jax.app.commands.inputs import of_simulation
from collapse_jax.app.commands.numbered_points import Numbering, keep_first
from collapse_jax.app.commands.resumable import save_as_finished
from collapse_jax.app.commands.saved_points import SavedPoints, points_of_part
from collapse_jax.app.commands.simulation import (
    check_memory,
    plan_of,
    process_of,
    scalar_metrics,
    statistics_bytes,
)
from collapse_jax.app.commands.tables import grid_rows, grid_table
from collapse_jax.app.config.simulate import (
    ACCUMULATING,
    PROGRAM_AXES,
    SimulateConfig,
    SimulateSettings,
)
from collapse_jax.app.config.simulate_axes import NEUTRAL
from collapse_jax.app.own_data.filled import labelled
from collapse_jax.core.process import process_grid
from collapse_jax.drivers import grids
from collapse_jax.drivers.grids import Batch, nested, plan_at, statistics_at
from collapse_jax.drivers.labels import labels_of
from collapse_jax.drivers.plan import Plan, memory_needed, recorded_generations
from collapse_jax.drivers.summary import as_dataset
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

# Chains of all points in one batch; each batch is saved as it ends.
_BATCH = grids.BATCH
_SHARES = ("alpha", "beta", "gamma")
# What is traced by workflow, beside sample sizes and temperatures.
_TRACED = {"mix": _SHARES} | dict.fromkeys(ACCUMULATING, ("real_share",))


def run_grid(
    config: SimulateConfig,
    out: RunFolder,
    console: "Console",
    devices: Sequence | None = None,
    part: tuple[int, int] | None = None,
    fewer: int = 0,
) -> RunFolder | None:
    """Runs (or resumes) all points, writes the run folder and prints a table.

    Args:
        config: the settings, with axes.
        out: the run folder, with the name of a part if there is one.
        console: where progress and a table are printed.
        devices: the devices of this process to use; by default all.
        part: (I, N) to simulate only the points I, I + N, ..., without writing results.
        fewer: number of chains of existing statistics that are computed again; 0 for none.

    Returns:
        The folder; None for a part.
    """
    say = functools.partial(console.print, highlight=False)
    points, plan = config.points(), plan_of(config, devices)
    whole, own = batches_of(config, points, part)
    memory_of_grid(config, plan, own)
    start_over(out, config, fewer, say)
    _keep_numbers(out, config)
    folder = RunFolder.open(out.path, config, part=out.part, inputs=of_simulation(config), say=say)
    numbering = Numbering(folder, [point.stream_name() for point in points])
    saved = SavedPoints(folder, part, whole, numbering, config.generations, say)
    for line in saved.missing_parts():
        say(f"{line}; they are simulated now")
    left = saved.left(own)
    todo = sum(len(batch.numbers) for _, batch in left)
    count = sum(len(batch.numbers) for batch in own)
    which = "" if part is None else f"part {part[0]} of {part[1]}: {count:,} of "
    kept = f"{count - todo:,} points kept, {todo:,} new; " if 0 < todo < count else ""
    say(
        f"{which}{len(points):,} points of {config.chains:,} chains, {kept}{len(own)} batches, "
        f"{len(own) - len(left)} of them done"
    )
    key, done = jax.random.key(config.seed), count - todo
    _measure_what_is_new(saved, config, own, key, plan, say)
    save_as_finished(
        _computed(left, key, plan, done),
        functools.partial(_save, saved),
        console,
        what="points",
        total=count,
        done=done,
    )
    if part is not None:
        saved.close()
        say(
            f"part {part[0]} of {part[1]} is done; once all parts are done, the same command "
            "without --points collects them"
        )
        return None
    return _write(config, points, folder, saved, console)


def _keep_numbers(out, config):
    """Before a grid gets more points: what the numbers of those that are there stand for."""
    saved = saved_settings(out)
    if saved is None or not saved.axes() or saved.resolved().axes() == config.axes():
        return
    points = saved.points()
    keep_first(out, [point.stream_name() for point in points], batches_of(saved, points)[0])


def _computed(left, key, plan, done):
    """(number of points done so far, what to save) of each batch."""
    for number, batch in left:
        done += len(batch.numbers)
        yield done, (number, batch, *statistics_at(batch, key, plan))


def _measure_what_is_new(saved, config, batches, key, plan, say):
    """Adds metrics to what is saved, measured on the same chains, which are simulated again."""
    for missing, points, add in saved.lacking(scalar_metrics(config)):
        say(
            f"{', '.join(missing)} at {len(points):,} points: their models are not on disk; they "
            "are simulated again from the seed"
        )
        others = np.ones(len(config.points()), bool)
        others[points] = False
        of_all = grids.Gathered(len(others))
        for batch in (batch.without(others) for batch in batches):
            if len(batch.numbers):
                _, found = statistics_at(batch, key, plan._replace(metrics=missing))
                of_all.put(batch.numbers, grids.flat(found))
        add({name: values[points] for name, values in of_all.arrays.items()})


def _save(saved, _, finished):
    for one in finished:
        saved.save(*one)


def _write(config, points, folder, saved, console):
    """Writes the records of all points, and prints their table; returns the folder."""
    generations, arrays = saved.gathered()
    saved.close()
    statistics = nested(arrays)
    labels = labels_of(process_of(points[0]), config.metrics)
    results = as_dataset(generations, statistics, config.axes(), labels=labels)
    results = results.assign_attrs(streams=config.streams)
    folder.write_results(labelled(results, config))
    folder.write_rows(grid_rows(config, points, generations, statistics))
    console.print(grid_table(config, points, generations, statistics))
    return folder


def batches_of(
    config: SimulateConfig,
    points: list[SimulateSettings],
    part: tuple[int, int] | None = None,
) -> tuple[list[Batch], list[Batch]]:
    """(the batches of all points, those of the part (I, N))."""
    found = list(programs(points, traceable_options(config)))

    def of(chosen):
        return [
            batch
            for one in chosen
            if len(one.numbers)
            for batch in grids.cut(one, config.chains, _BATCH)
        ]

    whole = of(found)
    if part is None:
        return whole, whole
    others = np.ones(len(points), bool)
    others[points_of_part(part, len(points))] = False
    return whole, of([one.without(others) for one in found])


def memory_of_grid(config: SimulateConfig, plan: Plan, batches: list[Batch]) -> int:
    """Estimates the bytes that the batches need, in addition to the program.

    Raises:
        InputError: for a batch that needs more than `memory_limit`.
    """
    points = sum(len(batch.numbers) for batch in batches)
    recorded = len(recorded_generations(config.generations, config.recorded()))
    most = 0
    for batch in batches:
        at_points, key = plan_at(batch, plan), jax.random.key(0)
        needed = memory_needed(batch.process, key, at_points, min(config.chunk, recorded))
        needed += points * statistics_bytes(batch.process, key, at_points, recorded)
        what = f"{len(batch.numbers):,} of {points:,} points of {config.chains:,} chains"
        check_memory(config, needed, what)
        most = max(most, needed)
    return most


def programs(points: list[SimulateSettings], options: tuple[str, ...] = ()) -> Iterator[Batch]:
    """Groups the points by the program that they need.

    A share of 0 changes the program too, since nothing is sampled from that source.

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
    """The options in `grid` that the family can trace; each value of the others needs a program."""
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
