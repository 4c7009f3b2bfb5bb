"""Adds metrics to a trace or a run folder (`cj.measure`)."""

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
    """Measures more metrics on simulated chains; recorded metrics do not change.

    - A trace of `cj.simulate`, and a run folder of `collapse-jax simulate`, contain no models. The
        same chains are simulated again from their seed, with the same numbers, and only the new
        metrics are recorded.
    - A folder of `cj.run` contains the state of every generation, which is measured (with
        states="ends", the states in between are computed again). It does not contain the process,
        which you must give.

    Args:
        what: a trace; or a run folder, to which the metrics are added.
        metrics: names that the process offers, and functions of the state. For a folder of the
            command, only names are allowed.
        process, key: for a folder of `cj.run`, the process and key of that run.

    Returns:
        A trace with all metrics; for a folder of the command, the content of results.nc.

    Raises:
        InputError: for unknown metrics, and for runs that cannot be measured; the message names
            what is missing.
    """
    if key is not None:
        one_key("key", key)
        if process is None:
            raise InputError("key is given without process; a folder of cj.run needs both")
    if isinstance(what, Trace):
        _refuse(process, "the trace knows its process")
        return measure_trace(what, metrics, traced)
    if not isinstance(what, RunFolder | str | os.PathLike):
        raise InputError(f"what is {what!r:.200}; it must be a trace or a run folder")
    folder = what if isinstance(what, RunFolder) else RunFolder(what)
    if (folder.path / "config.json").is_file():
        _refuse(process, f"{folder.path} contains its settings")
        return _of_command(folder, metrics)
    if "process" not in (made_of.read(folder.path) or {}):
        raise InputError(
            f"{folder.path} is not a run folder; it has neither config.json nor models"
        )
    if process is None or key is None:
        raise InputError(
            f"{folder.path} contains the states of a run of cj.run but not its process; give the "
            "process= and key= of that run"
        )
    return _of_run(folder, metrics, process, key)


def _refuse(process, why):
    if process is not None:
        raise InputError(f"process is given, but {why}; leave it out")


def _of_command(folder, metrics):
    """Adds metrics to the folder of a command; returns its results."""
    from rich.console import Console

    from collapse_jax.app.commands.measure import measure_run

    given = [metrics] if isinstance(metrics, str) or callable(metrics) else list(metrics)
    names = tuple(metric for metric in given if isinstance(metric, str))
    for metric in given:
        if metric not in names:
            raise InputError(
                f"metrics has {metric!r:.100}, but {folder.path} is the run of a command, whose "
                "settings can only store names; give a name"
            )
    measure_run(folder, names, Console(quiet=True))
    return folder.results()


def _of_run(folder, metrics, process, key):
    """Adds metrics to a folder of `cj.run`; returns its trace."""
    found = sorted(folder.checkpoints.glob("chain_*"))
    generations = [
        {int(step.name) for step in chain.glob("*") if step.name.isdecimal()} for chain in found
    ]
    if not generations or not all(generations):
        raise InputError(f"{folder.path} contains no generation; its checkpoints have been deleted")
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
