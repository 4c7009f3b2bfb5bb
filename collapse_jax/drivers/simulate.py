"""The traceable driver: chains by `vmap`, generations in a compiled loop, spread over all cores and devices."""

import concurrent.futures
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax import distributed, tiles
from collapse_jax.checks import number, whole
from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.metrics import resolve_metrics
from collapse_jax.process import check_started
from collapse_jax.trace import Trace
from collapse_jax.types import Process, State

_DEFAULT_METRICS = ("mean", "variance", "log_variance")
# Generations are counted in 32 bits.
_MOST = 2**31 - 1


class Chunk(NamedTuple):
    """Some generations of all chains.

    generations: [recorded] their numbers. arrays: name -> [chain, recorded, ...].
    copy_state(): the state of all chains [chain, ...] after the last of them, on the host; it is gone once the next chunk is asked for.
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
    metrics: Iterable = _DEFAULT_METRICS,
    record=1,
    chunk: int = 100,
    memory_limit: int | None = None,
    progress: Callable[[int], None] = lambda generation: None,
    devices: Sequence | None = None,
) -> Trace:
    """Metrics of chains 0 .. chains - 1 at the recorded generations: `trace[name]` is a NumPy array [chain, recorded, ...].

    metrics: names that the process offers (`process.metrics`), or functions of the state.
    record: a stride, the numbers of the generations, or "log"
    (see `recorded_generations`). chunk: records in one compiled call; progress is called with the newest generation after each.
    memory_limit: bytes; see `memory_needed`. devices: those of this process to spread the chains over; all by default.
    In a job of several processes each takes a share of the chains, and every one gets all the numbers.
    Chain c uses `fold_in(key, c)`, and generation g of it `fold_in(fold_in(key, c), g)`:
    asking for more chains or generations, other records, chunks or devices, changes no number. (Integers bit for bit; float32 up to
    rounding, 2e-5 relative in the tests, because XLA fuses programs of other shapes differently.)
    Raises `InputError` for sizes that have no meaning, an unknown metric, more memory than the limit, or an estimator that is not
    traceable (use `run`); `DivergenceError` naming chain and generation once a model holds nan.
    """
    numbers = recorded_generations(generations, record)
    options = {"generations": generations, "chains": chains, "metrics": metrics, "record": numbers, "chunk": chunk, "devices": devices}
    whole, at = {}, 0

    def storage(name, values, count):
        """Where a chunk of a metric goes: [count, ..., chains] of the whole, so that no record is copied twice."""
        if name not in whole:
            whole[name] = np.empty((len(numbers), *values.shape[1:-1], chains), values.dtype)
        return whole[name][at : at + count]

    for part in simulate_chunks(process, key, **options, memory_limit=memory_limit, records_kept=len(numbers), storage=storage):
        at += len(part.generations)
        progress(int(part.generations[-1]))
    return Trace({name: np.moveaxis(values, -1, 0) for name, values in whole.items()}, numbers)


def simulate_chunks(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    chains: int = 1,
    metrics: Iterable = _DEFAULT_METRICS,
    record=1,
    chunk: int = 100,
    after: tuple[int, State] | None = None,
    memory_limit: int | None = None,
    records_kept: int | None = None,
    settings: Mapping[str, np.ndarray] | None = None,
    storage: Callable[[str, np.ndarray, int], np.ndarray] | None = None,
    devices: Sequence | None = None,
) -> Iterator[Chunk]:
    """The same as `simulate`, chunk by chunk: generation 0 first, then up to `chunk` records at a time.

    settings: for a process of `process_grid`, name -> [points]; every point gets the same `chains` chains, and the axis of chains in
    all arrays runs over points and chains, the chains fastest.

    after: (generation, state of all chains) from which to go on, as an earlier chunk's `copy_state` gave it.
    storage: (name, values [rows, ..., chains of a tile], count) -> an array [count, ..., chains] that a chunk's records are written to.
    records_kept: how many records the caller keeps, for the memory that is held against `memory_limit`; by default one chunk.
    """
    check_started(process, key)
    for name, value, least in (("generations", generations, 0), ("chains", chains, 1), ("chunk", chunk, 1)):
        whole(name, value, least, _MOST)
    if memory_limit is not None:
        number("memory_limit", memory_limit)
    if not process.estimator.traceable:
        raise InputError("this estimator fits or samples on the host; use run instead of simulate")
    measure = tuple(resolve_metrics(process.metrics, metrics).items())
    _check_that_shapes_stay(process, measure, key, generations, settings)
    numbers = recorded_generations(generations, record)
    records_kept = min(chunk, len(numbers)) if records_kept is None else records_kept
    needed = memory_needed(process, key, generations, chains, metrics, records_kept, settings)
    if memory_limit is not None and needed > memory_limit:
        raise InputError(
            f"memory_limit is {memory_limit / 2**20:.0f} MiB, but {chains:,} chains with {len(numbers):,} recorded generations need about "
            f"{needed / 2**20:.0f} MiB; record fewer generations or metrics, take fewer chains, or raise the limit"
        )
    all_chains = _Tiles(process, key, chains, measure, settings, storage, devices)
    with all_chains:
        yield from _chunks(process, all_chains, generations, numbers, chunk, after)


def join_chunks(chunks: list[Chunk]) -> Trace:
    """The `Trace` of chunks in their order."""
    arrays = {name: np.concatenate([part.arrays[name] for part in chunks], axis=1) for name in chunks[0].arrays}
    return Trace(arrays, np.concatenate([part.generations for part in chunks]))


def recorded_generations(generations: int, record=1) -> np.ndarray:
    """The generations that `record` asks for, ascending, with 0 and the last always among them.

    record: a stride; "log" for about 20 a decade; or the numbers themselves. Raises `InputError` for anything else, or a number beyond.
    """
    whole("generations", generations, 0, _MOST)
    if isinstance(record, str):
        if record != "log":
            raise InputError(f"record is {record!r}; it must be a stride, 'log', or generation numbers")
        numbers = np.geomspace(1, max(generations, 1), 1 + round(20 * np.log10(max(generations, 10)))).round()
        numbers = numbers[numbers <= generations]
    elif isinstance(record, int | np.integer) and not isinstance(record, bool):
        if record < 1:
            raise InputError(f"record is {record}; a stride must be at least 1")
        numbers = np.arange(0, generations + 1, record)
    elif isinstance(record, bool) or not isinstance(record, Iterable):
        raise InputError(f"record is {record!r}; it must be a stride, 'log', or generation numbers")
    else:
        numbers = np.unique(np.asarray(list(record)))
        if len(numbers) and (numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > generations):
            raise InputError(f"record is {list(record)!r}; its numbers must be generations from 0 to {generations}")
    return np.unique(np.concatenate([[0], numbers, [generations]])).astype(int)


def memory_needed(
    process: Process, key: jax.Array, generations: int, chains: int, metrics=_DEFAULT_METRICS, records: int = 1, settings=None
) -> int:
    """Bytes that a simulation holds at once, about: the states and training sets of all chains, and `records` of the metrics."""
    measure = resolve_metrics(process.metrics, metrics)
    state, info = tiles.shapes(process, key, generations, settings)
    values = tiles.measured_shapes(tuple(measure.items()), state).values()
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((state, info.evidence)))
    points = 1 if settings is None else len(next(iter(settings.values())))
    return points * chains * (held + records * sum(value.size * value.dtype.itemsize for value in values))


def _check_that_shapes_stay(process, measure, key, generations, settings):
    if process.relist is None:
        return
    state, _ = tiles.shapes(process, key, generations, settings)
    short = state._replace(params=jax.eval_shape(lambda params: process.relist(params, 1), state.params))
    before, after = (tiles.measured_shapes(measure, one) for one in (state, short))
    for name, value in before.items():
        if value.shape != after[name].shape:
            raise InputError(
                f"metric {name!r} has shape {value.shape}, or {after[name].shape} once categories that no chain has any more are left out; "
                "it must keep one shape (as metric 'probabilities' does)"
            )


def _chunks(process, all_chains, generations, numbers, chunk, after):
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
        if process.relist is not None:
            all_chains.relist()
            # Support falls like 1 / generation: a pause at every doubling keeps what is carried small.
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


class _Tiles:
    """This process's share of the chains of a simulation, cut into tiles that run on all its cores and devices."""

    def __init__(self, process, key, chains, measure, settings, storage, devices):
        points = 1 if settings is None else len(next(iter(settings.values())))
        self._process, self._measure, self._total = process, measure, points * chains
        self._first, end = distributed.share(self._total)
        self._key, self._chains, self._chains_of_a_point, self._last = key, end - self._first, chains, 0
        self._size = tiles.chains_in_tile(process, key, self._chains, settings, devices)
        lanes = [self._first + np.arange(at, at + self._size) % self._chains for at in range(0, self._chains, self._size)]
        self._keys = [tiles.chain_keys(key, one % chains, settings, one // chains, devices) for one in lanes]
        self._states, self._free = [None] * len(self._keys), []
        own = lambda name, values, count: np.empty((count, *values.shape[1:-1], self._chains), values.dtype)  # noqa: E731
        # Several processes write their shares to arrays of their own first.
        self._storage, self._all = (storage or own, None) if distributed.processes() == 1 else (own, storage)
        self._pool = concurrent.futures.ThreadPoolExecutor(min(tiles.workers(devices), len(self._keys)))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._pool.shutdown(cancel_futures=True)

    def start(self, generations):
        self._last = generations

        def one(tile, keep):
            self._states[tile], values = tiles.start(self._process, self._measure, generations, self._keys[tile])
            keep({name: np.asarray(value)[None] for name, value in values.items()})

        return self._collect(one, 1, 0)

    def advance(self, done, now, rows, discard=False):
        def one(tile, keep):
            try:
                records = self._free.pop()
            except IndexError:
                records = tiles.room(self._process, self._measure, rows, self._states[tile], self._keys[tile])
            arguments = (self._process, self._measure, rows, self._states[tile], self._keys[tile], done, now, records)
            self._states[tile], records = tiles.advance(*arguments)
            if not discard:
                keep({name: np.asarray(value)[: len(now)] for name, value in records.items()})
            self._free.append(records)

        return self._collect(one, len(now), int(now[-1]))

    def _refuse_nan(self, lanes, generation):
        """Raises for the first chain, of all processes, whose model holds nan; lanes: one or None for each tile."""
        found = (self._first + (tile * self._size + lane) % self._chains for tile, lane in enumerate(lanes) if lane is not None)
        number = self._total - distributed.largest(self._total - min(found, default=self._total))
        if number == self._total:
            return
        chain, point = number % self._chains_of_a_point, number // self._chains_of_a_point
        where = f"chain {chain}" + (f" at point {point} of the grid" if self._total > self._chains_of_a_point else "")
        if self._total == self._chains_of_a_point:
            generation = _first_with_nan(self._process, jax.random.fold_in(self._key, chain), self._last, generation)
        raise DivergenceError(
            f"{where}: the model became nan by generation {generation}; look at the fit on the training set that it had there "
            f"(this chain uses jax.random.fold_in(key, {chain}), and each generation g fold_in of that with g), or try float64"
        )

    def relist(self):
        """Drops what is dead in all chains of a tile, where that makes it a good deal smaller."""

        def one(tile):
            there = max(leaf.shape[0] for leaf in jax.tree.leaves(self._states[tile].params))
            needed = _rounded_up(tiles.most_alive(self._process, self._states[tile]))
            if needed <= 0.6 * there:
                self._states[tile] = tiles.relisted(self._process, needed, self._states[tile])

        list(self._pool.map(one, range(len(self._states))))

    def _collect(self, one, count, generation):
        """name -> [chain, recorded, ...] of all tiles of all processes, up to a generation: one(tile, keep) does a tile's work.

        The chains lie on the last axis in memory.
        """
        whole, lock = {}, threading.Lock()

        def of_tile(tile):
            def keep(values):
                with lock:
                    for name, part in values.items():
                        if name not in whole:
                            whole[name] = self._storage(name, part, count)
                first = tile * self._size
                for name, part in values.items():
                    stored = whole[name][..., first : first + self._size]
                    stored[...] = part[..., : stored.shape[-1]]

            one(tile, keep)
            return tiles.lane_with_nan(self._process, self._states[tile])

        self._refuse_nan(list(self._pool.map(of_tile, range(len(self._states)))), generation)
        whole = {name: np.moveaxis(array, -1, 0) for name, array in whole.items()}
        return whole if distributed.processes() == 1 else {name: self._of_all(name, whole[name], count) for name in sorted(whole)}

    def _of_all(self, name, share, count):
        """[chain, recorded, ...] of the chains of all processes."""
        gathered = distributed.concatenated(share)
        if self._all is None:
            return gathered
        stored = self._all(name, np.moveaxis(gathered, 0, -1), count)
        stored[...] = np.moveaxis(gathered, 0, -1)
        return np.moveaxis(stored, -1, 0)

    def copy_state(self):
        """The state of all chains [chain, ...] on the host, of every process; shorter lists of parts are padded with dead ones."""

        def joined(*leaves):
            leaves = [np.moveaxis(np.asarray(leaf), self._process.chain_axis, 0) for leaf in leaves]
            most = np.max([leaf.shape for leaf in leaves], axis=0)[1:]
            missing = [[(0, 0), *((0, longest - here) for longest, here in zip(most, leaf.shape[1:], strict=True))] for leaf in leaves]
            return np.concatenate([np.pad(leaf, widths) for leaf, widths in zip(leaves, missing, strict=True)])[: self._chains]

        return jax.tree.map(lambda *leaves: distributed.concatenated(joined(*leaves)), *self._states)

    def restore(self, state, generations):
        """The tiles of a state of all chains [chain, ...]; the last is filled up with copies of its first chain."""
        self._last = generations
        state = jax.tree.map(lambda leaf: np.asarray(leaf)[self._first : self._first + self._chains], state)
        state = jax.vmap(lambda one: self._process.resize(one, generations))(state)
        axis = self._process.chain_axis
        for tile, key in enumerate(self._keys):

            def part(leaf, first=tile * self._size, key=key):
                leaf = np.asarray(leaf)[first : first + self._size]
                leaf = np.concatenate([leaf, np.repeat(leaf[:1], self._size - len(leaf), 0)])
                return tiles.placed(np.moveaxis(leaf, 0, axis), axis, key)

            self._states[tile] = jax.tree.map(part, state)


def _first_with_nan(process, key, last, at_most):
    """The generation at which the model of a chain first holds nan, by going through them again; `at_most` where that finds none."""
    state, step = None, jax.jit(process.step)
    for generation in range(at_most + 1):
        own = jax.random.fold_in(key, generation)
        state = step(own, state)[0] if generation else process.init(own, last)[0]
        if any(np.isnan(leaf).any() for leaf in jax.tree.leaves(state.params) if jnp.issubdtype(leaf.dtype, jnp.inexact)):
            return generation
    return at_most


def _rounded_up(size):
    """The next of 1, 2, 3, 4, 6, 8, 12, 16 ...: few shapes to compile, at most half again too large."""
    power = 2 ** max(math.ceil(math.log2(max(size, 1))), 0)
    return 3 * power // 4 if power >= 4 and size <= 3 * power // 4 else power
