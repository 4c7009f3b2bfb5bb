"""Log-probabilities of single tokens: of blocks, and of a long text by a sliding window."""

import functools
from typing import Any

import jax
import numpy as np

from collapse_jax.errors import InputError, whole
from collapse_jax.models.lm.score import check_blocks, check_params, in_batches
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.models.lm.vocabulary_loss import separate_losses
from collapse_jax.runs.session import Session

# Tokens of the windows that are scored at once: attention holds so many times the context.
_AT_ONCE = 4096


def token_log_probs(
    model: Transformer,
    params: dict,
    blocks: Any,
    mask: Any = None,
    *,
    batch_size: int = 64,
    session: Session = Session(),
) -> np.ndarray:
    """Log-probability of every token after the first of its block, in nats.

    `-token_log_probs(...).mean(1)` is `mean_loss`. Logits of at most 2,048 positions, or of one
    position of each block, exist at once.

    Args:
        blocks: int [blocks, length >= 2].
        mask: Like the blocks, 1 where there is text and 0 where a block is padded, on the left or
            on the right; None: all is text. Positions count from the first token of the text.
        batch_size: Blocks at once; does not change the result.
        session: Devices and progress (stage "score").

    Returns:
        [blocks, length - 1] (float32): entry [b, i] is that of token i + 1 of block b after the
        tokens before it, nan where it or the one before it is padding.

    Raises:
        InputError: If the parameters are not those of the model, the blocks have another shape or
            ids outside the vocabulary, a row of the mask is not one piece of text, or batch_size is
            below 1.
    """
    check_params(model, params)
    blocks = check_blocks(model, blocks)
    whole("batch_size", batch_size, 1)
    mask = _checked_mask(blocks, mask)
    if not len(blocks):
        return np.zeros((0, blocks.shape[1] - 1), np.float32)
    arrays = (blocks,) if mask is None else (blocks, mask)
    (found,) = in_batches(
        lambda params, *rows: (_log_probs(model, params, *rows),),
        params,
        arrays,
        batch_size,
        session,
    )
    return found if mask is None else np.where(mask[:, 1:] & mask[:, :-1], found, np.nan)


def strided_log_probs(
    model: Transformer,
    params: dict,
    tokens: Any,
    context_length: int,
    stride: int | None = None,
    *,
    batch_size: int | None = None,
    session: Session = Session(),
) -> np.ndarray:
    """Log-probability of every token of one text after its first, by a sliding window.

    Windows of `context_length` tokens begin every `stride` tokens. The first window predicts all of
    its tokens except the first one. Each later window predicts the tokens that no earlier window
    has reached. Every token is thus predicted once, from at least context_length - stride tokens
    before it, or from all tokens before it. The cost is that of scoring context_length / stride
    texts.

    Args:
        tokens: int [length >= 2], one text; blocks in order are `blocks.ravel()`.
        context_length: Tokens of a window, from 2 to the number of the model's positions.
        stride: From 1 to context_length - 1; None is half of context_length.
        batch_size: Windows at once; by default those of 4,096 tokens. Does not change the result.
        session: Devices and progress (stage "score").

    Returns:
        [length - 1] (float32).

    Raises:
        InputError: If the parameters are not those of the model, the text has another shape or ids
            outside the vocabulary, or a number is out of range.

    References:
        The sliding window of "Perplexity of fixed-length models" in the documentation of
        transformers, with every predicted token counted once.
    """
    check_params(model, params)
    context_length, stride = checked_window(model, context_length, stride)
    tokens = _checked_text(model, tokens)
    if batch_size is not None:
        whole("batch_size", batch_size, 1)
    size = min(context_length, len(tokens))
    begins = np.arange(1 + max(-(-(len(tokens) - size) // stride), 0)) * stride
    # What stands right of a text changes no prediction in it.
    padded = np.pad(tokens, (0, int(begins[-1]) + size - len(tokens)))
    windows = padded[begins[:, None] + np.arange(size)]
    (found,) = in_batches(
        lambda params, rows: (_log_probs(model, params, rows),),
        params,
        (windows,),
        batch_size or max(_AT_ONCE // size, 1),
        session,
    )
    return np.concatenate([found[0], found[1:, size - 1 - stride :].ravel()])[: len(tokens) - 1]


def strided_perplexity(
    model: Transformer,
    params: dict,
    tokens: Any,
    context_length: int,
    stride: int | None = None,
    *,
    batch_size: int | None = None,
) -> float:
    """exp of minus the mean of `strided_log_probs`, whose arguments these are."""
    found = strided_log_probs(model, params, tokens, context_length, stride, batch_size=batch_size)
    return float(np.exp(-found.mean(dtype=np.float64)))


def checked_window(model: Transformer, context_length: int, stride: int | None) -> tuple[int, int]:
    """The context and the stride of a window, the latter half of it by default.

    Raises:
        InputError: If the model has fewer positions, or one is out of range.
    """
    whole("context_length", context_length, 2)
    positions = model.config.max_position_embeddings
    if context_length > positions:
        raise InputError(
            f"context_length is {context_length}; this model has {positions} positions; give at "
            "most that"
        )
    if stride is None:
        return context_length, context_length // 2
    if whole("stride", stride, 1) >= context_length:
        raise InputError(
            f"stride is {stride} with context_length {context_length}; it must be below "
            "context_length, so that each token has one before it"
        )
    return context_length, stride


def _checked_text(model, tokens):
    """One text as int32 [length >= 2]."""
    try:
        tokens = np.asarray(tokens)
    except ValueError:  # rows of different lengths
        tokens = np.asarray(tokens, object)
    if tokens.ndim != 1 or len(tokens) < 2 or not np.issubdtype(tokens.dtype, np.integer):
        raise InputError(
            f"tokens have shape {tokens.shape} and type {tokens.dtype}; they must be integers "
            "[length >= 2], one text"
        )
    if not (0 <= tokens.min() and tokens.max() < model.config.vocab_size):
        raise InputError(
            f"tokens contain ids {tokens.min()} to {tokens.max()}; the model's vocabulary is 0 to "
            f"{model.config.vocab_size - 1}"
        )
    return tokens.astype(np.int32)


def _checked_mask(blocks, mask):
    """The mask as bool [blocks, length]; None where all is text."""
    if mask is None:
        return None
    try:
        mask = np.asarray(mask)
    except ValueError:  # rows of different lengths
        mask = np.zeros(0)
    if mask.shape != blocks.shape or not np.isin(mask, (0, 1)).all():
        raise InputError(
            f"mask has shape {mask.shape}; it must be like the blocks, {blocks.shape}, with 1 "
            "where there is text and 0 where there is padding"
        )
    mask = mask.astype(bool)
    begins = mask[:, 0].astype(int) + (mask[:, 1:] & ~mask[:, :-1]).sum(1)
    if (begins != 1).any():
        raise InputError(
            f"mask of block {int((begins != 1).argmax())} is not one piece of 1 with 0 before or "
            "after it; a block must be one text, padded at its ends"
        )
    return None if mask.all() else mask


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(model, params, tokens, mask=None):
    applied: Any = model.apply({"params": params}, tokens, mask, method="hidden")
    hidden = applied[0]
    matrix, cap = model.head_matrix(params), model.switches.logit_cap
    return -separate_losses(hidden[:, :-1], matrix, tokens[:, 1:], model.precision, cap)
