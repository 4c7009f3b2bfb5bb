"""How a simulation goes on in a folder that it was begun in: what the folder has is kept."""

import dataclasses
import math
from collections.abc import Callable

from collapse_jax.app.config import grown_axes
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.errors import InputError
from collapse_jax.runs import distributed
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.settings import as_dict, differing_fields, from_dict


def as_begun(
    given: SimulateConfig,
    config: SimulateConfig,
    folder: RunFolder,
    say: Callable[[str], object],
    part: tuple[int, int] | None = None,
) -> tuple[SimulateConfig, int]:
    """The settings with what the folder began with, and with all that it has by now.

    These are the streams of a grid unless they are given, metrics that were measured later, and
    more generations and chains than are asked for. In a job of several processes the first one,
    which may be the only one that sees the folder, decides for all.

    Args:
        given: as they were given.
        config: the same, resolved.
        folder: the run folder, which may not exist yet.
        say: called with a line about what is kept.
        part: (I, N) of a call for a part of a grid.

    Returns:
        The settings; and of how many chains the statistics are that must be made anew, 0 for none.

    Raises:
        InputError: for metrics that a finished run has not, where that is all that differs, and for
            more chains in a call for a part of a grid.
    """
    saved = saved_settings(folder)
    if saved is None:
        return config, 0
    if given.streams is None and config.axes() and saved.streams == "common":
        config = dataclasses.replace(config, streams="common")
        say(
            f"{folder.path} began with common random numbers at all points, and goes on with them; "
            "a new folder has independent ones"
        )
    config = _with_values(saved, config, folder, say)
    same = dataclasses.replace(config, metrics=saved.metrics)
    moved = distributed.of_first(lambda: folder.moved(config))
    if differing_fields(saved, same, moved):
        return config, 0  # it is refused by what differs
    _check_metrics(saved, config, folder)
    more = sorted(set(saved.metrics) - set(config.metrics))
    if more:
        say(f"{folder.path} has the metrics {', '.join(more)} too, and goes on with them")
    fewer = _fewer_chains(saved, config, folder, part)
    if saved.chains > config.chains:
        say(f"{folder.path} has {saved.chains:,} chains, and keeps them")
    # The batches of a grid hold one last generation.
    generations = max(saved.generations if config.axes() else 0, config.generations)
    chains = max(saved.chains, config.chains)
    return (
        dataclasses.replace(config, metrics=saved.metrics, chains=chains, generations=generations),
        fewer,
    )


def _with_values(saved, config, folder, say):
    """The settings with all values that a grid has on its axes."""
    there = saved.resolved()
    kept = grown_axes.merged(there, config, str(folder.path))
    if kept.axes() != config.axes():
        there, asked = (math.prod(map(len, one.axes().values())) for one in (kept, config))
        if there > asked:
            say(
                f"{folder.path} has {there:,} points, of which {asked:,} are asked for, and keeps "
                "them all"
            )
    return kept


def saved_settings(folder: RunFolder) -> SimulateConfig | None:
    """The settings in a folder; None where it holds no simulation."""

    def look():
        if not (folder.path / "config.json").is_file():
            return None
        saved = folder.config()
        return as_dict(saved) if isinstance(saved, SimulateConfig) else None

    values = distributed.of_first(look)
    saved = values and from_dict(values, str(folder.path), of_folder=True)
    return saved if isinstance(saved, SimulateConfig) else None


def _fewer_chains(saved, config, folder, part):
    """Of how many chains the statistics in a folder are, where more are asked for; else 0."""
    of_statistics = bool(config.axes()) or config.keep == "summary"
    if saved.chains >= config.chains or not of_statistics:
        return 0
    if part is not None:
        raise InputError(
            f"chains is {config.chains}, and the grid in {folder.path} has {saved.chains}; raise "
            "them in a call without --points"
        )
    return saved.chains


def _check_metrics(saved, config, folder):
    """Raises `InputError` for metrics that a run has not, and names what measures them."""
    new = [name for name in config.metrics if name not in saved.metrics]
    if new:
        raise InputError(
            f"{folder.path} holds the same run without the metrics {', '.join(new)}; "
            f"collapse-jax measure {folder.path} --metrics {' '.join(new)} adds them"
        )
