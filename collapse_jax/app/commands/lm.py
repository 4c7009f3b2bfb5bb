"""`collapse-jax lm`: the language-model loop of Shumailov et al. 2024, in a run folder."""

import functools
import pathlib
from collections.abc import Collection
from typing import Any

from collapse_jax.app.commands import inputs
from collapse_jax.app.commands.complete import are_there
from collapse_jax.app.commands.fit_words import fit_words
from collapse_jax.app.commands.lm_ingredients import Ingredients, prepare
from collapse_jax.app.commands.lm_loop import loop_words
from collapse_jax.app.commands.lm_model import model_source, tokenizer_source
from collapse_jax.app.commands.lm_run import run_lm
from collapse_jax.app.commands.lm_table import measures_table, table_of
from collapse_jax.app.commands.needs import disk_need, unshared_batches
from collapse_jax.app.commands.observe import unmeasured
from collapse_jax.app.commands.preset_words import preset_words
from collapse_jax.app.commands.text_blocks import keep_blocks
from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm import LMSettings, context_words
from collapse_jax.app.config.lm.following import preset_named
from collapse_jax.app.trackers import check_trackers, tracked
from collapse_jax.drivers.run import Watcher
from collapse_jax.runs import distributed
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.memory import PEAKS, STAGES
from collapse_jax.runs.placement import Placement
from collapse_jax.runs.session import Session
from collapse_jax.runs.settings import as_dict
from collapse_jax.runs.stopping import Stop


def _files_here(config):
    """What the run folder keeps of files alone: a run that is done need not be read again."""
    return {
        "corpus": lambda: inputs.corpus_files(config.corpus),
        "tokenizer": lambda: inputs.tokenizer_files(tokenizer_source(config)),
        "model": lambda: inputs.files_of("model", model_source(config)),
    }


def lm_command(
    config: LMConfig,
    out: str,
    console: Any,
    placement: Placement = Placement(),
    seeds: tuple[int, ...] = (),
    track: str | tuple[str, ...] = (),
    *,
    dry_run: bool = False,
) -> None:
    """Runs `collapse-jax lm`: checks, runs or resumes, draws the figures, prints a table.

    Args:
        seeds: The seeds to run if other calls run the others; () runs all, and only then figures
            and tables are made.
        track: Names of the experiment trackers to which the run is reported.
        dry_run: Whether only a plan of the run is printed.
    """
    settings, track = config.settings(), check_trackers(track)
    if dry_run:
        from collapse_jax.app.commands.lm_dry_run import dry_run_command

        return dry_run_command(settings, out, console, placement, seeds)
    if config.lineages > 1:
        from collapse_jax.app.commands.lineages import run_lineages

        return run_lineages(settings, out, console, placement, seeds, track)
    folder = RunFolder(out, seeds)
    folder.check(settings.config)
    finished = {(row["chain"], row["generation"]) for row in folder.rows("chain", "generation")}
    wanted = {
        (chain, generation)
        for chain in seeds or range(config.seeds)
        for generation in range(config.generations + 1)
    }
    say = functools.partial(console.print, highlight=False)
    if (
        wanted <= finished
        and are_there(folder, wanted)
        and inputs.unchanged(folder, _files_here(settings.config), say)
    ):
        console.print(f"all {len(wanted)} generations of {folder.path} are done")
        _send(settings.config, folder, track, say)
    else:
        folder = _open_and_run(settings, out, console, placement, seeds, finished, track)
    if seeds:
        console.print(
            f"seed {', '.join(map(str, seeds))} of {config.seeds} done; when all seeds are done, "
            "repeat the command without --only-seeds to record and draw them",
            highlight=False,
        )
    if not seeds and distributed.is_first():
        _show(folder, console)


def _show(folder, console):
    """Prints the tables of a run that is done, and draws its figures."""
    from collapse_jax.app.plots import draw_run

    console.print(table_of(folder))
    if (measures := measures_table(folder)) is not None:
        console.print(measures)
    console.print(memory_words(folder.rows()), highlight=False)
    for path in draw_run(folder):
        console.print(f"figure: {path}", highlight=False)


def _send(config, folder, track, say):
    """Sends what trackers lack of a run that is done."""
    settings = as_dict(config)
    with tracked(folder, settings, track, Watcher(say=say)) as watcher:
        for row in folder.rows() if track else ():
            watcher.end(row["chain"], row["generation"], row)


def open_run(
    settings: LMSettings,
    out: str | pathlib.Path,
    console: Any,
    placement: Placement = Placement(),
    seeds: tuple[int, ...] = (),
    finished: Collection[tuple[int, int]] = (),
) -> tuple[RunFolder, Ingredients]:
    """Reads and checks all inputs, opens the run folder, and prints a summary of the run.

    Args:
        seeds: The seeds to run; () is all.
        finished: (seed, generation) of the finished generations.
    """
    from collapse_jax.app.commands.progress import StageProgress

    config, session = settings.config, Session(placement)
    said: list[str] = []
    with StageProgress(console) as bar, preset_named(config):
        options: dict[str, Any] = {"say": said.append, "run": RunFolder(out).path}
        reading = session._replace(progress=bar.stage)
        ingredients = distributed.first_then_others(
            lambda: prepare(settings, session=reading, **options)
        )
    with preset_named(config):
        need = disk_need(settings, ingredients, set(finished), seeds)
    say = functools.partial(console.print, highlight=False)
    blocks = ingredients.every_block()
    needed = need.total + sum(part.nbytes for part in blocks.values())
    folder = RunFolder.open(out, config, needed, seeds, inputs=ingredients.inputs, say=say)
    digests = ingredients.inputs["corpus"]["contents"]
    keep_blocks(folder.path, config, ingredients.tokenizer, blocks, digests)
    sizes = ", ".join(
        f"{len(part)} {split}" for split, part in ingredients.blocks._asdict().items()
    )
    for line in (
        *preset_words(config),
        *said,
        f"{config.model}: blocks of {config.block_length} tokens: {sizes}; run folder "
        f"{folder.path}",
        *loop_words(settings, ingredients),
        need.summary(),
        *fit_words(settings, ingredients),
        *unshared_batches(settings, ingredients, placement),
        *unmeasured(),
    ):
        console.print(line, highlight=False)
    return folder, ingredients


def _open_and_run(settings, out, console, placement, seeds, finished, track=()):
    """The run folder, after all generations that were not `finished` are computed."""
    from collapse_jax.app.commands.progress import LanguageModelProgress

    folder, ingredients = open_run(settings, out, console, placement, seeds, finished)
    config, session = settings.config, Session(placement)
    count = len(seeds) or config.seeds
    with (
        LanguageModelProgress(
            console,
            count,
            config.generations,
            config.protocol,
            context_words(config.block_length),
            epochs=settings.fine_tune.epochs,
        ) as bars,
        tracked(folder, as_dict(config), track, bars.watcher, min(seeds, default=0)) as watcher,
        Stop(bars.line) as stop,
    ):
        session = session._replace(progress=bars.stage)
        run_lm(settings, folder, ingredients, session=session, watcher=watcher, stop=stop)
    return folder


def memory_words(rows: list[dict]) -> str:
    """Returns one line: the highest peak memory of each stage, on the host and on a device."""
    peaks = {name: max((row[name] for row in rows if name in row), default=None) for name in PEAKS}
    host, device = (
        [
            f"{stage} {peaks[f'{stage}_{kind}_mib']:,.0f} MiB"
            for stage in STAGES
            if peaks[f"{stage}_{kind}_mib"] is not None
        ]
        for kind in ("peak", "device_peak")
    )
    parts = [
        f"{where}: {', '.join(stages)}"
        for where, stages in (("host", host), ("fullest device", device))
        if stages
    ]
    return f"peak memory, {'; '.join(parts)}" if parts else "peak memory: not available here"
