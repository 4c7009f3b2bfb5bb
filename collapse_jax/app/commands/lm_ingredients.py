"""The inputs of a language-model run, and the process that is made from them."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from collapse_jax.app.commands import inputs
from collapse_jax.app.commands.controls import fresh_text
from collapse_jax.app.commands.held_out import check_extras, check_window
from collapse_jax.app.commands.lm_loop import workflow_of
from collapse_jax.app.commands.lm_model import (
    load_model,
    model_source,
    own_tokenizer,
    tokenizer_source,
)
from collapse_jax.app.commands.pool import Pool
from collapse_jax.app.commands.text_blocks import OTHERS, blocks_of_corpus
from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm import LMSettings
from collapse_jax.app.config.lm.loop import prompting_of
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Process
from collapse_jax.estimators import sources
from collapse_jax.estimators.causal_lm import causal_lm
from collapse_jax.models.lm.corpus import TextTokenizer, load_tokenizer
from collapse_jax.models.lm.notice import Say
from collapse_jax.models.lm.tokenizer_fit import check_tokenizer
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.session import Session


class Blocks(NamedTuple):
    """Token blocks [N, length] (int32) of each split."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Ingredients(NamedTuple):
    """All inputs that are read before the loop begins."""

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
        run: The path of the run folder, which may contain blocks of an earlier call.
        say: Called with lines about text that is read or left out; by default they are logged.

    Raises:
        InputError: If an input cannot be read, or does not fit the others.
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


def process_of(
    settings: LMSettings,
    ingredients: Ingredients,
    *,
    session: Session = Session(),
    pool: Pool | None = None,
) -> Process:
    """Returns the process that the settings describe.

    Args:
        pool: The source of the texts of other lineages; None for a single lineage.

    Raises:
        InputError: If the blocks are too long for the model, or the settings keep more blocks than
            there are.
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
