"""`collapse-jax measure`: more metrics of a simulation that is done, of the same chains."""

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
    """Adds metrics to a run folder, and draws its figures anew."""
    measure_run(RunFolder(run), metrics, console)


def measure_run(folder: RunFolder, metrics: tuple[str, ...], console: "Console") -> None:
    """Adds metrics to the run folder of a simulation.

    Args:
        folder: of `collapse-jax simulate`. What it holds stays as it is; a run that was stopped
            goes on to its end.
        metrics: names; those that are there already are left out.
        console: where progress and a table are printed.

    Raises:
        InputError: for another folder, and for metrics that are unknown or no single numbers where
            statistics are kept; nothing was changed then.
    """
    from collapse_jax.app.plots import draw_run

    config = folder.config()
    if not isinstance(config, SimulateConfig):
        hint = "; collapse-jax evaluate scores its models" if config.command == "lm" else ""
        raise InputError(
            f"{folder.path} holds a run of {config.command}; measure takes runs of simulate{hint}"
        )
    new = tuple(dict.fromkeys(name for name in metrics if name not in config.metrics))
    say = functools.partial(console.print, highlight=False)
    if not new and not _missing(folder, metrics):
        say(f"{folder.path} has all of these: {', '.join(config.metrics)}")
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
    """Raises `InputError` for metrics that the process does not offer, or that cannot be kept."""
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
                    f"metric {name!r} is several numbers, and this run keeps statistics of single "
                    "numbers; take --keep chains in a run without a grid"
                )


def _write(folder, config):
    folder.write_text("config.json", strict_json.dumps(as_dict(config), indent=2) + "\n")
