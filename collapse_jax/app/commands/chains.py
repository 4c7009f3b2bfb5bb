"""A simulation without a grid: its chains, or statistics over them, into a run folder."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from collapse_jax.app.commands.resumable import save_as_finished
from collapse_jax.app.commands.saved_records import SavedRecords
from collapse_jax.app.commands.simulation import key_of, memory_of, plan_of, process_of
from collapse_jax.app.commands.tables import chains_table, rows_of, summary_rows
from collapse_jax.app.config.simulate import SimulateConfig
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
SAVE_SECONDS = 30


def run_chains(
    config: SimulateConfig, out: RunFolder, console: "Console", devices: Sequence | None = None
) -> RunFolder:
    """Runs (or resumes) the chains, writes the run folder and prints a table; the folder."""
    settings = config.resolve()
    if _is_done(out, settings):
        console.print(
            f"all {settings.generations + 1} generations of {out.path} are done", highlight=False
        )
        folder = out
    else:
        console.print(
            f"about {size_words(memory_of(config))} of memory; "
            f"at most {settings.memory_limit:g} GiB are allowed",
            highlight=False,
        )
        folder = RunFolder.open(out.path, config)
        records = _recorded(folder, settings, console, devices)
        if settings.keep == "summary":
            _write_summary(folder, records)
        else:
            trace = Trace(records.arrays, records.generations)
            folder.write_results(trace.to_xarray())
            folder.write_rows(summary_rows(trace))
    if distributed.is_first():
        console.print(chains_table(folder, settings))
    return folder


def _is_done(folder, settings):
    rows = folder.rows("generation")
    is_last = bool(rows) and rows[-1]["generation"] >= settings.generations
    return is_last and (folder.path / "results.nc").is_file()


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
        seconds=0.0 if of_chains else SAVE_SECONDS,
    )
    saved.close()
    return saved.joined()


def _write_summary(folder, records):
    summary = summary_of(records)
    # One point of a grid: [1, recorded, ...].
    statistics = {
        name: {kind: getattr(summary, kind)[name][None] for kind in ("mean", "std", "quantile")}
        for name, mean in summary.mean.items()
        if mean.ndim == 1
    }
    folder.write_results(as_dataset(summary.generations, statistics))
    folder.write_rows(rows_of(summary.generations, statistics, 0))
