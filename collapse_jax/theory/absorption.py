"""Absorption of the categorical chain under 'replace': when only one category is left, and which
one.

With probability one the chain ends with all mass on one category, on category k with its population
probability p_k (`categorical.fixation_probability`). Times count samplings. The first absorbed
generation is the time minus one, since generation 0 is the result of one sampling.

Here sample_size is M, 1 <= M <= 2000, and `probabilities` [K] is the population.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from .ancestry import as_sample_size
from .categorical import (
    as_probabilities,
    as_unit_interval,
    expectation_over_counts,
    matrix_size,
    transition_matrix,
)


def fixed_probability(
    generation: ArrayLike, sample_size: ArrayLike, probability: ArrayLike
) -> np.ndarray:
    """P(all M draws that generation g is fitted to are one given category).

    It tends to q for generation -> infinity. Derived: `categorical.expectation_over_counts` of
    [count is M].

    Args:
        probability: The category's population probability q, a float or an array.
    """
    size = matrix_size(sample_size)
    return expectation_over_counts(lambda count: count == size, generation, size, probability)


def absorption_probability(
    generation: ArrayLike, sample_size: ArrayLike, probabilities: ArrayLike
) -> np.ndarray:
    """P(the generation-g model has only one category left); K = 1 and M = 1 give 1.

    Derived: the sum of `fixed_probability` over the categories, which exclude each other.
    """
    return np.sum(
        fixed_probability(generation, sample_size, as_probabilities(probabilities)), axis=-1
    )


def expected_samplings_until_fixation(sample_size: ArrayLike, probabilities: ArrayLike) -> float:
    """Expected number of samplings until only one of K categories is left, exact: a float.

    M = 1 gives one sampling, a population with all mass on one category 0. K = 2 is
    `expected_samplings_until_absorption`.

    Derived: E T = sum_t P(T > t) = sum_t sum_k (p_k - P(k fixed after t)), as the p_k sum to 1.
    From a count c the contribution of category k is h(c) = c/M - [c = M] + (T h)(c) with h(0) =
    h(M) = 0, one linear system for all k.
    """
    size = matrix_size(sample_size)
    probabilities = as_probabilities(probabilities)
    if np.max(probabilities) == 1:
        return 0.0
    distinct, repeats = np.unique(probabilities, return_counts=True)
    return float(
        1 + repeats @ (_binomial_rows(size, distinct) @ _solve(size, np.arange(1, size) / size))
    )


def expected_samplings_until_absorption(
    sample_size: ArrayLike, probability: ArrayLike
) -> np.ndarray:
    """Expected number of samplings until all M draws are one of two categories of mass p and 1 - p.

    M = 1 gives one sampling. Derived: with Q the transitions among counts 1..M-1, the steps left
    are t = (I - Q)^-1 1, and the first sampling adds one: 1 + sum_j Binomial(M, p)_j t_j.

    Args:
        probability: p in [0, 1], a float or an array; 0 and 1 are absorbed from the start and give
            0.

    Returns:
        float64 of probability's shape.

    References:
        Shumailov et al. 2024, absorbing chain.
    """
    size = matrix_size(sample_size)
    probability = as_unit_interval(probability)
    left = _solve(size, np.ones(size - 1))
    return np.where(
        (probability == 0) | (probability == 1), 0.0, 1 + _binomial_rows(size, probability) @ left
    )


def diffusion_samplings_until_fixation(sample_size: ArrayLike, probabilities: ArrayLike) -> float:
    """Diffusion (large M) form of `expected_samplings_until_fixation`: a float, for any M >= 1.

    It is about 1.5% above the exact value at M = 100, K = 2: -2 M sum_k (1 - p_k) log(1 - p_k), for
    K = 2 Kimura's -2 M [p log p + (1 - p) log(1 - p)]. K equal categories give -2 M (K - 1) log(1 -
    1/K), which tends to 2 M.

    References:
        Ewens, Mathematical Population Genetics.
    """
    size = int(as_sample_size(sample_size))
    return float(2 * size * np.sum(special.entr(1 - as_probabilities(probabilities))))


def _solve(size, right):
    """(I - Q)^-1 right, Q the transitions among the counts 1 .. M - 1."""
    transient = transition_matrix(size)[1:-1, 1:-1]
    return np.linalg.solve(np.eye(size - 1) - transient, right)


def _binomial_rows(size, probability):
    """P(first count = 1 .. M - 1): the shape of `probability` + [M - 1]."""
    return stats.binom.pmf(np.arange(1, size), size, probability[..., None])
