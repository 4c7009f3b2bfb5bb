"""A text that is not an input of the run, as tokens, and its losses under a model."""

import hashlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from collapse_jax.app.config.lm.measuring import context_words, window_words
from collapse_jax.errors import InputError, whole
from collapse_jax.models.lm.bits_per_byte import bits_per_byte, byte_count
from collapse_jax.models.lm.corpus import TextTokenizer, blocks_of, load_corpus, read_rows
from collapse_jax.models.lm.log_probs import checked_window, strided_log_probs
from collapse_jax.models.lm.notice import Say
from collapse_jax.models.lm.score import check_blocks, mean_loss
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.session import Session


class OtherText(NamedTuple):
    """A text to score.

    name: name of the corpus, and of its split if it has any.
    words: a description of what is scored, and in what context.
    tokens: number of predicted tokens.
    bytes: number of UTF-8 bytes of these tokens; 0 if unknown.
    sha256: hash of the scored tokens and of the way in which they are scored.
    losses: (model, params, session) -> losses in nats [scored tokens], or their means [blocks].
    per_block: whether the losses are means of blocks.
    """

    name: str
    words: str
    tokens: int
    bytes: int
    sha256: str
    losses: Callable[[Transformer, dict, Session], np.ndarray]
    per_block: bool

    def scores(self, losses: np.ndarray) -> dict[str, float]:
        """Returns the measures of a model, computed from its `losses`.

        Returns:
            loss: mean in nats per token. perplexity: exp of it. perplexity_mean: the mean of the
            blocks' perplexities, if there are blocks. bits_per_byte: of the predicted tokens; it
            does not depend on the tokenizer, and is left out if the bytes are unknown.
        """
        loss = float(losses.mean())
        with np.errstate(over="ignore"):
            found = {"loss": loss, "perplexity": float(np.exp(loss))}
            if self.per_block:
                found["perplexity_mean"] = float(np.exp(losses).mean())
        if self.bytes:
            # Of a text that is certain, rounding may leave a loss of -1e-8.
            nats = max(float(losses.sum()), 0.0) * (self.tokens / losses.size)
            found["bits_per_byte"] = bits_per_byte(nats, self.bytes)
        return found


def in_blocks(
    source: str,
    split: str | None,
    tokenizer: TextTokenizer,
    model: Transformer,
    length: int,
    count: int = 0,
    say: Say | None = None,
    text_column: str | None = None,
) -> OtherText:
    """Returns a text in blocks, scored like a run's test text: from the second token of each on.

    Args:
        source: As `load_corpus` takes it.
        split: Its "train", "valid" or "test" text; None is a single file as a whole, else the test
            text.
        tokenizer: That of the run.
        model: That of the run.
        length: Tokens of a block.
        count: How many blocks from the start; 0 is all.
        say: Called with a line on what is read.
        text_column: As `load_corpus` takes it.

    Raises:
        InputError: If the text cannot be read, is shorter than one block, or the model is.
    """
    name, rows = _rows(source, split, say, text_column)
    blocks = check_blocks(model, blocks_of(rows, tokenizer, whole("block_length", length, 2)))
    if whole("blocks", count, 0) > len(blocks):
        raise InputError(
            f"blocks is {count}, but {name} has {len(blocks)}; give at most that, or 0 for all"
        )
    blocks = blocks[: count or None]
    words = f"{len(blocks):,} blocks of {length} tokens, {context_words(length)}"
    predicted = blocks[:, 1:]

    def losses(model, params, session):
        return mean_loss(model, params, blocks, session=session)

    sizes = predicted.size, byte_count(tokenizer, predicted)
    return OtherText(name, words, *sizes, _hash(str(length), blocks), losses, True)


def in_windows(
    source: str,
    split: str | None,
    tokenizer: TextTokenizer,
    model: Transformer,
    context_length: int,
    stride: int | None = None,
    say: Say | None = None,
    text_column: str | None = None,
) -> OtherText:
    """Returns a text as one stream of tokens, each scored once in a sliding window.

    Args:
        source: As `load_corpus` takes it.
        split: As for `in_blocks`.
        tokenizer: That of the run.
        model: That of the run.
        context_length: Tokens of the window.
        stride: Tokens by which the window moves, by default half of context_length. The first
            scored token in a window has context_length - stride tokens before it, the last
            context_length - 1.
        say: Called with a line on what is read.
        text_column: As `load_corpus` takes it.

    Raises:
        InputError: If the text cannot be read or is shorter than a window, if the window is longer
            than the model's context, or if the stride is not shorter than the window.
    """
    window = checked_window(model, context_length, stride)
    name, rows = _rows(source, split, say, text_column)
    tokens = np.array([token for row in tokenizer.encode(rows) for token in row], np.int64)
    if len(tokens) < context_length:
        raise InputError(
            f"context_length is {context_length}, but {name} has {len(tokens)} tokens; give at "
            "most that"
        )
    tokens = check_blocks(model, np.stack([tokens, tokens], 1))[:, 0]
    words = f"{len(tokens) - 1:,} tokens as one text, {window_words(window)}"

    def losses(model, params, session):
        found = strided_log_probs(model, params, tokens, *window, session=session)
        return -found.astype(np.float64)

    sizes = len(tokens) - 1, byte_count(tokenizer, tokens[1:])
    return OtherText(name, words, *sizes, _hash(f"window {window}", tokens), losses, False)


def _rows(source, split, say, text_column):
    """(name, rows) of a text."""
    path = pathlib.Path(source).expanduser()
    if split is None and source != "embedded" and path.is_file():
        rows = read_rows(path, text_column)
        if not any(row.strip() for row in rows):
            raise InputError(f"corpus {source!r} is empty; it must hold text")
        return source, rows
    split = split or "test"
    return f"{source}, {split} text", getattr(load_corpus(source, say, text_column), split)


def _hash(how, tokens):
    """A hash of tokens and of the way in which they are scored."""
    digest = hashlib.sha256(how.encode() + b"\0")
    digest.update(np.ascontiguousarray(tokens, "<i4").data)
    return digest.hexdigest()
