"""Lineages of the draws under 'replace': the number of real draws that still have descendants.

Followed back in time, the M draws of generation g descend from fewer and fewer draws. A category is
lost at generation g if and only if none of the surviving real draws is of that category. These are
independent draws from the population:

    P(lost) = E[(1 - q)^A],    A = number of the M real draws with descendants among the draws that
    generation g is fitted to.

The distribution of A therefore determines the loss of all categories. Its mean is the expected
support of a population without ties. The chain of A is exact up to M = LARGEST_EXACT_SIZE; above, A
is followed by its mean and variance (it is nearly normal) until it is small enough for the exact
chain. At generation 0 all M real draws are ancestors.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, stats

from .ancestry import as_generation, as_sample_size
from .categorical import as_probabilities, as_unit_interval

LARGEST_EXACT_SIZE = 1000


def occupancy_matrix(sample_size: ArrayLike, largest: int | None = None) -> np.ndarray:
    """Distribution of the number of distinct points among a draws with replacement from M points.

    Standard (occupancy): P_{a+1}(b) = P_a(b) b/M + P_a(b - 1)(M - b + 1)/M.

    Args:
        largest: L <= M; by default M.

    Returns:
        float64 [L, L], lower triangular; entry [a - 1, b - 1] = P(b distinct), rows sum to 1.
    """
    size = int(as_sample_size(sample_size))
    largest = size if largest is None else int(largest)
    if not 1 <= largest <= size:
        raise ValueError(f"largest must lie between 1 and sample_size, got {largest}")
    matrix = np.zeros((largest, largest))
    matrix[0, 0] = 1.0
    seen = np.arange(1, largest + 1) / size
    for draws in range(1, largest):
        matrix[draws] = matrix[draws - 1] * seen
        matrix[draws, 1:] += matrix[draws - 1, :-1] * (1 - seen[:-1])
    return matrix


def distinct_distribution(draws: int, sample_size: ArrayLike) -> np.ndarray:
    """Distribution of the number of distinct points among any number of draws from M points.

    With M draws this is the distribution of the number of surviving ancestors at generation 1. The
    missing mass at generation 1 is therefore the average of generation 0's over sample sizes with
    this distribution. Standard (occupancy), as `occupancy_matrix`.

    Args:
        draws: With replacement; an int >= 1, also above M.

    Returns:
        float64 [M], entry b - 1 of b distinct points.
    """
    size = int(as_sample_size(sample_size))
    seen = np.arange(1, size + 1) / size
    law = np.zeros(size)
    law[0] = 1.0
    for _ in range(int(as_sample_size(draws)) - 1):
        law = law * seen + np.append(0.0, (law * (1 - seen))[:-1])
    return law


def living_ancestors_distribution(generation: ArrayLike, sample_size: ArrayLike) -> np.ndarray:
    """Exact distribution of A, the number of real draws with descendants in generation g's set.

    Derived: A starts at M, and one generation back a lineages have as many distinct parents as a
    draws from M points.

    Args:
        sample_size: M, 1 <= M <= 1000 (1: always 1).

    Returns:
        float64 generation.shape + [M]; entry a - 1 is P(A = a).
    """
    generation = as_generation(generation)
    size = int(as_sample_size(sample_size))
    if size > LARGEST_EXACT_SIZE:
        raise ValueError(
            "the exact distribution of the living ancestors is for sample_size <= "
            f"{LARGEST_EXACT_SIZE}, got {size}"
        )
    result = np.zeros((*generation.shape, size))
    for step, law in enumerate(_laws(int(np.max(generation, initial=0)), size)):
        result[generation == step, : law.size] = law
    return result


def expected_living_ancestors(generation: ArrayLike, sample_size: ArrayLike) -> np.ndarray:
    """E[number of real draws with descendants in generation g's training set].

    It is also the expected support if no two real draws are equal. About 2 M/g for 1 << g << M.
    Exact up to M = 1000, then to about 1e-6 relative. Derived, see the module.
    """
    return _average(
        generation,
        sample_size,
        lambda law: law @ np.arange(1, law.size + 1),
        lambda mean, variance: mean,
        (),
    )


def loss_probability(
    generation: ArrayLike, sample_size: ArrayLike, probability: ArrayLike
) -> np.ndarray:
    """P(a category is absent from the draws that generation g is fitted to), for any sample size.

    As `categorical.loss_probability`, which takes powers of the transition matrix and M <= 2000:
    the same number from another derivation up to M = 1000, above with an absolute error below about
    1e-6. Derived, see the module.
    """
    probability = as_unit_interval(probability)
    distinct, inverse = np.unique(probability, return_inverse=True)
    with np.errstate(divide="ignore"):
        logarithm = np.log1p(-distinct)

    def of_law(law):
        with np.errstate(invalid="ignore"):
            return np.exp(np.multiply.outer(logarithm, np.arange(1, law.size + 1))) @ law

    def of_normal(mean, variance):
        # (1 - q)^A only falls with q, so the exponent's minimum bounds the rest of the branch,
        # where the normal law misleads
        slope = np.maximum(logarithm, -mean / variance) if variance > 0 else logarithm
        return np.exp(mean * slope + variance * np.where(np.isfinite(slope), slope, 0.0) ** 2 / 2)

    result = _average(generation, sample_size, of_law, of_normal, (distinct.size,))
    return result[..., inverse].reshape((*np.shape(generation), *probability.shape))


def expected_support(
    generation: ArrayLike, sample_size: ArrayLike, probabilities: ArrayLike
) -> np.ndarray:
    """Expected number of categories that the generation-g model still has, for any sample size.

    As `categorical.expected_support`, without its limit on M; accuracy per category as in
    `loss_probability`. Derived: sum over categories of 1 - `loss_probability`.
    """
    return np.sum(
        1 - loss_probability(generation, sample_size, as_probabilities(probabilities)), axis=-1
    )


def expected_generations_until_one_ancestor(sample_size: ArrayLike) -> float:
    """Expected number of generations after which all M draws descend from one real draw: a float.

    0 for M = 1, about 2 M (1 - 1/M) (Kingman's coalescent). It bounds the absorption time of every
    population, and is the limit of that time for more and more, rarer and rarer categories (minus
    one, since absorption times count samplings). Derived: t_a = 1 + sum_b P(a -> b) t_b, t_1 = 0.

    Args:
        sample_size: M, 1 <= M <= 1000.
    """
    size = int(as_sample_size(sample_size))
    if size > LARGEST_EXACT_SIZE:
        raise ValueError(f"for sample_size <= {LARGEST_EXACT_SIZE}, got {size}")
    if size == 1:
        return 0.0
    transient = np.eye(size - 1) - occupancy_matrix(size)[1:, 1:]
    return float(linalg.solve_triangular(transient, np.ones(size - 1), lower=True)[-1])


def branching_survival(generation: ArrayLike) -> np.ndarray:
    """Share of real draws with surviving descendants for M -> infinity at a fixed generation.

    1 at generation 0, then 1 - 1/e, ..., about 2/g: g_1 = 1, g_{k+1} = 1 - exp(-g_k), the survival
    of a Poisson(1) branching process; k = generation + 1.

    References:
        Suresh et al. 2024.
    """
    generation = as_generation(generation)
    path = np.ones(int(np.max(generation, initial=0)) + 1)
    for step in range(1, path.size):
        path[step] = -np.expm1(-path[step - 1])
    return path[generation]


def survival_bounds(
    generation: ArrayLike, sample_size: ArrayLike, probability: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on P(the generation-g model still has a category).

    With k = generation + 1 samplings, 1 - e^(-M q g_k) and 1 - (1 - 3 M q^2 - 3 k q) e^(-M q g_k),
    clipped to [0, 1]. They are close to each other while g << M and q << 1.

    Args:
        probability: q, a float or an array; its shape broadcasts with generation's.

    Returns:
        (lower, upper), float64 of the broadcast shape.

    References:
        Suresh et al. 2024.
    """
    generation = as_generation(generation)
    size = int(as_sample_size(sample_size))
    probability = as_unit_interval(probability)
    lost = np.exp(-size * probability * branching_survival(generation))
    slack = 3 * size * probability**2 + 3 * (generation + 1) * probability
    return 1 - lost, np.clip(1 - (1 - slack) * lost, 0, 1)


def _average(generation, sample_size, of_law, of_normal, shape):
    """An average over A at each generation, from its exact distribution or its two moments."""
    generation = as_generation(generation)
    size = int(as_sample_size(sample_size))
    last = int(np.max(generation, initial=0))
    result = np.empty((*generation.shape, *shape))
    start, mean, variance, law = 0, float(size), 0.0, None
    if size > LARGEST_EXACT_SIZE:
        while start <= last and mean + 8 * np.sqrt(variance) > LARGEST_EXACT_SIZE:
            if np.any(generation == start):
                result[generation == start] = of_normal(mean, variance)
            mean, variance = _parents(mean, variance, size)
            start += 1
        if start > last:
            return result
        edges = np.arange(LARGEST_EXACT_SIZE + 1) + 0.5
        law = np.diff(stats.norm.cdf(edges, mean, np.sqrt(variance)))
        law /= np.sum(law)
    for step, current in enumerate(_laws(last - start, size, law), start=start):
        if np.any(generation == step):
            result[generation == step] = of_law(current)
    return result


def _laws(steps, size, law=None):
    """The distribution of A after 0 .. steps exact generations, truncated as A decreases."""
    if law is None:
        law = np.zeros(size)
        law[-1] = 1.0
    yield law
    matrix = occupancy_matrix(size, law.size) if steps else law
    for _ in range(steps):
        law = law @ matrix[: law.size, : law.size]
        above = np.nonzero(law > 1e-18)[0]
        law = law[: above[-1] + 1]
        yield law


def _parents(mean, variance, size):
    """Mean and variance of the number of distinct parents of A normal lineages.

    Given a, it is M (1 - (1 - 1/M)^a) on average.
    """
    keep = np.log1p(-1 / size)
    missed = np.exp(mean * keep + variance * keep**2 / 2)
    square = np.exp(2 * mean * keep + 2 * variance * keep**2)
    scatter = size**2 * missed**2 * np.expm1(variance * keep**2)
    # M (M - 1)(1 - 2/M)^a - M^2 (1 - 1/M)^2a + M (1 - 1/M)^a, free of cancellation
    both = np.exp(mean * np.log1p(-2 / size))
    within = size**2 * square * np.expm1(mean * np.log1p(-1 / (size - 1) ** 2)) + size * (
        missed - both
    )
    return size * (1 - missed), scatter + within
