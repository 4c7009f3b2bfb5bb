"""`collapse-jax measure`: adds metrics to a finished simulation, measured on the same chains."""

import dataclasses
import functools
from typing import TYPE_CHECKING

from collapse_jax.app.commands.chains import run_chains
from collapse_jax.app.commands.grid import run_grid
from collapse_jax.app.commands.inputs import of_simulation
from collapse_jax.app.commands.simulation import process_of, scalar_metrics
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.errors import InputError, did_you_mean
from collapse_jax.metrics import resolve_metrics
from collapse_jax.runs import strict_json
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.settings import as_dict

if TYPE_CHECKING:
    from rich.console import Console


def measure_command(console: "Console", run: str, metrics: tuple[str, ...]) -> None:
    """Adds metrics to a run folder, and draws its figures again."""
    measure_run(RunFolder(run), metrics, console)


def measure_run(folder: RunFolder, metrics: tuple[str, ...], console: "Console") -> None:
    """Adds metrics to the run folder of a simulation.

    Args:
        folder: a folder of `collapse-jax simulate`. Its contents do not change; a run that was
            stopped is completed first.
        metrics: names; metrics that the run already has are left out.
        console: where progress and a table are printed.

    Raises:
        InputError: for another kind of folder, for unknown metrics, and for metrics that are not
            single numbers in a run that stores statistics. Nothing has been changed then.
    """
    from collapse_jax.app.plots import draw_run

    config = folder.config()
    if not isinstance(config, SimulateConfig):
        hint = "; to score its models, use collapse-jax evaluate" if config.command == "lm" else ""
        raise InputError(
            f"{folder.path} contains a run of {config.command}; measure takes runs of "
            f"simulate{hint}"
        )
    new = tuple(dict.fromkeys(name for name in metrics if name not in config.metrics))
    say = functools.partial(console.print, highlight=False)
    if not new and not _missing(folder, metrics):
        say(f"{folder.path} already has all of these metrics: {', '.join(config.metrics)}")
        return
    wider = dataclasses.replace(config, metrics=(*config.metrics, *new))
    _check_names(wider, new)
    folder.check(config, of_simulation(config))
    folder.lock()
    _write(folder, wider)
    try:
        if wider.axes():
            run_grid(wider, folder, console)
        else:
            run_chains(wider, folder, console)
    except InputError:
        _write(folder, config)
        raise
    for path in draw_run(folder):
        say(f"figure: {path}")


def _missing(folder, metrics):
    """Which metrics results.nc lacks; config.json names them from the start of their measuring."""
    data = folder.results()
    there = set() if data is None else set(data)
    return [name for name in metrics if not {name, f"{name}_mean"} & there]


def _check_names(config, new):
    """Raises `InputError` for metrics that the process does not offer or the run cannot store."""
    offered = process_of(config.points()[0]).metrics
    for name in new:
        try:
            resolve_metrics(offered, [name])
        except InputError as error:
            raise InputError(f"{error}{did_you_mean(name, offered)}") from None
    if config.axes() or config.keep == "summary":
        scalars = scalar_metrics(config)
        for name in new:
            if name not in scalars:
                raise InputError(
                    f"metric {name!r} has several numbers, but this run stores statistics of "
                    "single numbers; use --keep chains in a run without a grid"
                )


def _write(folder, config):
    folder.write_text("config.json", strict_json.dumps(as_dict(config), indent=2) + "\n")
