"""Closed forms for a categorical model refitted by counting to its own draws (the Wright-Fisher
chain).

Index convention: generation 0 is the model fitted to `sample_size` real draws, so the law at
generation g has seen
g + 1 samplings. All functions are for the workflow 'replace' unless they take a `workflow`.
"""

import numpy as np
from scipy import special, stats

from .ancestry import as_generation, as_sample_size, retention, sum_over_samplings

LARGEST_MATRIX_SAMPLE_SIZE = 2000


def expected_heterozygosity(generation, sample_size, probabilities, *, workflow="replace"):
    """Expected H = 1 - sum_k p_k^2 of the generation-g model (the chance that two of its draws
    differ).

    generation: int or int array >= 0. sample_size: M >= 1 (1 gives 0), or a 1-D schedule for
    'replace'.
    probabilities: [K], the population. workflow: 'replace' or 'accumulate' (others: H_0 *
    ancestry.retention).
    Returns a float64 array of generation's shape.
    Source: replace: Wright-Fisher, derived: given p, E sum p'^2 = sum p^2 + H/M, so each sampling
    multiplies H by 1 - 1/M.
    accumulate: Kazdan et al. 2024; derived: the pool moves by (new - pool)/i, so E H falls by the
    factor 1 - 1/(i^2 M).
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
            logarithm = np.cumsum(np.log1p(-1 / (rounds**2 * as_sample_size(sample_size))))[
                generation
            ]
        else:
            raise ValueError(f"workflow must be 'replace' or 'accumulate', got {workflow!r}")
    return initial * np.exp(logarithm)


def count_distribution(generation, sample_size, probability):
    """Exact law of one category's count among the M draws that generation g is fitted to.

    generation: int or int array >= 0. sample_size: M, 1 <= M <= 2000 (1: the count is 0 or 1 for
    ever).
    probability: the category's population probability, a float. Returns float64 [..., M + 1],
    leading axes as
    generation; entry j is P(count = j), so the model's probability is j/M.
    Source: Shumailov et al. 2024, the discrete chain; derived: the first count is Binomial(M, p)
    and, lumping all other
    categories together, a count j leads to Binomial(M, j/M). Raises ValueError for bad arguments.
    """
    generation = as_generation(generation)
    size = matrix_size(sample_size)
    law = stats.binom.pmf(np.arange(size + 1), size, float(as_unit_interval(probability)))
    result = np.empty((*generation.shape, size + 1))
    last = int(np.max(generation, initial=0))
    transition = transition_matrix(size) if last else None
    for step in range(last + 1):
        result[generation == step] = law
        if step < last:
            law = law @ transition
    return result


def transition_matrix(sample_size):
    """One Wright-Fisher step: float64 [M + 1, M + 1], entry [i, j] = P(next count = j | count = i),
    rows sum to 1.

    sample_size: M, 1 <= M <= 2000 (1: the identity). Source: Shumailov et al. 2024, the discrete
    chain.
    Raises ValueError if M is out of range.
    """
    size = matrix_size(sample_size)
    counts = np.arange(size + 1)
    return stats.binom.pmf(counts[None, :], size, counts[:, None] / size)


def expectation_over_counts(function, generation, sample_size, probability):
    """E[function(count)] of one category's count among the M draws that generation g is fitted to,
    exact.

    function: maps the counts 0 .. M, an int array [M + 1], to numbers [M + 1]. generation: int or
    int array >= 0. sample_size: M,
    1 <= M <= 2000. probability: float or array, the population probability q. Returns float64
    generation.shape +
    probability.shape. Source: derived: u_0 = function, u_{g+1} = T u_g with T the transition
    matrix; the answer averages u_g
    over Binomial(M, q). Raises ValueError for bad arguments.
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
    last = int(np.max(generation, initial=0))
    transition = transition_matrix(size) if last else None
    for step in range(last + 1):
        if np.any(generation == step):
            result[generation == step] = (starts @ values)[inverse].reshape(probability.shape)
        if step < last:
            values = transition @ values
    return result


def loss_probability(generation, sample_size, probability):
    """P(a category is absent from the M draws that generation g is fitted to); absent once is
    absent for ever.

    generation: int or int array >= 0. sample_size: M >= 1; at most 2000 if any generation is above
    0. probability: float
    or array, the population probability q. Returns float64 of shape generation.shape +
    probability.shape.
    Generation 0 is the one-step loss (1 - q)^M. For g -> infinity it tends to 1 - q
    (`eventual_loss_probability`), which
    Shumailov et al. 2024 call the probability of losing information.
    Source: derived: `expectation_over_counts` of [count is 0]. Raises ValueError for bad arguments.
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


def eventual_loss_probability(probability):
    """P(a category of population probability q is lost in the end) = 1 - q. float or array in, same
    shape out.

    Source: Shumailov et al. 2024; derived: the model's probability is a martingale that ends at 0
    or 1, so it ends at 1
    with probability q. Holds for every sample_size. Raises ValueError outside [0, 1].
    """
    return 1 - as_unit_interval(probability)


def fixation_probability(probabilities):
    """P(the chain ends with all mass on category k) = p_k, for every sample_size: float64 [K], a
    copy of the input.

    Source: Shumailov et al. 2024; derived as in `eventual_loss_probability`. Raises ValueError if
    not a probability vector.
    """
    return as_probabilities(probabilities).copy()


def expected_support(generation, sample_size, probabilities):
    """Expected number of categories that the generation-g model still holds (probability above 0),
    exact.

    generation: int or int array >= 0. sample_size: M >= 1 (1 gives 1); at most 2000 if any
    generation is above 0.
    probabilities: [K], the population. Returns a float64 array of generation's shape, in
    categories.
    Source: derived: sum over categories of 1 - `loss_probability`. Raises ValueError for bad
    arguments.
    """
    probabilities = as_probabilities(probabilities)
    return np.sum(1 - loss_probability(generation, sample_size, probabilities), axis=-1)


def expected_missing_mass(generation, sample_size, probabilities):
    """Expected population probability of all categories that the generation-g model has lost: a
    number in [0, 1).

    Arguments as in `expected_support` (M = 1 gives 1 - sum p^2). Tends to 1 - sum p^2 for g ->
    infinity.
    Returns a float64 array of generation's shape. Source: derived: sum over categories of p_k times
    `loss_probability`.
    Raises ValueError for bad arguments.
    """
    probabilities = as_probabilities(probabilities)
    return loss_probability(generation, sample_size, probabilities) @ probabilities


def expected_distinct_in_sample(sample_size, probabilities):
    """Expected number of distinct categories among M draws: a float, the generation-0 support, for
    any M.

    sample_size: M >= 1 (1 gives 1). probabilities: [K]. Source: Shumailov et al. 2024, discrete
    section; derived:
    category k is seen with probability 1 - (1 - p_k)^M. Raises ValueError for bad arguments.
    """
    probabilities = as_probabilities(probabilities)
    with np.errstate(divide="ignore"):
        return float(np.sum(-np.expm1(int(as_sample_size(sample_size)) * np.log1p(-probabilities))))


def probability_variance(generation, sample_size, probability, **workflow):
    """Variance of one category's probability in the generation-g model; its mean is the
    population's q in every workflow.

    generation: int or int array >= 0. sample_size: M >= 1, or a 1-D schedule for 'replace'.
    probability: float or array, q.
    workflow: the keywords `workflow`, `alpha`, `beta`, `gamma`, `random_counts` of
    `ancestry.retention`; exact in each.
    Returns float64 generation.shape + probability.shape. Source: derived: lump all other categories
    together; then
    E[p (1 - p)] = q (1 - q) retention and E p = q. Raises ValueError for bad arguments.
    """
    probability = as_unit_interval(probability)
    lost = 1 - retention(generation, sample_size, **workflow)
    return np.multiply.outer(lost, probability * (1 - probability))


def expected_squared_distance(generation, sample_size, probabilities, **workflow):
    """E[sum_k (p_k of the generation-g model - p_k of the population)^2], the squared L2 distance:
    float64 of generation's shape.

    Arguments as in `probability_variance`; probabilities: [K]. Source: derived: the sum of the
    variances, that is the population's heterozygosity times 1 - retention. Raises ValueError for
    bad arguments.
    """
    initial = 1 - np.sum(as_probabilities(probabilities) ** 2)
    return initial * (1 - retention(generation, sample_size, **workflow))


def smoothed_heterozygosity(generation, sample_size, probabilities, smoothing):
    """Expected H = 1 - sum_k p_k^2 of the generation-g model under 'replace' with p_k = (count_k +
    kappa)/(M + K kappa).

    generation: int or int array >= 0. sample_size: M >= 1. probabilities: [K], the population.
    smoothing: kappa >= 0 (0: as `expected_heterozygosity`). Returns a float64 array of generation's
    shape. `smoothed_heterozygosity_limit` is where it ends.
    Source: derived (Wright-Fisher with mutation): with w = M/(M + K kappa) the shares of the sample
    enter as w share + (1 - w)/K, so
    E sum p'^2 = w^2 (sum p^2 + H/M) + (1 - w^2)/K. Raises ValueError for bad arguments.
    """
    generation = as_generation(generation)
    kept, added = _smoothing_step(sample_size, as_probabilities(probabilities).size, smoothing)
    limit = added / (1 - kept) if kept < 1 else 0.0
    initial = 1 - np.sum(as_probabilities(probabilities) ** 2)
    return limit + (initial - limit) * kept ** (generation + 1.0)


def smoothed_heterozygosity_limit(sample_size, num_categories, smoothing):
    """Stationary value of `smoothed_heterozygosity`, whatever the population is: a float.

    About theta/(theta + 1) H_u for M >> 1, with theta = 2 K kappa. num_categories: K >= 1; H_u = 1
    - 1/K is the uniform law's, the
    limit of large kappa. kappa = 0 gives 0.
    Source: derived: the fixed point of its recursion. Raises ValueError for bad arguments.
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


def expected_entropy(generation, sample_size, probabilities):
    """E[-sum_k p_k log p_k] of the generation-g model under 'replace', in nats: float64 of
    generation's shape.

    generation: int or int array >= 0. sample_size: M, 1 <= M <= 2000 (1 gives 0). probabilities:
    [K].
    Source: derived: `expectation_over_counts` of -(c/M) log(c/M), summed over categories; for large
    M and g = 0 about the
    population's entropy - (K - 1)/(2 M). Raises ValueError for bad arguments.
    """
    probabilities = as_probabilities(probabilities)
    size = int(as_sample_size(sample_size))
    return np.sum(
        expectation_over_counts(
            lambda count: special.entr(count / size), generation, size, probabilities
        ),
        axis=-1,
    )


def expected_reverse_kl(generation, sample_size, probabilities):
    """E[KL(generation-g model || population)] under 'replace', in nats: float64 of generation's
    shape.

    Arguments as in `expected_entropy`. KL(population || model) has no finite mean: each category is
    lost with some probability.
    Source: derived: E p_k is the population's p_k, so the mean of the cross entropy sum_k
    p_k(model) log p_k(population) never
    moves, and the divergence is the expected fall of the entropy. Raises ValueError for bad
    arguments.
    """
    initial = np.sum(special.entr(as_probabilities(probabilities)))
    return initial - expected_entropy(generation, sample_size, probabilities)


def expected_total_variation(generation, sample_size, probabilities):
    """E[sum_k |p_k of the generation-g model - p_k of the population|]/2 under 'replace': float64
    of generation's shape.

    Arguments as in `expected_entropy`; tends to 1 - sum p^2 for g -> infinity. Source: derived:
    each category's exact `count_distribution`. Raises ValueError for bad arguments.
    """
    generation = as_generation(generation)
    size = matrix_size(sample_size)
    counts = np.arange(size + 1)
    distinct, repeats = np.unique(as_probabilities(probabilities), return_counts=True)
    laws = stats.binom.pmf(counts, size, distinct[:, None])
    weights = np.abs(counts / size - distinct[:, None]) * repeats[:, None] / 2
    result = np.empty(generation.shape)
    last = int(np.max(generation, initial=0))
    transition = transition_matrix(size) if last else None
    for step in range(last + 1):
        result[generation == step] = np.sum(laws * weights)
        if step < last:
            laws = laws @ transition
    return result


def as_probabilities(probabilities):
    """`probabilities` as float64 [K].

    Raises ValueError unless 1-D, non-negative, with sum 1 to within 1e-9.
    """
    array = np.asarray(probabilities, dtype=np.float64)
    if array.ndim != 1 or not np.all(array >= 0) or abs(np.sum(array) - 1) > 1e-9:
        raise ValueError("probabilities must be a 1-D array of non-negative numbers that sum to 1")
    return array


def as_unit_interval(probability):
    """`probability` as a float64 array of the same shape.

    Raises ValueError unless every entry lies in [0, 1].
    """
    array = np.asarray(probability, dtype=np.float64)
    if not np.all((array >= 0) & (array <= 1)):
        raise ValueError(f"probability must lie in [0, 1], got {probability!r}")
    return array


def matrix_size(sample_size):
    """`sample_size` as an int.

    Raises ValueError unless it is one whole number that a dense transition matrix is for.
    """
    size = int(as_sample_size(sample_size))
    if size > LARGEST_MATRIX_SAMPLE_SIZE:
        raise ValueError(
            "the dense transition matrix is for sample_size <= "
            f"{LARGEST_MATRIX_SAMPLE_SIZE}, got {size}"
        )
    return size
