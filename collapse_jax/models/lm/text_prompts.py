"""Prompts and continuations as text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from collapse_jax.errors import InputError

if TYPE_CHECKING:
    from collapse_jax.models.lm.corpus import TextTokenizer
    from collapse_jax.models.lm.switches import TransformerConfig


def encode_prompts(tokenizer: "TextTokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, of any lengths, as `generate` takes them.

    They begin with the beginning-of-text token where the tokenizer puts one, as in training.

    Args:
        tokenizer: What `load_tokenizer` gives.
        texts: One prompt each.

    Raises:
        InputError: If they are one text, a prompt is no text, or has no token.
    """
    if isinstance(texts, str):
        raise InputError(f"prompts is one text, {texts!r:.80}; it must be a list of texts")
    prompts = tokenizer.encode(list(texts))
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise InputError(
                f"prompt {number}, {texts[number]!r:.80}, has no token; it must have at least one"
            )
    return prompts


def decode_continuations(
    tokenizer: "TextTokenizer", config: "TransformerConfig", tokens: np.ndarray
) -> Any:
    """The text of continuations that `generate` made, without the end and what follows it.

    Args:
        tokenizer: What `load_tokenizer` gives.
        config: The model's switches (`model.switches`): which ids end a text, and which one pads.
        tokens: int [..., new_tokens].

    Returns:
        A list of texts, nested as the axes before the last one.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim > 1:
        return [decode_continuations(tokenizer, config, row) for row in tokens]
    is_end = np.isin(tokens, config.ends)
    if is_end.any():
        tokens = tokens[: int(is_end.argmax())]
    is_text = tokens != config.pad_token_id
    return tokenizer.decode(
        tokens[: len(tokens) - int(is_text[::-1].argmax())].tolist() if is_text.any() else []
    )


def as_tokens(prompts: Any, tokenizer: Any) -> Any:
    """Prompts as they are, or the tokens of a list of texts.

    Raises:
        InputError: If they are texts, and there is no tokenizer.
    """
    one = isinstance(prompts, str)
    if not one and not (
        isinstance(prompts, list | tuple) and any(isinstance(prompt, str) for prompt in prompts)
    ):
        return prompts
    if tokenizer is None:
        first = prompts if one else next(text for text in prompts if isinstance(text, str))
        raise InputError(f"prompts contain the text {first!r:.80}; pass its tokenizer too")
    return encode_prompts(tokenizer, prompts)
