"""The traceable driver that keeps statistics over chains alone, computed on their devices."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from collapse_jax.core.html import html_table
from collapse_jax.core.process import check_started
from collapse_jax.core.types import Process
from collapse_jax.drivers.chunks import Chunk, Records, chunks_of, join_records
from collapse_jax.drivers.device_statistics import DeviceStatistics
from collapse_jax.drivers.interrupted import Interrupted, diverged
from collapse_jax.drivers.plan import DEFAULT_METRICS, Plan, check_memory, check_plan
from collapse_jax.drivers.progress import Progress, shown
from collapse_jax.drivers.summary import QUANTILES, as_dataset
from collapse_jax.drivers.trace import shapes_in_words, span_in_words
from collapse_jax.errors import DivergenceError, InputError, numbers, whole

if TYPE_CHECKING:
    import xarray


class Summary(NamedTuple):
    """Statistics over chains.

    generations: [recorded].
    mean: name -> [recorded, ...].
    std: the same with ddof=1.
    quantile: name -> [recorded, ..., quantile], at `quantiles`.
    """

    generations: np.ndarray
    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]
    quantile: dict[str, np.ndarray]
    quantiles: tuple[float, ...]

    def to_xarray(self) -> "xarray.Dataset":
        """NAME_mean, NAME_std [generation, ...] and NAME_quantile [generation, ..., quantile]."""
        parts = {"mean": self.mean, "std": self.std, "quantile": self.quantile}
        statistics = {
            name: {statistic: values[name][None] for statistic, values in parts.items()}
            for name in self.mean
        }
        return as_dataset(self.generations, statistics, quantiles=self.quantiles)

    def __repr__(self) -> str:
        levels = ", ".join(f"{level:g}" for level in self.quantiles)
        return (
            f"Summary of {shapes_in_words(self.generations, self.mean)}\n"
            f"  mean, std (ddof=1), and quantiles [..., quantile] at {levels}"
        )

    def _repr_html_(self) -> str:
        levels = [f"quantile {level:g}" for level in self.quantiles]
        last = self.generations[-1] if len(self.generations) else "none"
        rows = [
            [name, *(f"{value[-1]:.4g}" for value in (mean, self.std[name])), *self._levels(name)]
            for name, mean in self.mean.items()
            if mean.ndim == 1 and len(mean)
        ]
        caption = f"Summary of {span_in_words(self.generations)}; at generation {last}"
        return html_table(("metric", "mean", "std", *levels), rows, caption)

    def _levels(self, name):
        return [f"{value:.4g}" for value in self.quantile[name][-1]]


def simulate_summary(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    chains: int,
    metrics: Iterable = DEFAULT_METRICS,
    record: int | str | Iterable[int] = 1,
    quantiles: Sequence[float] = QUANTILES,
    chunk: int = 100,
    memory_limit: int | None = None,
    progress: Progress = None,
    devices: Sequence | None = None,
) -> Summary:
    """Mean, deviation and quantiles over the very chains of `simulate`, on their devices.

    No device holds more than one chunk of records of its own chains, and processes exchange counts
    and sums alone. Quantiles are those of all chains, exactly, for any number of devices: linear
    between the two nearest, as NumPy's; between infinite ones the lower. Mean and deviation are
    sums in float64, whose order follows the devices (1e-12 relative in the tests).

    Args:
        process: as in `simulate`, as all that is not listed.
        key: one typed key.
        generations: the last one.
        chains: how many.
        quantiles: levels in [0, 1].
        chunk: records in one compiled call; fewer need less memory.

    Raises:
        InputError: as `simulate` does, and for a quantile outside [0, 1].
        DivergenceError: once a model holds nan; its `summary` is of all chunks before.
        Interrupted: at a KeyboardInterrupt; its `summary` is of all chunks that are done.
    """
    plan = Plan(generations, chains, metrics, record, chunk, memory_limit, devices)
    check_started(process, key)
    parts, total = [], whole("generations", generations, 0)
    try:
        with shown(progress, "generations", total) as report:
            for part in summary_chunks(process, key, plan, quantiles):
                parts.append(part)
                report(int(part.generations[-1]))
    except KeyboardInterrupt as stop:
        done = _joined(parts)
        raise Interrupted(done.generations, summary=summary_of(done, quantiles)) from stop
    except DivergenceError as error:
        done = _joined(parts)
        raise diverged(error, done.generations, summary=summary_of(done, quantiles)) from error
    return summary_of(_joined(parts), quantiles)


def _joined(parts):
    return join_records(parts, axis=0) if parts else Records(np.zeros(0, int), {})


def summary_chunks(
    process: Process, key: jax.Array, plan: Plan, quantiles: Sequence[float] = QUANTILES
) -> Iterator[Chunk]:
    """The same chunk by chunk: arrays NAME_mean, NAME_std and NAME_quantile [recorded, ...]."""
    levels = numbers("quantiles", quantiles)
    if levels.ndim != 1 or not len(levels) or not ((levels >= 0) & (levels <= 1)).all():
        raise InputError(
            f"quantiles is {quantiles!r}; it must be one number from 0 to 1, or several"
        )
    simulation = check_plan(process, key, plan)
    held = min(plan.chunk, len(simulation.recorded))
    remedy = "take a smaller chunk, fewer metrics or chains"
    check_memory(simulation, held, f"{held} records at once", remedy, on_devices=True)
    yield from chunks_of(simulation, DeviceStatistics(levels))


def summary_of(records: Records, quantiles: Sequence[float] = QUANTILES) -> Summary:
    """The `Summary` that joined chunks of `summary_chunks` hold."""
    generations, arrays = records
    mean, std, quantile = (
        {
            name.removesuffix(ending): values
            for name, values in arrays.items()
            if name.endswith(ending)
        }
        for ending in ("_mean", "_std", "_quantile")
    )
    return Summary(generations, mean, std, quantile, tuple(quantiles))
