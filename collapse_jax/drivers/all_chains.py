"""This process's chains of a simulation: their states on its devices, cut into tiles."""

import concurrent.futures
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.marks import is_spoiled, raise_by_name
from collapse_jax.core.types import Compaction, Process, State
from collapse_jax.drivers import out_of_range, tiles
from collapse_jax.drivers.plan import Simulation
from collapse_jax.errors import DivergenceError
from collapse_jax.runs import distributed

# Compaction must win this much: a tile of another size is another program.
_COMPACT_BELOW = 0.6


class Sink(Protocol):
    """What takes the records of all tiles and turns them into what a chunk holds."""

    def open(self, chains: int, size: int, pool: concurrent.futures.Executor) -> None:
        """Told once: this process's chains, those of a tile, and threads that may be used."""

    def begin(self, count: int) -> None:
        """The next chunk has so many records."""

    def take(self, tile: int, values: dict) -> bool:
        """Name -> [rows, ..., chains of a tile], on any thread; whether it is done with them."""
        ...

    def end(self) -> dict[str, np.ndarray]:
        """What the chunk holds, once all tiles are taken."""
        ...


class AllChains:
    """This process's share of the chains, in tiles that run on all its cores and devices."""

    def __init__(self, simulation: Simulation, sink: Sink):
        process, key, plan, measure, _, self._words = simulation
        self._process, self._key, self._measure = process, key, measure
        self._generations, self._chains_a_point = plan.generations, plan.chains
        self._first_chain = plan.first_chain
        self._is_grid, self._names = plan.settings is not None, plan.names
        self._total = simulation.points * plan.chains
        self._first, end = distributed.share(self._total)
        self._chains = end - self._first
        self._size = tiles.chains_in_tile(process, key, self._chains, plan.settings, plan.devices)
        self._batches = [self._batch(plan, first) for first in range(0, self._chains, self._size)]
        self._states: list[Any] = [None] * len(self._batches)
        self._free = []  # memory for records
        threads = min(tiles.workers(plan.devices), len(self._batches))
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._sink = sink
        self._watch = out_of_range.Watch(process, dict(measure), self._chains, plan.generations)
        sink.open(self._chains, self._size, self._pool)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._pool.shutdown(cancel_futures=True)
        self._free = []

    def _batch(self, plan, first):
        """The chains of the tile that begins at `first`; the last tile is filled up with others."""
        numbers = self._first + np.arange(first, first + self._size) % self._chains
        point, chain = np.divmod(numbers, plan.chains)
        chain = chain + plan.first_chain
        return tiles.chain_batch(self._key, chain, plan.settings, point, plan.devices, self._words)

    def start(self) -> dict[str, np.ndarray]:
        """What the sink makes of generation 0."""

        def start_tile(tile):
            self._states[tile], values = tiles.start(
                self._process, self._measure, self._generations, self._batches[tile]
            )
            self._sink.take(tile, values)

        self._sink.begin(1)
        self._run_tiles(start_tile, 0)
        return self._sink.end()

    def advance(self, done: int, recorded: np.ndarray, rows: int) -> dict[str, np.ndarray]:
        """What the sink makes of the next generations to record.

        Args:
            done: the newest generation.
            recorded: those to record, all after `done`.
            rows: the most records of one call, the same in every call.
        """
        held = []

        def advance_tile(tile):
            records = self._advance_tile(tile, done, recorded, rows)
            (self._free if self._sink.take(tile, records) else held).append(records)

        self._sink.begin(len(recorded))
        self._run_tiles(advance_tile, int(recorded[-1]))
        chunk = self._sink.end()
        self._free += held
        return chunk

    def skip(self, done: int, generation: int, rows: int) -> None:
        """Goes on to a generation without recording anything."""

        def advance_tile(tile):
            self._free.append(self._advance_tile(tile, done, np.array([generation]), rows))

        self._run_tiles(advance_tile, generation)

    def _advance_tile(self, tile, done, recorded, rows):
        process, measure, batch = self._process, self._measure, self._batches[tile]
        try:
            records = self._free.pop()
        except IndexError:
            records = tiles.allocate(process, measure, rows, self._states[tile], batch)
        self._states[tile], records = tiles.advance(
            process, measure, rows, self._states[tile], batch, done, recorded, records
        )
        return records

    def _run_tiles(self, function, generation):
        """Calls function(tile) for all tiles, which are then at a generation; refuses nan."""

        def run(tile):
            function(tile)
            return tiles.chain_with_nan(self._process, self._states[tile]), self._out_of_range(tile)

        places, counts = zip(*self._pool.map(run, range(len(self._states))), strict=True)
        self._refuse_nan(places, generation)
        self._watch.tell(generation, sum(counts))

    def _out_of_range(self, tile):
        """The number of chains of a tile with a model out of the range of its family."""
        if not self._watch.looks:
            return 0
        axis = self._process.runtime.chain_axis
        found = out_of_range.chains_out_of_range(self._process, self._states[tile], axis)
        # The last tile is filled up with further chains.
        return 0 if found is None else int(found[: self._chains - tile * self._size].sum())

    def _refuse_nan(self, places, generation):
        """Raises for the first chain, of all processes, whose model holds nan.

        places: for each tile the place in it of its first such chain, or None.
        """
        numbers = (
            self._first + (tile * self._size + place) % self._chains
            for tile, place in enumerate(places)
            if place is not None
        )
        number = self._total - distributed.largest(self._total - min(numbers, default=self._total))
        if number == self._total:
            return
        point, chain = divmod(number, self._chains_a_point)
        chain += self._first_chain
        where, of_point = f"chain {chain}", "key"
        if self._is_grid:
            where += f" at {self._names[point] if self._names else f'point {point} of the grid'}"
            if self._words is not None:
                first, second = self._words[point]
                of_point = f"jax.random.fold_in(jax.random.fold_in(key, {first}), {second})"
        else:
            key = jax.random.fold_in(self._key, chain)
            try:
                generation = _first_with_nan(self._process, key, self._generations, generation)
            except DivergenceError as error:
                raise DivergenceError(f"{where}, {error}") from None
        curated = bool(self._process.parts.workflow.filters)
        raise DivergenceError(
            f"{where}: the model became nan by generation {generation}; look at the fit on "
            f"the training set that it had there{' and at rewards and verdicts' * curated} "
            f"(this chain uses jax.random.fold_in({of_point}, {chain}), and each generation g "
            "fold_in of that with g), or try float64"
        )

    def compact(self, compaction: Compaction) -> None:
        """Drops what has died out in all chains of a tile, where that makes it much smaller."""
        axis = self._process.runtime.chain_axis

        def compact_tile(tile):
            state = self._states[tile]
            size = max(leaf.shape[0] for leaf in jax.tree.leaves(state.params))
            needed = _rounded_up(tiles.most_in_use(compaction, axis, state))
            if needed <= _COMPACT_BELOW * size:
                self._states[tile] = tiles.compact(compaction, axis, needed, state)

        list(self._pool.map(compact_tile, range(len(self._states))))

    def copy_state(self) -> State:
        """The state of all chains [chain, ...] of all processes, on the host.

        Shorter lists of parts are padded with dead ones.
        """
        axis = self._process.runtime.chain_axis

        def of_all(*leaves):
            leaves = [np.moveaxis(np.asarray(leaf), axis, 0) for leaf in leaves]
            return distributed.concatenated(_joined(*leaves)[: self._chains])

        return jax.tree.map(of_all, *self._states)

    def state_bytes(self) -> int:
        """Bytes of the states of this process's chains."""
        leaves = jax.tree.leaves(self._states)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    def restore(self, state: State) -> None:
        """Cuts a state of all chains [chain, ...] into tiles."""
        own = slice(self._first, self._first + self._chains)
        state = jax.tree.map(lambda leaf: np.asarray(leaf)[own], state)
        state = jax.vmap(lambda state: self._process.resize(state, self._generations))(state)
        axis = self._process.runtime.chain_axis
        for tile, batch in enumerate(self._batches):

            def cut(leaf, first=tile * self._size, batch=batch):
                leaf = np.asarray(leaf)[first : first + self._size]
                # The last tile is filled up with copies of its first chain.
                leaf = np.concatenate([leaf, np.repeat(leaf[:1], self._size - len(leaf), 0)])
                return tiles.placed(np.moveaxis(leaf, 0, axis), axis, batch)

            self._states[tile] = jax.tree.map(cut, state)


def joined_states(*states: State) -> State:
    """States of some chains [chain, ...] and of others as one, on the host.

    Shorter lists of parts are padded with dead ones.
    """
    return jax.tree.map(lambda *leaves: _joined(*map(np.asarray, leaves)), *states)


def _joined(*leaves):
    """Arrays [chain, ...] one after another, their other axes filled up to the longest."""
    longest = np.max([leaf.shape for leaf in leaves], axis=0)[1:]
    padded = [
        np.pad(leaf, [(0, 0), *((0, gap) for gap in longest - leaf.shape[1:])]) for leaf in leaves
    ]
    return np.concatenate(padded)


def _first_with_nan(process: Process, key, last_generation, at_most):
    """The generation at which a chain's model first holds nan, by going through them again.

    `at_most` where that finds none. Raises where a function is found that gave nan.
    """
    init, step = process.init, jax.jit(process.step)
    state = None
    for generation in range(at_most + 1):
        its_key, before = jax.random.fold_in(key, generation), state
        state, _ = step(its_key, state) if generation else init(its_key, last_generation)
        if bool(is_spoiled(state)) or any(
            np.isnan(leaf).any()
            for leaf in jax.tree.leaves(state.params)
            if jnp.issubdtype(leaf.dtype, jnp.inexact)
        ):
            if before is not None:
                raise_by_name(process, its_key, before, generation)
            return generation
    return at_most


def _rounded_up(size):
    """The next of 1, 2, 3, 4, 6, 8, 12, 16 ...: few to compile, at most half again too large."""
    power = 2 ** max(math.ceil(math.log2(max(size, 1))), 0)
    return 3 * power // 4 if power >= 4 and size <= 3 * power // 4 else power
