"""How probable a model finds blocks of tokens."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from collapse_jax.errors import InputError, whole
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.models.lm.vocabulary_loss import separate_losses, summed_loss
from collapse_jax.runs.distributed import to_host
from collapse_jax.runs.session import Session


def perplexity(
    model: Transformer, params: dict, blocks: Any, *, batch_size: int = 64
) -> np.ndarray:
    """Perplexity of each block: exp of its mean negative log-likelihood per predicted token.

    Args:
        blocks: int [blocks, length >= 2]; the first token of a block is given.
        batch_size: Blocks at once; does not change the result.

    Returns:
        [blocks] (float64).

    Raises:
        InputError: If the blocks have another shape, ids outside the vocabulary, or batch_size is
            below 1.
    """
    return np.exp(mean_loss(model, params, blocks, batch_size=batch_size))


def mean_loss(
    model: Transformer,
    params: dict,
    blocks: Any,
    *,
    batch_size: int = 64,
    loss_from: int = 0,
    session: Session = Session(),
) -> np.ndarray:
    """Mean negative log-likelihood per predicted token of each block, in nats.

    Args:
        blocks: int [blocks, length >= 2]; the first token of a block is given.
        batch_size: Blocks at once; does not change the result.
        loss_from: First position that counts, below the length; the tokens before it are given.
        session: Devices and progress (stage "score").

    Returns:
        [blocks] (float64).

    Raises:
        InputError: If the blocks have another shape, ids outside the vocabulary, or batch_size is
            below 1.
    """
    blocks = check_blocks(model, blocks)
    whole("batch_size", batch_size, 1)
    losses = np.zeros(len(blocks), np.float64)
    size = min(batch_size, max(len(blocks), 1))
    params = session.placement.place_parameters(params, size)
    for start in range(0, len(blocks), size):
        index = np.minimum(np.arange(start, start + size), len(blocks) - 1)
        placed = session.placement.place(blocks[index], size, 0)
        batch = to_host(_mean_loss(model, params, placed, loss_from))
        losses[start : start + size] = batch[: len(blocks) - start]
        done = min(start + size, len(blocks))
        session.progress("score", done * blocks.shape[1], blocks.size)
    return losses


def token_losses(
    model: Transformer,
    params: dict,
    tokens: Int[Array, "batch length"],
    *,
    loss_from: int = 0,
    deterministic: bool = True,
    rngs: Any = None,
) -> Float[Array, "batch predicted"]:
    """Negative log-likelihood in nats of every token after the first.

    Logits of at most as many tokens as in training exist at once.

    Args:
        loss_from: First position whose token is predicted; 0 and 1 are all that can be.
    """
    first = max(loss_from, 1)
    hidden, _ = _hidden(model, params, tokens, deterministic, rngs)
    matrix, cap = model.head_matrix(params), model.switches.logit_cap
    states = hidden[:, first - 1 : -1]
    return separate_losses(states, matrix, tokens[:, first:], model.precision, cap)


def batch_loss(
    model: Transformer,
    params: dict,
    tokens: Int[Array, "batch length"],
    weights: Float[Array, " batch"],
    *,
    loss_from: int = 0,
    total_weight: Any = None,
    deterministic: bool = True,
    rngs: Any = None,
) -> Float[Array, ""]:
    """The mean of `token_losses` over tokens and weighted sequences; made for gradients.

    Args:
        total_weight: [], that of the batch of which this is a part: the parts' results then add up
            to the batch's.
    """
    first = max(loss_from, 1)
    hidden, _ = _hidden(model, params, tokens, deterministic, rngs)
    matrix = model.head_matrix(params)
    cap = model.switches.logit_cap
    states, targets = hidden[:, first - 1 : -1], tokens[:, first:]
    total: Any = summed_loss(states, matrix, targets, weights, model.precision, cap)
    weight = jnp.sum(weights) if total_weight is None else total_weight
    return total / (weight * (tokens.shape[1] - first))


def check_blocks(model: Transformer, blocks: Any) -> np.ndarray:
    """Blocks of tokens as int32 [blocks, length].

    Raises:
        InputError: If they are not integers [blocks, length >= 2], longer than the model's
            positions, or outside its vocabulary.
    """
    try:
        blocks = np.asarray(blocks)
    except ValueError:  # rows of different lengths
        raise InputError(
            f"blocks are {blocks!r:.200}, of different lengths; they must be integers [blocks, "
            "length >= 2]"
        ) from None
    if blocks.ndim != 2 or blocks.shape[1] < 2 or not np.issubdtype(blocks.dtype, np.integer):
        raise InputError(
            f"blocks have shape {blocks.shape} and type {blocks.dtype}; they must be "
            "integers [blocks, length >= 2]"
        )
    config = model.config
    if blocks.shape[1] > config.max_position_embeddings:
        raise InputError(
            f"blocks of {blocks.shape[1]} tokens exceed max_position_embeddings "
            f"{config.max_position_embeddings}"
        )
    if blocks.size and not (0 <= blocks.min() and blocks.max() < config.vocab_size):
        raise InputError(
            f"blocks hold ids {blocks.min()} to {blocks.max()}; the model's vocabulary is "
            f"0 to {config.vocab_size - 1}"
        )
    return blocks.astype(np.int32)


def _hidden(model, params, tokens, deterministic, rngs) -> Any:
    return model.apply(
        {"params": params}, tokens, deterministic=deterministic, rngs=rngs, method="hidden"
    )


@functools.partial(jax.jit, static_argnums=(0, 3))
def _mean_loss(model, params, tokens, loss_from=0):
    return jnp.mean(token_losses(model, params, tokens, loss_from=loss_from), axis=1)
