"""`collapse-jax lm --lineages K`: runs that read each other, one generation of all at a time."""

import contextlib
import dataclasses
import pathlib
from typing import Any, NamedTuple

from collapse_jax.app.commands.compare import compare_command
from collapse_jax.app.commands.lm import memory_words, open_run
from collapse_jax.app.commands.lm_ingredients import Ingredients
from collapse_jax.app.commands.lm_run import run_lm
from collapse_jax.app.commands.pool import Pool, Writer, root_key_of
from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm import LMSettings, context_words
from collapse_jax.app.trackers import tracked
from collapse_jax.drivers.run import Watcher
from collapse_jax.errors import InputError
from collapse_jax.runs import distributed
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.placement import Placement
from collapse_jax.runs.session import Session
from collapse_jax.runs.settings import as_dict
from collapse_jax.runs.stopping import Stop


class Lineage(NamedTuple):
    """The run of one lineage.

    settings: The settings of the lineage.
    folder: Its run folder.
    ingredients: Text, model and tokenizer that it reads.
    """

    settings: LMSettings
    folder: RunFolder
    ingredients: Ingredients


def lineage_configs(config: LMConfig) -> list[LMConfig]:
    """The settings of each lineage's run."""
    models = config.lineage_models or (config.model,) * config.lineages
    return [
        dataclasses.replace(config, model=model, lineage=number)
        for number, model in enumerate(models)
    ]


def run_lineages(
    settings: LMSettings,
    out: str,
    console: Any,
    placement: Placement = Placement(),
    seeds: tuple[int, ...] = (),
    track: tuple[str, ...] = (),
) -> None:
    """Runs or resumes all lineages, draws their figures, and compares them.

    Args:
        settings: The settings of the command, with `lineages` above 1.
        out: The folder whose subfolders lineage_0, lineage_1, ... are the runs.
        console: Where progress and the final table are printed.
        placement: The devices.
        seeds: The seeds to run; () is all.
        track: Names of trackers that receive the results.
    """
    from collapse_jax.app.plots import draw_run

    config = settings.config
    if config.lineage is not None:
        raise InputError(
            f"lineage is {config.lineage}; the command sets it, so give only --lineages"
        )
    root = pathlib.Path(RunFolder(out).path)
    configs = lineage_configs(config)
    folders = [root / f"lineage_{number}" for number in range(config.lineages)]
    for one, folder in zip(configs, folders, strict=True):
        RunFolder(folder, seeds).check(one)
    _run_all(configs, folders, console, placement, seeds, track)
    if seeds or not distributed.is_first():
        return
    for folder in folders:
        console.print(memory_words(RunFolder(folder).rows()), highlight=False)
        for path in draw_run(RunFolder(folder)):
            console.print(f"figure: {path}", highlight=False)
    compare_command(console, tuple(map(str, folders)), str(root / "compare"))


def _run_all(configs, folders, console, placement, seeds, track):
    """Runs all generations of all lineages: one generation of each, then the next."""
    from collapse_jax.app.commands.progress import LanguageModelProgress

    lineages = [
        Lineage(one.settings(), *open_run(one.settings(), folder, console, placement, seeds))
        for one, folder in zip(configs, folders, strict=True)
    ]
    first = lineages[0].settings
    config, count = first.config, (len(seeds) or first.config.seeds) * len(lineages)
    with contextlib.ExitStack() as stack:
        bars = stack.enter_context(
            LanguageModelProgress(
                console,
                count,
                config.generations,
                config.protocol,
                context_words(config.block_length),
                epochs=first.fine_tune.epochs,
            )
        )
        watchers = [
            stack.enter_context(
                tracked(one.folder, as_dict(one.settings.config), track, bars.watcher)
            )
            for one in lineages
        ]
        stop = stack.enter_context(Stop(bars.line))
        session = Session(placement)._replace(progress=bars.stage)
        runs = [
            _resumable(lineages, number, watchers[number], bars, session=session, stop=stop)
            for number in range(len(lineages))
        ]
        for generation in range(config.generations + 1):
            for run_to in runs:
                run_to(generation)


def _resumable(lineages, number, watcher, bars, **options):
    """(generation) -> None: runs a generation of a lineage after all earlier ones."""
    settings, folder, ingredients = lineages[number]
    writers = [Writer(one.folder.path, one.ingredients.tokenizer) for one in lineages]
    shares = settings.config.shares()[number]
    pool = Pool(number, writers, shares, root_key_of(settings.config))

    def run_to(generation):
        bars.name = f"lineage {number} "
        run_lm(
            settings,
            folder,
            ingredients,
            watcher=_only(watcher, generation),
            generations=generation,
            pool=pool,
            **options,
        )

    return run_to


def _only(watcher, wanted):
    """A watcher that reports one generation only, since every call repeats the earlier ones."""

    def end(chain, generation, row):
        if generation == wanted:
            watcher.end(chain, generation, row)

    return Watcher(watcher.begin, end, watcher.say)
