"""What is asked of prompts before they are decoded, and of the scores that come of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.lm.switches import TransformerConfig
from collapse_jax.runs.distributed import to_host


def checked_prompts(
    config: TransformerConfig, prompts: Any, new_tokens: int, attention_mask: Any = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Prompts as an array, and their mask.

    Args:
        config: Of the model.
        prompts: int [prompts, length], or a list of lists of any lengths.
        new_tokens: How many are to follow each.
        attention_mask: Like the prompts, 1 where there is text and 0 where a prompt is padded, on
            the left. Without it all is text, and a prompt that begins or ends with `pad_token_id`
            is refused, unless that also begins or ends a text.

    Returns:
        int [prompts, length], and bool [prompts, length], None where all is text. Places that are
        padding hold the last token of their prompt: no token counts as seen that is not text.

    Raises:
        InputError: If prompts are ill-typed or outside the vocabulary, padded without a mask, too
            long for the model, or the mask is not 0 on the left and 1 from there to the end.
    """
    if attention_mask is None:
        prompts, attention_mask = _padded(config, prompts)
    prompts = _array("prompts", prompts)
    if prompts.ndim != 2 or not np.issubdtype(prompts.dtype, np.integer) or prompts.shape[1] < 1:
        raise InputError(
            f"prompts have shape {prompts.shape} and type {prompts.dtype}; they must be "
            "integers [prompts, length >= 1]"
        )
    if prompts.size and not (0 <= prompts.min() and prompts.max() < config.vocab_size):
        raise InputError(
            f"prompts contain ids {prompts.min()} to {prompts.max()}; the model's vocabulary is 0 "
            f"to {config.vocab_size - 1}"
        )
    mask = None if attention_mask is None else _checked_mask(prompts, attention_mask)
    longest = prompts.shape[1] if mask is None else int(mask.sum(1).max(initial=0))
    if longest + new_tokens > config.max_position_embeddings:
        raise InputError(
            f"{longest} prompt tokens and {new_tokens} new ones exceed "
            f"max_position_embeddings {config.max_position_embeddings}"
        )
    if mask is None:
        _refuse_padding(config, prompts)
    if mask is None or mask.all():
        return prompts, None
    return np.where(mask, prompts, prompts[:, -1:]), mask


def refuse_bad_scores(
    params: dict, is_bad: np.ndarray, start: int, count: int, no_repeat_ngram_size: int = 0
) -> None:
    """Raises `DivergenceError` for the first prompt of a batch whose scores are no numbers.

    The text names a parameter that is not finite, if there is one.

    Args:
        params: Of the model.
        is_bad: bool [batch].
        start: Number of the first prompt of the batch.
        count: Prompts in all.
        no_repeat_ngram_size: Of the decoder, which may have banned every token.
    """
    if not is_bad.any():
        return
    named = [
        "/".join(str(getattr(part, "key", part)) for part in path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if not to_host(jnp.isfinite(leaf).all())
    ]
    why = f"parameter {named[0]} contains nan or infinity" if named else "an intermediate overflows"
    if no_repeat_ngram_size and not named:
        why += f", or every token would repeat an n-gram of {no_repeat_ngram_size} tokens"
    raise DivergenceError(
        f"the scores of the next token became nan or infinite for prompt "
        f"{start + int(is_bad.argmax())} of {count}: {why}"
    )


def _array(name, rows):
    try:
        return np.asarray(rows)
    except ValueError:  # rows of different lengths
        raise InputError(
            f"{name} has rows of different lengths; pad shorter prompts on the left, and pass an "
            "attention_mask with 0 there"
        ) from None


def _padded(config, prompts):
    """Lists of different lengths, padded on the left, and their mask; others as they are."""
    is_object = isinstance(prompts, np.ndarray) and prompts.dtype == object and prompts.ndim == 1
    if not (isinstance(prompts, list | tuple) or is_object):
        return prompts, None
    try:
        rows = [np.asarray(row) for row in prompts]
    except ValueError:
        return prompts, None
    if any(row.ndim != 1 for row in rows) or len({len(row) for row in rows}) < 2:
        return prompts, None
    for number, row in enumerate(rows):
        if not len(row):
            raise InputError(
                f"prompt {number} is empty; it must have at least one token (of a text the "
                f"beginning, {config.bos_token_id})"
            )
        if not np.issubdtype(row.dtype, np.integer):
            raise InputError(f"prompt {number} is of type {row.dtype}; it must be integers")
    _refuse_padding(config, np.array([row[[0, -1]] for row in rows]))
    length = max(map(len, rows))
    mask = np.arange(length) >= length - np.array([[len(row)] for row in rows])
    padded = np.full(mask.shape, config.pad_token_id)
    padded[mask] = np.concatenate(rows)
    return padded, mask


def _refuse_padding(config, prompts):
    """Refuses padding that nobody told of."""
    pad = config.pad_token_id
    at_ends = (prompts[:, [0, -1]] == pad).any(1)
    # Where text may begin or end with the same token, it is no sign of padding.
    if at_ends.any() and pad not in (config.bos_token_id, *config.ends):
        raise InputError(
            f"prompt {int(at_ends.argmax())} begins or ends with pad_token_id {pad}, which would "
            "be read as text; pass attention_mask (0 where a prompt is padded, on the left; all 1 "
            "if it is text), or prompts without padding"
        )


def _checked_mask(prompts, attention_mask):
    mask = _array("attention_mask", attention_mask)
    if mask.shape != prompts.shape or not np.isin(mask, (0, 1)).all():
        raise InputError(
            f"attention_mask has shape {mask.shape}; it must be like the prompts, {prompts.shape}, "
            "with 1 where there is text and 0 where there is padding"
        )
    mask = mask.astype(bool)
    is_left = mask[:, -1] & (mask[:, 1:] >= mask[:, :-1]).all(1)
    if not is_left.all():
        raise InputError(
            f"attention_mask of prompt {int(is_left.argmin())} is not 0 on the left and 1 from "
            "there to the end; prompts may be padded only on the left"
        )
    return mask
