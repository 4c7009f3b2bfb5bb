"""How probable a model finds blocks of tokens."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from collapse_jax.errors import InputError
from collapse_jax.models.lm.devices import Placement
from collapse_jax.models.lm.opt import OPT
from collapse_jax.models.lm.vocabulary_loss import summed_loss
from collapse_jax.runs.distributed import to_host


def perplexity(model: OPT, params: dict, blocks, *, batch_size: int = 64) -> np.ndarray:
    """Perplexity [blocks] of each sequence: exp of its mean negative log-likelihood per predicted
    token, in any batch size the same.

    blocks: int [blocks, length >= 2]; the first token of a block is given, the others are predicted
    from it and what lies between.
    Raises `InputError` for other shapes and for ids outside the vocabulary.
    """
    return np.exp(mean_loss(model, params, blocks, batch_size=batch_size))


def mean_loss(
    model: OPT,
    params: dict,
    blocks,
    *,
    batch_size: int = 64,
    progress=lambda done: None,
    placement: Placement = Placement(),
) -> np.ndarray:
    """Mean negative log-likelihood [blocks] in nats per predicted token, of each block of `blocks`
    [blocks, length].
    """
    blocks = check_blocks(model, blocks)
    losses = np.zeros(len(blocks), np.float64)
    size = min(batch_size, max(len(blocks), 1))
    params = placement.place_parameters(params, size)
    for start in range(0, len(blocks), size):
        index = np.minimum(np.arange(start, start + size), len(blocks) - 1)
        batch = to_host(_mean_loss(model, params, placement.place(blocks[index], size, 0)))
        losses[start : start + size] = batch[: len(blocks) - start]
        progress(min(start + size, len(blocks)))
    return losses


def token_losses(
    model: OPT, params: dict, tokens, *, deterministic: bool = True, rngs=None
) -> jax.Array:
    """Negative log-likelihood [batch, length - 1] in nats of every token after the first of
    `tokens` [batch, length].
    """
    hidden, _ = model.apply(
        {"params": params}, tokens, deterministic=deterministic, rngs=rngs, method="hidden"
    )
    logits = model.apply({"params": params}, hidden[:, :-1], method="head").astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])


def batch_loss(
    model: OPT, params: dict, tokens, weights, *, deterministic: bool = True, rngs=None
) -> jax.Array:
    """The mean [] of `token_losses` over tokens and sequences, each sequence with its weight of
    `weights` [batch]; made for gradients.
    """
    hidden, _ = model.apply(
        {"params": params}, tokens, deterministic=deterministic, rngs=rngs, method="hidden"
    )
    embedding = params["embed_tokens"]["embedding"].astype(hidden.dtype)
    total = summed_loss(hidden[:, :-1], embedding, tokens[:, 1:], weights, model.precision)
    return total / (jnp.sum(weights) * (tokens.shape[1] - 1))


def check_blocks(model: OPT, blocks) -> np.ndarray:
    """`blocks` as int32 [blocks, length], or an `InputError` that says what is wrong with them."""
    blocks = np.asarray(blocks)
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


@functools.partial(jax.jit, static_argnums=0)
def _mean_loss(model, params, tokens):
    return jnp.mean(token_losses(model, params, tokens), axis=1)
