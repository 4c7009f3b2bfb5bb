"""The traceable driver that keeps only statistics over chains, computed on the devices."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from collapse_jax.core.html import html_table
from collapse_jax.core.process import check_started
from collapse_jax.core.types import Process
from collapse_jax.drivers.chunks import Chunk, Records, chunks_of, join_records
from collapse_jax.drivers.device_statistics import DeviceStatistics
from collapse_jax.drivers.going_on import recorded_after
from collapse_jax.drivers.interrupted import Interrupted, diverged
from collapse_jax.drivers.labels import Provenance, provenance_from
from collapse_jax.drivers.origin import Origin, origin_of
from collapse_jax.drivers.plan import DEFAULT_METRICS, Plan, check_memory, check_plan
from collapse_jax.drivers.progress import Progress, shown
from collapse_jax.drivers.summary import QUANTILES, as_dataset
from collapse_jax.drivers.trace import shapes_in_words, span_in_words
from collapse_jax.errors import DivergenceError, InputError, made_by, numbers, whole

if TYPE_CHECKING:
    import xarray


class _Statistics(NamedTuple):
    generations: np.ndarray
    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]
    quantile: dict[str, np.ndarray]
    quantiles: tuple[float, ...]


class Summary(_Statistics):
    """Statistics over chains.

    generations: [recorded], the numbers of the recorded generations.
    mean: name -> [recorded, ...].
    std: name -> standard deviation [recorded, ...], with ddof=1.
    quantile: name -> [recorded, ..., quantile], at the levels `quantiles`.

    A summary of `cj.simulate_summary` stores its process and key, so that
    `cj.simulate_summary(..., after=summary)` can continue it. A pickled copy has the statistics
    only.
    """

    # What a simulation needs to go on from here; None where that is not known.
    origin: Origin | None = None
    _provenance: Provenance = Provenance()

    def __getstate__(self):
        return {"_provenance": self.provenance}

    @property
    def provenance(self) -> Provenance:
        """The origin of the statistics and the labels of the metrics, as far as known."""
        return provenance_from(self.origin, self._provenance)

    def to_xarray(self) -> "xarray.Dataset":
        """Returns an `xarray.Dataset` of the statistics.

        Its variables are NAME_mean, NAME_std [generation, ...] and NAME_quantile [generation, ...,
        quantile], with `long_name` and `units`. The attributes of the data set are, as far as they
        are known, the process, its key, chains, generations, metrics, versions and the commit.
        """
        parts = {"mean": self.mean, "std": self.std, "quantile": self.quantile}
        statistics = {
            name: {statistic: values[name][None] for statistic, values in parts.items()}
            for name in self.mean
        }
        attributes, labels = self.provenance
        dataset = as_dataset(self.generations, statistics, quantiles=self.quantiles, labels=labels)
        return dataset.assign_attrs(attributes)

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
    chains: int | None = None,
    metrics: Iterable = DEFAULT_METRICS,
    record: int | str | Iterable[int] = 1,
    quantiles: Sequence[float] = QUANTILES,
    chunk: int = 100,
    memory_limit: int | None = None,
    progress: Progress = None,
    devices: Sequence | None = None,
    after: Summary | None = None,
) -> Summary:
    """Simulates the chains of `simulate`; returns mean, standard deviation and quantiles over them.

    The statistics are computed on the devices. A device stores at most one chunk of records of its
    chains, and operating-system processes exchange only counts and sums. Quantiles are exact
    quantiles over all chains, for any number of devices: linear between the two nearest values, as
    in NumPy; between two infinite values, the lower one. Mean and standard deviation are sums in
    float64, in an order that depends on the devices (1e-12 relative difference in the tests).

    Args:
        process: as in `simulate`, as are all arguments that are not listed here.
        key: one typed key.
        generations: the last generation.
        chains: number of chains; with `after` it may be left out.
        quantiles: levels in [0, 1].
        chunk: number of records in one compiled call; fewer need less memory.
        after: a summary of the same simulation, to be continued to more generations; the result
            equals that of one longer call. By default metrics and quantiles are those of the
            summary. Chains cannot be added. The summary stores the states of its chains. If these
            take more than 64 MiB, they are not stored, and the chains are simulated again from
            generation 0 with the same numbers.

    Returns:
        A `Summary`: `mean`, `std` and `quantile` map names to arrays [recorded, ...].

    Raises:
        InputError: as `simulate`; for a quantile outside [0, 1]; if `after` comes from another
            simulation or has other chains or quantiles.
        DivergenceError: when a model contains nan; its attribute `summary` covers all chunks before
            it.
        Interrupted: at a KeyboardInterrupt; its attribute `summary` covers all chunks that are
            done.
    """
    check_started(process, key)
    if after is not None:
        plan = Plan(generations, 1, metrics, record, chunk, memory_limit, devices)
        plan, quantiles = _plan_after(after, plan, chains, quantiles)
    elif chains is None:
        raise InputError("chains is not given; give the number of chains")
    else:
        plan = Plan(generations, chains, metrics, record, chunk, memory_limit, devices)
    total = whole("generations", generations, 0)
    with shown(progress, "generations", total) as report:
        if after is None:
            return _summarised(process, key, plan, quantiles, report)
        return _longer(process, key, plan, quantiles, after, report)


def _summarised(process, key, plan, quantiles, report) -> Summary:
    """The summary of a plan, from its `after` on."""
    parts, part = [], None
    simulation = _checked(process, key, plan, quantiles)

    def summary(last=None):
        records = _joined(parts)
        size = sum(values.nbytes for values in records.arrays.values())
        return summary_of(records, quantiles, origin_of(simulation, last, size))

    try:
        for part in chunks_of(simulation, DeviceStatistics(numbers("quantiles", quantiles))):
            parts.append(Records(part.generations, part.arrays))
            report(int(part.generations[-1]))
    except KeyboardInterrupt as stop:
        done = summary()
        raise Interrupted(done.generations, summary=done) from stop
    except DivergenceError as error:
        done = summary()
        raise diverged(error, done.generations, summary=done) from error
    return summary(part)


def _plan_after(after, plan, chains, quantiles):
    """(the plan, the quantiles) of a summary that is continued."""
    after = made_by("after", after, Summary, "cj.simulate_summary")
    if after.origin is None:
        raise InputError(
            "the summary of after= has no process: it was pickled, or does not come from "
            "cj.simulate_summary; simulate again with the same key, which gives the same numbers"
        )
    there = after.origin.plan.chains
    if chains is not None and whole("chains", chains, 1) != there:
        raise InputError(
            f"chains is {chains:,}, but the summary of after= has {there:,} chains, and none can "
            f"be added to quantiles; give chains={there}, or leave out after= to simulate all "
            "chains from generation 0 (chain numbers that both have give the same numbers)"
        )
    if quantiles is QUANTILES:
        quantiles = after.quantiles
    if tuple(numbers("quantiles", quantiles).ravel().tolist()) != after.quantiles:
        raise InputError(
            f"quantiles is {quantiles!r:.200}, but the summary of after= has {after.quantiles}; "
            "give the same"
        )
    if plan.metrics is DEFAULT_METRICS:
        plan = plan._replace(metrics=after.origin.plan.metrics)
    return plan._replace(chains=there), quantiles


def _longer(process, key, plan, quantiles, after, report) -> Summary:
    """A summary with the generations that `after` lacks; an error has these too."""
    origin, there = after.origin, after.generations
    origin.check(process, key, plan, "summary")
    recorded, kept = recorded_after(plan, there, "summary")
    old = records_of(after, kept)
    last = int(there[-1]) if len(there) else -1
    whole_plan = plan._replace(record=recorded.tolist())
    if plan.generations == last:
        return summary_of(old, quantiles, origin._replace(plan=whole_plan))
    new = recorded[recorded > last]
    going = plan._replace(record=new.tolist())
    if origin.copy_state is not None:
        going = going._replace(after=(last, origin.copy_state()))

    def joined(later):
        # Made from generation 0 on it has that one too.
        places = np.flatnonzero(later.generations > last)
        both = _joined([part for part in (old, records_of(later, places)) if part.arrays])
        return summary_of(both, quantiles, later.origin._replace(plan=whole_plan))

    try:
        return joined(_summarised(process, key, going, quantiles, report))
    except (Interrupted, DivergenceError) as error:
        if error.summary is not None:
            error.summary = joined(error.summary)
        raise


def _joined(parts):
    return join_records(parts, axis=0) if parts else Records(np.zeros(0, int), {})


def records_of(summary: Summary, places: np.ndarray) -> Records:
    """Returns some generations of a summary as records; the inverse of `summary_of`."""
    arrays = {
        f"{name}_{statistic}": values[places]
        for statistic in ("mean", "std", "quantile")
        for name, values in getattr(summary, statistic).items()
    }
    return Records(summary.generations[places], arrays)


def summary_chunks(
    process: Process, key: jax.Array, plan: Plan, quantiles: Sequence[float] = QUANTILES
) -> Iterator[Chunk]:
    """Yields the statistics by chunk: NAME_mean, NAME_std and NAME_quantile [recorded, ...]."""
    simulation = _checked(process, key, plan, quantiles)
    yield from chunks_of(simulation, DeviceStatistics(numbers("quantiles", quantiles)))


def _checked(process, key, plan, quantiles):
    """The simulation of a plan, after a check that its statistics fit into memory."""
    levels = numbers("quantiles", quantiles)
    if levels.ndim != 1 or not len(levels) or not ((levels >= 0) & (levels <= 1)).all():
        raise InputError(
            f"quantiles is {quantiles!r}; it must be one number from 0 to 1, or several"
        )
    simulation = check_plan(process, key, plan)
    held = min(plan.chunk, len(simulation.recorded))
    remedy = "give a smaller chunk, or fewer metrics or chains"
    check_memory(simulation, held, f"{held} records at once", remedy, on_devices=True)
    return simulation


def summary_of(
    records: Records, quantiles: Sequence[float] = QUANTILES, origin: Origin | None = None
) -> Summary:
    """Returns the `Summary` of joined chunks of `summary_chunks`.

    Args:
        records: the chunks, joined.
        quantiles: the levels of their quantiles.
        origin: their origin, if it is known.
    """
    generations, arrays = records
    mean, std, quantile = (
        {
            name.removesuffix(ending): values
            for name, values in arrays.items()
            if name.endswith(ending)
        }
        for ending in ("_mean", "_std", "_quantile")
    )
    levels = tuple(numbers("quantiles", quantiles).tolist())
    summary = Summary(generations, mean, std, quantile, levels)
    summary.origin = origin
    return summary
