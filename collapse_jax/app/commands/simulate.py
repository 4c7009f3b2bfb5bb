"""`collapse-jax simulate`: runs or resumes a simulation in a run folder."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from collapse_jax.app.commands.begun import as_begun
from collapse_jax.app.commands.chains import run_chains
from collapse_jax.app.commands.dry_run import dry_run as dry_run_of
from collapse_jax.app.commands.grid import run_grid
from collapse_jax.app.commands.inputs import of_simulation
from collapse_jax.app.commands.saved_points import name_of_part
from collapse_jax.app.commands.simulation import check_options, with_metrics
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.couplings import real_rows
from collapse_jax.app.laws import check_laws
from collapse_jax.app.own_data.filled import in_words, with_data, with_scores
from collapse_jax.app.own_data.held import check_metrics
from collapse_jax.app.own_data.reading import entry, held_still
from collapse_jax.app.own_data.reference import check_reference
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
    part: tuple[int, int] | None = None,
    *,
    dry_run: bool = False,
) -> RunFolder:
    """Runs (or resumes) a simulation, writes its run folder, and draws its figures.

    Args:
        config: the settings; several values of a setting define a grid.
        out: the run folder.
        console: where progress and a table are printed.
        devices: the devices of this process to use; by default all.
        part: (I, N) to simulate only the points I, I + N, ... of a grid.
        dry_run: whether to print only what would be done.

    Returns:
        The run folder, which a dry run does not create.
    """
    with held_still():
        return _run(config, out, console, devices, part, dry_run)


def _run(config, out, console, devices, part, dry_run):
    from collapse_jax.app.plots import draw_run

    config.check()
    folder, given = RunFolder(out, () if part is None else (name_of_part(part),)), config
    if config.data:
        _refuse_other_data(config, folder)
        config = with_data(config)
    check_options(config)
    config = with_scores(given, with_metrics(config.resolved()))
    check_metrics(config)
    if config.data:
        check_reference(config)
    for point in config.points()[:1]:
        check_laws(point)
    for line in real_rows(config.points()[0]):
        console.print(line, highlight=False)
    say = functools.partial(console.print, highlight=False)
    config, fewer = as_begun(given, config, folder, say, part)
    folder.check(config, of_simulation(config))
    for line in in_words(config) if config.data else ():
        say(line, markup=False)
    if dry_run:
        dry_run_of(config, folder, console, devices, part)
        return folder
    if config.axes():
        if run_grid(config, folder, console, devices, part, fewer) is None:
            return folder
    else:
        run_chains(config, folder, console, devices, fewer)
    for path in draw_run(folder) if distributed.is_first() else ():
        console.print(f"figure: {path}", highlight=False)
    return folder


def _refuse_other_data(config, folder):
    """Raises `InputError` if a data file has changed since the run read it.

    This check comes before the settings are filled in, which would report only a consequence.
    """
    given = entry(config)

    def look():
        if (folder.path / "config.json").is_file():
            saved = folder.config()
            if isinstance(saved, SimulateConfig) and saved.data_name() == config.data_name():
                made_of.refuse_changed(folder.path, given)

    distributed.on_first(look)
