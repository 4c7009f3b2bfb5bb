"""A text that a run was not made of, as tokens, and its losses under a model."""

import functools
import hashlib
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from collapse_jax.errors import InputError, whole
from collapse_jax.models.lm.corpus import TextTokenizer, blocks_of, load_corpus, read_rows
from collapse_jax.models.lm.notice import Say
from collapse_jax.models.lm.score import check_blocks, mean_loss, token_losses
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.session import Session

# Tokens that are scored at once.
_TOKENS_AT_ONCE = 4096


class OtherText(NamedTuple):
    """A text to score.

    name: of the corpus, and of its split where it has any.
    words: what is scored, and in what context.
    bytes: of the whole text, in UTF-8.
    tokens: of the whole text.
    sha256: of the tokens that are scored, and of how.
    losses: (model, params, session) -> losses in nats [scored tokens], or their means [blocks].
    per_block: whether they are means of blocks.
    """

    name: str
    words: str
    bytes: int
    tokens: int
    sha256: str
    losses: Callable[[Transformer, dict, Session], np.ndarray]
    per_block: bool

    def scores(self, losses: np.ndarray) -> dict[str, float]:
        """What is recorded of a model, from its `losses`.

        Returns:
            loss: mean in nats per token. perplexity: exp of it. perplexity_mean: the mean of the
            blocks' own, if there are blocks. bits_per_byte: loss / log 2 times tokens per byte of
            the whole text (Gao et al. 2020, arXiv 2101.00027, section 3.1), which does not depend
            on the tokenizer.
        """
        loss = float(losses.mean())
        with np.errstate(over="ignore"):
            found = {"loss": loss, "perplexity": float(np.exp(loss))}
            if self.per_block:
                found["perplexity_mean"] = float(np.exp(losses).mean())
        return found | {"bits_per_byte": loss / math.log(2) * self.tokens / self.bytes}


def in_blocks(
    source: str,
    split: str | None,
    tokenizer: TextTokenizer,
    model: Transformer,
    length: int,
    count: int = 0,
    say: Say | None = None,
) -> OtherText:
    """A text in blocks, as a run scores its test text: the first token of each is given.

    Args:
        source: As `load_corpus` takes it.
        split: Its "train", "valid" or "test" text; None is a single file as a whole, else the test
            text.
        tokenizer: That of the run.
        model: That of the run.
        length: Tokens of a block.
        count: How many of the first blocks; 0 is all.
        say: Called with a line on what is read.

    Raises:
        InputError: If the text cannot be read, is shorter than one block, or the model is.
    """
    name, rows = _rows(source, split, say)
    seen: list[int] = []

    def encode(part):
        encoded = tokenizer.encode(part)
        seen.extend(map(len, encoded))
        return encoded

    blocks = blocks_of(rows, tokenizer._replace(encode=encode), whole("block_length", length, 2))
    blocks = check_blocks(model, blocks)
    if whole("blocks", count, 0) > len(blocks):
        raise InputError(
            f"blocks is {count}, but {name} has {len(blocks)}; give at most that, or 0 for all"
        )
    blocks = blocks[: count or None]
    words = f"{len(blocks):,} blocks of {length} tokens, each after at most {length - 1} others"

    def losses(model, params, session):
        return mean_loss(model, params, blocks, session=session)

    return OtherText(name, words, _bytes(rows), sum(seen), _hash(str(length), blocks), losses, True)


def in_windows(
    source: str,
    split: str | None,
    tokenizer: TextTokenizer,
    model: Transformer,
    context_length: int,
    stride: int | None = None,
    say: Say | None = None,
) -> OtherText:
    """A text as one stream of tokens, each scored once in a window that moves over it.

    Args:
        source: As `load_corpus` takes it.
        split: As for `in_blocks`.
        tokenizer: That of the run.
        model: That of the run.
        context_length: Tokens of the window.
        stride: By how many it moves, half of context_length by default: the first of those that
            are scored has context_length - stride tokens before it, the last context_length - 1.
        say: Called with a line on what is read.

    Raises:
        InputError: If the text cannot be read or is shorter than a window, the window is longer
            than the model's positions, or the stride is not shorter than the window.
    """
    positions = model.config.max_position_embeddings
    if whole("context_length", context_length, 2) > positions:
        raise InputError(
            f"context_length is {context_length}; this model has {positions} positions, give at "
            "most that"
        )
    stride = whole("stride", context_length // 2 if stride is None else stride, 1)
    if stride >= context_length:
        raise InputError(
            f"stride is {stride} with context_length {context_length}; it must be below that, so "
            "that each token has one before it"
        )
    name, rows = _rows(source, split, say)
    tokens = np.array([token for row in tokenizer.encode(rows) for token in row], np.int64)
    if len(tokens) < context_length:
        raise InputError(
            f"context_length is {context_length}, but {name} has {len(tokens)} tokens; give at "
            "most that"
        )
    tokens = check_blocks(model, np.stack([tokens, tokens], 1))[:, 0]
    words = (
        f"{len(tokens) - 1:,} tokens as one text, each after {context_length - stride} to "
        f"{context_length - 1} others"
    )

    def losses(model, params, session):
        return strided_losses(model, params, tokens, context_length, stride, session)

    digest = _hash(f"{context_length} {stride}", tokens)
    return OtherText(name, words, _bytes(rows), len(tokens), digest, losses, False)


def strided_losses(
    model: Transformer,
    params: Any,
    tokens: np.ndarray,
    context_length: int,
    stride: int,
    session: Session = Session(),
) -> np.ndarray:
    """Negative log-likelihood in nats [tokens - 1] of every token after the first, in windows.

    Args:
        model: The network.
        params: Its parameters.
        tokens: int [tokens], at least context_length.
        context_length: Tokens of a window.
        stride: Between the beginnings of two windows; the last window ends with the text.
        session: Progress (stage "score").
    """
    last = len(tokens) - context_length
    starts = np.minimum(np.arange(0, last + stride, stride), last)
    losses, done = np.zeros(len(tokens) - 1), 0
    size = min(max(_TOKENS_AT_ONCE // context_length, 1), len(starts))
    for first in range(0, len(starts), size):
        at = starts[np.minimum(np.arange(first, first + size), len(starts) - 1)]
        windows = tokens[at[:, None] + np.arange(context_length)]
        for start, found in zip(at, np.asarray(_losses(model, params, windows)), strict=True):
            # Of each window what no window before it scored.
            end = start + context_length - 1
            losses[done:end], done = found[done - start :], max(done, end)
        session.progress("score", int(done), len(losses))
    return losses


@functools.partial(jax.jit, static_argnums=0)
def _losses(model, params, tokens):
    return token_losses(model, params, tokens)


def _rows(source, split, say):
    """(name, rows) of a text."""
    path = pathlib.Path(source).expanduser()
    if split is None and source != "embedded" and path.is_file():
        rows = read_rows(path)
        if not any(row.strip() for row in rows):
            raise InputError(f"corpus {source!r} is empty; it must hold text")
        return source, rows
    split = split or "test"
    return f"{source}, {split} text", getattr(load_corpus(source, say), split)


def _bytes(rows):
    return sum(len(row.encode()) for row in rows)


def _hash(how, tokens):
    """A hash of tokens and of the way in which they are scored."""
    digest = hashlib.sha256(how.encode() + b"\0")
    digest.update(np.ascontiguousarray(tokens, "<i4").data)
    return digest.hexdigest()
