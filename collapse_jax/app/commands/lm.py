"""`collapse-jax lm`: the paper's language-model loop from settings to a run folder."""

import dataclasses
import functools
import pathlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from collapse_jax.app.commands import inputs
from collapse_jax.app.commands.complete import are_there
from collapse_jax.app.commands.controls import fresh_text
from collapse_jax.app.commands.examples import example_prompts
from collapse_jax.app.commands.fit_words import fit_words
from collapse_jax.app.commands.held_out import check_extras, check_window, held_out_text
from collapse_jax.app.commands.lm_loop import loop_words, workflow_of
from collapse_jax.app.commands.lm_model import (
    load_model,
    model_source,
    own_tokenizer,
    tokenizer_source,
)
from collapse_jax.app.commands.lm_table import measures_table, table_of
from collapse_jax.app.commands.needs import disk_need, unshared_batches
from collapse_jax.app.commands.observe import PUBLISHED_ONLY, Observer, publisher, unmeasured
from collapse_jax.app.commands.origins import Origins
from collapse_jax.app.commands.pool import WRITTEN, Pool, root_key_of
from collapse_jax.app.commands.preset_words import preset_words
from collapse_jax.app.commands.text_blocks import OTHERS, blocks_of_corpus, keep_blocks
from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm import LMSettings, context_words
from collapse_jax.app.config.lm.following import preset_named
from collapse_jax.app.config.lm.loop import prompting_of
from collapse_jax.app.trackers import check_trackers, tracked
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Process
from collapse_jax.drivers.run import Watcher, run
from collapse_jax.drivers.trace import Trace
from collapse_jax.estimators import sources
from collapse_jax.estimators.causal_lm import causal_lm
from collapse_jax.models.lm.corpus import TextTokenizer, load_tokenizer
from collapse_jax.models.lm.notice import Say
from collapse_jax.models.lm.tokenizer_fit import check_tokenizer
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs import distributed
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.memory import PEAKS, STAGES, PeakMemory
from collapse_jax.runs.placement import Placement
from collapse_jax.runs.scratch import FileScratch
from collapse_jax.runs.session import Session
from collapse_jax.runs.settings import as_dict
from collapse_jax.runs.stopping import Stop

# What the key of the examples is folded with: the highest number, which no seed counts up to.
_EXAMPLES = np.uint32(2**32 - 1)


class Blocks(NamedTuple):
    """Token blocks [N, length] (int32) of each split."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Ingredients(NamedTuple):
    """Everything that is read from outside before the loop begins."""

    model: Transformer
    pretrained: dict
    tokenizer: TextTokenizer
    blocks: Blocks
    inputs: Mapping[str, Any] = {}
    """What its run folder keeps of them (`commands.inputs`)."""
    others: np.ndarray | None = None
    """int32 [N, length], blocks of the training text that are not in `blocks`, for a control."""

    @property
    def other_blocks(self) -> int:
        """How many `others` there are."""
        return 0 if self.others is None else len(self.others)

    def every_block(self) -> dict[str, np.ndarray]:
        """All blocks by split, and the `others` if there are any."""
        others = {} if self.others is None else {OTHERS: self.others}
        return self.blocks._asdict() | others


def prepare(
    settings: LMSettings,
    *,
    session: Session = Session(),
    say: Say | None = None,
    run: pathlib.Path | None = None,
) -> Ingredients:
    """Reads and checks model, tokenizer and corpus, for the devices of the session.

    Args:
        run: The path of the run folder, where blocks may lie that need not be made again.
        say: Called with lines on what is read and what is left out; by default they are logged.

    Raises:
        InputError: If something cannot be read, or does not fit the rest.
    """
    config = settings.config
    check_extras(config.extras)
    if run is not None:
        inputs.refuse_moved(run, {name: getattr(config, name) for name in LMConfig.paths})
    model, pretrained = load_model(config, session.placement)
    tokenizer = load_tokenizer(tokenizer_source(config), say)
    check_tokenizer(tokenizer, model.config, own_tokenizer(config))
    text = blocks_of_corpus(
        config, tokenizer, model.config.vocab_size, run=run, session=session, say=say
    )
    blocks = Blocks(*(text.blocks[split] for split in Blocks._fields))
    others = text.blocks.get(OTHERS)
    ingredients = Ingredients(model, pretrained, tokenizer, blocks, others=others)
    check_window(model, blocks.test, config.window())
    process_of(settings, ingredients)  # raises for blocks that are too long for the model
    return ingredients._replace(inputs=_inputs(config, ingredients, text.digests))


def _inputs(config, ingredients, hashes):
    """What the run folder keeps of what was read."""
    return (
        inputs.corpus(config.corpus, hashes)
        | inputs.tokenizer_files(tokenizer_source(config))
        | inputs.network(model_source(config), ingredients.model.config, ingredients.pretrained)
        | inputs.tokens(config.corpus, ingredients.every_block())
    )


def _files_here(config):
    """The same by files alone, so that a run that is done need not be read again."""
    return {
        "corpus": lambda: inputs.corpus_files(config.corpus),
        "tokenizer": lambda: inputs.tokenizer_files(tokenizer_source(config)),
        "model": lambda: inputs.files_of("model", model_source(config)),
    }


def process_of(
    settings: LMSettings,
    ingredients: Ingredients,
    *,
    session: Session = Session(),
    pool: Pool | None = None,
) -> Process:
    """The process that the settings describe.

    Args:
        pool: Where other lineages' texts come from; None for a lineage by itself.

    Raises:
        InputError: If the blocks are too long for the model, or more are to be kept than there are.
    """
    config, blocks = settings.config, ingredients.blocks
    estimator = causal_lm(
        ingredients.model,
        ingredients.pretrained,
        blocks.train,
        blocks.valid,
        settings=settings.fine_tune,
        decoder=settings.decoder,
        start=config.start,
        decode_batch=config.decode_batch,
        prompting=prompting_of(vars(config)),
        session=session,
    )
    source, size = sources.dataset(blocks.train), len(blocks.train)
    if config.control == "real":
        others = blocks.train[:0] if ingredients.others is None else ingredients.others
        estimator = fresh_text(estimator, blocks.train, others)
    if pool is not None:
        estimator = pool.reading(estimator, size)
    return generational_process(estimator, source, workflow_of(settings, size), sample_size=size)


def run_lm(
    settings: LMSettings,
    folder: RunFolder,
    ingredients: Ingredients,
    *,
    session: Session = Session(),
    watcher: Watcher = Watcher(),
    stop: Stop | None = None,
    generations: int | None = None,
    pool: Pool | None = None,
) -> Trace:
    """Runs or resumes the loop in an opened folder.

    Args:
        folder: Holds the scratch too.
        ingredients: Made by `prepare`.
        session: Devices and progress (stages "fit", "generate" and "score").
        watcher: Follows the generations, and says what the user should know.
        stop: Asked after each epoch, each part of a generated set and each generation, once it is
            saved, whether to stop there.
        generations: The last one that this call makes; None for that of the settings.
        pool: As for `process_of`.
    """
    config, stop, memory = settings.config, stop or Stop(), PeakMemory()
    scratch = FileScratch(folder.unfinished, watcher.say, stop)
    session = session._replace(scratch=scratch, stage=memory.stage)
    prompts = prompting_of(vars(config)).prompts_of(
        ingredients.model, example_prompts(ingredients.blocks.test, config.examples)
    )
    key = root_key_of(config)
    origins = _origins_of(settings, len(ingredients.blocks.train), key, pool)
    observe = _observer(settings, ingredients, prompts, key, origins, session)
    if pool is not None:
        observe = dataclasses.replace(observe, origin_lineages=origins.lineages_of_current)

    def observe_memory_too(first, state, info):
        written = pool.observed(state) if pool is not None else {}
        with memory.stage("score"):
            observed = observe(first, state, info)
        return observed | written | memory.take()

    return run(
        process_of(settings, ingredients, session=session, pool=pool),
        key,
        generations=config.generations if generations is None else generations,
        chains=config.seeds,
        folder=folder,
        observe=observe_memory_too,
        publish=publisher(folder, ingredients.tokenizer, prompts),
        published_only=(*PUBLISHED_ONLY, *PEAKS, WRITTEN),
        watcher=_stoppable(watcher, stop, origins, *([pool] if pool else [])),
        states=config.checkpoints,
        session=session,
    )


def _origins_of(settings, blocks, key, pool):
    """Who wrote what, in a run of so many blocks."""
    config = settings.config
    return Origins(
        workflow_of(settings, blocks),
        blocks,
        key,
        config.generations,
        models_write=config.control == "none",
        has_prompts=config.prompts != "start",
        of_pool=pool.labels if pool is not None else None,
    )


def _stoppable(watcher, stop, *told):
    """A watcher after whose generations the run may stop; `told` learn which chain is made."""

    def begin(chain, generation):
        for one in told:
            one.chain = chain
        watcher.begin(chain, generation)

    def end(chain, generation, row):
        watcher.end(chain, generation, row)
        stop.here()

    return watcher._replace(begin=begin, end=end)


def _observer(settings, ingredients, prompts, key, origins, session):
    """What is measured of each generation; see `Observer`."""
    config, test = settings.config, ingredients.blocks.test
    return Observer(
        ingredients.model,
        ingredients.pretrained,
        ingredients.blocks,
        prompts,
        settings.decoder,
        jax.random.fold_in(key, _EXAMPLES),
        session,
        origins.of_current,
        origins.mixed,
        prompting_of(vars(settings.config)).lengths(settings.config.block_length).new,
        held_out_text(test, ingredients.tokenizer, config.window()),
        config.extras,
        origins.blocks_of_current,
    )


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
    """`collapse-jax lm`: checks everything, runs or resumes, draws the figures, prints a table.

    Args:
        seeds: Those to run beside other calls that run the others; () runs all. Only then are
            figures and tables made.
        track: Names of trackers that follow the run.
        dry_run: Whether it is only said what would be done.
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
            f"seed {', '.join(map(str, seeds))} of {config.seeds} done; once all are, the same "
            "command without --only-seeds records and draws them",
            highlight=False,
        )
    if not seeds and distributed.is_first():
        _report(folder, console)


def _report(folder, console):
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
    """Reads and checks everything, opens the run folder, and says what the run will be.

    Args:
        seeds: Those to run; () is all.
        finished: (seed, generation) of what is there.
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
    """The run folder, with all that is not `finished` made."""
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
    """One line: the highest peak of each stage over all rows, on the host and on an accelerator."""
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
    return f"peak memory, {'; '.join(parts)}" if parts else "peak memory: nothing here tells it"
