"""The traceable driver: chains by `vmap`, generations in a compiled loop, on all devices."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax

from collapse_jax.core.process import check_started
from collapse_jax.core.types import Process
from collapse_jax.drivers.chunks import Chunk, chunks_of
from collapse_jax.drivers.going_on import go_on
from collapse_jax.drivers.host_records import HostRecords
from collapse_jax.drivers.interrupted import Interrupted, diverged
from collapse_jax.drivers.origin import origin_of
from collapse_jax.drivers.plan import DEFAULT_METRICS, Plan, check_memory, check_plan
from collapse_jax.drivers.progress import Progress, shown
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import DivergenceError, whole

_REMEDY = (
    "record fewer generations (record=) or metrics, take fewer chains, keep statistics alone "
    "(cj.simulate_summary)"
)


def simulate(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    chains: int = 1,
    metrics: Iterable = DEFAULT_METRICS,
    record: int | str | Iterable[int] = 1,
    chunk: int = 100,
    memory_limit: int | None = None,
    progress: Progress = None,
    devices: Sequence | None = None,
    after: Trace | None = None,
) -> Trace:
    """Metrics of many chains at the recorded generations.

    Chain c uses `fold_in(key, c)`, and its generation g `fold_in(fold_in(key, c), g)`: asking for
    more chains or generations, other records, chunks or devices, changes no number. Integers are
    equal bit for bit. Float32 is equal up to rounding, 2e-5 relative in the tests, because XLA
    fuses programs of other shapes differently; a fit that is ill-conditioned multiplies that
    (docs/contract.md).

    Args:
        process: from `cj.generational_process`.
        key: one typed key, as `jax.random.key(0)`.
        generations: the last one; generation 0 is the model fitted to real data.
        chains: how many. In a job of several processes each takes a share of them, and every one
            gets all the numbers.
        metrics: names that the process offers (`process.metrics`), or functions of the state.
        record: a stride, "log" (about 20 a decade), or generation numbers. 0 and the last are
            always recorded.
        chunk: records in one compiled call.
        memory_limit: bytes that may be held; by default what is free (of the machine, of a
            container's or a job's limit, of the devices), `math.inf` for any.
        progress: called with the newest generation after each chunk. By default a bar is shown in
            a terminal or notebook for what takes more than two seconds, and a line a minute is
            written where there is neither; False shows nothing.
        devices: those of this process to spread the chains over; by default all.
        after: a trace of the same simulation to go on from, to more generations or with more
            chains: it then gives what one longer call gives. Records up to its last generation are
            its own, with record="log" all of them. By default chains and metrics are its own. It
            holds the states of its chains, or if these take more than 64 MiB and more than its
            records, the chains are made again from their seed, with the same numbers.

    Returns:
        `trace[name]`, a NumPy array [chain, recorded, ...].

    Raises:
        InputError: if a count is out of range, a metric is unknown, the memory limit is exceeded,
            the estimator is not traceable (use `run`), it is called inside `jit`, `vmap` or
            `grad`, or `after` is of another simulation, or lacks generations of `record`.
        DivergenceError: once a model holds nan; it names chain and generation. Its `trace` holds
            the records of all chains up to the end of that chunk.
        Interrupted: at a KeyboardInterrupt; its `trace` holds the records of all chunks that are
            done.
    """
    plan = Plan(generations, chains, metrics, record, chunk, memory_limit, devices)
    return _shown(process, key, plan, after, progress)


def _shown(process, key, plan, after, progress):
    """The `Trace` of a plan, by its `after` where there is one."""
    check_started(process, key)
    with shown(progress, "generations", whole("generations", plan.generations, 0)) as report:
        run = functools.partial(traced, progress=report)
        return run(process, key, plan) if after is None else go_on(process, key, plan, after, run)


def traced(
    process: Process,
    key: jax.Array,
    plan: Plan,
    progress: Callable[[int], object] = lambda generation: None,
) -> Trace:
    """The `Trace` of a plan, from its `after` on; raises as `simulate` does."""
    simulation = check_plan(process, key, plan)
    count = len(simulation.recorded)
    check_memory(simulation, count, f"{count:,} recorded generations", _REMEDY)
    return _all_of(simulation, progress)


def _all_of(simulation, progress):
    """The `Trace` of a simulation; an error or an interrupt holds what there is of it."""
    first = -1 if simulation.plan.after is None else simulation.plan.after[0]
    recorded = simulation.recorded[simulation.recorded > first]
    records, done, part = HostRecords(len(recorded)), 0, None

    def trace(rows, last=None):
        arrays = {name: values[:, :rows] for name, values in records.whole().items()}
        size = sum(values.nbytes for values in arrays.values())
        origin = origin_of(simulation, last, size)
        return Trace(arrays if rows else {}, recorded[:rows], origin)

    try:
        for part in chunks_of(simulation, records):
            done += len(part.generations)
            progress(int(part.generations[-1]))
    except KeyboardInterrupt as stop:
        partial = trace(done)
        raise Interrupted(partial.generations, trace=partial) from stop
    except DivergenceError as error:
        partial = trace(max(records.taken, done))
        raise diverged(error, partial.generations, trace=partial) from error
    return trace(done, part)


def simulate_chunks(process: Process, key: jax.Array, plan: Plan) -> Iterator[Chunk]:
    """The same as `simulate`, chunk by chunk; each has arrays of its own."""
    simulation = check_plan(process, key, plan)
    count = len(simulation.recorded)
    held = min(plan.chunk, count)
    check_memory(simulation, held, f"{count:,} recorded generations", _REMEDY)
    yield from chunks_of(simulation, HostRecords())
