"""`collapse-jax simulate --dry-run`: the memory, time and files that a simulation would need."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax

from collapse_jax.app.commands.grid import batches_of, memory_of_grid
from collapse_jax.app.commands.planned import print_planned, time_row, where
from collapse_jax.app.commands.simulation import (
    key_of,
    memory_of,
    plan_of,
    process_of,
    scalar_metrics,
)
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.core.types import Process
from collapse_jax.drivers import tiles
from collapse_jax.drivers.estimate import Piece, timed
from collapse_jax.drivers.grids import Batch, plan_at
from collapse_jax.drivers.plan import Plan, check_plan, record_bytes, recorded_generations
from collapse_jax.drivers.shapes import state_shapes
from collapse_jax.drivers.summary import QUANTILES
from collapse_jax.errors import size_words
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

# Bytes of a number in metrics.jsonl and metrics.csv together, with its name.
_IN_TEXT = 50
# Mean, deviation and quantiles of a number over chains.
_STATISTICS = 8 * (2 + len(QUANTILES))


class _Work(NamedTuple):
    """The work of a simulation.

    points: number of points.
    programs: number of compiled programs.
    memory: bytes.
    piece: a short part of it, which is timed.
    process, plan: those of a point, or of the first points.
    """

    points: int
    programs: int
    memory: int
    piece: Piece
    process: Process
    plan: Plan


def dry_run(
    config: SimulateConfig,
    folder: RunFolder,
    console: "Console",
    devices: Sequence | None = None,
    part: tuple[int, int] | None = None,
) -> None:
    """Prints a table of memory, time and files; writes nothing.

    Args:
        config: the settings, resolved.
        folder: the run folder.
        console: where the table is printed.
        devices: the devices of this process to use; by default all.
        part: (I, N) of a call for a part of a grid.

    Raises:
        InputError: if the simulation itself would be refused.
    """
    is_grid = bool(config.axes())
    work = _grid(config, devices, part) if is_grid else _one(config.resolve(), devices)
    rows = (*_costs(config, work), *_files(config, folder, work))
    print_planned(console, _title(config, work), rows)


def _one(settings, devices):
    process, key, plan = process_of(settings), key_of(settings), plan_of(settings, devices)
    memory = memory_of(settings)
    return _Work(1, 1, memory, timed(process, key, plan), process, plan)


def _grid(config, devices, part):
    """The work of a grid or a part, estimated from the points of its first program."""
    plan, key = plan_of(config, devices), jax.random.key(config.seed)
    _, batches = batches_of(config, config.points(), part)
    memory = memory_of_grid(config, plan, batches)
    first: Batch = batches[0]
    at = plan_at(first, plan)
    chains = len(first.numbers) * plan.chains
    tile = tiles.chains_in_tile(first.process, key, chains, at.settings, devices)
    few = first.part(slice(0, max(tile * tiles.workers(devices) // plan.chains, 1)))
    piece = timed(first.process, key, plan_at(few, plan))
    programs = len({id(batch.process) for batch in batches})
    points = sum(len(batch.numbers) for batch in batches)
    return _Work(points, programs, memory, piece, first.process, plan_at(few, plan))


def _title(config, work):
    points = f"{work.points:,} points of " if config.axes() else ""
    return f"{config.family}, {points}{config.chains:,} chains, {config.generations:,} generations"


def _costs(config, work):
    """(name, text) of memory and time."""
    limit = f"{size_words(work.memory)}; {config.memory_limit:g} GiB are allowed"
    yield "memory in addition to the program's own", limit
    compiled = work.piece.compile_seconds * work.programs
    running = work.piece.of(work.points * config.chains, config.generations)
    several = f" of {work.programs} programs" if work.programs > 1 else ""
    yield time_row(compiled, running, several)


def _files(config, folder, work):
    """(name, text) of everything that would be written to disk."""
    of_chains = config.keep == "chains" and not config.axes()
    recorded = len(recorded_generations(config.generations, config.recorded()))
    simulation = check_plan(work.process, jax.random.key(0), work.plan)
    scalars = len(scalar_metrics(config))
    if of_chains:
        results = recorded * config.chains * record_bytes(simulation)
    else:
        results = work.points * recorded * scalars * _STATISTICS
    states = 0
    if not config.axes():
        state, _ = state_shapes(work.process, jax.random.key(0), config.generations)
        leaves = jax.tree.leaves(state)
        size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
        states = 2 * config.chains * size
    rows = work.points * recorded * scalars * 5 * _IN_TEXT
    yield "disk", f"{size_words(2 * results + states + rows)} {where(folder)}"
    yield "results.nc", f"{size_words(results)}: {', '.join(config.metrics)}"
    yield "metrics.jsonl, metrics.csv", size_words(rows)
    yield "checkpoints/", size_words(results + states)
    yield "config.json, environment.json, figures/", "small"
