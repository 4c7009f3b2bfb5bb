"""The training text of each generation of a language-model run, by its settings."""

from typing import Any

from collapse_jax.app.commands.controls import control_words, kept_alone
from collapse_jax.app.config.lm import LMSettings
from collapse_jax.app.config.lm.kept import kept_blocks, kept_words, real_in_batch
from collapse_jax.core import workflows
from collapse_jax.core.types import Workflow


def workflow_of(settings: LMSettings, blocks: int = 0) -> Workflow:
    """Returns the workflow that the settings describe.

    A share is rounded to whole blocks, or to whole batches of them, which are chosen again in every
    generation.

    Args:
        blocks: The number of real blocks; needed if settings keep a number of blocks, or only them.

    Raises:
        InputError: If settings keep more blocks than there are, or a share rounds to no block or to
            all blocks.
    """
    config, real, batch_size = settings.config, settings.real_fraction, settings.config.batch_size
    if config.control == "kept":
        return kept_alone(kept_blocks(config, blocks), in_batches=settings.real_in_batches)
    if config.counts_real and config.workflow == "replace":
        real, batch_size = kept_blocks(config, blocks) / blocks, 1
    if config.real_share:
        if blocks:
            real_in_batch(config, blocks)
        return getattr(workflows, config.workflow)(config.real_share, random_counts=False)
    if real == config.beta == 0:
        return getattr(workflows, config.workflow)()
    if settings.real_in_batches and real > 0:
        return workflows.keep_or_continue(real, beta=config.beta, batch_size=batch_size)
    made = round(1 - real - config.beta, 12)
    return workflows.mix(made, config.beta, real, random_counts=False)


def loop_words(settings: LMSettings, ingredients: Any) -> list[str]:
    """Returns lines about the training text that the settings alone do not determine.

    Args:
        ingredients: The result of `commands.lm_ingredients.prepare`.
    """
    config, blocks = settings.config, len(ingredients.blocks.train)
    each = real_in_batch(config, blocks)
    lines = [f"each new batch of {blocks:,} blocks has {each:,} original ones"] * (each > 0)
    lines += [*kept_words(config, blocks), *control_words(config, blocks, ingredients.other_blocks)]
    if config.prompts == "start":
        token = ingredients.model.switches.bos_token_id
        word = ingredients.tokenizer.decode([token])
        lines.append(f"prompts start: every text begins after token {token}, {word!r}")
    return lines
