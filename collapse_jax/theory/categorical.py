"""Closed forms for a categorical model refitted by counting to its own draws (the Wright-Fisher chain).

Index convention: generation 0 is the model fitted to `sample_size` real draws, so the law at generation g has seen
g + 1 samplings. All functions are for the workflow 'replace' unless they take a `workflow`.
"""

import numpy as np
from scipy import stats

from .ancestry import as_generation, as_sample_size, sum_over_samplings

LARGEST_MATRIX_SAMPLE_SIZE = 2000


def expected_heterozygosity(generation, sample_size, probabilities, *, workflow="replace"):
    """Expected H = 1 - sum_k p_k^2 of the generation-g model (the chance that two of its draws differ).

    generation: int or int array >= 0. sample_size: M >= 1 (1 gives 0), or a 1-D schedule for 'replace'.
    probabilities: [K], the population. workflow: 'replace' or 'accumulate' (others: H_0 * ancestry.retention).
    Returns a float64 array of generation's shape.
    Source: replace: Wright-Fisher, derived: given p, E sum p'^2 = sum p^2 + H/M, so each sampling multiplies H by 1 - 1/M.
    accumulate: Kazdan et al. 2024; derived: the pool moves by (new - pool)/i, so E H falls by the factor 1 - 1/(i^2 M).
    Raises ValueError for bad arguments.
    """
    generation = as_generation(generation)
    initial = 1 - np.sum(as_probabilities(probabilities) ** 2)
    with np.errstate(divide="ignore"):
        if workflow == "replace":
            sizes = as_sample_size(sample_size, generation)
            logarithm = sum_over_samplings(generation, sizes, lambda size: np.log1p(-1 / size))
        elif workflow == "accumulate":
            rounds = np.arange(1, np.max(generation, initial=0) + 2, dtype=np.float64)
            logarithm = np.cumsum(np.log1p(-1 / (rounds**2 * as_sample_size(sample_size))))[generation]
        else:
            raise ValueError(f"workflow must be 'replace' or 'accumulate', got {workflow!r}")
    return initial * np.exp(logarithm)


def count_distribution(generation, sample_size, probability):
    """Exact law of one category's count among the M draws that generation g is fitted to.

    generation: int or int array >= 0. sample_size: M, 1 <= M <= 2000 (1: the count is 0 or 1 for ever).
    probability: the category's population probability, a float. Returns float64 [..., M + 1], leading axes as
    generation; entry j is P(count = j), so the model's probability is j/M.
    Source: Shumailov et al. 2024, the discrete chain; derived: the first count is Binomial(M, p) and, lumping all other
    categories together, a count j leads to Binomial(M, j/M). Raises ValueError for bad arguments.
    """
    generation = as_generation(generation)
    size = _matrix_size(sample_size)
    law = stats.binom.pmf(np.arange(size + 1), size, float(_unit_interval(probability)))
    result = np.empty((*generation.shape, size + 1))
    last = int(np.max(generation, initial=0))
    transition = transition_matrix(size) if last else None
    for step in range(last + 1):
        result[generation == step] = law
        if step < last:
            law = law @ transition
    return result


def transition_matrix(sample_size):
    """One Wright-Fisher step: float64 [M + 1, M + 1], entry [i, j] = P(next count = j | count = i), rows sum to 1.

    sample_size: M, 1 <= M <= 2000 (1: the identity). Source: Shumailov et al. 2024, the discrete chain.
    Raises ValueError if M is out of range.
    """
    size = _matrix_size(sample_size)
    counts = np.arange(size + 1)
    return stats.binom.pmf(counts[None, :], size, counts[:, None] / size)


def loss_probability(generation, sample_size, probability):
    """P(a category is absent from the M draws that generation g is fitted to); absent once is absent for ever.

    generation: int or int array >= 0. sample_size: M >= 1; at most 2000 if any generation is above 0. probability: float
    or array, the population probability q. Returns float64 of shape generation.shape + probability.shape.
    Generation 0 is the one-step loss (1 - q)^M. For g -> infinity it tends to 1 - q (`eventual_loss_probability`), which
    Shumailov et al. 2024 call the probability of losing information.
    Source: derived: u_0 = [count is 0], u_{g+1} = T u_g with T the transition matrix; the answer averages u_g over
    Binomial(M, q). Raises ValueError for bad arguments.
    """
    generation = as_generation(generation)
    probability = _unit_interval(probability)
    with np.errstate(divide="ignore"):
        first = np.exp(int(as_sample_size(sample_size)) * np.log1p(-probability))
    result = np.empty((*generation.shape, *probability.shape))
    result[generation == 0] = first
    last = int(np.max(generation, initial=0))
    if last == 0:
        return result
    size = _matrix_size(sample_size)
    transition = transition_matrix(size)
    # equal probabilities share one binomial row, so many rare categories stay cheap
    distinct, inverse = np.unique(probability, return_inverse=True)
    starts = stats.binom.pmf(np.arange(size + 1)[None, :], size, distinct[:, None])
    lost = np.zeros(size + 1)
    lost[0] = 1.0
    for step in range(1, last + 1):
        lost = transition @ lost
        if np.any(generation == step):
            result[generation == step] = (starts @ lost)[inverse].reshape(probability.shape)
    return result


def eventual_loss_probability(probability):
    """P(a category of population probability q is lost in the end) = 1 - q. float or array in, same shape out.

    Source: Shumailov et al. 2024; derived: the model's probability is a martingale that ends at 0 or 1, so it ends at 1
    with probability q. Holds for every sample_size. Raises ValueError outside [0, 1].
    """
    return 1 - _unit_interval(probability)


def fixation_probability(probabilities):
    """P(the chain ends with all mass on category k) = p_k, for every sample_size: float64 [K], a copy of the input.

    Source: Shumailov et al. 2024; derived as in `eventual_loss_probability`. Raises ValueError if not a probability vector.
    """
    return as_probabilities(probabilities).copy()


def expected_support(generation, sample_size, probabilities):
    """Expected number of categories that the generation-g model still holds (probability above 0), exact.

    generation: int or int array >= 0. sample_size: M >= 1 (1 gives 1); at most 2000 if any generation is above 0.
    probabilities: [K], the population. Returns a float64 array of generation's shape, in categories.
    Source: derived: sum over categories of 1 - `loss_probability`. Raises ValueError for bad arguments.
    """
    probabilities = as_probabilities(probabilities)
    return np.sum(1 - loss_probability(generation, sample_size, probabilities), axis=-1)


def expected_distinct_in_sample(sample_size, probabilities):
    """Expected number of distinct categories among M draws: a float, the generation-0 support, for any M.

    sample_size: M >= 1 (1 gives 1). probabilities: [K]. Source: Shumailov et al. 2024, discrete section; derived:
    category k is seen with probability 1 - (1 - p_k)^M. Raises ValueError for bad arguments.
    """
    probabilities = as_probabilities(probabilities)
    with np.errstate(divide="ignore"):
        return float(np.sum(-np.expm1(int(as_sample_size(sample_size)) * np.log1p(-probabilities))))


def expected_samplings_until_absorption(sample_size, probability):
    """Expected number of samplings until all M draws are one category, for two categories of mass p and 1 - p.

    The first absorbed generation is this number minus one. sample_size: M, 1 <= M <= 2000 (1 gives one sampling).
    probability: float or array in [0, 1]; 0 and 1 are absorbed from the start and give 0. Returns probability's shape.
    Source: Shumailov et al. 2024, absorbing chain; derived: with Q the transitions among counts 1..M-1, the steps left are
    t = (I - Q)^-1 1, and the first sampling adds one: 1 + sum_j Binomial(M, p)_j t_j. Diffusion value -2M(p ln p + ...).
    Raises ValueError for bad arguments.
    """
    size = _matrix_size(sample_size)
    probability = _unit_interval(probability)
    transient = transition_matrix(size)[1:-1, 1:-1]
    left = np.linalg.solve(np.eye(size - 1) - transient, np.ones(size - 1))
    starts = stats.binom.pmf(np.arange(1, size), size, probability[..., None])
    return np.where((probability == 0) | (probability == 1), 0.0, 1 + starts @ left)


def as_probabilities(probabilities):
    """`probabilities` as float64 [K]. Raises ValueError unless 1-D, non-negative, with sum 1 to within 1e-9."""
    array = np.asarray(probabilities, dtype=np.float64)
    if array.ndim != 1 or not np.all(array >= 0) or abs(np.sum(array) - 1) > 1e-9:
        raise ValueError("probabilities must be a 1-D array of non-negative numbers that sum to 1")
    return array


def _unit_interval(probability):
    array = np.asarray(probability, dtype=np.float64)
    if not np.all((array >= 0) & (array <= 1)):
        raise ValueError(f"probability must lie in [0, 1], got {probability!r}")
    return array


def _matrix_size(sample_size):
    size = int(as_sample_size(sample_size))
    if size > LARGEST_MATRIX_SAMPLE_SIZE:
        raise ValueError(f"the dense transition matrix is for sample_size <= {LARGEST_MATRIX_SAMPLE_SIZE}, got {size}")
    return size
