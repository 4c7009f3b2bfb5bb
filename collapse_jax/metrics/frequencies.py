"""Measures of token frequencies in a text, some in comparison with the real text.

NumPy and SciPy, on the host. Words are token ids throughout. All measures except the divergences
depend on the length of the text: compare texts of equal length.
"""

import math
from typing import Any

import numpy as np
from scipy import optimize

from collapse_jax.errors import real, whole
from collapse_jax.metrics.text import checked_blocks

# The count added to each token before two texts are compared (Krichevsky and Trofimov 1981).
SMOOTHING = 0.5
# The type-token ratio below which a factor of MTLD is complete.
MTLD_THRESHOLD = 0.72
# That of threshold * length, which is a whole number where the ratio is exactly the threshold.
_ROUNDING = 1e-6


def frequency_metrics(blocks: np.ndarray, real_blocks: np.ndarray) -> dict[str, float]:
    """Returns every measure of this file that is defined for the blocks, by name.

    Args:
        blocks: Token ids, int [N, length].
        real_blocks: The text to compare with, int [M, length].

    Returns:
        zipf_exponent, unigram_kl, unigram_js, yules_k, mtld, different_sequences and real_8_grams.
        Measures that are not defined for a text are left out (a single distinct token, no token
        twice, blocks of fewer than 8 tokens).

    Raises:
        InputError: If blocks or real_blocks are not non-empty integer arrays [N, length] of ids of
            at least 0.
    """
    blocks = checked_blocks(blocks)
    measures = {"zipf_exponent": zipf_exponent(blocks)}
    measures["unigram_kl"], measures["unigram_js"] = unigram_divergences(blocks, real_blocks)
    measures["yules_k"] = yules_k(blocks)
    measures["mtld"] = mtld(blocks)
    measures["different_sequences"] = different_sequences(blocks)
    measures["real_8_grams"] = real_ngrams(blocks, real_blocks)
    return {name: value for name, value in measures.items() if not math.isnan(value)}


def different_sequences(blocks: np.ndarray) -> int:
    """Number of blocks [N, length] that differ from all blocks before them."""
    return len({block.tobytes() for block in np.ascontiguousarray(checked_blocks(blocks))})


def real_ngrams(blocks: np.ndarray, real_blocks: np.ndarray, n: int = 8) -> float:
    """The share of n-grams of the blocks that also occur in a real block, a measure of copying.

    A model that continues real blocks may write them again, from its context or from memory. Copied
    text keeps vocabulary, perplexity and diversity at their real values, but it is not a sign of a
    healthy model.

    Args:
        blocks: int [N, length].
        real_blocks: int [M, length].
        n: Consecutive tokens, at least 1; n-grams do not extend beyond a block.

    Returns:
        From 0 to 1 (all n-grams are real); nan if the blocks are shorter than n.
    """
    whole("n", n, 1)
    blocks, real_blocks = checked_blocks(blocks), checked_blocks(real_blocks, name="real_blocks")
    if blocks.shape[1] < n:
        return math.nan
    if real_blocks.shape[1] < n:
        return 0.0
    made, there = _sums_of_ngrams(blocks, n), _sums_of_ngrams(real_blocks, n)
    return float(np.isin(made, np.unique(there)).mean())


def _sums_of_ngrams(blocks, n):
    """A number of 64 bits for each n-gram; different ones share one with a chance of 2^-47 or less.

    They are sums of ids times random odd numbers, modulo 2^64: two are equal where the random
    numbers meet one value of a difference of ids, which is below 2^31 and so no multiple of 2^17
    more often than that.
    """
    factors = np.random.default_rng(0).integers(2**64, size=n, dtype=np.uint64) | np.uint64(1)
    ids = blocks.astype(np.uint64)
    last = ids.shape[1] - n + 1
    sums = np.zeros((len(ids), last), np.uint64)
    for at, factor in enumerate(factors):
        sums += ids[:, at : at + last] * factor
    return sums.ravel()


def zipf_exponent(blocks: np.ndarray) -> float:
    """The exponent s of Zipf's law p(r) = r^-s / (1^-s + ... + V^-s), by maximum likelihood.

    r is the rank of a token by its frequency in the text itself, V the number of distinct tokens,
    and all ranks are used. s solves E log r = mean over tokens of log r.

    A least-squares line through log frequency over log rank is not used: its errors are neither
    independent nor equal, most of its points are the plateaus of tokens that occur once or twice,
    and it is biased (Clauset et al. 2009, section 3.4 and appendix A). Ranks come from the same
    text, which makes s too large for short texts (Piantadosi 2014).

    Args:
        blocks: int [N, length].

    Returns:
        At least 0 (all tokens equally frequent); nan if there is a single distinct token.

    References:
        Clauset, Shalizi and Newman 2009, "Power-law distributions in empirical data".
    """
    counts = np.sort(np.unique(checked_blocks(blocks), return_counts=True)[1])[::-1]
    if len(counts) == 1:
        return math.nan
    logs = np.log(np.arange(1, len(counts) + 1))
    mean = float(counts @ logs) / int(counts.sum())

    def excess(exponent):
        weights = np.exp(-exponent * logs)
        return float(weights @ logs / weights.sum()) - mean

    if excess(0.0) <= 0:  # equal counts, up to rounding
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
    root: Any = optimize.brentq(excess, 0.0, high, xtol=1e-12)
    return float(root)


def unigram_divergences(
    blocks: np.ndarray, real_blocks: np.ndarray, *, smoothing: float = SMOOTHING
) -> tuple[float, float]:
    """Kullback-Leibler and Jensen-Shannon divergence of token frequencies from the real text's.

    With P the real text and Q the blocks, over the tokens that occur in either: KL = sum P log(P /
    Q), JS = (KL(P, M) + KL(Q, M)) / 2, M = (P + Q) / 2, in nats. KL measures the loss of the real
    text's vocabulary. In KL only, P and Q are (count + smoothing) / sum, since KL would otherwise
    be infinite. JS, which is at most log 2, uses the frequencies without smoothing.

    Args:
        blocks: int [N, length].
        real_blocks: int [M, length].
        smoothing: Added to each count, above 0.

    Returns:
        (KL, JS), each at least 0.
    """
    blocks, real_blocks = checked_blocks(blocks), checked_blocks(real_blocks, name="real_blocks")
    real("smoothing", smoothing, above=0)
    # One type for both: NumPy takes signed and unsigned ids together as floats.
    both = [array.ravel().astype(np.uint64) for array in (real_blocks, blocks)]
    ids, places = np.unique(np.concatenate(both), return_inverse=True)
    cut = real_blocks.size
    of_real, made = (
        np.bincount(part, minlength=len(ids)).astype(np.float64)
        for part in (places[:cut], places[cut:])
    )
    kl = _divergence(of_real + smoothing, made + smoothing)
    p, q = of_real / of_real.sum(), made / made.sum()
    middle = (p + q) / 2
    return kl, (_divergence(p, middle) + _divergence(q, middle)) / 2


def yules_k(blocks: np.ndarray) -> float:
    """Yule's K = 10^4 (sum_i i^2 V_i - N) / N^2 of all blocks [N, length] together.

    V_i is the number of different tokens that occur i times, N that of all tokens. It rises as a
    few tokens make up more of the text: it is 0 if no token occurs twice, 10^4 (1 - 1 / N) if all
    are the same.

    References:
        Yule 1944, "The statistical study of literary vocabulary".
    """
    counts = np.unique(checked_blocks(blocks), return_counts=True)[1].astype(np.float64)
    total = counts.sum()
    return float(1e4 * (counts @ counts - total) / total**2)


def mtld(blocks: np.ndarray, *, threshold: float = MTLD_THRESHOLD) -> float:
    """MTLD, the mean length of pieces of text whose type-token ratio stays at the threshold.

    The blocks [N, length] are read in order as one text. A piece is complete when its type-token
    ratio falls below the threshold, and the next piece begins after it. The rest at the end counts
    as (1 - ratio) / (1 - threshold) of a piece. MTLD is the number of tokens over the number of
    pieces, averaged over the text and the reversed text. Both passes together take about 0.4
    CPU-seconds for a million tokens.

    Args:
        blocks: int [N, length].
        threshold: Above 0 and below 1.

    Returns:
        At least 1; nan if no token occurs twice in a piece.

    References:
        McCarthy and Jarvis 2010, "MTLD, vocd-D, and HD-D".
    """
    real("threshold", threshold, above=0, below=1)
    tokens = checked_blocks(blocks).ravel().tolist()
    pieces = [_pieces(order, threshold) for order in (tokens, tokens[::-1])]
    if not all(pieces):
        return math.nan
    return float(np.mean([len(tokens) / count for count in pieces]))


def _pieces(tokens, threshold):
    """Number of pieces in a text, with the fraction of the last one."""
    count, seen, length = 0, set(), 0
    for token in tokens:
        seen.add(token)
        length += 1
        if len(seen) < threshold * length - _ROUNDING:
            count, length = count + 1, 0
            seen.clear()
    return count + (1 - len(seen) / length) / (1 - threshold) if length else float(count)


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback-Leibler divergence in nats between two arrays of weights, which need no sum of 1."""
    held = p > 0
    share_p, share_q = p[held] / p.sum(), q[held] / q.sum()
    # Rounding may leave -1e-17 between equal distributions.
    return max(float(np.sum(share_p * np.log(share_p / share_q))), 0.0)
