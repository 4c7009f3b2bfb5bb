"""What a simulation records, and the check that a process can follow such a plan."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from collapse_jax.core.process import check_started
from collapse_jax.core.types import Process, State
from collapse_jax.drivers.shapes import metric_shapes, state_shapes
from collapse_jax.drivers.streams import INDEPENDENT, words_of_points
from collapse_jax.errors import InputError, number, whole
from collapse_jax.metrics import resolve_metrics

DEFAULT_METRICS = ("mean", "variance", "log_variance")
# Generations are counted in 32 bits.
_MOST = 2**31 - 1


class Plan(NamedTuple):
    """How far a simulation goes, what it records, and where it runs.

    generations: the last one; generation 0 is the model fitted to real data.
    chains: how many, at each point of a grid.
    metrics: names that the process offers (`process.metrics`), or functions of the state.
    record: a stride, "log", or generation numbers; see `recorded_generations`.
    chunk: records in one compiled call.
    memory_limit: bytes that may be held; None for any.
    devices: those of this process to spread the chains over; None for all.
    settings: for a process of `process_grid`, name -> [points]. Arrays then have points * chains
        where they have chains otherwise, the chains of a point beside each other.
    after: (generation, state of all chains) to go on from, as `Chunk.copy_state` gave it; None
        begins with generation 0.
    streams: "independent" gives every point of a grid random numbers of its own, "common" the same
        ones to all: differences between points are then less noisy, and their errors are one error.
        See `drivers.streams`.
    names: [points] what names each of them, for independent streams; by default their settings.
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


class Simulation(NamedTuple):
    """A process, and a plan that it can follow; `check_plan` makes one.

    measure: (name, function of the state) of each metric.
    recorded: [recorded] numbers of the recorded generations.
    words: uint32 [points, 2] what tells the streams of the points apart; None where all chains of
        one number have one stream.
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
    """The simulation of a process by a plan.

    Raises:
        InputError: if a count is out of range, a metric or a generation to record is unknown, or
            the estimator is not traceable.
    """
    check_started(process, key)
    for name, least in (("generations", 0), ("chains", 1), ("chunk", 1)):
        whole(name, getattr(plan, name), least, _MOST)
    if plan.memory_limit is not None:
        number("memory_limit", plan.memory_limit)
    if not process.runtime.traceable:
        raise InputError("this estimator fits or samples on the host; use run instead of simulate")
    measure = tuple(resolve_metrics(process.metrics, plan.metrics).items())
    recorded = recorded_generations(plan.generations, plan.record)
    words = words_of_points(plan.streams, plan.settings, plan.names)
    simulation = Simulation(process, key, plan, measure, recorded, words)
    _check_that_shapes_stay(simulation)
    return simulation


def recorded_generations(generations: int, record: int | str | Iterable[int] = 1) -> np.ndarray:
    """The generations [recorded] that `record` asks for, ascending; 0 and the last always.

    Args:
        generations: the last one.
        record: a stride, "log" for about 20 a decade, or the numbers themselves.

    Raises:
        InputError: if it is anything else, or a number exceeds `generations`.
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
        numbers = np.arange(0, generations + 1, record)
    return np.unique(np.concatenate([[0], numbers, [generations]])).astype(int)


def _unknown_record(record):
    return InputError(f"record is {record!r}; it must be a stride, 'log', or generation numbers")


def memory_needed(process: Process, key: jax.Array, plan: Plan, records: int = 1) -> int:
    """Bytes that a simulation holds at once, about.

    These are the states and training sets of all chains, and `records` of the metrics.
    """
    return _bytes_held(check_plan(process, key, plan), records)


def check_memory(simulation: Simulation, records: int, what: str, remedy: str) -> None:
    """Raises `InputError` if a simulation exceeds its plan's `memory_limit`.

    Args:
        simulation: a checked one.
        records: how many are held at once.
        what: what is held beside the chains, for the error text.
        remedy: what needs less, for the error text.
    """
    limit, needed = simulation.plan.memory_limit, _bytes_held(simulation, records)
    if limit is not None and needed > limit:
        raise InputError(
            f"memory_limit is {limit / 2**20:.0f} MiB, but {simulation.plan.chains:,} chains with "
            f"{what} need about {needed / 2**20:.0f} MiB; {remedy}, or raise the limit"
        )


def _bytes_held(simulation, records):
    process, key, plan, measure, *_ = simulation
    state, info = state_shapes(process, key, plan.generations, plan.settings)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((state, info.data)))
    values = metric_shapes(measure, state).values()
    of_a_record = sum(value.size * value.dtype.itemsize for value in values)
    return simulation.points * plan.chains * (held + records * of_a_record)


def _check_that_shapes_stay(simulation):
    """Refuses a metric whose shape follows the list of categories, which is cut down on the way."""
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
                f"metric {name!r} has shape {value.shape}, or {after[name].shape} once "
                "categories that no chain has any more are left out; "
                "it must keep one shape (as metric 'probabilities' does)"
            )
