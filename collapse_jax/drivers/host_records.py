"""Everything that all chains record, on the host."""

import threading
from concurrent.futures import Executor

import numpy as np

from collapse_jax.drivers.all_chains import Sink
from collapse_jax.runs import distributed


class HostRecords(Sink):
    """Keeps every record of all chains of all processes.

    Arrays are [recorded, ..., chains] in memory, so that what a tile gives is copied once, and are
    handed out as views [chain, recorded, ...].

    rows: how many records the arrays hold, of all chunks together; None gives each chunk its own.
    """

    def __init__(self, rows: int | None = None):
        self._rows, self._next_row, self._count = rows, 0, 0
        self._whole, self._chunk = {}, {}
        self._lock = threading.Lock()

    def open(self, chains: int, size: int, pool: Executor) -> None:
        self._chains, self._size = chains, size

    def begin(self, count: int) -> None:
        self._next_row, self._count, self._chunk = self._next_row + self._count, count, {}
        if self._rows is None:
            self._next_row, self._whole = 0, {}

    def take(self, tile: int, values: dict) -> bool:
        values = {name: np.asarray(value)[: self._count] for name, value in values.items()}
        with self._lock:
            for name, part in values.items():
                if name not in self._chunk:
                    self._chunk[name] = self._allocated(name, part)
        first = tile * self._size
        for name, part in values.items():
            stored = self._chunk[name][..., first : first + self._size]
            stored[...] = part[..., : stored.shape[-1]]
        return True

    def end(self) -> dict[str, np.ndarray]:
        if distributed.processes() > 1:
            self._chunk = {name: self._of_all(name) for name in sorted(self._chunk)}
        return _chains_first(self._chunk)

    @property
    def taken(self) -> int:
        """Rows that all tiles have given, also of a chunk that was not ended; only with `rows`.

        With several processes a chunk is whole once it is ended.
        """
        return 0 if distributed.processes() > 1 else self._next_row + self._count

    def whole(self) -> dict[str, np.ndarray]:
        """Name -> [chain, recorded, ...] of all chunks; only with `rows`."""
        return _chains_first(self._whole)

    def _allocated(self, name, part):
        """Memory for a metric of the chunk, for this process's chains."""
        if distributed.processes() > 1:
            return np.empty((self._count, *part.shape[1:-1], self._chains), part.dtype)
        return self._rows_of(name, part.shape[1:-1], self._chains, part.dtype)

    def _rows_of(self, name, shape, chains, dtype):
        """The chunk's rows of the array that holds a metric."""
        if name not in self._whole:
            rows = self._count if self._rows is None else self._rows
            self._whole[name] = np.empty((rows, *shape, chains), dtype)
        return self._whole[name][self._next_row : self._next_row + self._count]

    def _of_all(self, name):
        """The chunk [recorded, ..., chains] of all processes."""
        gathered = distributed.concatenated(np.moveaxis(self._chunk[name], -1, 0))
        gathered = np.moveaxis(gathered, 0, -1)
        if self._rows is None:
            return gathered
        stored = self._rows_of(name, gathered.shape[1:-1], gathered.shape[-1], gathered.dtype)
        stored[...] = gathered
        return stored


def _chains_first(arrays):
    return {name: np.moveaxis(array, -1, 0) for name, array in arrays.items()}
