"""Chains of counts with selection: takeover by one outcome, distributions of several.

A curation that accepts one outcome more often than another, or selects the best of several
candidates, is selection in a Wright-Fisher population of M points.
"""

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from .ancestry import as_generation, as_sample_size
from .categorical import as_probabilities, as_unit_interval


def takeover_probability(sample_size: int, step: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """P(all points eventually have one outcome | its current count): float64 [M + 1].

    Standard: with Q the transitions Binomial(M, step(i / M)) among the counts 1 .. M - 1 and r
    those to M, (I - Q)^-1 r. Counts 0 and M must be absorbing.

    Args:
        sample_size: M.
        step: step(p [M + 1]) -> [M + 1], as in `interventions.mapped_count_distribution`.
    """
    size = int(as_sample_size(sample_size))
    counts = np.arange(size + 1)
    following = as_unit_interval(step(counts / size))
    if following[0] != 0 or following[-1] != 1:
        raise ValueError(f"step must keep 0 and 1, got {following[0]} and {following[-1]}")
    rows = stats.binom.pmf(counts[None, :], size, following[:, None])
    inner = np.linalg.solve(np.eye(size - 1) - rows[1:-1, 1:-1], rows[1:-1, -1])
    return np.concatenate([[0.0], inner, [1.0]])


def kimura_takeover_probability(share: ArrayLike, sample_size: int, advantage: float) -> np.ndarray:
    """The same from a share p, for large M and small advantage s: float64 of share's shape.

    (1 - e^(-2 M s p)) / (1 - e^(-2 M s)), and p for s = 0. A single point with advantage s takes
    over with probability about 2 s, however large M is.

    References: Kimura 1962, "On the probability of fixation of mutant genes in a population" (with
        4 N s of diploids instead of 2 M s).
    """
    share, strength = as_unit_interval(share), 2 * int(as_sample_size(sample_size)) * advantage
    return share if strength == 0 else np.expm1(-strength * share) / np.expm1(-strength)


def best_of_greatest(k: int, probabilities: ArrayLike, reward: ArrayLike) -> np.ndarray:
    """Categorical distribution of the best of k candidates, all rewards different: float64 [K].

    Standard: P(best of k is at most i) is the k-th power of that probability for one candidate.
    """
    probabilities, reward = as_probabilities(probabilities), np.asarray(reward, dtype=np.float64)
    if len(np.unique(reward)) != len(probabilities) or int(k) != k or k < 1:
        raise ValueError(f"k must be >= 1 and all rewards different, got {k!r} and {reward!r}")
    order = np.argsort(reward)
    below = np.concatenate([[0.0], np.cumsum(probabilities[order])])
    best = np.empty(len(order))
    best[order] = np.diff(np.minimum(below, 1.0) ** k)
    return best


def mapped_expected_probabilities(
    generation: ArrayLike,
    sample_size: int,
    probabilities: ArrayLike,
    step: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """E[probabilities of the generation-g model] of K outcomes under any curation: [..., K].

    Standard: the counts are a Markov chain over the C(M + K - 1, K - 1) ways to divide M points,
    with multinomial rows.

    Args:
        generation: Whole numbers [...].
        sample_size: M.
        probabilities: The population's [K].
        step: step(p [K]) -> [K], the distribution of a point of the next set when the model is p.
    """
    generation, size = as_generation(generation), int(as_sample_size(sample_size))
    probabilities = as_probabilities(probabilities)
    bars = itertools.combinations(range(size + len(probabilities) - 1), len(probabilities) - 1)
    ends = np.array([(-1, *one, size + len(probabilities) - 1) for one in bars])
    counts = np.diff(ends, axis=1) - 1
    log_ways = special.gammaln(size + 1) - special.gammaln(counts + 1).sum(1)

    def row(law):
        return np.exp(log_ways + special.xlogy(counts, law).sum(1))

    rows = np.stack([row(step(one / size)) for one in counts])
    law, values = row(probabilities), []
    for _ in range(int(np.max(generation, initial=0)) + 1):
        values.append(law @ counts / size)
        law = law @ rows
    return np.array(values)[generation]
