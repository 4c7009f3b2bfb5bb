"""Controls of a language-model run: the same loop on real text only, fresh or kept.

A control has the same keys as the run that it belongs to. Generation 0 is therefore the same, and
the real blocks that are kept are the same in each generation.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.app.config.lm.kept import kept_blocks, made_blocks
from collapse_jax.core.types import Estimator, Workflow
from collapse_jax.errors import InputError
from collapse_jax.random.bits import split


class FreshParams(NamedTuple):
    """Parameters of a generation under `fresh_text`; others as in `causal_lm`.

    order: int32 [M], numbers of all blocks of the corpus, in the order in which they are used.
    """

    model: dict
    first: dict
    fits: jax.Array
    order: jax.Array


def fresh_text(estimator: Estimator, train: np.ndarray, others: np.ndarray) -> Estimator:
    """Replaces the generated text of a language model by fresh real text.

    Each chain has a separate random order. All `others` come before the blocks that generation 0
    was fitted to. No block is used twice before all blocks have been used; then they are used again
    in the same order.

    Args:
        estimator: From `causal_lm`.
        train: int [N, length], the blocks of generation 0.
        others: int [O, length], other blocks of the training text.
    """
    blocks = np.concatenate([others, train]).astype(np.int32)
    count = len(blocks)

    def init(key, data):
        params = estimator.init(key, data)
        # Each part is shuffled by itself.
        orders = [
            start + np.asarray(jax.random.permutation(jax.random.fold_in(key, part), size))
            for part, (start, size) in enumerate(((0, len(others)), (len(others), len(train))))
        ]
        order = jnp.asarray(np.concatenate(orders), jnp.int32)
        return FreshParams(params.model, params.first, params.fits, order)

    def fit(key, params, data):
        fitted, info = estimator.fit(key, params, data)
        return FreshParams(fitted.model, fitted.first, fitted.fits, params.order), info

    def sample(key, params, n):
        # Every generation asks for as many as the others.
        begin = (int(params.fits) - 1) * n
        return jnp.asarray(blocks[np.asarray(params.order)[np.arange(begin, begin + n) % count]])

    def continued(key, params, x):
        return sample(key, params, len(x))

    return estimator._replace(init=init, fit=fit, sample=sample, continued=continued)


def kept_alone(kept: int, *, in_batches: bool = False) -> Workflow:
    """Every generation is trained only on the real points that the corresponding run keeps.

    Args:
        kept: Number of real points.
        in_batches: Whether that run chooses them as `workflows.keep_or_continue` does, and not as
            `workflows.mix`.

    Raises:
        InputError: If no points are kept.
    """
    if kept < 1:
        raise InputError(
            "control is kept, but no block of real text is kept; give a larger --real-fraction, "
            "--real-blocks or --real-tokens"
        )

    def next_set(key, carry, supply, n):
        # The keys by which those two draw.
        real_key = split(split(key)[0])[0] if in_batches else split(key, 4)[3]
        return (), supply.real(real_key, kept)

    return Workflow(f"kept_alone({kept})", lambda supply, data: (), next_set)


def control_words(config: Any, blocks: int, others: int) -> list[str]:
    """A line on the training text of a control; no line if the run is not a control.

    Args:
        config: A resolved `LMConfig`.
        blocks: Number of blocks of generation 0.
        others: Number of other blocks of the training text.
    """
    if config.control == "kept":
        kept = kept_blocks(config, blocks)
        return [
            f"control kept: from generation 1 on, a training set consists only of the {kept:,} "
            "real blocks that are kept"
        ]
    if config.control != "real":
        return []
    each = made_blocks(config, blocks)
    begin = f"control real: the {each:,} generated blocks per generation are replaced by "
    if not others:
        return [
            f"{begin}the blocks of generation 0 again, because the training text has no others; "
            "give train_blocks to have fresh ones"
        ]
    words = f"{begin}the {others:,} blocks of the training text that generation 0 did not use"
    if each * config.generations <= others:
        return [f"{words}, each at most once"]
    return [
        f"{words}; they last for {others / each:.1f} of {config.generations} generations; then the "
        "blocks of generation 0 follow, and then all again"
    ]
