"""Which real data has descendants: distributions of lineages, exact and by Kingman's coalescent.

Followed back in time, each of the M points of a training set is a copy of a uniformly chosen point
of the one before, or a fresh real draw. `theory.ancestry` has the chance that two points share a
real draw, `theory.lineages` the number of real draws with descendants under 'replace'.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, stats

from .ancestry import as_generation, as_sample_size, check_mixture
from .lineages import LARGEST_EXACT_SIZE, living_ancestors_distribution, occupancy_matrix


def expected_reach(generation: int, *, workflow: str = "replace", gamma: float = 0.0) -> np.ndarray:
    """Expected share of generation g's points that descend from each generation's real data.

    Derived: of the newest set a share gamma is real, and the rest descends from the real data of
    each generation in the same shares as the previous set. So a share gamma (1 - gamma)^(g - i)
    comes from generation i > 0, and (1 - gamma)^g from generation 0, for any alpha and beta.
    Without real data after generation 0 all points descend from it.

    Args:
        generation: g, one number.
        workflow: As in `ancestry.retention`.
        gamma: The share of real points under 'mix'.

    Returns:
        float64 [g + 1], summing to 1.
    """
    last = int(as_generation(generation))
    check_mixture(workflow, 1 - gamma if workflow == "mix" else 1.0, 0.0, gamma)
    shares = gamma * (1 - gamma) ** np.arange(last, -1.0, -1)
    shares[0] = (1 - gamma) ** last
    return shares


def expected_real_age(
    generation: ArrayLike, *, workflow: str = "replace", gamma: float = 0.0
) -> np.ndarray:
    """Expected age in generations of the real ancestors of generation g's points.

    Derived from `expected_reach`: the sum of (1 - gamma)^i for i = 1 .. g. It tends to (1 - gamma)
    / gamma, and is g without real data.
    """
    generation = as_generation(generation)
    check_mixture(workflow, 1 - gamma if workflow == "mix" else 1.0, 0.0, gamma)
    keep = (1 - gamma) ** np.arange(int(np.max(generation, initial=0)) + 1.0)
    return (np.cumsum(keep) - 1)[generation]


def expected_living_ancestors(
    generation: ArrayLike, sample_size: ArrayLike, gamma: float = 0.0
) -> np.ndarray:
    """E[number of real draws with descendants in generation g's training set] with real data.

    Each of the M points of a set is a fresh real draw with probability gamma, otherwise a fresh
    draw from the model ('mix' with beta = 0). gamma = 0 is `lineages.expected_living_ancestors`.

    Derived: of a lineages a binomial number ends in fresh real draws, all different; the b others
    have as many parents as b draws with replacement from M points. At generation 0 all remaining
    lineages end.

    Args:
        sample_size: M, 1 <= M <= 1000.
        gamma: In [0, 1].
    """
    generation = as_generation(generation)
    size = _exact_size(sample_size)
    check_mixture("mix", 1 - gamma, 0.0, gamma)
    lineages = np.arange(size + 1)
    going_on = stats.binom.pmf(lineages[None, :], lineages[:, None], 1 - gamma)
    parents = np.zeros((size + 1, size + 1))
    parents[0, 0] = 1.0
    parents[1:, 1:] = occupancy_matrix(size)
    step = going_on @ parents
    count, values = lineages.astype(float), []
    for _ in range(int(np.max(generation, initial=0)) + 1):
        values.append(count[size])
        count = gamma * lineages + step @ count
    return np.array(values)[generation]


def common_ancestor_probability(
    age: ArrayLike, sample_size: ArrayLike, generation: int | None = None
) -> np.ndarray:
    """P(the M points of a training set have a common ancestor at most `age` generations back).

    Under 'replace', exact. Derived: so many generations back there is one ancestor, see
    `lineages.living_ancestors_distribution`. M = 1 gives 1.

    Args:
        age: Whole numbers >= 0.
        sample_size: M, 1 <= M <= 1000.
        generation: g of the training set; for an age above g the probability is that of age g.
            None: far from the start.
    """
    age = as_generation(age)
    if generation is not None:
        age = np.minimum(age, int(as_generation(generation)))
    return living_ancestors_distribution(age, sample_size)[..., 0]


def kingman_ancestors_distribution(
    generation: ArrayLike, sample_size: ArrayLike, lineages: int | None = None
) -> np.ndarray:
    """Distribution of the number of ancestors g generations back, by Kingman's coalescent.

    The limit of `lineages.living_ancestors_distribution` for M -> infinity at fixed g / M: among j
    lineages, two coalesce with rate j (j - 1) / (2 M) per generation, and never three at once.

    Args:
        sample_size: M >= 1.
        lineages: Number of points that are followed; by default M, at most 500.

    Returns:
        float64 generation.shape + [lineages]; entry j - 1 is P(j ancestors).

    References:
        Kingman 1982, "The coalescent".
    """
    generation = as_generation(generation)
    size = int(as_sample_size(sample_size))
    count = size if lineages is None else int(as_sample_size(lineages))
    if count > 500:
        raise ValueError(f"for at most 500 lineages, got {count}")
    numbers = np.arange(1, count + 1)
    rates = numbers * (numbers - 1) / (2 * size)
    generator = np.diag(-rates) + np.diag(rates[1:], -1)
    laws = [linalg.expm(generator * one)[-1] for one in np.ravel(generation)]
    return np.array(laws).reshape((*generation.shape, count))


def kingman_expected_common_ancestor_age(
    sample_size: ArrayLike, lineages: int | None = None
) -> float:
    """Expected generations back to the common ancestor by Kingman's coalescent: a float.

    2 M (1 - 1/n) for n of the M points; by default all M. The exact one is
    `lineages.expected_generations_until_one_ancestor`.

    References:
        Kingman 1982, "The coalescent".
    """
    size = int(as_sample_size(sample_size))
    count = size if lineages is None else int(as_sample_size(lineages))
    return 2 * size * (1 - 1 / count)


def kingman_largest_family(generation: ArrayLike, sample_size: ArrayLike) -> np.ndarray:
    """Expected share of the largest family at generation g under 'replace', by Kingman.

    Derived: given j ancestors, the shares of their families in a large population are the pieces
    of a stick that is broken at j - 1 uniform places, whose longest is H_j / j on average (H_j =
    1 + 1/2 + .. + 1/j). The M points are M draws of these families: the error is of order 1/j.

    Args:
        sample_size: M, at most 500.
    """
    law = kingman_ancestors_distribution(generation, sample_size)
    number = np.arange(1, law.shape[-1] + 1)
    return law @ (np.cumsum(1 / number) / number)


def _exact_size(sample_size):
    size = int(as_sample_size(sample_size))
    if size > LARGEST_EXACT_SIZE:
        raise ValueError(f"for sample_size <= {LARGEST_EXACT_SIZE}, got {size}")
    return size
