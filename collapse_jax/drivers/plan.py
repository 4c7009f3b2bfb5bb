"""The plan of a simulation: what it records; and the check that a process can follow the plan."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from collapse_jax.core.process import check_run, check_started, unwatched
from collapse_jax.core.recipes.shared import as_of_now
from collapse_jax.core.rows import Rows
from collapse_jax.core.types import Dataset, Process, State
from collapse_jax.drivers import tiles
from collapse_jax.drivers.fit_metrics import with_fit_metrics
from collapse_jax.drivers.shapes import metric_shapes, state_shapes
from collapse_jax.drivers.streams import INDEPENDENT, words_of_points
from collapse_jax.drivers.summary import QUANTILES, SAMPLE
from collapse_jax.errors import InputError, number, size_words, whole
from collapse_jax.metrics import resolve_metrics
from collapse_jax.runs import distributed
from collapse_jax.runs.free_memory import free_device_memory, free_memory

DEFAULT_METRICS = ("mean", "variance", "log_variance")
# Beside those that are kept; measured.
_COPIES_OF_A_MODEL, _COPIES_OF_A_SAMPLE = 1.1, 1
# As often a set that a model draws of another is held while all of them are merged; measured.
_COPIES_OF_A_READING = 8
# Generations are counted in 32 bits.
_MOST = 2**31 - 1


class Plan(NamedTuple):
    """The generations and chains of a simulation, what it records, and where it runs.

    generations: the last generation; generation 0 is the model fitted to real data.
    chains: number of chains, at each point of a grid.
    metrics: names that the process offers (`process.metrics`), or functions of the state.
    record: a stride, "log", or generation numbers; see `recorded_generations`.
    chunk: number of records in one compiled call.
    memory_limit: the largest number of bytes to use; None for the free memory, infinity for no
        limit.
    devices: the devices of this process over which the chains are distributed; None for all.
    settings: for a process of `process_grid`, name -> [points]. Arrays then have points * chains
        in the place of chains; the chains of a point are adjacent.
    after: (generation, state of all chains) from which to continue, as `Chunk.copy_state` returns
        it; None begins with generation 0.
    streams: "independent" gives every point of a grid different random numbers; "common" gives all
        points the same ones: differences between points are then less noisy, and the points share
        one Monte Carlo error. See `drivers.streams`.
    names: [points], a name for each, for independent streams; by default their settings.
    first_chain: the number of the first chain, at each point of a grid.
    """

    generations: int
    chains: int = 1
    metrics: Iterable = DEFAULT_METRICS
    record: int | str | Iterable[int] = 1
    chunk: int = 100
    memory_limit: int | None = None
    devices: Sequence | None = None
    settings: Mapping[str, np.ndarray] | None = None
    after: tuple[int, State] | None = None
    streams: str = INDEPENDENT
    names: Sequence[str] | None = None
    first_chain: int = 0


class Simulation(NamedTuple):
    """A process, and a plan that it can follow; `check_plan` makes one.

    measure: (name, function of the state) of each metric.
    recorded: [recorded], the numbers of the recorded generations.
    words: uint32 [points, 2], which distinguish the streams of the points; None if all points have
        the same streams.
    """

    process: Process
    key: jax.Array
    plan: Plan
    measure: tuple[tuple[str, Callable], ...]
    recorded: np.ndarray
    words: np.ndarray | None = None

    @property
    def points(self) -> int:
        """Points of the grid; 1 without a grid."""
        settings = self.plan.settings
        return 1 if settings is None else len(next(iter(settings.values())))


def check_plan(process: Process, key: jax.Array, plan: Plan) -> Simulation:
    """Returns the simulation of a process by a plan, after all checks.

    Raises:
        InputError: if a count or a sample size is out of range, a metric or a generation to record
            is unknown, the estimator is not traceable, or it is called inside a JAX program.
    """
    check_started(process, key)
    for name, least in (("generations", 0), ("chains", 1), ("chunk", 1)):
        whole(name, getattr(plan, name), least, _MOST)
    if plan.memory_limit is not None:
        number("memory_limit", plan.memory_limit)
    if not process.runtime.traceable:
        raise InputError(
            "this estimator fits or samples on the host; use cj.run instead of cj.simulate"
        )
    process = as_of_now(process)
    check_run(process, plan.generations, plan.settings)
    process = unwatched(process)
    metrics = resolve_metrics(process.metrics, plan.metrics)
    process, measure = with_fit_metrics(process, metrics), tuple(metrics.items())
    recorded = recorded_generations(plan.generations, plan.record)
    words = words_of_points(plan.streams, plan.settings, plan.names)
    simulation = Simulation(process, key, plan, measure, recorded, words)
    _check_that_shapes_stay(simulation)
    return simulation


def recorded_generations(generations: int, record: int | str | Iterable[int] = 1) -> np.ndarray:
    """Returns the generations [recorded] that `record` selects, ascending, with 0 and the last.

    Args:
        generations: the last generation.
        record: a stride, "log" for about 20 per decade, or the numbers themselves.

    Raises:
        InputError: if `record` is anything else, or a number exceeds `generations`.
    """
    whole("generations", generations, 0, _MOST)
    if isinstance(record, bool) or not isinstance(record, int | np.integer | Iterable):
        raise _unknown_record(record)
    if isinstance(record, str):
        if record != "log":
            raise _unknown_record(record)
        decades = np.log10(max(generations, 10))
        numbers = np.geomspace(1, max(generations, 1), 1 + round(20 * decades)).round()
        numbers = numbers[numbers <= generations]
    elif isinstance(record, Iterable):
        given = list(record)
        numbers = np.unique(np.asarray(given))
        if len(numbers) and (
            numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > generations
        ):
            raise InputError(
                f"record is {given!r}; its numbers must be generations from 0 to {generations}"
            )
    else:
        if record < 1:
            raise InputError(f"record is {record}; a stride must be at least 1")
        _check_count(generations // record + 1, record)
        numbers = np.arange(0, generations + 1, record)
    return np.unique(np.concatenate([[0], numbers, [generations]])).astype(int)


def _check_count(count, record):
    """Raises `InputError` if the numbers of the generations alone fill the memory."""
    needed = 3 * 8 * count  # the numbers, and as much again twice while they are sorted
    free = free_memory() if needed > 2**30 else None
    if free is not None and needed > free:
        raise InputError(
            f"record is {record}, which records {count:,} generations: their numbers alone need "
            f"about {size_words(needed)}, but {size_words(free)} are free; record fewer, for "
            "example with record='log'"
        )


def _unknown_record(record):
    return InputError(f"record is {record!r}; it must be a stride, 'log', or generation numbers")


def memory_needed(
    process: Process, key: jax.Array, plan: Plan, records: int = 1, *, on_devices: bool = False
) -> int:
    """Returns the approximate bytes that a simulation uses at once, besides the program itself.

    These are the states of this process's chains, `records` records of the metrics, and the working
    memory of the chains that are computed at the same time. Above about 16 MiB, measured peaks are
    within a factor of 1.3 of this (docs/scale.md).

    Args:
        process, key, plan: of the simulation.
        records: number of records in memory at once.
        on_devices: whether records are reduced to statistics on the devices, and not kept.
    """
    return _bytes_held(check_plan(process, key, plan), records, on_devices)


def record_bytes(simulation: Simulation) -> int:
    """Returns the bytes of one record of a chain."""
    process, key, plan, measure, *_ = simulation
    state, _ = state_shapes(process, key, plan.generations, plan.settings)
    return _size_of(list(metric_shapes(measure, state).values()))


def check_memory(
    simulation: Simulation, records: int, what: str, remedy: str, *, on_devices: bool = False
) -> None:
    """Raises `InputError` if a simulation exceeds its plan's `memory_limit`, or what is free.

    Args:
        simulation: a checked simulation.
        records: number of records in memory at once.
        what: the contents of memory besides the chains, for the error message.
        remedy: changes that need less memory, for the error message.
        on_devices: whether the devices store the records, and not the host.
    """
    limit = simulation.plan.memory_limit
    if limit is None:
        _check_free(simulation, records, what, remedy, on_devices)
        return
    needed = _bytes_held(simulation, records, on_devices)
    if needed > limit:
        raise InputError(
            f"memory_limit is {size_words(limit)}, but {simulation.plan.chains:,} chains with "
            f"{what} need about {size_words(needed)}; {remedy}, or raise the limit"
        )


def _check_free(simulation, records, what, remedy, on_devices):
    """Raises `InputError` if less memory is free than the simulation certainly needs at once."""
    devices = simulation.plan.devices or jax.local_devices()
    held, kept = _bytes_at_once(simulation, records, on_devices)
    if jax.default_backend() == "cpu":
        places = [("of memory", held + kept, free_memory())]
    elif on_devices:
        places = [("on the devices", held + kept, free_device_memory(devices))]
    else:
        places = [
            ("on the devices", held, free_device_memory(devices)),
            ("of memory", kept, free_memory()),
        ]
    for where, needed, free in places:
        if free is not None and needed > free:
            raise InputError(
                f"chains is {simulation.plan.chains:,}; with {what} they need about "
                f"{size_words(needed)} {where}, but {size_words(free)} are free: {remedy}, or give "
                "memory_limit= in bytes (math.inf for no limit)"
            )


def _bytes_at_once(simulation, records, on_devices):
    """(bytes of this process's chains, bytes of records), no more than are held at once.

    Training sets are those of the chains that are computed at the same time. Devices keep the
    records of their own chains, a host those of all processes.
    """
    process, key, plan, measure, *_ = simulation
    state, info = state_shapes(process, key, plan.generations, plan.settings)
    own, at_once = _own_and_at_once(simulation)
    of_a_record = _size_of(list(metric_shapes(measure, state).values()))
    recorded = own if on_devices else simulation.points * plan.chains
    of_a_set = _size_of(info.data) + _drawing_bytes(process, info.data)
    return own * _size_of(state) + at_once * of_a_set, recorded * records * of_a_record


def _own_and_at_once(simulation):
    """(chains of this process, those of them that are computed at the same time)."""
    process, key, plan, *_ = simulation
    first, end = distributed.share(simulation.points * plan.chains)
    tile = tiles.chains_in_tile(process, key, end - first, plan.settings, plan.devices)
    return end - first, min(tile * tiles.workers(plan.devices), end - first)


def _drawing_bytes(process, data):
    """Additional bytes of one chain that draws from a fixed data set."""
    rows = process.parts.source.sample
    if not isinstance(rows, Rows):
        return 0
    # Those that are not kept are summed up once their rows are sorted, and the words are gone.
    points = 0 if isinstance(data, Dataset) else rows.most * rows.held[0].nbytes
    return process.runtime.models * max(rows.scratch(), points)


def _reading_bytes(process, key, settings):
    """Additional bytes of one chain whose models draw from each other."""
    reads, models = process.runtime.reads, process.runtime.models
    if not reads:
        return 0
    _, info = state_shapes(process, key, 0, settings)
    return _COPIES_OF_A_READING * reads * _size_of(info.data) // models


def _size_of(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _bytes_held(simulation, records, on_devices):
    """Bytes that are in use at once, including the working memory of the chains."""
    process, key, plan, measure, *_ = simulation
    state, _ = state_shapes(process, key, plan.generations, plan.settings)
    _, at_once = _own_and_at_once(simulation)
    values = list(metric_shapes(measure, state).values())
    # A model is fitted beside the old one; what a workflow carries is changed where it lies.
    working = int(at_once * _COPIES_OF_A_MODEL * _size_of(state.params))
    working += at_once * _reading_bytes(process, key, plan.settings)
    if on_devices:
        # One metric after another: its sums in 64 bits, and a sorted sample of its numbers, or in
        # the memory of this process all of them once more as keys of 32 bits.
        widest = max((value.size for value in values), default=0)
        sampled = _COPIES_OF_A_SAMPLE * min(at_once, SAMPLE)
        working += 8 * records * widest * at_once
        working += records * widest * (4 * at_once if _is_one_cpu_process() else 8 * sampled)
        # Mean, deviation and quantiles of all records, chunk by chunk and then joined.
        statistics = 8 * (2 + len(QUANTILES)) * sum(value.size for value in values)
        count = len(simulation.recorded)
        working += 2 * simulation.points * count * statistics
        working += 3 * 8 * count  # the numbers of the generations
    else:
        working += at_once * min(plan.chunk, records) * _size_of(values)
    return sum(_bytes_at_once(simulation, records, on_devices)) + working


def _is_one_cpu_process():
    """Whether quantiles are selected in memory (`drivers.device_statistics`)."""
    return jax.default_backend() == "cpu" and distributed.processes() == 1


def _check_that_shapes_stay(simulation):
    """Refuses a metric whose shape depends on the list of categories, which becomes shorter."""
    process, key, plan, measure, *_ = simulation
    compaction = process.runtime.compaction
    if compaction is None:
        return
    state, _ = state_shapes(process, key, plan.generations, plan.settings)
    cut_down = jax.eval_shape(lambda params: compaction.to_size(params, 1), state.params)
    before = metric_shapes(measure, state)
    after = metric_shapes(measure, state._replace(params=cut_down))
    for name, value in before.items():
        if value.shape != after[name].shape:
            raise InputError(
                f"metric {name!r} has shape {value.shape}, but {after[name].shape} after "
                "categories that no chain has any more are dropped; "
                "its shape must not change (as that of metric 'probabilities' does not)"
            )
