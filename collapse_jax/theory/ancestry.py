"""Shared ancestry of training points: one recursion for the expected diversity in every workflow.

Follow each training point back to the real draw that it descends from. A categorical model fitted
by counting, and a Gaussian fitted by maximum likelihood (ddof=0), keep on average the same share of
the population's diversity (heterozygosity 1 - sum p^2, or variance):

    retention = 1 - P(two independent uniform draws from the current training set share a real
    ancestor).

Derived: the first two moments of a fresh model draw are those of a uniform draw with replacement
from the training set. Two points with the same ancestor agree; two points with different ancestors
are independent real draws.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

WORKFLOWS = ("replace", "accumulate", "accumulate_subsample", "mix")


def as_generation(generation: ArrayLike) -> np.ndarray:
    """`generation` as an int64 array of the same shape.

    Raises:
        ValueError: If an entry is negative or not a whole number.
    """
    array = np.asarray(generation)
    if not np.issubdtype(array.dtype, np.integer) or np.any(array < 0):
        raise ValueError(f"generation must hold whole numbers >= 0, got {generation!r}")
    return array.astype(np.int64)


def as_sample_size(sample_size: ArrayLike, generation: ArrayLike | None = None) -> np.ndarray:
    """`sample_size` as an int64 array: [] for a fixed size, [n] for a schedule.

    Entry i of a schedule is the number of draws that generation i is fitted to; entries after
    max(generation) are not read.

    Args:
        sample_size: Whole numbers >= 1.
        generation: Generations that a schedule must cover; None allows only a fixed size.

    Raises:
        ValueError: If an entry is not a whole number >= 1, or a schedule is not allowed or too
            short.
    """
    array = np.asarray(sample_size)
    if not np.issubdtype(array.dtype, np.integer) or np.any(array < 1):
        raise ValueError(f"sample_size must hold whole numbers >= 1, got {sample_size!r}")
    if array.ndim > (0 if generation is None else 1):
        raise ValueError(
            "this form takes one fixed sample_size; a 1-D schedule is for workflow='replace' only"
        )
    if generation is None or array.ndim == 0:
        return array.astype(np.int64)
    if array.size < np.max(generation, initial=-1) + 1:
        raise ValueError(f"a schedule needs max(generation) + 1 entries, got {array.size}")
    return array.astype(np.int64)


def sum_over_samplings(
    generation: np.ndarray, sample_size: np.ndarray, term: Callable[[np.ndarray], ArrayLike]
) -> np.ndarray:
    """Sum of term(M_i) over the samplings i = 0 .. generation.

    Args:
        generation: As `as_generation` returns it.
        sample_size: As `as_sample_size` returns it.
        term: Maps an array of sizes to floats.
    """
    values = np.asarray(term(sample_size), dtype=np.float64)
    if values.ndim == 0:
        return (generation + 1) * values
    return np.cumsum(values)[generation]


def check_mixture(workflow: str, alpha: float, beta: float, gamma: float) -> None:
    """Checks that a workflow is known and that the three shares are valid for it.

    Raises:
        ValueError: If they are not. Shares other than (1, 0, 0) are for 'mix' only.
    """
    if workflow not in WORKFLOWS:
        raise ValueError(f"workflow must be one of {WORKFLOWS}, got {workflow!r}")
    if min(alpha, beta, gamma) < 0 or abs(alpha + beta + gamma - 1) > 1e-9:
        raise ValueError(
            f"alpha, beta, gamma must be >= 0 and sum to 1, got {alpha}, {beta}, {gamma}"
        )
    if workflow != "mix" and (alpha, beta, gamma) != (1, 0, 0):
        raise ValueError("alpha, beta and gamma are for workflow='mix' only")


def fixed_mix_counts(
    sample_size: ArrayLike, alpha: float, beta: float, gamma: float
) -> tuple[int, int, int]:
    """Integer numbers of training points from the model, the previous set and the real data.

    A convention of ours: k_alpha = round(alpha M), k_alpha + k_beta = round((alpha + beta) M) (ties
    to even), and real data is the rest.

    Returns:
        (k_alpha, k_beta, k_gamma), three ints.
    """
    size = int(as_sample_size(sample_size))
    check_mixture("mix", alpha, beta, gamma)
    model = round(alpha * size)
    synthetic = round((alpha + beta) * size)
    return model, synthetic - model, size - synthetic


def mix_pair_shares(
    sample_size: ArrayLike, alpha: float, beta: float, gamma: float, random_counts: bool = True
) -> tuple[float, float]:
    """Probabilities of two kinds of pairs of distinct points of a mixed set. Derived.

    With random_counts the points choose their origins independently, so they are (alpha^2 + 2 alpha
    beta, beta^2). Without, the numbers are `fixed_mix_counts`, and the pair is drawn without
    replacement.

    Returns:
        (a, b), two floats: a, both are copies with at least one fresh model draw among them; b,
        both are taken from the previous training set. M = 1 has no pairs and gives (0, 0).
    """
    size = int(as_sample_size(sample_size))
    if random_counts:
        return alpha**2 + 2 * alpha * beta, beta**2
    model, previous, _ = fixed_mix_counts(size, alpha, beta, gamma)
    pairs = max(size * (size - 1), 1)
    return (model * (model - 1) + 2 * model * previous) / pairs, previous * (previous - 1) / pairs


def pair_coalescence(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    workflow: str = "replace",
    alpha: float = 1.0,
    beta: float = 0.0,
    gamma: float = 0.0,
    random_counts: bool = True,
) -> np.ndarray:
    """P(two distinct points of generation g's training set share a real ancestor).

    The training set is the newest M points ('replace', 'mix') or the pool of all (g + 1) M points
    ('accumulate', 'accumulate_subsample'; a subsample without replacement has the same pairs as the
    pool). With M = 1 the newest set does not have two points; the entries are then meaningless
    values of the recursion. Arguments as in `retention`.

    Derived: with C for distinct pairs of N points, two draws with replacement coalesce with W = 1/N
    + (1 - 1/N) C. A pair of new points, or of a new and an old one, has W (if fitted to the pool);
    a pair of old points has C; a pair with a fresh real draw has 0. The result is the average over
    the kinds of pair.
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
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    workflow: str = "replace",
    alpha: float = 1.0,
    beta: float = 0.0,
    gamma: float = 0.0,
    random_counts: bool = True,
) -> np.ndarray:
    """Expected diversity of the generation-g model over that of the population: in [0, 1].

    Exact for the heterozygosity of a categorical model fitted by counting and for the ddof=0
    variance of a Gaussian (per coordinate in any dimension). For that Gaussian the expected squared
    error of the mean is variance * (1 - retention). M = 1 gives 0 in every workflow: all data are
    copies of one real draw, or the newest point is alone.

    Derived: two draws from the model are two draws with replacement from the M or (g + 1) M points
    it was fitted to, so retention = (1 - 1/N)(1 - pair_coalescence).

    Args:
        workflow: 'replace'; 'accumulate' (fit all data so far); 'accumulate_subsample' (fit M of
            them, drawn without replacement; the model's M draws join the pool); 'mix' (each of the
            M points of the next set is a fresh model draw, one of the previous set's points, no
            point twice, or a fresh real draw).
        alpha, beta, gamma: Under 'mix' the probabilities of these three, in this order.
        random_counts: False: the three numbers are `fixed_mix_counts`.

    References:
        Shumailov et al. 2024 ('replace') and Kazdan et al. 2024 ('accumulate') are special cases.
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


def reused_real_retention(
    generation: ArrayLike, sample_size: ArrayLike, gamma: float, *, random_counts: bool = True
) -> np.ndarray:
    """`retention` if the real data come only from the first M draws; M = 1 gives 0.

    Each of the M points of the next set is, with probability gamma, one of generation 0's M real
    points, chosen again in each generation without replacement; otherwise it is a fresh model draw.
    Unlike fresh real data (workflow 'mix'), these points cannot restore diversity beyond that of
    generation 0.

    Derived: let C be the chance that two distinct points share a real ancestor. Two kept points do
    not, two model draws do with W of `pair_coalescence`, and a kept point is a uniform choice among
    M, so it is a model draw's ancestor with 1/M.

    Args:
        gamma: In [0, 1].
        random_counts: False: round(gamma M) of them, as in `fixed_mix_counts`.
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


def kept_real_retention(generation: ArrayLike, real: int, synthetic: int) -> np.ndarray:
    """`retention` if the same real points are all kept in every generation.

    Generation 0 is fitted to `real` = n draws of the population; every later one to these n points
    and to `synthetic` = s fresh draws from its predecessor. It never falls below 1 - 3/(2n + 1),
    however many synthetic points there are.

    Derived, as in `reused_real_retention`: of n + s points no two kept ones share an ancestor, two
    model draws do with W of `pair_coalescence`, and a kept point is a model draw's ancestor with
    1/n.

    Args:
        real: n >= 1 (1 gives 0).
        synthetic: s >= 0.

    References:
        The "synthetic augmentation loop" of Alemohammad et al. 2023; the setting of Bertrand et al.
        2023.
    """
    generation, kept = as_generation(generation), int(as_sample_size(real))
    fresh = int(synthetic)
    if fresh != synthetic or fresh < 0:
        raise ValueError(f"synthetic must be a whole number >= 0, got {synthetic!r}")
    size, total = kept, kept + fresh
    values, distinct = np.empty(int(np.max(generation, initial=0)) + 1), 0.0
    for step in range(values.size):
        values[step] = (1 - 1 / size) * (1 - distinct)
        model_pairs = fresh * (fresh - 1) * _with_replacement(distinct, size)
        distinct, size = (model_pairs + 2 * fresh) / max(total * (total - 1), 1), total
    return values[generation]


def mixture_of_distributions_heterozygosity(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    alpha: float,
    beta: float,
    gamma: float,
    population_heterozygosity: float = 1.0,
    of_model: bool = False,
) -> np.ndarray:
    """Expected heterozygosity in the chain P_{i+1} = alpha F(P_i) + beta P_i + gamma P_0.

    F(P_i) is the categorical model of generation i, fitted to M draws of P_i by counting, and P_0
    the population. Here distributions are mixed, not data sets as in `retention`. Where the paper
    writes "alpha = gamma = 0", alpha = 1 must be meant.

    Derived: E sum F^2 = sum P^2 + H/M and E P_i = P_0, hence H' = (1-gamma)^2 H + (1-(1-gamma)^2)
    H_0 - alpha^2 H/M.

    Args:
        population_heterozygosity: H_0, the unit of the result; 1.0 gives the retained share.
        of_model: False: the entry for generation g is that of P_{g+1}, the first distribution that
            contains the model of generation g (g + 1 samplings). True: that of the model F(P_g)
            itself. With alpha = 1 they agree. M = 1: F(P_i) is one point.

    References:
        Shumailov et al. 2024, the chain.
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
    """P(two draws with replacement from `size` points coalesce), from that of distinct draws."""
    return 1 / size + (1 - 1 / size) * distinct
