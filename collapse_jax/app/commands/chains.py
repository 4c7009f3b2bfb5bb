"""A simulation without a grid: writes its chains, or statistics over them, to a run folder."""

import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.app.commands.complete import CHAINS, are_recorded
from collapse_jax.app.commands.entries import write_entries
from collapse_jax.app.commands.inputs import of_simulation
from collapse_jax.app.commands.resumable import save_as_finished
from collapse_jax.app.commands.saved_records import SavedRecords
from collapse_jax.app.commands.simulation import (
    key_of,
    memory_of,
    plan_of,
    process_of,
    scalar_metrics,
)
from collapse_jax.app.commands.tables import chains_table, entries_table, rows_of, summary_rows
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.own_data.filled import labelled
from collapse_jax.drivers.chunks import Records, join_records
from collapse_jax.drivers.labels import Provenance, labels_of
from collapse_jax.drivers.simulate import simulate_chunks
from collapse_jax.drivers.simulate_summary import summary_chunks, summary_of
from collapse_jax.drivers.summary import as_dataset
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import size_words
from collapse_jax.runs import distributed
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

# A run that keeps statistics alone saves its state so often: it is most of what is written.
SAVE_SECONDS = 30.0
# One that keeps every chain saves its records so often. A save takes 10 ms and 70 kB, or
# more, and 10^6 records of one chain are 20,000 chunks.
RECORDS_SAVE_SECONDS = 1.0
# Folders of checkpoints: of the chains that a run began with, and of those from a number on.
_CHAINS, _LATER = "chains", "chains_from_"


def run_chains(
    config: SimulateConfig,
    out: RunFolder,
    console: "Console",
    devices: Sequence | None = None,
    fewer: int = 0,
) -> RunFolder:
    """Runs (or resumes) the chains, writes the run folder and prints a table; returns the folder.

    Args:
        config: the settings, without axes.
        out: the run folder.
        console: where progress and a table are printed.
        devices: the devices of this process to use; by default all.
        fewer: number of chains of existing statistics that are computed again; 0 for none.
    """
    settings = config.resolve()
    last = None if fewer else _last_row(out, settings)
    if last is not None:
        console.print(
            f"all {settings.generations + 1} generations of {out.path} are done", highlight=False
        )
        folder = out
    else:
        console.print(
            f"about {size_words(memory_of(config))} of memory in addition to the program's own; at "
            f"most {settings.memory_limit:g} GiB are allowed",
            highlight=False,
        )
        say = functools.partial(console.print, highlight=False)
        start_over(out, config, fewer, say)
        folder = RunFolder.open(out.path, config, inputs=of_simulation(config), say=say)
        records = _recorded(folder, settings, console, devices)
        if settings.keep == "summary":
            last = _write_summary(folder, settings, records)
        else:
            labels = labels_of(process_of(settings), settings.metrics)
            trace = Trace(records.arrays, records.generations, provenance=Provenance(labels=labels))
            results = trace.to_xarray().assign_attrs(streams=settings.streams)
            results = labelled(results, settings)
            folder.write_results(results)
            write_entries(folder, results)
            last = _write_rows(folder, summary_rows(trace))
    if distributed.is_first():
        console.print(chains_table(last, settings))
        results = folder.results() if settings.data and settings.keep == "chains" else None
        entries = None if results is None else entries_table(results)
        if entries is not None:
            console.print(entries)
    return folder


def _last_row(folder, settings):
    """The row of the last generation if the run is finished, else None."""
    last = folder.last_row("generation")
    if last is None or last["generation"] < settings.generations:
        return None
    wanted = (settings.generations, settings.recorded(), settings.chains)
    names = settings.metrics if settings.keep == "chains" else scalar_metrics(settings)
    return last if are_recorded(folder, *wanted, names) else None


def _write_rows(folder, rows):
    """Writes the rows one at a time; returns the last one on the first process."""
    last = {}

    def passed_on():
        for row in rows:
            last.clear()
            last.update(row)
            yield row

    folder.write_rows(passed_on())
    return last


def _recorded(folder, settings, console, devices):
    """The `Records` of all generations, of chains or statistics; they are saved as they come."""
    parts = []
    for first, count, saved in _blocks(folder, settings, console):
        plan = plan_of(settings, devices)._replace(chains=count, first_chain=first)
        _measure_what_is_new(saved, settings, plan, console)
        chunks = _chunks(settings, plan._replace(after=saved.after))
        save_as_finished(
            ((int(chunk.generations[-1]), chunk) for chunk in chunks),
            saved.save,
            console,
            what="generations",
            total=settings.generations,
            done=saved.after[0] if saved.after else 0,
            seconds=RECORDS_SAVE_SECONDS if settings.keep == "chains" else SAVE_SECONDS,
        )
        saved.close()
        parts.append(saved.joined())
    if len(parts) == 1:
        return parts[0]
    arrays = {
        name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays
    }
    return Records(parts[0].generations, arrays)


def _chunks(settings, plan):
    """The chunks of a plan: of every chain, or of statistics over chains."""
    run = simulate_chunks if settings.keep == "chains" else summary_chunks
    return run(process_of(settings), key_of(settings), plan)


def _blocks(folder, settings, console) -> Iterator[tuple[int, int, SavedRecords]]:
    """(first chain, number of chains, what is saved) of the chains that started together.

    Chains that were added to a run later have separate checkpoints.
    """
    template = process_of(settings).template(key_of(settings), settings.generations)
    say, axis = functools.partial(console.print, highlight=False), settings.keep == "chains"
    begun = [name.removeprefix(_LATER) for name in _names(folder)]
    firsts = [0, *sorted(int(first) for first in begun if first.isdecimal())]
    while firsts:
        first = firsts.pop(0)
        path = folder.checkpoints / (f"{_LATER}{first}" if first else _CHAINS)
        saved = SavedRecords(path, template, axis=int(axis), say=say)
        count = saved.chains or (firsts[0] if firsts else settings.chains) - first
        yield first, count, saved
        if not firsts and first + count < settings.chains:
            firsts = [first + count]


def _names(folder):
    """Names of the folders of chains that were added later."""
    distributed.barrier()  # before any process makes one
    return [path.name for path in folder.checkpoints.glob(f"{_LATER}*") if path.is_dir()]


def _measure_what_is_new(saved, settings, plan, console):
    """Adds metrics to what is saved, measured on the same chains, which are simulated again."""
    new = [name for name in settings.metrics if saved.after and saved.lacks(name)]
    if not new:
        return
    recorded = saved.generations
    console.print(
        f"{', '.join(new)} of {plan.chains:,} chains up to generation {recorded[-1]}: their models "
        "are not on disk; they are simulated again from the seed",
        highlight=False,
    )
    again = plan._replace(
        metrics=new, record=recorded.tolist(), generations=int(recorded[-1]), after=None
    )
    chunks = [Records(chunk.generations, chunk.arrays) for chunk in _chunks(settings, again)]
    saved.add(join_records(chunks, 1 if settings.keep == "chains" else 0).arrays)


def start_over(
    folder: RunFolder, config: SimulateConfig, fewer: int, say: Callable[[str], object]
) -> None:
    """Removes statistics of fewer chains, to which chains cannot be added.

    Args:
        folder: the run folder.
        config: the settings, of more chains.
        fewer: number of chains of the statistics; results.nc stays until it is replaced, and is
            marked with this number. 0 does nothing.
        say: called with a line about it.
    """
    if not fewer:
        return
    folder.lock()
    say(
        f"{folder.path} contains statistics over {fewer:,} chains, to which chains cannot be "
        f"added: all {config.chains:,} are simulated from the seed, the first {fewer:,} with the "
        "same numbers as before"
    )

    def remove():
        results = folder.results()
        if results is not None:
            folder.write_results(results.assign_attrs({CHAINS: fewer}))
        for name in (_CHAINS, "grid", "points_*_of_*"):
            for path in folder.checkpoints.glob(name):
                shutil.rmtree(path)

    distributed.on_first(remove)


def _write_summary(folder, settings, records):
    """Writes the records of a summary; returns its last row."""
    summary = summary_of(records)
    # One point of a grid: [1, recorded, ...].
    statistics = {
        name: {kind: getattr(summary, kind)[name][None] for kind in ("mean", "std", "quantile")}
        for name, mean in summary.mean.items()
        if mean.ndim == 1
    }
    labels = labels_of(process_of(settings), settings.metrics)
    results = as_dataset(summary.generations, statistics, labels=labels)
    results = results.assign_attrs(streams=settings.streams)
    folder.write_results(labelled(results, settings))
    return _write_rows(folder, rows_of(summary.generations, statistics, 0))
