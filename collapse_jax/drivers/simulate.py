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
    "record fewer generations (record=) or metrics, give fewer chains, or keep only statistics "
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
    """Simulates many chains and returns their metrics at the recorded generations.

    Chain c uses the key `fold_in(key, c)`, and its generation g uses
    `fold_in(fold_in(key, c), g)`. Therefore more chains or generations, other records, chunks or
    devices do not change the numbers. Integers are equal bit for bit. Float32 numbers are equal up
    to rounding (2e-5 relative in the tests), because XLA compiles programs of other shapes
    differently; an ill-conditioned fit amplifies that difference (docs/contract.md).

    Args:
        process: from `cj.generational_process`.
        key: one typed key, such as `jax.random.key(0)`.
        generations: the last generation; generation 0 is the model fitted to real data.
        chains: number of chains. In a job of several operating-system processes, each simulates a
            share of the chains, and each receives all numbers.
        metrics: names that the process offers (`process.metrics`), or functions of the state.
        record: a stride, "log" (about 20 per decade), or generation numbers. Generation 0 and the
            last generation are always recorded.
        chunk: number of records in one compiled call.
        memory_limit: the largest number of bytes to use; by default the free memory (of the
            machine, of a container's or a job's limit, of the devices), `math.inf` for no limit.
        progress: called with the newest generation after each chunk. By default a progress bar is
            shown in a terminal or notebook if the simulation takes more than two seconds;
            elsewhere, one line per minute is written. False shows nothing.
        devices: the devices of this process over which the chains are distributed; by default all.
        after: a trace of the same simulation, to be continued to more generations or with more
            chains; the result equals that of one longer call. Records up to its last generation are
            taken from it, with record="log" all of them. By default chains and metrics are those of
            the trace. The trace stores the states of its chains. If these take more than 64 MiB and
            more than its records, they are not stored, and the chains are simulated again from
            generation 0 with the same numbers.

    Returns:
        `trace[name]`, a NumPy array [chain, recorded, ...].

    Raises:
        InputError: if a count is out of range, a metric is unknown, the memory limit is exceeded,
            the estimator is not traceable (use `cj.run`), the function is called inside `jit`,
            `vmap` or `grad`, or `after` comes from another simulation or lacks generations of
            `record`.
        DivergenceError: when a model contains nan; the message names chain and generation. Its
            attribute `trace` has the records of all chains up to the end of that chunk.
        Interrupted: at a KeyboardInterrupt; its attribute `trace` has the records of all chunks
            that are done.
    """
    plan = Plan(generations, chains, metrics, record, chunk, memory_limit, devices)
    return _shown(process, key, plan, after, progress)


def _shown(process, key, plan, after, progress):
    """The `Trace` of a plan, which continues `after` if it is given."""
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
    """Returns the `Trace` of a plan, from its `after` on; raises as `simulate` does."""
    simulation = check_plan(process, key, plan)
    count = len(simulation.recorded)
    check_memory(simulation, count, f"{count:,} recorded generations", _REMEDY)
    return _all_of(simulation, progress)


def _all_of(simulation, progress):
    """The `Trace` of a simulation; an error or interrupt has the records so far."""
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
    """Yields the records of `simulate` chunk by chunk; each chunk has separate arrays."""
    simulation = check_plan(process, key, plan)
    count = len(simulation.recorded)
    held = min(plan.chunk, count)
    check_memory(simulation, held, f"{count:,} recorded generations", _REMEDY)
    yield from chunks_of(simulation, HostRecords())
