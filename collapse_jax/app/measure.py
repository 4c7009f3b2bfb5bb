"""More metrics of what was simulated (`cj.measure`): of a trace, or of a run folder."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import jax

from collapse_jax.core.types import Process
from collapse_jax.drivers.going_on import measure_trace
from collapse_jax.drivers.run import run
from collapse_jax.drivers.simulate import traced
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import InputError, one_key
from collapse_jax.runs import made_of
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    import xarray


def measure(
    what: "Trace | RunFolder | str | os.PathLike",
    metrics: Iterable,
    *,
    process: Process | None = None,
    key: jax.Array | None = None,
) -> "Trace | xarray.Dataset | None":
    """More metrics of the chains and generations that were simulated; the others stay as they are.

    - A trace of `cj.simulate`, and a run folder of `collapse-jax simulate`, hold no models: the
      same chains are simulated again from their seed, with the same numbers, for the new metrics
      alone.
    - A folder of `cj.run` holds the state of every generation, which is measured (with
      states="ends" those in between are made again). It holds no process, which is to be given.

    Args:
        what: a trace; or a run folder, to which the metrics are added.
        metrics: names that the process offers, and functions of the state. A folder of the command
            takes names alone.
        process, key: of a folder of `cj.run`, those that made it.

    Returns:
        A trace with all metrics; of a folder of the command what results.nc holds then.

    Raises:
        InputError: for unknown metrics, and for what cannot be measured; the line says what it
            lacks.
    """
    if key is not None:
        one_key("key", key)
        if process is None:
            raise InputError("key is given and process is not; a folder of cj.run needs both")
    if isinstance(what, Trace):
        _refuse(process, "the trace knows its process")
        return measure_trace(what, metrics, traced)
    if not isinstance(what, RunFolder | str | os.PathLike):
        raise InputError(f"what is {what!r:.200}; it must be a trace or a run folder")
    folder = what if isinstance(what, RunFolder) else RunFolder(what)
    if (folder.path / "config.json").is_file():
        _refuse(process, f"{folder.path} holds its settings")
        return _of_command(folder, metrics)
    if "process" not in (made_of.read(folder.path) or {}):
        raise InputError(f"{folder.path} is no run folder; it has neither config.json nor models")
    if process is None or key is None:
        raise InputError(
            f"{folder.path} holds the states of a run of cj.run, and not the process that measures "
            "them; give process= and key=, which made it"
        )
    return _of_run(folder, metrics, process, key)


def _refuse(process, why):
    if process is not None:
        raise InputError(f"process is given, but {why}; leave it out")


def _of_command(folder, metrics):
    """Adds metrics to the folder of a command; its results."""
    from rich.console import Console

    from collapse_jax.app.commands.measure import measure_run

    given = [metrics] if isinstance(metrics, str) or callable(metrics) else list(metrics)
    names = tuple(metric for metric in given if isinstance(metric, str))
    for metric in given:
        if metric not in names:
            raise InputError(
                f"metrics has {metric!r:.100}, and {folder.path} holds the run of a command, whose "
                "settings keep names alone; give a name"
            )
    measure_run(folder, names, Console(quiet=True))
    return folder.results()


def _of_run(folder, metrics, process, key):
    """Adds metrics to a folder of `cj.run`; its trace."""
    found = sorted(folder.checkpoints.glob("chain_*"))
    generations = [
        {int(step.name) for step in chain.glob("*") if step.name.isdecimal()} for chain in found
    ]
    if not generations or not all(generations):
        raise InputError(f"{folder.path} holds no generation; its checkpoints are gone")
    has_all = all(
        (chain / str(number) / "state").is_dir()
        for chain, numbers in zip(found, generations, strict=True)
        for number in numbers
    )
    return run(
        process,
        key,
        generations=max(max(numbers) for numbers in generations),
        folder=folder.path,
        chains=len(found),
        metrics=metrics,
        states="all" if has_all else "ends",
    )
