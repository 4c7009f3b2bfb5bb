"""`collapse-jax simulate`: chains from settings to a run folder, resumed by saying the same again."""

import dataclasses
import inspect
import time

import jax
import numpy as np

from collapse_jax.app.config import VALUE_AXES, SimulateConfig
from collapse_jax.app.laws import all_options, expected_means, given_options
from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Process
from collapse_jax.drivers import tiles
from collapse_jax.drivers.simulate import (
    Chunk,
    join_chunks,
    memory_needed,
    recorded_generations,
    simulate_chunks,
)
from collapse_jax.drivers.simulate_summary import merged, summary_chunks, summary_of
from collapse_jax.drivers.summary import as_dataset, summarise_chunks
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.registry import family
from collapse_jax.metrics import resolve_metrics
from collapse_jax.runs import distributed
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.stopping import Stop

# A run that keeps statistics alone saves its state so often.
SAVE_SECONDS = 30


def process_of(config: SimulateConfig, settings: dict | None = None) -> Process:
    """The generational process of settings with single values.

    The real law is a standard normal, equally probable categories, or, for other families, the
    model of the family's example.

    settings: sample_size, alpha, beta, gamma where they are traced, as at a point of a grid.
    """
    config = config.resolved()
    values = {name: getattr(config, name) for name in VALUE_AXES} | (settings or {})
    if config.workflow == "mix":
        workflow = workflows.mix(values["alpha"], values["beta"], values["gamma"])
    else:
        workflow = getattr(workflows, config.workflow)()
    estimator, source = _estimator_and_source(config)
    size = values["sample_size"]
    if isinstance(size, int):
        return generational_process(estimator, source, workflow, sample_size=size)
    return generational_process(
        estimator,
        source,
        workflow,
        sample_size=lambda generation: size,
        largest_sample_size=config.sample_size,
    )


def _estimator_and_source(config):
    """What is fitted, and the real distribution: that of the family's laws, or its example.

    Raises `InputError` for unknown families and options.
    """
    known = family(config.family)
    options = given_options(config)
    real = known.laws.real if known.laws else None
    if real is not None:
        estimator, params = _made(config, lambda: real(all_options(config)))
    elif known.example is not None:
        estimator, params = known.example()
    else:
        raise InputError(
            f"family {config.family!r} has no example to start from, and cannot be "
            "simulated without its data"
        )
    source = sources.population(estimator, params)
    if options:
        try:
            inspect.signature(known.factory).bind(**options)
        except TypeError as error:
            names = ", ".join(inspect.signature(known.factory).parameters)
            raise InputError(
                f"options {' '.join(config.options)}: {error}; {config.family} takes {names}"
            ) from None
        estimator = _made(config, lambda: known.factory(**options))
    return estimator, source


def _made(config, make):
    """What a family's function makes of the options; those of others may raise anything."""
    try:
        return make()
    except InputError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(
            f"options {' '.join(config.options)}: {config.family} does not take these ({why})"
        ) from None


def with_metrics(config: SimulateConfig) -> SimulateConfig:
    """The settings with what is recorded by default: the first three metrics of the family that are
    single numbers.
    """
    if config.metrics:
        return config
    process = process_of(config.points()[0])
    offered = resolve_metrics(
        process.metrics, [name for name, function in process.metrics.items() if function]
    )
    state, _ = tiles.shapes(process, jax.random.key(0), config.generations)
    shapes = tiles.measured_shapes(tuple(offered.items()), state)
    return dataclasses.replace(
        config, metrics=tuple(name for name in offered if shapes[name].shape == ())[:3]
    )


def run_simulate(config: SimulateConfig, out, console, devices=None) -> RunFolder:
    """Runs (or resumes) the chains, writes the run folder, draws the figure, prints a table; the
    folder.

    devices: those of this process to use; by default all.
    """
    from collapse_jax.app.commands.grid import run_grid
    from collapse_jax.app.plots import draw_run

    config.check()
    _check_options(config)
    config = with_metrics(config.resolved())
    folder = RunFolder(out)
    folder.check(config)
    if config.axes():
        folder = run_grid(config, out, console, devices)
    else:
        folder = _run_one(config, folder, console, devices)
        if distributed.is_first():
            console.print(table_of(folder, config))
    for path in draw_run(folder) if distributed.is_first() else ():
        console.print(f"figure: {path}", highlight=False)
    return folder


def _check_options(config):
    """Raises `InputError` where the data of the family's example does not fit what its options
    make.
    """
    if not config.options:
        return
    process = process_of(config.points()[0])
    try:
        tiles.shapes(process, jax.random.key(0), 0)
    except InputError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"[:300]
        raise InputError(
            f"options {' '.join(config.options)}: the model of {config.family}'s example "
            f"does not fit them ({why})"
        ) from None


def _run_one(config, folder, console, devices):
    process = process_of(config)
    resolve_metrics(process.metrics, config.metrics)
    rows = folder.rows("generation")
    if (
        rows
        and rows[-1]["generation"] >= config.generations
        and (folder.path / "results.nc").is_file()
    ):
        console.print(
            f"all {config.generations + 1} generations of {folder.path} are done", highlight=False
        )
        return folder
    needed = memory_of(config)
    console.print(
        f"about {_size(needed)} of memory; at most {config.memory_limit:g} GiB are allowed",
        highlight=False,
    )
    folder = RunFolder.open(folder.path, config)
    if config.keep == "summary":
        _summarise_into(folder, config, process, console, devices)
    else:
        trace = _simulate_into(folder, config, process, console, devices)
        folder.write_results(trace.to_xarray())
        folder.write_rows(summary_rows(trace))
    return folder


def memory_of(config: SimulateConfig) -> int:
    """Bytes that a simulation without a grid will hold.

    Raises `InputError` for more than its memory_limit, and for unknown metrics.
    """
    config = with_metrics(config.resolved())
    process = process_of(config)
    resolve_metrics(process.metrics, config.metrics)
    records = (
        len(recorded_generations(config.generations, config.recorded()))
        if config.keep == "chains"
        else config.chunk
    )
    needed = memory_needed(
        process,
        jax.random.key(config.seed),
        config.generations,
        config.chains,
        config.metrics,
        records,
    )
    within_limit(config, needed, f"{config.chains:,} chains")
    return needed


def within_limit(config, needed: int, what: str) -> None:
    """Raises `InputError` if a simulation would hold more than its memory_limit."""
    if needed > config.memory_limit * 2**30:
        raise InputError(
            f"memory_limit is {config.memory_limit:g} GiB, but {what} need about "
            f"{_size(needed)}; record fewer generations or metrics "
            f"(or keep=summary), take fewer chains, or raise the limit"
        )


def _size(number):
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{max(number / 2**20, 1):.0f} MiB"


def bar(console):
    """A progress display for a host loop."""
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def options_of(config: SimulateConfig) -> dict:
    """The arguments of `simulate_chunks` that the settings give."""
    names = ("generations", "chains", "metrics", "chunk")
    return {name: getattr(config, name) for name in names} | {"record": config.recorded()}


def _begun(folder, config, process, console):
    """(checkpoints, what is recorded so far as at most one chunk, where to go on from) of chains."""
    # Two, so that there is one to go back to where the newest is damaged.
    checkpoints = Checkpoints(
        folder.checkpoints / "chains", keep=2, say=lambda line: console.print(line, highlight=False)
    )
    whole = checkpoints.newest_whole(
        process.template(jax.random.key(config.seed), config.generations)
    )
    if not whole:
        return checkpoints, [], None
    done, state, record, arrays = whole
    return checkpoints, [Chunk(np.array(record["generations"]), arrays, None)], (done, state)


def _simulate_into(folder, config, process, console, devices):
    """The trace of all generations; the newest state and everything recorded so far are saved as
    each chunk ends.
    """
    key = jax.random.key(config.seed)
    checkpoints, chunks, after = _begun(folder, config, process, console)
    with bar(console) as progress, Stop(lambda line: console.print(line, highlight=False)) as stop:
        task = progress.add_task(
            "generations", total=config.generations, completed=after[0] if after else 0
        )
        for part in simulate_chunks(
            process, key, **options_of(config), after=after, devices=devices
        ):
            chunks.append(part)
            trace = join_chunks(chunks)
            last = int(part.generations[-1])
            checkpoints.save(
                last, part.copy_state(), {"generations": trace.generations.tolist()}, dict(trace)
            )
            progress.update(task, completed=last)
            stop.here()
    checkpoints.close()
    # Not the loop's: there is nothing left to do where a crash came after the last chunk was saved.
    return join_chunks(chunks)


def _summarise_into(folder, config, process, console, devices):
    """results.nc and the rows with statistics over chains alone; the newest state and they are
    saved now and then, and at a stop.
    """
    key = jax.random.key(config.seed)
    checkpoints, chunks, after = _begun(folder, config, process, console)
    saved = time.monotonic()
    with bar(console) as progress, Stop(lambda line: console.print(line, highlight=False)) as stop:
        task = progress.add_task(
            "generations", total=config.generations, completed=after[0] if after else 0
        )
        for part in summary_chunks(
            process, key, **options_of(config), after=after, devices=devices
        ):
            chunks.append(part)
            last = int(part.generations[-1])
            progress.update(task, completed=last)
            # The slowest process decides, for all of them save together.
            stopped, seconds = stop.requested, distributed.largest(int(time.monotonic() - saved))
            if seconds >= SAVE_SECONDS or last == config.generations or stopped:
                chunks = [merged(chunks)]
                checkpoints.save(
                    last,
                    part.copy_state(),
                    {"generations": chunks[0].generations.tolist()},
                    chunks[0].arrays,
                )
                saved = time.monotonic()
            if stopped:
                stop.here()
    checkpoints.close()
    summary = summary_of(merged(chunks))
    scalars = [name for name, values in summary.mean.items() if values.ndim == 1]
    statistics = {
        name: {kind: getattr(summary, kind)[name][None] for kind in ("mean", "std", "quantile")}
        for name in scalars
    }
    folder.write_results(as_dataset(summary.generations, statistics))
    folder.write_rows(rows_of(summary.generations, statistics, 0))


def summary_rows(trace) -> list[dict]:
    """One row a generation: mean, and quantiles over chains, of each scalar metric."""
    scalars = {name: values for name, values in trace.items() if values.ndim == 2}
    generations, statistics = summarise_chunks(
        [Chunk(trace.generations, scalars, None)], len(next(iter(scalars.values()), []))
    )
    return rows_of(generations, statistics, 0)


def rows_of(generations, statistics, point: int) -> list[dict]:
    """One row a generation of the statistics at a point: NAME_mean, NAME_std, NAME_q05,
    NAME_median, NAME_q95.
    """
    rows = []
    for position, generation in enumerate(generations):
        row = {"generation": int(generation)}
        for name, one in statistics.items():
            low, _, median, _, high = (float(value) for value in one["quantile"][point, position])
            row |= {
                f"{name}_mean": float(one["mean"][point, position]),
                f"{name}_std": float(one["std"][point, position]),
            }
            row |= {f"{name}_q05": low, f"{name}_median": median, f"{name}_q95": high}
        rows.append(row)
    return rows


def carried_by_few(name: str, log_std: float | None, chains: int) -> bool:
    """Whether the mean of a variance is made by chains rarer than one in `chains`, so that no
    average of those can meet it.

    For a log-normal variance of this deviation the mean needs exp(log_std^2) chains to be known to
    its own size.
    """
    return name == "variance" and log_std is not None and log_std**2 > np.log(max(chains, 2)) - 2


def z_of(mean, exact, error, carried_by_few=False) -> str:
    """How many standard errors the mean over chains is from the exact one, in words where that
    number means nothing.
    """
    if not np.isfinite(exact) or error <= 0:
        return ""
    return "rare chains" if carried_by_few else f"{(mean - exact) / error:+.2f}"


def table_of(folder: RunFolder, config: SimulateConfig):
    """A rich table of the last generation: what the chains did, what theory expects of their mean,
    and how far apart they are.
    """
    from rich.table import Table

    from collapse_jax.app.plots.chains import title

    last = folder.rows()[-1]
    generation = last["generation"]
    exact = expected_means(config, np.array([generation]))
    table = Table(
        "metric",
        "median",
        "5 to 95%",
        "mean",
        "exact mean",
        "z",
        title=f"{title(config)}, generation {generation}",
        title_justify="left",
    )
    for name in config.metrics:
        if f"{name}_mean" not in last:
            continue
        mean, error = last[f"{name}_mean"], last[f"{name}_std"] / np.sqrt(config.chains)
        known = name in exact and np.isfinite(exact[name][0])
        z = (
            z_of(
                mean,
                exact[name][0],
                error,
                carried_by_few(name, last.get("log_variance_std"), config.chains),
            )
            if known
            else ""
        )
        band = f"{last[f'{name}_q05']:.4g} to {last[f'{name}_q95']:.4g}"
        table.add_row(
            name,
            f"{last[f'{name}_median']:.5g}",
            band,
            f"{mean:.5g}",
            f"{exact[name][0]:.5g}" if known else "",
            z,
        )
    return table
