"""Urns: data that is kept and copied point by point, and the number of originals in a sample."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .ancestry import as_generation, as_sample_size
from .categorical import as_unit_interval


def polya_distribution(generation: ArrayLike, first: int, probability: float) -> np.ndarray:
    """Distribution of the number of ones in a pool that grows by one point: [N + g + 1].

    The workflow is 'accumulate'. Generation 0 is fitted to N real draws, and every later generation
    adds one draw of its predecessor. Standard: given k ones among the N, the g new points form a
    Polya urn, so the number of ones among them is beta-binomial(g, k, N - k); k is binomial. The
    share tends to a Beta(k, N - k) variable, not to the population's probability.

    Args:
        generation: One int.
        first: N.
        probability: Of a one in the population.

    References:
        Eggenberger and Polya 1923.
    """
    last, size = int(as_generation(generation)), int(as_sample_size(first))
    begun = stats.binom.pmf(np.arange(size + 1), size, float(as_unit_interval(probability)))
    law = np.zeros(size + last + 1)
    law[0], law[-1] = begun[0], begun[-1]
    for k in range(1, size):
        added = stats.betabinom.pmf(np.arange(last + 1), last, k, size - k)
        law[k : k + last + 1] += begun[k] * added
    return law


def ewens_number_of_kinds(theta: float, draws: ArrayLike) -> np.ndarray:
    """Expected number of kinds among n draws: theta / theta + theta / (theta + 1) + ..., n terms.

    If each of M points is something new with probability gamma in every generation, theta is 2 M
    gamma (large M, small gamma). With fresh real data this is the number of real draws that the
    points descend from; `genealogy.expected_living_ancestors` gives the exact number.

    Args:
        theta: > 0.
        draws: n >= 0, whole numbers [...].

    References:
        Ewens 1972, "The sampling theory of selectively neutral alleles".
    """
    draws = as_generation(draws)
    terms = theta / (theta + np.arange(max(int(np.max(draws, initial=0)), 1)))
    return np.concatenate([[0.0], np.cumsum(terms)])[draws]


def beta_of_immigration(probability: float, sample_size: int, gamma: float) -> tuple[float, float]:
    """(a, b) of a share's stationary Beta with fresh real data: 2 M g p, 2 M g (1 - p).

    For large M and small gamma; `interventions.mapped_count_distribution` is exact.

    References:
        Wright 1931 (with 4 N m of diploids).
    """
    scale = 2 * int(as_sample_size(sample_size)) * gamma
    share = float(as_unit_interval(probability))
    return scale * share, scale * (1 - share)
