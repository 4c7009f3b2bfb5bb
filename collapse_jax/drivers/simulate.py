"""The traceable driver: chains by `vmap`, generations in a compiled loop, on all devices."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import jax

from collapse_jax.core.types import Process
from collapse_jax.drivers.chunks import Chunk, chunks_of
from collapse_jax.drivers.host_records import HostRecords
from collapse_jax.drivers.interrupted import Interrupted, diverged
from collapse_jax.drivers.plan import DEFAULT_METRICS, Plan, check_memory, check_plan
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import DivergenceError

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
    progress: Callable[[int], None] = lambda generation: None,
    devices: Sequence | None = None,
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
        progress: called with the newest generation after each chunk.
        devices: those of this process to spread the chains over; by default all.

    Returns:
        `trace[name]`, a NumPy array [chain, recorded, ...].

    Raises:
        InputError: if a count is out of range, a metric is unknown, the memory limit is exceeded,
            the estimator is not traceable (use `run`), or it is called inside `jit`, `vmap` or
            `grad`.
        DivergenceError: once a model holds nan; it names chain and generation. Its `trace` holds
            the records of all chains up to the end of that chunk.
        Interrupted: at a KeyboardInterrupt; its `trace` holds the records of all chunks that are
            done.
    """
    plan = Plan(generations, chains, metrics, record, chunk, memory_limit, devices)
    simulation = check_plan(process, key, plan)
    count = len(simulation.recorded)
    check_memory(simulation, count, f"{count:,} recorded generations", _REMEDY)
    return _all_of(simulation, progress)


def _all_of(simulation, progress):
    """The `Trace` of a simulation; an error or an interrupt holds what there is of it."""
    records, done = HostRecords(len(simulation.recorded)), 0

    def partial(rows):
        arrays = {name: values[:, :rows] for name, values in records.whole().items()}
        return Trace(arrays if rows else {}, simulation.recorded[:rows])

    try:
        for part in chunks_of(simulation, records):
            done += len(part.generations)
            progress(int(part.generations[-1]))
    except KeyboardInterrupt as stop:
        trace = partial(done)
        raise Interrupted(trace.generations, trace=trace) from stop
    except DivergenceError as error:
        trace = partial(max(records.taken, done))
        raise diverged(error, trace.generations, trace=trace) from error
    return Trace(records.whole(), simulation.recorded)


def simulate_chunks(process: Process, key: jax.Array, plan: Plan) -> Iterator[Chunk]:
    """The same as `simulate`, chunk by chunk; each has arrays of its own."""
    simulation = check_plan(process, key, plan)
    count = len(simulation.recorded)
    held = min(plan.chunk, count)
    check_memory(simulation, held, f"{count:,} recorded generations", _REMEDY)
    yield from chunks_of(simulation, HostRecords())
