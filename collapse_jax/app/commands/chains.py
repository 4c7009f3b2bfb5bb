"""A simulation without a grid: its chains, or statistics over them, into a run folder."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from collapse_jax.app.commands.complete import are_recorded
from collapse_jax.app.commands.inputs import of_simulation
from collapse_jax.app.commands.resumable import save_as_finished
from collapse_jax.app.commands.saved_records import SavedRecords
from collapse_jax.app.commands.simulation import key_of, memory_of, plan_of, process_of
from collapse_jax.app.commands.tables import chains_table, entries_table, rows_of, summary_rows
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.own_data.filled import labelled
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
# One that keeps every chain saves its records so often. A save costs 50 ms and 100 kB whatever it
# holds, and 10^6 records of one chain are 20,000 chunks.
RECORDS_SAVE_SECONDS = 1.0


def run_chains(
    config: SimulateConfig, out: RunFolder, console: "Console", devices: Sequence | None = None
) -> RunFolder:
    """Runs (or resumes) the chains, writes the run folder and prints a table; the folder."""
    settings = config.resolve()
    last = _last_row(out, settings)
    if last is not None:
        console.print(
            f"all {settings.generations + 1} generations of {out.path} are done", highlight=False
        )
        folder = out
    else:
        console.print(
            f"about {size_words(memory_of(config))} of memory beside the program's own; "
            f"at most {settings.memory_limit:g} GiB are allowed",
            highlight=False,
        )
        say = functools.partial(console.print, highlight=False)
        folder = RunFolder.open(out.path, config, inputs=of_simulation(config), say=say)
        records = _recorded(folder, settings, console, devices)
        if settings.keep == "summary":
            last = _write_summary(folder, settings, records)
        else:
            trace = Trace(records.arrays, records.generations)
            results = trace.to_xarray().assign_attrs(streams=settings.streams)
            folder.write_results(labelled(results, settings))
            last = _write_rows(folder, summary_rows(trace))
    if distributed.is_first():
        console.print(chains_table(last, settings))
        results = folder.results() if settings.data and settings.keep == "chains" else None
        entries = None if results is None else entries_table(results)
        if entries is not None:
            console.print(entries)
    return folder


def _last_row(folder, settings):
    """The row of the last generation of a run that is done, else None."""
    last = folder.last_row("generation")
    is_last = last is not None and last["generation"] >= settings.generations
    is_whole = is_last and are_recorded(folder, settings.generations, settings.recorded())
    return last if is_whole else None


def _write_rows(folder, rows):
    """Writes the rows, of which one is held at a time; the last of them on the first process."""
    last = {}

    def passed_on():
        for row in rows:
            last.clear()
            last.update(row)
            yield row

    folder.write_rows(passed_on())
    return last


def _recorded(folder, settings, console, devices):
    """The `Records` of all generations, of every chain or of statistics; saved on the way."""
    process, key = process_of(settings), key_of(settings)
    of_chains = settings.keep == "chains"
    saved = SavedRecords(
        folder.checkpoints / "chains",
        process.template(key, settings.generations),
        axis=1 if of_chains else 0,
        say=functools.partial(console.print, highlight=False),
    )
    plan = plan_of(settings, devices)._replace(after=saved.after)
    chunks = (simulate_chunks if of_chains else summary_chunks)(process, key, plan)
    save_as_finished(
        ((int(chunk.generations[-1]), chunk) for chunk in chunks),
        saved.save,
        console,
        what="generations",
        total=settings.generations,
        done=saved.after[0] if saved.after else 0,
        seconds=RECORDS_SAVE_SECONDS if of_chains else SAVE_SECONDS,
    )
    saved.close()
    return saved.joined()


def _write_summary(folder, settings, records):
    """Writes the records of a summary; its last row."""
    summary = summary_of(records)
    # One point of a grid: [1, recorded, ...].
    statistics = {
        name: {kind: getattr(summary, kind)[name][None] for kind in ("mean", "std", "quantile")}
        for name, mean in summary.mean.items()
        if mean.ndim == 1
    }
    results = as_dataset(summary.generations, statistics)
    results = results.assign_attrs(streams=settings.streams)
    folder.write_results(labelled(results, settings))
    return _write_rows(folder, rows_of(summary.generations, statistics, 0))
