"""The traceable driver: chains by `vmap`, generations in a compiled loop, spread over all cores and
devices.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from collapse_jax.core.process import check_started
from collapse_jax.core.types import Process, State
from collapse_jax.drivers import tiles
from collapse_jax.drivers.all_chains import AllChains, HostRecords
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import InputError, number, whole
from collapse_jax.metrics import resolve_metrics

DEFAULT_METRICS = ("mean", "variance", "log_variance")
# Generations are counted in 32 bits.
_MOST = 2**31 - 1


class Chunk(NamedTuple):
    """Some generations of all chains.

    generations: [recorded] their numbers. arrays: name -> [chain, recorded, ...].
    copy_state(): the state of all chains [chain, ...] after the last of them, on the host; it is
    gone once the next chunk is asked for.
    """

    generations: np.ndarray
    arrays: dict[str, np.ndarray]
    copy_state: Callable[[], State]


def simulate(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    chains: int = 1,
    metrics: Iterable = DEFAULT_METRICS,
    record=1,
    chunk: int = 100,
    memory_limit: int | None = None,
    progress: Callable[[int], None] = lambda generation: None,
    devices: Sequence | None = None,
) -> Trace:
    """Metrics of chains 0 .. chains - 1 at the recorded generations: `trace[name]` is a NumPy array
    [chain, recorded, ...].

    metrics: names that the process offers (`process.metrics`), or functions of the state.
    record: a stride, the numbers of the generations, or "log"
    (see `recorded_generations`). chunk: records in one compiled call; progress is called with the
    newest generation after each. memory_limit: bytes; see `memory_needed`. devices: those of this
    process to spread the chains over; all by default.
    In a job of several processes each takes a share of the chains, and every one gets all the
    numbers.
    Chain c uses `fold_in(key, c)`, and generation g of it `fold_in(fold_in(key, c), g)`:
    asking for more chains or generations, other records, chunks or devices, changes no number.
    (Integers bit for bit; float32 up to rounding, 2e-5 relative in the tests, because XLA fuses
    programs of other shapes differently.)
    Raises `InputError` for sizes that have no meaning, an unknown metric, more memory than the
    limit, or an estimator that is not traceable (use `run`); `DivergenceError` naming chain and
    generation once a model holds nan.
    """
    numbers = recorded_generations(generations, record)
    options = {
        "generations": generations,
        "chains": chains,
        "metrics": metrics,
        "record": numbers,
        "chunk": chunk,
        "devices": devices,
    }
    whole, at = {}, 0

    def storage(name, values, count):
        """Where a chunk of a metric goes: [count, ..., chains] of the whole, so that no record is
        copied twice.
        """
        if name not in whole:
            whole[name] = np.empty((len(numbers), *values.shape[1:-1], chains), values.dtype)
        return whole[name][at : at + count]

    for part in simulate_chunks(
        process,
        key,
        **options,
        memory_limit=memory_limit,
        records_kept=len(numbers),
        storage=storage,
    ):
        at += len(part.generations)
        progress(int(part.generations[-1]))
    return Trace({name: np.moveaxis(values, -1, 0) for name, values in whole.items()}, numbers)


def simulate_chunks(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    chains: int = 1,
    metrics: Iterable = DEFAULT_METRICS,
    record=1,
    chunk: int = 100,
    after: tuple[int, State] | None = None,
    memory_limit: int | None = None,
    records_kept: int | None = None,
    settings: Mapping[str, np.ndarray] | None = None,
    storage: Callable[[str, np.ndarray, int], np.ndarray] | None = None,
    devices: Sequence | None = None,
) -> Iterator[Chunk]:
    """The same as `simulate`, chunk by chunk: generation 0 first, then up to `chunk` records at a
    time.

    settings: for a process of `process_grid`, name -> [points]; every point gets the same `chains`
    chains, and the axis of chains in
    all arrays runs over points and chains, the chains fastest.

    after: (generation, state of all chains) from which to go on, as an earlier chunk's `copy_state`
    gave it.
    storage: (name, values [rows, ..., chains of a tile], count) -> an array [count, ..., chains]
    that a chunk's records are written to. records_kept: how many records the caller keeps, for the
    memory that is held against `memory_limit`; by default one chunk.
    """
    measure, numbers = checked(
        process, key, generations, chains, metrics, record, chunk, memory_limit, settings
    )
    records_kept = min(chunk, len(numbers)) if records_kept is None else records_kept
    needed = memory_needed(process, key, generations, chains, metrics, records_kept, settings)
    if memory_limit is not None and needed > memory_limit:
        raise InputError(
            f"memory_limit is {memory_limit / 2**20:.0f} MiB, but {chains:,} chains with "
            f"{len(numbers):,} recorded generations need about "
            f"{needed / 2**20:.0f} MiB; record fewer generations or metrics, take fewer "
            "chains, or raise the limit"
        )
    sink = functools.partial(HostRecords, storage=storage)
    with AllChains(process, key, chains, measure, settings, devices, sink) as all_chains:
        yield from all_chunks(process, all_chains, generations, numbers, chunk, after)


def checked(
    process, key, generations, chains, metrics, record, chunk, memory_limit, settings=None
) -> tuple[tuple, np.ndarray]:
    """(what is measured, the numbers of the recorded generations) of a simulation.

    Raises `InputError` for what makes no sense.
    """
    check_started(process, key)
    for name, value, least in (
        ("generations", generations, 0),
        ("chains", chains, 1),
        ("chunk", chunk, 1),
    ):
        whole(name, value, least, _MOST)
    if memory_limit is not None:
        number("memory_limit", memory_limit)
    if not process.runtime.traceable:
        raise InputError("this estimator fits or samples on the host; use run instead of simulate")
    measure = tuple(resolve_metrics(process.metrics, metrics).items())
    _check_that_shapes_stay(process, measure, key, generations, settings)
    return measure, recorded_generations(generations, record)


def join_chunks(chunks: list[Chunk]) -> Trace:
    """The `Trace` of chunks in their order."""
    arrays = {
        name: np.concatenate([part.arrays[name] for part in chunks], axis=1)
        for name in chunks[0].arrays
    }
    return Trace(arrays, np.concatenate([part.generations for part in chunks]))


def recorded_generations(generations: int, record=1) -> np.ndarray:
    """The generations that `record` asks for, ascending, with 0 and the last always among them.

    record: a stride; "log" for about 20 a decade; or the numbers themselves. Raises `InputError`
    for anything else, or a number beyond.
    """
    whole("generations", generations, 0, _MOST)
    if isinstance(record, str):
        if record != "log":
            raise InputError(
                f"record is {record!r}; it must be a stride, 'log', or generation numbers"
            )
        numbers = np.geomspace(
            1, max(generations, 1), 1 + round(20 * np.log10(max(generations, 10)))
        ).round()
        numbers = numbers[numbers <= generations]
    elif isinstance(record, int | np.integer) and not isinstance(record, bool):
        if record < 1:
            raise InputError(f"record is {record}; a stride must be at least 1")
        numbers = np.arange(0, generations + 1, record)
    elif isinstance(record, bool) or not isinstance(record, Iterable):
        raise InputError(f"record is {record!r}; it must be a stride, 'log', or generation numbers")
    else:
        numbers = np.unique(np.asarray(list(record)))
        if len(numbers) and (
            numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > generations
        ):
            raise InputError(
                f"record is {list(record)!r}; its numbers must be generations from 0 to "
                f"{generations}"
            )
    return np.unique(np.concatenate([[0], numbers, [generations]])).astype(int)


def memory_needed(
    process: Process,
    key: jax.Array,
    generations: int,
    chains: int,
    metrics=DEFAULT_METRICS,
    records: int = 1,
    settings=None,
) -> int:
    """Bytes that a simulation holds at once, about: the states and training sets of all chains, and
    `records` of the metrics.
    """
    measure = resolve_metrics(process.metrics, metrics)
    state, info = tiles.shapes(process, key, generations, settings)
    values = tiles.measured_shapes(tuple(measure.items()), state).values()
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((state, info.data)))
    points = 1 if settings is None else len(next(iter(settings.values())))
    return (
        points
        * chains
        * (held + records * sum(value.size * value.dtype.itemsize for value in values))
    )


def _check_that_shapes_stay(process, measure, key, generations, settings):
    """Raises `InputError` for a metric whose shape follows the list of categories, which gets
    shorter as these die out.
    """
    if process.runtime.compaction is None:
        return
    state, _ = tiles.shapes(process, key, generations, settings)
    short = state._replace(
        params=jax.eval_shape(
            lambda params: process.runtime.compaction.to_size(params, 1), state.params
        )
    )
    before, after = (tiles.measured_shapes(measure, one) for one in (state, short))
    for name, value in before.items():
        if value.shape != after[name].shape:
            raise InputError(
                f"metric {name!r} has shape {value.shape}, or {after[name].shape} once "
                "categories that no chain has any more are left out; "
                "it must keep one shape (as metric 'probabilities' does)"
            )


def all_chunks(
    process, all_chains: AllChains, generations: int, numbers: np.ndarray, chunk: int, after=None
) -> Iterator[Chunk]:
    """The chunks of chains that are about to begin, or to go on after (generation, state)."""
    if after is None:
        done = 0
        yield Chunk(np.zeros(1, int), all_chains.start(generations), all_chains.copy_state)
    else:
        done, state = after
        all_chains.restore(state, generations)
    numbers = numbers[numbers > done]
    # The same for every call, so that a shorter one is not another program.
    rows = min(chunk, len(numbers))
    while len(numbers):
        if process.runtime.compaction is not None:
            all_chains.relist()
            # Support falls like 1 / generation: a pause at every doubling keeps what is carried
            # small.
            pause = max(2 * done, 1)
            if numbers[0] > pause:
                all_chains.advance(done, np.array([pause]), rows, discard=True)
                done = pause
                continue
            now = numbers[numbers <= pause][:chunk]
        else:
            now = numbers[:chunk]
        yield Chunk(now, all_chains.advance(done, now, rows), all_chains.copy_state)
        done, numbers = int(now[-1]), numbers[len(now) :]
