"""The traceable driver for more chains than anybody wants to keep: statistics over them, computed
where they are.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from collapse_jax.core.types import Process, State
from collapse_jax.drivers.all_chains import AllChains
from collapse_jax.drivers.device_statistics import DeviceStatistics
from collapse_jax.drivers.simulate import DEFAULT_METRICS, Chunk, all_chunks, checked, memory_needed
from collapse_jax.drivers.summary import QUANTILES
from collapse_jax.errors import InputError, numbers


class Summary(NamedTuple):
    """Statistics over chains. generations: [recorded]. mean, std (ddof=1): name -> [recorded, ...].
    quantile: name -> [recorded, ..., quantile], at `quantiles`.
    """

    generations: np.ndarray
    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]
    quantile: dict[str, np.ndarray]
    quantiles: tuple[float, ...]


def simulate_summary(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    chains: int,
    metrics: Iterable = DEFAULT_METRICS,
    record=1,
    quantiles: Sequence[float] = QUANTILES,
    chunk: int = 100,
    memory_limit: int | None = None,
    progress: Callable[[int], None] = lambda generation: None,
    devices: Sequence | None = None,
) -> Summary:
    """Mean, deviation and quantiles over the very chains of `simulate`, reduced on the devices that
    hold them.

    No device holds more than one chunk of records of its own chains, and processes exchange counts
    and sums alone. Arguments as in `simulate`; a smaller chunk needs less memory. Quantiles are
    those of all chains, exactly (linear between the two nearest, as NumPy's; between infinite ones
    the lower), for any number of devices; mean and deviation are sums in float64, whose order
    follows the devices (1e-12 relative in the tests).
    Raises `InputError` as `simulate` does, and for quantiles outside [0, 1]; `DivergenceError` once
    a model holds nan.
    """
    options = {
        "generations": generations,
        "chains": chains,
        "metrics": metrics,
        "record": record,
        "chunk": chunk,
        "devices": devices,
    }
    parts = []
    for part in summary_chunks(
        process, key, quantiles=quantiles, memory_limit=memory_limit, **options
    ):
        parts.append(part)
        progress(int(part.generations[-1]))
    return summary_of(merged(parts), quantiles)


def summary_chunks(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    chains: int,
    metrics: Iterable = DEFAULT_METRICS,
    record=1,
    quantiles: Sequence[float] = QUANTILES,
    chunk: int = 100,
    after: tuple[int, State] | None = None,
    memory_limit: int | None = None,
    devices: Sequence | None = None,
) -> Iterator[Chunk]:
    """The same chunk by chunk, as `simulate_chunks`: the arrays are NAME_mean, NAME_std and
    NAME_quantile [recorded, ...].
    """
    at = numbers("quantiles", quantiles)
    if at.ndim != 1 or not len(at) or not ((at >= 0) & (at <= 1)).all():
        raise InputError(
            f"quantiles is {quantiles!r}; it must be one number from 0 to 1, or several"
        )
    measure, recorded = checked(
        process, key, generations, chains, metrics, record, chunk, memory_limit
    )
    needed = memory_needed(process, key, generations, chains, metrics, min(chunk, len(recorded)))
    if memory_limit is not None and needed > memory_limit:
        raise InputError(
            f"memory_limit is {memory_limit / 2**20:.0f} MiB, but {chains:,} chains with "
            f"{min(chunk, len(recorded))} records at once need "
            f"about {needed / 2**20:.0f} MiB; take a smaller chunk, fewer metrics or "
            "chains, or raise the limit"
        )
    with AllChains(
        process,
        key,
        chains,
        measure,
        None,
        devices,
        functools.partial(DeviceStatistics, quantiles=at),
    ) as all_chains:
        yield from all_chunks(process, all_chains, generations, recorded, chunk, after)


def merged(chunks: list[Chunk]) -> Chunk:
    """Chunks of `summary_chunks` in their order as one, without a state."""
    arrays = {
        name: np.concatenate([part.arrays[name] for part in chunks]) for name in chunks[0].arrays
    }
    return Chunk(np.concatenate([part.generations for part in chunks]), arrays, None)


def summary_of(chunk: Chunk, quantiles: Sequence[float] = QUANTILES) -> Summary:
    """The `Summary` that a chunk of `summary_chunks` holds."""
    by_statistic = [
        {
            name.removesuffix(ending): values
            for name, values in chunk.arrays.items()
            if name.endswith(ending)
        }
        for ending in ("_mean", "_std", "_quantile")
    ]
    return Summary(chunk.generations, *by_statistic, tuple(quantiles))
