"""Diversity and repetition of token blocks, and their share in the tails of real text.

NumPy, on the host. Words are token ids throughout, so nothing depends on how text is split into
words. Distinct-n falls with the number of tokens, and self-BLEU rises with the number of blocks:
compare sets of equal size.
"""

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.errors import InputError, numbers, whole

# Shares of the real training set that lie below each of its quantiles.
REAL_QUANTILES = (0.1, 0.9, 0.99)
SELF_BLEU_BLOCKS = 200


def gain_lost(loss: Any, first: Any, before: Any) -> np.ndarray:
    """The share of the gain by fine-tuning on real text that has been lost again.

    (loss - first) / (before - first): 0 for generation 0, 1 if the whole gain has been lost, above
    1 if the model is worse than before any fine-tuning, nan if there was no gain.

    Args:
        loss: Mean losses in nats on one text, of any shape.
        first: Losses of generation 0.
        before: Losses of the model before any fine-tuning.
    """
    gain = np.asarray(before - first)
    return np.where(gain > 0, (loss - first) / np.where(gain > 0, gain, 1), np.nan)


def text_metrics(blocks: np.ndarray, *, recent: int = 16, seed: int = 0) -> dict[str, float]:
    """Returns every measure of this file that is defined for the blocks, by name.

    Args:
        blocks: Token ids, int [N, length].
        recent: The window of `repeated_tokens`.
        seed: Seed of `self_bleu`.

    Returns:
        distinct_1 .. distinct_4 (see `distinct`); repeated_4_grams, repeated_within_16 and
        type_token_ratio, means over blocks of `repeated_ngrams`, `repeated_tokens`,
        `type_token_ratio`; vocabulary_in_use, the number of distinct ids; self_bleu, if sacrebleu
        is installed and there are at least two blocks.

    Raises:
        InputError: If blocks is not a non-empty integer array [N, length] of ids of at least 0.
    """
    blocks = checked_blocks(blocks)
    length = blocks.shape[1]
    measures = {f"distinct_{n}": distinct(blocks, n) for n in range(1, min(4, length) + 1)}
    if length >= 4:
        measures["repeated_4_grams"] = float(repeated_ngrams(blocks, 4).mean())
    if length >= 2:
        measures[f"repeated_within_{recent}"] = float(repeated_tokens(blocks, recent).mean())
    measures["type_token_ratio"] = float(type_token_ratio(blocks).mean())
    measures["vocabulary_in_use"] = len(np.unique(blocks))
    if has_sacrebleu() and len(blocks) > 1:
        measures["self_bleu"] = self_bleu(blocks, seed=seed)
    return measures


def distinct(blocks: np.ndarray, n: int) -> float:
    """Distinct-n: distinct n-grams over all n-grams of `blocks` [N, length] together.

    No n-gram spans two blocks.

    References:
        Li et al. 2016.
    """
    blocks, n = checked_blocks(blocks, n), whole("n", n, 1)
    codes = _ngrams(blocks, n)
    return len(np.unique(codes)) / codes.size


def repeated_ngrams(blocks: np.ndarray, n: int = 4) -> np.ndarray:
    """Share [N] of the n-grams of each block [N, length] that occurred before in the same block."""
    blocks, n = checked_blocks(blocks, n), whole("n", n, 1)
    codes = np.sort(_ngrams(blocks, n), axis=1)
    return (codes[:, 1:] == codes[:, :-1]).sum(1) / codes.shape[1]


def repeated_tokens(blocks: np.ndarray, window: int = 16) -> np.ndarray:
    """Share [N] of the tokens of each block [N, length] that are among the `window` before them.

    The first token of a block does not count.

    References:
        The measure rep/l of Welleck et al. 2020, of the text itself instead of a model's
        predictions.
    """
    blocks = checked_blocks(blocks, 2)
    whole("window", window, 1)
    seen = np.zeros(blocks.shape, bool)
    for distance in range(1, min(window, blocks.shape[1] - 1) + 1):
        seen[:, distance:] |= blocks[:, distance:] == blocks[:, :-distance]
    return seen[:, 1:].mean(1)


def type_token_ratio(blocks: np.ndarray) -> np.ndarray:
    """Distinct ids over tokens [N] of each block [N, length]; for a whole set it is distinct-1."""
    return 1 - repeated_ngrams(blocks, 1)


def self_bleu(blocks: np.ndarray, *, sample: int = SELF_BLEU_BLOCKS, seed: int = 0) -> float:
    """Self-BLEU in [0, 1]: mean BLEU-4 of each block against all others; 1 if all are equal.

    The words are token ids. The score of a block is sacrebleu's sentence BLEU (effective order,
    exponential smoothing), from counts made here for all blocks at once: sacrebleu counts every
    reference again for every block, which takes seconds.

    Args:
        blocks: int [N, length].
        sample: If there are more blocks, a random sample of this size is used; each block then has
            sample - 1 references.
        seed: Seed of the sample.

    Raises:
        InputError: If there are fewer than 2 blocks.
        ImportError: If sacrebleu is not installed.

    References:
        Zhu et al. 2018.
    """
    from sacrebleu.metrics.bleu import BLEU

    blocks = checked_blocks(blocks)
    if len(blocks) < 2 or sample < 2:
        raise InputError(
            f"self-BLEU of {len(blocks)} blocks, sample {sample}: both must be at least 2"
        )
    if len(blocks) > sample:
        blocks = blocks[np.random.default_rng(seed).choice(len(blocks), sample, replace=False)]
    length = blocks.shape[1]
    orders = range(1, 5)
    correct = np.stack(
        [_matches(blocks, n) if n <= length else np.zeros(len(blocks), int) for n in orders], axis=1
    )
    total = [max(length - n + 1, 0) for n in orders]
    scores = [
        BLEU.compute_bleu(row, list(total), length, length, "exp", effective_order=True).score
        for row in correct.tolist()
    ]
    return float(np.mean(scores)) / 100


def has_sacrebleu() -> bool:
    """Whether sacrebleu, which self-BLEU needs, is installed."""
    return importlib.util.find_spec("sacrebleu") is not None


def real_quantiles(perplexities: ArrayLike) -> np.ndarray:
    """The 10%, 90% and 99% quantiles [3] of the perplexities [N] of real sequences.

    Raises:
        InputError: If there are no perplexities, or one is not a number.
    """
    perplexities = _numbers_alone("perplexities", perplexities)
    if not perplexities.size:
        raise InputError("there are no perplexities to take quantiles of; at least 1 is needed")
    return np.quantile(perplexities, REAL_QUANTILES)


def tail_shares(perplexities: ArrayLike, quantiles: np.ndarray) -> dict[str, float]:
    """Shares of sequences in the tails of the same model's perplexities of real text.

    Args:
        perplexities: [N].
        quantiles: `real_quantiles` [3].

    Returns:
        share_below_real_10: below the 10% quantile of real sequences. share_above_real_90,
        share_above_real_99: above their 90% and 99% quantiles. For the real sequences themselves
            they are 0.1, 0.1 and 0.01, up to one sequence.

    Raises:
        InputError: If there are no perplexities, or if a perplexity or quantile is nan, which would
            count as a sequence in the middle.
    """
    perplexities = _numbers_alone("perplexities", perplexities)
    if not perplexities.size:
        raise InputError("there are no perplexities to take shares of; at least 1 is needed")
    low, high, highest = _numbers_alone("quantiles", quantiles)
    return {
        "share_below_real_10": float(np.mean(perplexities < low)),
        "share_above_real_90": float(np.mean(perplexities > high)),
        "share_above_real_99": float(np.mean(perplexities > highest)),
    }


def _numbers_alone(name, values):
    """Returns the values as float64; none may be nan."""
    values = numbers(name, values)
    missing = np.isnan(values)
    if missing.any():
        raise InputError(f"{name} contain nan in {missing.sum()} of {values.size} places")
    return values


def checked_blocks(blocks: ArrayLike, least: int = 1, name: str = "blocks") -> np.ndarray:
    """Returns blocks of token ids as an integer array [N >= 1, length >= least].

    Raises:
        InputError: If they have another form, or an id is below 0.
    """
    try:
        blocks = np.asarray(blocks)
    except ValueError:  # rows of different lengths
        raise InputError(
            f"{name} are {blocks!r:.200}, of different lengths; they must be integers [N, length]"
        ) from None
    if (
        blocks.ndim != 2
        or not np.issubdtype(blocks.dtype, np.integer)
        or not len(blocks)
        or least < 1
        or blocks.shape[1] < least
    ):
        raise InputError(
            f"{name} have shape {blocks.shape} and type {blocks.dtype}; they must be "
            f"integers [N, length], {least} or longer"
        )
    if blocks.min() < 0:
        raise InputError(f"{name} contain the id {blocks.min()}; ids must be at least 0")
    return blocks


def _ngrams(blocks, n):
    """Numbers [N, length - n + 1] (int64) that are equal where the n-grams that begin there are."""
    base = int(blocks.max()) + 1
    if base > 2**31:  # so that the products below stay within 63 bits
        blocks = np.unique(blocks, return_inverse=True)[1].reshape(blocks.shape)
        base = int(blocks.max()) + 1
    codes = blocks.astype(np.int64)
    for k in range(1, n):
        codes = codes[:, :-1]
        if int(codes.max()) + 1 > (2**63 - 1) // base:
            codes = np.unique(codes, return_inverse=True)[1].reshape(codes.shape)
        codes = codes * base + blocks[:, k:]
    return codes


def _matches(blocks, n):
    """For each block [N], how many of its n-grams the others match.

    Each counts as often as in the block of the others with most.
    """
    codes = _ngrams(blocks, n)
    kinds, names = np.unique(codes, return_inverse=True)
    cells = np.arange(len(blocks))[:, None] * len(kinds) + names.reshape(codes.shape)
    counts = np.bincount(cells.ravel(), minlength=len(blocks) * len(kinds)).reshape(
        len(blocks), len(kinds)
    )
    second, most = np.partition(counts, -2, axis=0)[-2:]
    of_others = np.where(counts == most, second, most)
    return np.minimum(counts, of_others).sum(1)
