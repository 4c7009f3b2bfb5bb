"""The loop of a language model in an opened folder: what is run, observed and published."""

import dataclasses

import jax
import numpy as np

from collapse_jax.app.commands.examples import example_prompts
from collapse_jax.app.commands.held_out import held_out_text
from collapse_jax.app.commands.lm_ingredients import Ingredients, process_of
from collapse_jax.app.commands.lm_loop import workflow_of
from collapse_jax.app.commands.observe import PUBLISHED_ONLY, Observer, publisher
from collapse_jax.app.commands.origins import Origins
from collapse_jax.app.commands.pool import WRITTEN, Pool, root_key_of
from collapse_jax.app.config.lm import LMSettings
from collapse_jax.app.config.lm.loop import prompting_of
from collapse_jax.drivers.run import Watcher, run
from collapse_jax.drivers.trace import Trace
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.memory import PEAKS, PeakMemory
from collapse_jax.runs.scratch import FileScratch
from collapse_jax.runs.session import Session
from collapse_jax.runs.stopping import Stop

# What the key of the examples is folded with: the highest number, which no seed counts up to.
_EXAMPLES = np.uint32(2**32 - 1)


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
        folder: The run folder, which contains the scratch files too.
        ingredients: The result of `prepare`.
        session: Devices and progress (stages "fit", "generate" and "score").
        watcher: Functions that are called for each generation and with messages.
        stop: Called when an epoch, a part of a generated set or a generation is saved; returns
            whether to stop there.
        generations: The last generation of this call; None for that of the settings.
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
