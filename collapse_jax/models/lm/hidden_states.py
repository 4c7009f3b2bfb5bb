"""Blocks of tokens as points: the mean hidden state of each."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import whole
from collapse_jax.models.lm.score import check_blocks, check_params, in_batches
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.session import Session


def mean_hidden(
    model: Transformer,
    params: dict,
    blocks: Any,
    *,
    batch_size: int = 64,
    session: Session = Session(),
) -> np.ndarray:
    """The mean over positions of the last hidden state of each block, as the head takes it.

    It costs a forward pass without the head: logits are not computed.

    Args:
        blocks: int [blocks, length >= 2].
        batch_size: Blocks computed at once; does not change the result.
        session: Devices and progress (stage "score").

    Returns:
        [blocks, embed_size] (float32).

    Raises:
        InputError: If the parameters do not belong to the model, the blocks have another shape or
            ids outside the vocabulary, or batch_size is below 1.
    """
    check_params(model, params)
    blocks = check_blocks(model, blocks)
    whole("batch_size", batch_size, 1)
    if not len(blocks):
        return np.zeros((0, model.switches.embed_size), np.float32)
    (found,) = in_batches(
        lambda params, rows: (_mean_hidden(model, params, rows),),
        params,
        (blocks,),
        batch_size,
        session,
    )
    return found


@functools.partial(jax.jit, static_argnums=0)
def _mean_hidden(model, params, tokens):
    applied: Any = model.apply({"params": params}, tokens, method="hidden")
    return jnp.mean(applied[0].astype(jnp.float32), axis=1)
