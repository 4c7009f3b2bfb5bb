"""The points of a grid in batches: run, reduced to statistics, put together and labelled.

`cj.simulate_grid` and `collapse-jax simulate` differ in how they find the batches, and in what they
save on the way; everything from there on is here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from collapse_jax.core.types import Process
from collapse_jax.drivers.chunks import Chunk
from collapse_jax.drivers.labels import with_labels
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate_chunks
from collapse_jax.drivers.summary import QUANTILES, summarise_chunks
from collapse_jax.metrics.labels import Label

if TYPE_CHECKING:
    import xarray

# Chains of all points in one batch.
BATCH = 2**20


class Batch(NamedTuple):
    """Points that one compiled program covers.

    process: from `process_grid`.
    numbers: [points] their places in the grid.
    settings: name -> [points] what is traced.
    names: [points] what names each of them, for its random numbers.
    """

    process: Process
    numbers: np.ndarray
    settings: dict[str, np.ndarray]
    names: list[str]

    def part(self, places: slice | np.ndarray) -> "Batch":
        """Some of the points; places: among those of this batch."""
        settings = {name: values[places] for name, values in self.settings.items()}
        names = np.array(self.names, object)[places].tolist()
        return Batch(self.process, self.numbers[places], settings, names)

    def without(self, done: np.ndarray) -> "Batch":
        """The points that are not done; done: bool [points of the grid]."""
        return self.part(~done[self.numbers])


def cut(program: Batch, chains: int, most: int = BATCH) -> Iterator[Batch]:
    """The same program on parts of its points, of at most `most` chains each.

    Args:
        program: all points of a program.
        chains: at each point.
        most: chains of a part, which has one point at least.
    """
    size = max(most // chains, 1)
    for first in range(0, len(program.numbers), size):
        yield program.part(slice(first, first + size))


def plan_at(batch: Batch, plan: Plan) -> Plan:
    """The plan at the points of a batch."""
    return plan._replace(settings=batch.settings, names=batch.names)


def chunks_at(batch: Batch, key: jax.Array, plan: Plan) -> Iterator[Chunk]:
    """The chunks of all chains of a batch; arrays [points * chains, recorded, ...]."""
    return simulate_chunks(batch.process, key, plan_at(batch, plan))


def statistics_at(
    batch: Batch,
    key: jax.Array,
    plan: Plan,
    quantiles: Sequence[float] = QUANTILES,
    *,
    of_vectors: bool = False,
) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """(generations, metric -> statistic -> [points, recorded, ...]) of a batch.

    Args:
        batch: the points.
        key: that of the grid.
        plan: what is recorded at every point.
        quantiles: levels in [0, 1].
        of_vectors: whether metrics of several numbers are reduced too.
    """
    chunks = chunks_at(batch, key, plan)
    return summarise_chunks(chunks, plan.chains, quantiles, of_vectors=of_vectors)


class Gathered:
    """Arrays of all points, filled batch by batch.

    arrays: name -> [points, ...]; nan, or 0 of integers, where no batch was put.
    is_done: bool [points].
    """

    def __init__(self, points: int):
        """points: of the grid."""
        self.arrays: dict[str, np.ndarray] = {}
        self.is_done = np.zeros(points, bool)

    def put(self, numbers: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Enters all arrays [points of a batch, ...] of the numbered points."""
        for name, values in arrays.items():
            self._whole(name, values.shape[1:], values.dtype)[numbers] = values
        self.is_done[numbers] = True

    def put_records(self, numbers: np.ndarray, chains: int, rows: int, first: int, chunk: Chunk):
        """Enters a chunk of all chains of the numbered points.

        Args:
            numbers: [points of a batch].
            chains: at each point.
            rows: generations that are recorded in all.
            first: the place of the chunk's first one among them.
            chunk: arrays [points * chains, recorded, ...].
        """
        until = first + len(chunk.generations)
        for name, values in chunk.arrays.items():
            by_point = values.reshape(len(numbers), chains, *values.shape[1:])
            whole = self._whole(name, (chains, rows, *values.shape[2:]), values.dtype)
            whole[numbers, :, first:until] = by_point
        self.is_done[numbers] = until == rows

    def _whole(self, name, shape, dtype):
        if name not in self.arrays:
            empty = np.nan if np.issubdtype(dtype, np.inexact) else 0
            self.arrays[name] = np.full((len(self.is_done), *shape), empty, dtype)
        return self.arrays[name]


def flat(statistics: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """metric -> statistic -> array as "statistic:metric" -> array."""
    return {
        f"{statistic}:{metric}": values
        for metric, of_metric in statistics.items()
        for statistic, values in of_metric.items()
    }


def nested(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The inverse of `flat`."""
    statistics: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        statistic, _, metric = name.partition(":")
        statistics.setdefault(metric, {})[statistic] = values
    return statistics


def of_chains(
    generations: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    axes: Mapping[str, Sequence],
    labels: Mapping[str, Label] | None = None,
) -> "xarray.Dataset":
    """The records of all chains of a grid, labelled.

    Args:
        generations: [recorded].
        arrays: metric -> [points, chain, recorded, ...].
        axes: name -> values of each axis of the grid.
        labels: metric -> its label; of others the name tells.

    Returns:
        Each metric [*axes, chain, generation, ...], with NAME_0, NAME_1 ... for axes of its own.
    """
    import xarray

    shape = tuple(len(values) for values in axes.values())
    variables, chains = {}, 0
    for name, values in arrays.items():
        own = (f"{name}_{axis}" for axis in range(values.ndim - 3))
        dims = (*axes, "chain", "generation", *own)
        variables[name] = dims, values.reshape((*shape, *values.shape[1:]))
        chains = values.shape[1]
    coordinates = {name: list(values) for name, values in axes.items()}
    if variables:
        coordinates |= {"chain": np.arange(chains)}
    coordinates |= {"generation": generations}
    return with_labels(xarray.Dataset(variables, coords=coordinates), labels)
