"""`collapse-jax simulate`: from settings to a run folder, resumed by saying the same again."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from collapse_jax.app.commands.chains import run_chains
from collapse_jax.app.commands.grid import run_grid
from collapse_jax.app.commands.inputs import of_simulation
from collapse_jax.app.commands.simulation import check_options, with_metrics
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.laws import check_laws
from collapse_jax.app.own_data.filled import in_words, with_data, with_scores
from collapse_jax.app.own_data.held import check_metrics
from collapse_jax.app.own_data.reading import entry, held_still
from collapse_jax.runs import distributed, made_of
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    import os

    from rich.console import Console


def run_simulate(
    config: SimulateConfig,
    out: "str | os.PathLike",
    console: "Console",
    devices: Sequence | None = None,
) -> RunFolder:
    """Runs (or resumes) a simulation, writes its run folder, and draws its figures.

    Args:
        config: the settings; several values of one cover a grid.
        out: the run folder.
        console: where progress and a table are printed.
        devices: those of this process to use; by default all.

    Returns:
        The run folder.
    """
    with held_still():
        return _run(config, out, console, devices)


def _run(config, out, console, devices):
    from collapse_jax.app.plots import draw_run

    config.check()
    folder, given = RunFolder(out), config
    if config.data:
        _refuse_other_data(config, folder)
        config = with_data(config)
    check_options(config)
    config = with_scores(given, with_metrics(config.resolved()))
    check_metrics(config)
    for point in config.points()[:1]:
        check_laws(point)
    config = _as_begun(given, config, folder, console)
    folder.check(config, of_simulation(config))
    for line in in_words(config) if config.data else ():
        console.print(line, highlight=False, markup=False)
    run = run_grid if config.axes() else run_chains
    folder = run(config, folder, console, devices)
    for path in draw_run(folder) if distributed.is_first() else ():
        console.print(f"figure: {path}", highlight=False)
    return folder


def _refuse_other_data(config, folder):
    """Raises `InputError` where a file that is read in the same way holds something else by now.

    This comes before its settings are filled, which would only say what follows from that.
    """
    given = entry(config)

    def look():
        if (folder.path / "config.json").is_file():
            saved = folder.config()
            if isinstance(saved, SimulateConfig) and saved.data_name() == config.data_name():
                made_of.refuse_changed(folder.path, given)

    distributed.on_first(look)


def _as_begun(given, config, folder, console):
    """The settings, with the streams that a grid in the folder began with, unless they are given.

    In a job of several processes the first one, which may be the only one that sees the folder,
    decides for all.
    """
    if given.streams is not None or not config.axes():
        return config
    is_common = []

    def look():
        if (folder.path / "config.json").is_file():
            saved = folder.config()
            is_common.append(isinstance(saved, SimulateConfig) and saved.streams == "common")

    distributed.on_first(look)
    if not distributed.largest(int(any(is_common))):
        return config
    if distributed.is_first():
        console.print(
            f"{folder.path} began with common random numbers at all points, and goes on with them; "
            "a new folder has independent ones",
            highlight=False,
        )
    return dataclasses.replace(config, streams="common")
