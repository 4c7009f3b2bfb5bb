"""The number of bytes of text that tokens represent, and the loss in bits per byte."""

import math
from typing import Any

import numpy as np

from collapse_jax.errors import InputError, real, whole
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.models.lm.token_bytes import added_tokens, kind_of, reader_of


def bits_per_byte(nats: float, byte_count: int) -> float:
    """nats / (log(2) * byte_count): a loss that does not depend on how text is cut into tokens.

    Args:
        nats: The summed negative log-likelihood of tokens, `-token_log_probs(...).sum()`.
        byte_count: Of the same tokens, `byte_count`.

    Raises:
        InputError: If there are no bytes, or the loss is below 0.

    References:
        Gao et al. 2020 (The Pile), section 3.1.
    """
    return real("nats", nats, at_least=0) / (math.log(2) * whole("byte_count", byte_count, 1))


def byte_count(tokenizer: TextTokenizer, blocks: Any) -> int:
    """Returns the total number of UTF-8 bytes that the tokens of blocks represent.

    Tokens are counted one by one, so that a character that two blocks share is counted once.
    Special tokens (beginning and end of text) have no bytes. Tokenizers that are neither byte level
    nor with bytes as a fallback (WordPiece, whole words) decode each block, without its special
    tokens.

    Args:
        tokenizer: From `load_tokenizer`.
        blocks: int [blocks, length], or [length].

    Raises:
        InputError: If the tokens are not integers from 0.
    """
    blocks = np.atleast_2d(np.asarray(blocks))
    if not np.issubdtype(blocks.dtype, np.integer) or (blocks.size and blocks.min() < 0):
        raise InputError(
            f"blocks have shape {blocks.shape} and type {blocks.dtype}; they must be integers of "
            "at least 0"
        )
    kind = kind_of(tokenizer.backend)
    if kind is None:
        special = list(tokenizer.special.values())
        texts = (tokenizer.decode(block[~np.isin(block, special)].tolist()) for block in blocks)
        return sum(len(text.encode("utf-8", "replace")) for text in texts)
    ids, counts = np.unique(blocks, return_counts=True)
    added = added_tokens(tokenizer.backend)
    sizes = [_size(tokenizer.backend, kind, added, int(number)) for number in ids]
    return int(np.dot(counts, sizes))


def _size(backend, kind, added, number):
    """Bytes of one token."""
    if number in added:
        return 0 if added[number].special else len(added[number].content.encode())
    token = backend.id_to_token(number)
    # The model's vocabulary may exceed the tokenizer's.
    return 0 if token is None else len(reader_of(kind)(token))
