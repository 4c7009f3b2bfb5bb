"""Shared ancestry of training points: one recursion that gives the expected diversity in every
workflow.

Follow each training point back to the real draw that it descends from. A categorical model fitted
by counting, and a
Gaussian fitted by maximum likelihood (ddof=0), keep on average the same share of the population's
diversity
(heterozygosity 1 - sum p^2, or variance):

    retention = 1 - P(two independent uniform draws from the current training set share a real
    ancestor).

Derived: a fresh model draw has, in its first two moments, the law of a uniform draw with
replacement from the training
set. Two points with the same ancestor agree; two points with different ancestors are independent
real draws.

Index convention: generation 0 is the model fitted to `sample_size` real draws, so the law at
generation g has seen
g + 1 samplings.
"""

import numpy as np

WORKFLOWS = ("replace", "accumulate", "accumulate_subsample", "mix")


def as_generation(generation):
    """`generation` as an int64 array of the same shape.

    Raises ValueError if an entry is negative or not a whole number.
    """
    array = np.asarray(generation)
    if not np.issubdtype(array.dtype, np.integer) or np.any(array < 0):
        raise ValueError(f"generation must hold whole numbers >= 0, got {generation!r}")
    return array.astype(np.int64)


def as_sample_size(sample_size, generation=None):
    """`sample_size` as an int64 array: [] for a fixed size; [n] for a schedule, allowed if
    `generation` is given.

    Entry i of a schedule is the number of draws that generation i is fitted to. Raises ValueError
    if an entry is not a
    whole number >= 1, or if the schedule has fewer than max(generation) + 1 entries (further
    entries are not read).
    """
    array = np.asarray(sample_size)
    if not np.issubdtype(array.dtype, np.integer) or np.any(array < 1):
        raise ValueError(f"sample_size must hold whole numbers >= 1, got {sample_size!r}")
    if array.ndim > (0 if generation is None else 1):
        raise ValueError(
            "this form takes one fixed sample_size; a 1-D schedule is for workflow='replace' only"
        )
    if array.ndim == 1 and array.size < np.max(generation, initial=-1) + 1:
        raise ValueError(f"a schedule needs max(generation) + 1 entries, got {array.size}")
    return array.astype(np.int64)


def sum_over_samplings(generation, sample_size, term):
    """Sum of term(M_i) over the samplings i = 0 .. generation: a float64 array of generation's
    shape.

    `generation` and `sample_size` are as the two functions above return them; `term` maps an array
    of sizes to floats.
    """
    values = np.asarray(term(sample_size), dtype=np.float64)
    if values.ndim == 0:
        return (generation + 1) * values
    return np.cumsum(values)[generation]


def check_mixture(workflow, alpha, beta, gamma):
    """Raise ValueError unless the workflow is known and the three shares suit it (shares are for
    'mix' only).
    """
    if workflow not in WORKFLOWS:
        raise ValueError(f"workflow must be one of {WORKFLOWS}, got {workflow!r}")
    if min(alpha, beta, gamma) < 0 or abs(alpha + beta + gamma - 1) > 1e-9:
        raise ValueError(
            f"alpha, beta, gamma must be >= 0 and sum to 1, got {alpha}, {beta}, {gamma}"
        )
    if workflow != "mix" and (alpha, beta, gamma) != (1, 0, 0):
        raise ValueError("alpha, beta and gamma are for workflow='mix' only")


def fixed_mix_counts(sample_size, alpha, beta, gamma):
    """Whole numbers (k_alpha, k_beta, k_gamma) of training points from model, previous set and real
    data; sum = M.

    k_alpha = round(alpha M), k_alpha + k_beta = round((alpha + beta) M) (ties to even), and real
    data is the rest.
    sample_size: M >= 1. Source: a convention of ours. Raises ValueError for bad arguments.
    """
    size = int(as_sample_size(sample_size))
    check_mixture("mix", alpha, beta, gamma)
    model = round(alpha * size)
    synthetic = round((alpha + beta) * size)
    return model, synthetic - model, size - synthetic


def mix_pair_shares(sample_size, alpha, beta, gamma, random_counts=True):
    """Probability that two distinct points of a mixed set are (a) both copies with at least one
    fresh model draw among
    them, (b) both taken from the previous training set. Two floats; sample_size 1 has no pairs and
    gives (0, 0).

    random_counts=True: each point picks its origin on its own, so (alpha^2 + 2 alpha beta, beta^2).
    False: the numbers
    are `fixed_mix_counts`, and the pair is drawn without replacement. Source: derived.
    """
    size = int(as_sample_size(sample_size))
    if random_counts:
        return alpha**2 + 2 * alpha * beta, beta**2
    model, previous, _ = fixed_mix_counts(size, alpha, beta, gamma)
    pairs = max(size * (size - 1), 1)
    return (model * (model - 1) + 2 * model * previous) / pairs, previous * (previous - 1) / pairs


def pair_coalescence(
    generation,
    sample_size,
    *,
    workflow="replace",
    alpha=1.0,
    beta=0.0,
    gamma=0.0,
    random_counts=True,
):
    """P(two distinct points of generation g's training set share a real ancestor).

    The training set is the newest M points ('replace', 'mix') or the pool of all (g + 1) M points
    ('accumulate',
    'accumulate_subsample'; a subsample without replacement has the same pairs as the pool).

    generation: int or int array >= 0. sample_size: M >= 1, or a 1-D schedule for 'replace'. With M
    = 1 the newest set has
    no two points: entries are then the value that the recursion carries and mean nothing. Shares:
    see `retention`.
    Returns a float64 array of generation's shape, values in [0, 1]. Source: derived. With C for
    distinct pairs of N points,
    two draws with replacement coalesce with W = 1/N + (1 - 1/N) C. A pair of new points, or of a
    new and an old one, has W
    (if fitted to the pool); a pair of old points has C; a pair with a fresh real draw 0. Average
    over the kinds of pair.
    Raises ValueError for bad arguments.
    """
    generation = as_generation(generation)
    check_mixture(workflow, alpha, beta, gamma)
    sizes = as_sample_size(sample_size, generation if workflow == "replace" else None)
    last = int(np.max(generation, initial=0))
    if workflow == "replace":
        sizes = np.broadcast_to(sizes, (last + 1,)) if sizes.ndim == 0 else sizes
    elif workflow == "mix":
        from_model, from_previous = mix_pair_shares(sizes, alpha, beta, gamma, random_counts)
    coalescence = np.zeros(last + 1)
    for step in range(last):
        distinct = coalescence[step]
        if workflow == "replace":
            coalescence[step + 1] = _with_replacement(distinct, sizes[step])
        elif workflow == "mix":
            coalescence[step + 1] = (
                from_model * _with_replacement(distinct, sizes) + from_previous * distinct
            )
        else:
            size, pool = float(sizes), float(sizes) * (step + 1)
            fitted = size if workflow == "accumulate_subsample" else pool
            old_pairs, cross_pairs, new_pairs = (
                pool * (pool - 1),
                2 * pool * size,
                size * (size - 1),
            )
            total = old_pairs * distinct + cross_pairs * _with_replacement(distinct, pool)
            total += new_pairs * _with_replacement(distinct, fitted)
            coalescence[step + 1] = total / (old_pairs + cross_pairs + new_pairs)
    return coalescence[generation]


def retention(
    generation,
    sample_size,
    *,
    workflow="replace",
    alpha=1.0,
    beta=0.0,
    gamma=0.0,
    random_counts=True,
):
    """Expected diversity of the generation-g model over that of the population: a number in [0, 1].

    Exact for the heterozygosity of a categorical model fitted by counting and for the ddof=0
    variance of a Gaussian (per
    coordinate in any dimension). For that Gaussian the expected squared error of the mean is
    variance * (1 - retention).

    generation: int or int array >= 0. sample_size: M >= 1 (1 gives 0 in every workflow: all data
    copy one real draw,
    or the newest point stands alone), or a 1-D schedule M_0, M_1, ... for 'replace'.
    workflow: 'replace'; 'accumulate' (fit all data so far); 'accumulate_subsample' (fit M of them,
    drawn without
    replacement; the model's M draws join the pool); 'mix' (each of the M points of the next set is
    a fresh model draw with
    probability alpha, one of the previous set's points, no point twice, with probability beta, or a
    fresh real draw with
    probability gamma; with random_counts=False the three numbers are `fixed_mix_counts`).
    Returns a float64 array of generation's shape. Source: derived; two draws from the model are two
    draws with replacement
    from the M or (g + 1) M points it was fitted to, so retention = (1 - 1/N)(1 - pair_coalescence).
    Shumailov et al. 2024
    ('replace'), Kazdan et al. 2024 ('accumulate') are special cases. Raises ValueError for bad
    arguments.
    """
    distinct = pair_coalescence(
        generation,
        sample_size,
        workflow=workflow,
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        random_counts=random_counts,
    )
    generation = as_generation(generation)
    fitted = as_sample_size(sample_size, generation)
    if workflow == "accumulate":
        fitted = fitted * (generation + 1)
    elif fitted.ndim == 1:
        fitted = fitted[generation]
    return (1 - 1 / fitted) * (1 - distinct)


def reused_real_retention(generation, sample_size, gamma, *, random_counts=True):
    """Expected diversity of the generation-g model over the population's if the real data kept are
    always from the first M draws.

    Each of the M points of the next set is, with probability gamma, one of generation 0's M real
    points, chosen anew in each
    generation and no point twice; otherwise a fresh model draw. random_counts=False: round(gamma M)
    of them, as in
    `fixed_mix_counts`. Unlike fresh real data (workflow 'mix') nothing beyond generation 0's
    diversity can come back.
    generation: int or int array >= 0. sample_size: M >= 1 (1 gives 0). gamma in [0, 1]. Returns a
    float64 array of generation's shape. Source: derived: let C be the chance that two distinct
    points share a real ancestor. Two kept points do not, two model draws do
    with W of `pair_coalescence`, and a kept point is a uniform choice among M, so it is a model
    draw's ancestor with 1/M.
    Raises ValueError for bad arguments.
    """
    generation = as_generation(generation)
    size = int(as_sample_size(sample_size))
    check_mixture("mix", 1 - gamma, 0.0, gamma)
    if random_counts:
        both_model, one_model = (1 - gamma) ** 2, 2 * gamma * (1 - gamma)
    else:
        model, _, real = fixed_mix_counts(size, 1 - gamma, 0.0, gamma)
        pairs = max(size * (size - 1), 1)
        both_model, one_model = model * (model - 1) / pairs, 2 * model * real / pairs
    distinct = np.zeros(int(np.max(generation, initial=0)) + 1)
    for step in range(distinct.size - 1):
        distinct[step + 1] = both_model * _with_replacement(distinct[step], size) + one_model / size
    return (1 - 1 / size) * (1 - distinct[generation])


def kept_real_retention(generation, real, synthetic):
    """Expected diversity of the generation-g model over the population's if the same real points
    are all kept for ever.

    Generation 0 is fitted to `real` = n draws of the population; every later one to these n points
    and to `synthetic` = s fresh draws from its predecessor. It never falls below 1 - 3/(2n + 1),
    however many synthetic points there are.
    generation: int or int array >= 0. real >= 1 (1 gives 0), synthetic >= 0. Returns a float64
    array of generation's shape.
    Source: the "synthetic augmentation loop" of Alemohammad et al. 2023 and the setting of Bertrand
    et al. 2023; derived, as in `reused_real_retention`: of n + s points no two kept ones share an
    ancestor, two model draws do with W of `pair_coalescence`, and a kept point is a model draw's
    ancestor with 1/n. Raises ValueError for bad arguments.
    """
    generation, kept = as_generation(generation), int(as_sample_size(real))
    made = int(synthetic)
    if made != synthetic or made < 0:
        raise ValueError(f"synthetic must be a whole number >= 0, got {synthetic!r}")
    size, total = kept, kept + made
    values, distinct = np.empty(int(np.max(generation, initial=0)) + 1), 0.0
    for step in range(values.size):
        values[step] = (1 - 1 / size) * (1 - distinct)
        model_pairs = made * (made - 1) * _with_replacement(distinct, size)
        distinct, size = (model_pairs + 2 * made) / max(total * (total - 1), 1), total
    return values[generation]


def mixture_of_distributions_heterozygosity(
    generation, sample_size, *, alpha, beta, gamma, population_heterozygosity=1.0, of_model=False
):
    """Expected heterozygosity in the paper's chain of laws P_{i+1} = alpha F(P_i) + beta P_i +
    gamma P_0.

    F(P_i) is the categorical model of generation i, fitted to M draws of P_i by counting, and P_0
    the population. Here
    whole distributions are mixed, not data sets as in `retention`. The entry for generation g
    belongs to P_{g+1}, the
    first law that holds the generation-g model (g + 1 samplings), or with of_model=True to the
    model F(P_g) itself; with
    alpha = 1 they agree. Paper sections that speak of "alpha = gamma = 0" must mean alpha = 1.

    generation: int or int array >= 0. sample_size: M >= 1 (1: F(P_i) is one point). Returns a
    float64 array of
    generation's shape, in the units of population_heterozygosity (1.0: the retained share).
    Source: Shumailov et al. 2024, the chain; derived: E sum F^2 = sum P^2 + H/M and E P_i = P_0,
    hence
    H' = (1-gamma)^2 H + (1-(1-gamma)^2) H_0 - alpha^2 H/M. Raises ValueError for bad arguments.
    """
    generation = as_generation(generation)
    size = int(as_sample_size(sample_size))
    check_mixture("mix", alpha, beta, gamma)
    old = (1 - gamma) ** 2
    values = np.ones(int(np.max(generation, initial=0)) + 2)
    for step in range(values.size - 1):
        values[step + 1] = (old - alpha**2 / size) * values[step] + (1 - old)
    if of_model:
        return population_heterozygosity * (1 - 1 / size) * values[generation]
    return population_heterozygosity * values[generation + 1]


def _with_replacement(distinct, size):
    """P(two draws with replacement from `size` points coalesce), from that of two distinct points."""
    return 1 / size + (1 - 1 / size) * distinct
