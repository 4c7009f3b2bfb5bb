"""This process's chains of a simulation: their states on its devices, what they have recorded, and
how it comes from there.
"""

import concurrent.futures
import math
import threading

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.drivers import tiles
from collapse_jax.errors import DivergenceError
from collapse_jax.runs import distributed


class AllChains:
    """This process's share of the chains of a simulation, cut into tiles that run on all its cores
    and devices.

    sink: makes what takes the records (`HostRecords`, or `DeviceStatistics`) from the number of all
    chains, of this process's, and of a tile's. It has begin(count), take(tile, values), which says
    whether it is done with the arrays, and end() -> what a chunk holds.
    """

    def __init__(self, process, key, chains, measure, settings, devices, sink):
        points = 1 if settings is None else len(next(iter(settings.values())))
        self._process, self._measure, self._total = process, measure, points * chains
        self._first, end = distributed.share(self._total)
        self._key, self._chains, self._chains_of_a_point, self._last = (
            key,
            end - self._first,
            chains,
            0,
        )
        self._size = tiles.chains_in_tile(process, key, self._chains, settings, devices)
        lanes = [
            self._first + np.arange(at, at + self._size) % self._chains
            for at in range(0, self._chains, self._size)
        ]
        self._keys = [
            tiles.chain_keys(key, one % chains, settings, one // chains, devices) for one in lanes
        ]
        self._states, self._free = [None] * len(self._keys), []
        self._pool = concurrent.futures.ThreadPoolExecutor(
            min(tiles.workers(devices), len(self._keys))
        )
        self._sink = sink(self._chains, self._size, self._pool)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._pool.shutdown(cancel_futures=True)

    def start(self, generations):
        """What is recorded of generation 0."""
        self._last = generations

        def one(tile):
            self._states[tile], values = tiles.start(
                self._process, self._measure, generations, self._keys[tile]
            )
            self._sink.take(tile, values)

        return self._collect(one, 1, 0)

    def advance(self, done, now, rows, discard=False):
        """What is recorded of the generations `now`, all after `done`; rows: at most so many, the
        same in every call.
        """
        held = []

        def one(tile):
            try:
                records = self._free.pop()
            except IndexError:
                records = tiles.room(
                    self._process, self._measure, rows, self._states[tile], self._keys[tile]
                )
            arguments = (
                self._process,
                self._measure,
                rows,
                self._states[tile],
                self._keys[tile],
                done,
                now,
                records,
            )
            self._states[tile], records = tiles.advance(*arguments)
            (self._free if discard or self._sink.take(tile, records) else held).append(records)

        found = self._collect(one, len(now), int(now[-1]), discard)
        self._free += held
        return found

    def _refuse_nan(self, lanes, generation):
        """Raises for the first chain, of all processes, whose model holds nan; lanes: one or None
        for each tile.
        """
        found = (
            self._first + (tile * self._size + lane) % self._chains
            for tile, lane in enumerate(lanes)
            if lane is not None
        )
        number = self._total - distributed.largest(self._total - min(found, default=self._total))
        if number == self._total:
            return
        chain, point = number % self._chains_of_a_point, number // self._chains_of_a_point
        where = f"chain {chain}" + (
            f" at point {point} of the grid" if self._total > self._chains_of_a_point else ""
        )
        if self._total == self._chains_of_a_point:
            generation = _first_with_nan(
                self._process, jax.random.fold_in(self._key, chain), self._last, generation
            )
        raise DivergenceError(
            f"{where}: the model became nan by generation {generation}; look at the fit on "
            "the training set that it had there "
            f"(this chain uses jax.random.fold_in(key, {chain}), and each generation g "
            "fold_in of that with g), or try float64"
        )

    def relist(self):
        """Drops what is dead in all chains of a tile, where that makes it a good deal smaller."""

        def one(tile):
            there = max(leaf.shape[0] for leaf in jax.tree.leaves(self._states[tile].params))
            needed = _rounded_up(tiles.most_alive(self._process, self._states[tile]))
            if needed <= 0.6 * there:
                self._states[tile] = tiles.relisted(self._process, needed, self._states[tile])

        list(self._pool.map(one, range(len(self._states))))

    def _collect(self, one, count, generation, discard=False):
        """What the sink gives of all tiles, up to a generation, after one(tile) for each."""
        self._sink.begin(count)

        def of_tile(tile):
            one(tile)
            return tiles.lane_with_nan(self._process, self._states[tile])

        self._refuse_nan(list(self._pool.map(of_tile, range(len(self._states)))), generation)
        return None if discard else self._sink.end()

    def copy_state(self):
        """The state of all chains [chain, ...] on the host, of every process; shorter lists of
        parts are padded with dead ones.
        """

        def joined(*leaves):
            leaves = [
                np.moveaxis(np.asarray(leaf), self._process.runtime.chain_axis, 0)
                for leaf in leaves
            ]
            most = np.max([leaf.shape for leaf in leaves], axis=0)[1:]
            missing = [
                [
                    (0, 0),
                    *(
                        (0, longest - here)
                        for longest, here in zip(most, leaf.shape[1:], strict=True)
                    ),
                ]
                for leaf in leaves
            ]
            return np.concatenate(
                [np.pad(leaf, widths) for leaf, widths in zip(leaves, missing, strict=True)]
            )[: self._chains]

        return jax.tree.map(
            lambda *leaves: distributed.concatenated(joined(*leaves)), *self._states
        )

    def restore(self, state, generations):
        """The tiles of a state of all chains [chain, ...]; the last is filled up with copies of its
        first chain.
        """
        self._last = generations
        state = jax.tree.map(
            lambda leaf: np.asarray(leaf)[self._first : self._first + self._chains], state
        )
        state = jax.vmap(lambda one: self._process.resize(one, generations))(state)
        axis = self._process.runtime.chain_axis
        for tile, key in enumerate(self._keys):

            def part(leaf, first=tile * self._size, key=key):
                leaf = np.asarray(leaf)[first : first + self._size]
                leaf = np.concatenate([leaf, np.repeat(leaf[:1], self._size - len(leaf), 0)])
                return tiles.placed(np.moveaxis(leaf, 0, axis), axis, key)

            self._states[tile] = jax.tree.map(part, state)


class HostRecords:
    """Everything that all chains of all processes record: name -> [chain, recorded, ...], the
    chains on the last axis in memory.
    """

    def __init__(self, chains, size, pool, storage=None):
        self._chains, self._size, self._lock = chains, size, threading.Lock()
        own = lambda name, values, count: np.empty(
            (count, *values.shape[1:-1], chains), values.dtype
        )
        # Several processes write their shares to arrays of their own first.
        self._storage, self._all = (
            (storage or own, None) if distributed.processes() == 1 else (own, storage)
        )

    def begin(self, count):
        """Makes ready for so many records."""
        self._count, self._whole = count, {}

    def take(self, tile, values) -> bool:
        """Copies name -> [rows, ..., chains of a tile] to where they belong."""
        values = {name: np.asarray(value)[: self._count] for name, value in values.items()}
        with self._lock:
            for name, part in values.items():
                if name not in self._whole:
                    self._whole[name] = self._storage(name, part, self._count)
        first = tile * self._size
        for name, part in values.items():
            stored = self._whole[name][..., first : first + self._size]
            stored[...] = part[..., : stored.shape[-1]]
        return True

    def end(self):
        """The arrays, once all tiles are there."""
        whole = {name: np.moveaxis(array, -1, 0) for name, array in self._whole.items()}
        self._whole = None
        return (
            whole
            if distributed.processes() == 1
            else {name: self._of_all(name, whole[name]) for name in sorted(whole)}
        )

    def _of_all(self, name, share):
        """[chain, recorded, ...] of the chains of all processes."""
        gathered = distributed.concatenated(share)
        if self._all is None:
            return gathered
        stored = self._all(name, np.moveaxis(gathered, 0, -1), self._count)
        stored[...] = np.moveaxis(gathered, 0, -1)
        return np.moveaxis(stored, -1, 0)


def _first_with_nan(process, key, last, at_most):
    """The generation at which the model of a chain first holds nan, by going through them again;
    `at_most` where that finds none.
    """
    state, step = None, jax.jit(process.step)
    for generation in range(at_most + 1):
        own = jax.random.fold_in(key, generation)
        state = step(own, state)[0] if generation else process.init(own, last)[0]
        if any(
            np.isnan(leaf).any()
            for leaf in jax.tree.leaves(state.params)
            if jnp.issubdtype(leaf.dtype, jnp.inexact)
        ):
            return generation
    return at_most


def _rounded_up(size):
    """The next of 1, 2, 3, 4, 6, 8, 12, 16 ...: few shapes to compile, at most half again too
    large.
    """
    power = 2 ** max(math.ceil(math.log2(max(size, 1))), 0)
    return 3 * power // 4 if power >= 4 and size <= 3 * power // 4 else power
