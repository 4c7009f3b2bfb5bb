"""Closed forms for a categorical model refitted by counting to its own draws (Wright-Fisher).

All functions are for the workflow 'replace' unless they take a `workflow`. `probabilities` [K] is
the population, and `probability` q that of one category, a float or an array.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from .ancestry import as_generation, as_sample_size, retention, sum_over_samplings

LARGEST_MATRIX_SAMPLE_SIZE = 2000


def expected_heterozygosity(
    generation: ArrayLike,
    sample_size: ArrayLike,
    probabilities: ArrayLike,
    *,
    workflow: str = "replace",
) -> np.ndarray:
    """Expected H = 1 - sum_k p_k^2 of the generation-g model; M = 1 gives 0.

    H is the chance that two of its draws differ.

    Derived, replace (Wright-Fisher): given p, E sum p'^2 = sum p^2 + H/M, so each sampling
    multiplies H by 1 - 1/M. Accumulate: the pool moves by (new - pool)/i, so E H falls by the
    factor 1 - 1/(i^2 M).

    Args:
        workflow: 'replace' or 'accumulate' (others: H_0 * ancestry.retention).

    References:
        Kazdan et al. 2024 (accumulate).
    """
    generation = as_generation(generation)
    initial = 1 - np.sum(as_probabilities(probabilities) ** 2)
    with np.errstate(divide="ignore"):
        if workflow == "replace":
            sizes = as_sample_size(sample_size, generation)
            logarithm = sum_over_samplings(generation, sizes, lambda size: np.log1p(-1 / size))
        elif workflow == "accumulate":
            rounds = np.arange(1, np.max(generation, initial=0) + 2, dtype=np.float64)
            logarithm = np.cumsum(np.log1p(-1 / (rounds**2 * as_sample_size(sample_size))))[
                generation
            ]
        else:
            raise ValueError(f"workflow must be 'replace' or 'accumulate', got {workflow!r}")
    return initial * np.exp(logarithm)


def count_distribution(
    generation: ArrayLike, sample_size: ArrayLike, probability: float
) -> np.ndarray:
    """Exact distribution of a category's count among the M draws that generation g is fitted to.

    M is 1 .. 2000; with 1 the count stays 0 or 1. Derived: the first count is Binomial(M, p) and,
    lumping all other categories together, a count j leads to Binomial(M, j/M).

    Args:
        probability: The category's population probability p, a float.

    Returns:
        float64 generation.shape + [M + 1]; entry j is P(count = j), so the model's probability is
        j/M.

    References:
        Shumailov et al. 2024, the discrete chain.
    """
    generation = as_generation(generation)
    size = matrix_size(sample_size)
    law = stats.binom.pmf(np.arange(size + 1), size, float(as_unit_interval(probability)))
    result = np.empty((*generation.shape, size + 1))
    for step, current in enumerate(_path(generation, size, law, np.matmul)):
        result[generation == step] = current
    return result


def transition_matrix(sample_size: ArrayLike) -> np.ndarray:
    """One Wright-Fisher step, for M = 1 .. 2000 (1: the identity).

    Returns:
        float64 [M + 1, M + 1], entry [i, j] = P(next count = j | count = i); rows sum to 1.

    References:
        Shumailov et al. 2024, the discrete chain.
    """
    size = matrix_size(sample_size)
    counts = np.arange(size + 1)
    return stats.binom.pmf(counts[None, :], size, counts[:, None] / size)


def expectation_over_counts(
    function: Callable[[np.ndarray], np.ndarray],
    generation: ArrayLike,
    sample_size: ArrayLike,
    probability: ArrayLike,
) -> np.ndarray:
    """E[function(count)] of a category's count among generation g's training draws, exact.

    Derived: u_0 = function, u_{g+1} = T u_g with T the transition matrix; the answer averages u_g
    over Binomial(M, q).

    Args:
        function: Maps the counts 0 .. M, an int array [M + 1], to numbers [M + 1].
        sample_size: M, 1 <= M <= 2000.
    """
    generation = as_generation(generation)
    probability = as_unit_interval(probability)
    size = matrix_size(sample_size)
    counts = np.arange(size + 1)
    values = np.asarray(function(counts), dtype=np.float64)
    # equal probabilities share one binomial row, so many rare categories stay cheap
    distinct, inverse = np.unique(probability, return_inverse=True)
    starts = stats.binom.pmf(counts, size, distinct[:, None])
    result = np.empty((*generation.shape, *probability.shape))
    path = _path(generation, size, values, lambda values, transition: transition @ values)
    for step, values in enumerate(path):
        if np.any(generation == step):
            result[generation == step] = (starts @ values)[inverse].reshape(probability.shape)
    return result


def loss_probability(
    generation: ArrayLike, sample_size: ArrayLike, probability: ArrayLike
) -> np.ndarray:
    """P(a category is absent from generation g's training draws).

    A category that is absent once stays absent. Generation 0 is the one-step loss (1 - q)^M. For g
    -> infinity it tends to 1 - q (`eventual_loss_probability`), which Shumailov et al. 2024 call
    the probability of losing information. Derived: `expectation_over_counts` of [count is 0].

    Args:
        sample_size: M >= 1; at most 2000 if any generation is above 0.
    """
    generation = as_generation(generation)
    probability = as_unit_interval(probability)
    with np.errstate(divide="ignore"):
        first = np.exp(int(as_sample_size(sample_size)) * np.log1p(-probability))
    if np.max(generation, initial=0) == 0:
        return np.broadcast_to(first, (*generation.shape, *probability.shape)).copy()
    result = expectation_over_counts(lambda count: count == 0, generation, sample_size, probability)
    result[generation == 0] = first
    return result


def eventual_loss_probability(probability: ArrayLike) -> np.ndarray:
    """P(a category of population probability q is eventually lost) = 1 - q, for every sample_size.

    Derived: the model's probability is a martingale that ends at 0 or 1, so it ends at 1 with
    probability q.

    Returns:
        float64 of probability's shape.

    References:
        Shumailov et al. 2024.
    """
    return 1 - as_unit_interval(probability)


def fixation_probability(probabilities: ArrayLike) -> np.ndarray:
    """P(the chain ends with all mass on category k) = p_k: a copy of the input.

    It holds for every sample_size. Derived as in `eventual_loss_probability`.

    References:
        Shumailov et al. 2024.
    """
    return as_probabilities(probabilities).copy()


def expected_support(
    generation: ArrayLike, sample_size: ArrayLike, probabilities: ArrayLike
) -> np.ndarray:
    """Expected number of categories of probability above 0 in the generation-g model, exact.

    Derived: sum over categories of 1 - `loss_probability`. M = 1 gives 1.

    Args:
        sample_size: M >= 1; at most 2000 if any generation is above 0.
    """
    probabilities = as_probabilities(probabilities)
    return np.sum(1 - loss_probability(generation, sample_size, probabilities), axis=-1)


def expected_missing_mass(
    generation: ArrayLike, sample_size: ArrayLike, probabilities: ArrayLike
) -> np.ndarray:
    """Expected population probability of all categories that the generation-g model has lost.

    In [0, 1); it tends to 1 - sum p^2 for g -> infinity, which M = 1 gives at once. Derived: sum
    over categories of p_k times `loss_probability`. Arguments as in `expected_support`.
    """
    probabilities = as_probabilities(probabilities)
    return loss_probability(generation, sample_size, probabilities) @ probabilities


def expected_distinct_in_sample(sample_size: ArrayLike, probabilities: ArrayLike) -> float:
    """Expected number of distinct categories among M draws: a float, the generation-0 support.

    Derived: category k is seen with probability 1 - (1 - p_k)^M, for any M.

    References:
        Shumailov et al. 2024, discrete section.
    """
    probabilities = as_probabilities(probabilities)
    with np.errstate(divide="ignore"):
        return float(np.sum(-np.expm1(int(as_sample_size(sample_size)) * np.log1p(-probabilities))))


def probability_variance(
    generation: ArrayLike, sample_size: ArrayLike, probability: ArrayLike, **workflow: Any
) -> np.ndarray:
    """Variance of one category's probability in the generation-g model.

    Its mean is the population's q. Exact in every workflow. Derived: lump all other categories
    together; then E[p (1 - p)] = q (1 - q) retention and E p = q.

    Args:
        workflow: The keywords `workflow`, `alpha`, `beta`, `gamma`, `random_counts` of
            `ancestry.retention`.
    """
    probability = as_unit_interval(probability)
    lost = 1 - retention(generation, sample_size, **workflow)
    return np.multiply.outer(lost, probability * (1 - probability))


def expected_squared_distance(
    generation: ArrayLike, sample_size: ArrayLike, probabilities: ArrayLike, **workflow: Any
) -> np.ndarray:
    """E[sum_k (p_k of the generation-g model - p_k of the population)^2], the squared L2 distance.

    Derived: the sum of the variances, that is the population's heterozygosity times 1 - retention.
    Arguments as in `probability_variance`.
    """
    initial = 1 - np.sum(as_probabilities(probabilities) ** 2)
    return initial * (1 - retention(generation, sample_size, **workflow))


def smoothed_heterozygosity(
    generation: ArrayLike, sample_size: ArrayLike, probabilities: ArrayLike, smoothing: float
) -> np.ndarray:
    """Expected H = 1 - sum_k p_k^2 under 'replace' with p_k = (count_k + kappa)/(M + K kappa).

    `smoothed_heterozygosity_limit` is its limit. Derived (Wright-Fisher with mutation): with w =
    M/(M + K kappa) the shares of the sample enter as w share + (1 - w)/K, so E sum p'^2 = w^2 (sum
    p^2 + H/M) + (1 - w^2)/K.

    Args:
        smoothing: kappa >= 0 (0: as `expected_heterozygosity`).
    """
    generation = as_generation(generation)
    kept, added = _smoothing_step(sample_size, as_probabilities(probabilities).size, smoothing)
    limit = added / (1 - kept) if kept < 1 else 0.0
    initial = 1 - np.sum(as_probabilities(probabilities) ** 2)
    return limit + (initial - limit) * kept ** (generation + 1.0)


def smoothed_heterozygosity_limit(
    sample_size: ArrayLike, num_categories: int, smoothing: float
) -> float:
    """Stationary value of `smoothed_heterozygosity`, for any population: a float.

    About theta/(theta + 1) H_u for M >> 1, with theta = 2 K kappa; H_u = 1 - 1/K is that of the
    uniform distribution, the limit of large kappa. kappa = 0 gives 0. Derived: the fixed point of
    its recursion.

    Args:
        num_categories: K >= 1.
        smoothing: kappa >= 0.
    """
    kept, added = _smoothing_step(sample_size, int(as_sample_size(num_categories)), smoothing)
    return float(added / (1 - kept)) if kept < 1 else 0.0


def _smoothing_step(sample_size, categories, smoothing):
    """H' = kept H + added."""
    if not 0 <= smoothing < np.inf:
        raise ValueError(f"smoothing must be a finite number >= 0, got {smoothing!r}")
    size = int(as_sample_size(sample_size))
    weight = size / (size + categories * smoothing)
    return weight**2 * (1 - 1 / size), (1 - weight**2) * (1 - 1 / categories)


def expected_entropy(
    generation: ArrayLike, sample_size: ArrayLike, probabilities: ArrayLike
) -> np.ndarray:
    """E[-sum_k p_k log p_k] of the generation-g model under 'replace'.

    M is 1 .. 2000; 1 gives 0. For large M and g = 0 about the population's entropy - (K - 1)/(2 M).
    Derived: `expectation_over_counts` of -(c/M) log(c/M), summed over categories.
    """
    probabilities = as_probabilities(probabilities)
    size = int(as_sample_size(sample_size))
    return np.sum(
        expectation_over_counts(
            lambda count: special.entr(count / size), generation, size, probabilities
        ),
        axis=-1,
    )


def expected_reverse_kl(
    generation: ArrayLike, sample_size: ArrayLike, probabilities: ArrayLike
) -> np.ndarray:
    """E[KL(generation-g model || population)] under 'replace'; arguments as in `expected_entropy`.

    KL(population || model) has no finite mean: each category is lost with some probability.
    Derived: E p_k is the population's p_k, so the mean of the cross entropy sum_k p_k(model) log
    p_k(population) never moves, and the divergence is the expected fall of the entropy.
    """
    initial = np.sum(special.entr(as_probabilities(probabilities)))
    return initial - expected_entropy(generation, sample_size, probabilities)


def expected_total_variation(
    generation: ArrayLike, sample_size: ArrayLike, probabilities: ArrayLike
) -> np.ndarray:
    """E[sum_k |p_k of the generation-g model - p_k of the population|]/2 under 'replace'.

    It tends to 1 - sum p^2 for g -> infinity. Derived: each category's exact `count_distribution`.
    Arguments as in `expected_entropy`.
    """
    generation = as_generation(generation)
    size = matrix_size(sample_size)
    counts = np.arange(size + 1)
    distinct, repeats = np.unique(as_probabilities(probabilities), return_counts=True)
    laws = stats.binom.pmf(counts, size, distinct[:, None])
    weights = np.abs(counts / size - distinct[:, None]) * repeats[:, None] / 2
    result = np.empty(generation.shape)
    for step, current in enumerate(_path(generation, size, laws, np.matmul)):
        result[generation == step] = np.sum(current * weights)
    return result


def _path(generation, size, start, step):
    """`start`, then repeatedly step(value, transition matrix), up to the last generation."""
    yield start
    last = int(np.max(generation, initial=0))
    transition = transition_matrix(size) if last else start
    for _ in range(last):
        start = step(start, transition)
        yield start


def as_probabilities(probabilities: ArrayLike) -> np.ndarray:
    """`probabilities` as float64 [K].

    Raises:
        ValueError: Unless it is 1-D and non-negative, with sum 1 to within 1e-9.
    """
    array = np.asarray(probabilities, dtype=np.float64)
    if array.ndim != 1 or not np.all(array >= 0) or abs(np.sum(array) - 1) > 1e-9:
        raise ValueError("probabilities must be a 1-D array of non-negative numbers that sum to 1")
    return array


def as_unit_interval(probability: ArrayLike) -> np.ndarray:
    """`probability` as a float64 array of the same shape.

    Raises:
        ValueError: Unless every entry lies in [0, 1].
    """
    array = np.asarray(probability, dtype=np.float64)
    if not np.all((array >= 0) & (array <= 1)):
        raise ValueError(f"probability must lie in [0, 1], got {probability!r}")
    return array


def matrix_size(sample_size: ArrayLike) -> int:
    """`sample_size` as an int.

    Raises:
        ValueError: Unless it is one whole number for which a dense transition matrix is affordable.
    """
    size = int(as_sample_size(sample_size))
    if size > LARGEST_MATRIX_SAMPLE_SIZE:
        raise ValueError(
            "the dense transition matrix is for sample_size <= "
            f"{LARGEST_MATRIX_SAMPLE_SIZE}, got {size}"
        )
    return size
