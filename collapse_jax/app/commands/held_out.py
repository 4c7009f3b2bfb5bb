"""What is recorded of the real test text, computed from a model's scores."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from collapse_jax.errors import InputError
from collapse_jax.metrics import text as text_measures
from collapse_jax.metrics.embeddings import has_mauve
from collapse_jax.models.lm.bits_per_byte import bits_per_byte, byte_count
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.models.lm.log_probs import checked_window
from collapse_jax.models.lm.transformer import Transformer


class HeldOut(NamedTuple):
    """The real test text.

    blocks: int [N, length].
    byte_count: bytes of the tokens that are predicted in the blocks, which are all but the first of
        each block; 0 if unknown.
    window: (context_length, stride) of the strided scores; None without them.
    window_bytes: bytes of all tokens except the first.
    """

    blocks: np.ndarray
    byte_count: int = 0
    window: tuple[int, int] | None = None
    window_bytes: int = 0


class Scores(NamedTuple):
    """A model's scores of the real test text, in nats.

    losses: [N], mean over the predicted tokens of each block.
    entropies: [N], mean entropy of the predictions of each block.
    strided: [tokens - 1] log-probabilities by a sliding window; None without a window.
    """

    losses: np.ndarray
    entropies: np.ndarray
    strided: np.ndarray | None = None


def held_out_text(
    blocks: np.ndarray, tokenizer: TextTokenizer, window: tuple[int, int] | None
) -> HeldOut:
    """Returns the real test text, with the number of bytes of its tokens.

    Args:
        blocks: int [N, length].
        tokenizer: Of the run.
        window: As in `HeldOut`.
    """
    window_bytes = byte_count(tokenizer, blocks.ravel()[1:]) if window else 0
    return HeldOut(blocks, byte_count(tokenizer, blocks[:, 1:]), window, window_bytes)


def check_window(model: Transformer, blocks: np.ndarray, window: tuple[int, int] | None) -> None:
    """Refuses a window that is longer than the model's context or than the test text.

    Args:
        model: Of the run.
        blocks: int [N, length], the test text.
        window: As in `HeldOut`.

    Raises:
        InputError: If the window is too long.
    """
    if window is None:
        return
    checked_window(model, *window)
    if window[0] > blocks.size:
        raise InputError(
            f"context_length is {window[0]}, but the test text has {blocks.size} tokens; give at "
            "most that"
        )


def check_extras(extras: Sequence[str]) -> None:
    """Refuses measures that cannot be computed because a package is missing.

    Raises:
        InputError: If a package is missing.
    """
    if "mauve" in extras and not has_mauve():
        raise InputError(
            "extras has mauve, which needs the package 'mauve-text'; run pip install "
            "'collapse-jax[mauve]', or leave mauve out"
        )


def perplexities(scores: Scores) -> dict[str, float]:
    """The two perplexities of the blocks, by name."""
    return {
        "test_perplexity": np.exp(scores.losses.mean()),
        "test_perplexity_mean": np.exp(scores.losses).mean(),
    }


def others(text: HeldOut, scores: Scores) -> dict[str, float]:
    """The other recorded measures, by name.

    test_entropy, test_bits_per_byte, test_perplexity_strided and test_bits_per_byte_strided, if the
    text allows them.
    """
    measures = {"test_entropy": float(scores.entropies.mean())}
    if text.byte_count:
        # Of a text that is certain, rounding may leave a loss of -1e-8.
        nats = max(float(scores.losses.sum()), 0.0) * (text.blocks.shape[1] - 1)
        measures["test_bits_per_byte"] = bits_per_byte(nats, text.byte_count)
    if scores.strided is not None:
        nats = max(-float(scores.strided.sum(dtype=np.float64)), 0.0)
        measures["test_perplexity_strided"] = float(np.exp(nats / len(scores.strided)))
        if text.window_bytes:
            measures["test_bits_per_byte_strided"] = bits_per_byte(nats, text.window_bytes)
    return measures


def gain_lost(now: Scores, first: Scores, before: Scores) -> dict[str, float]:
    """`metrics.text.gain_lost` of the exp-of-the-mean-loss perplexities, by name.

    Args:
        now: Of generation k.
        first: Of generation 0.
        before: Of the pretrained model.

    Returns:
        {"gain_lost": share}; {} if fine-tuning gained nothing, since the share is then undefined.
    """
    share = float(
        text_measures.gain_lost(*(scores.losses.mean() for scores in (now, first, before)))
    )
    return {} if np.isnan(share) else {"gain_lost": share}


def prefixed(prefix: str, measures: dict[str, float]) -> dict[str, float]:
    """The same measures under longer names."""
    return {f"{prefix}_{name}": value for name, value in measures.items()}
