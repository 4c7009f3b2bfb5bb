"""Models that read each other as a subdivided population: classical forms, and curated readers.

`theory.islands` has the exact recursions. This module has the classical forms of population
genetics, and the exact distribution of two outcomes if each model is read through a separate
curation.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .ancestry import as_generation, as_sample_size
from .categorical import as_unit_interval
from .islands import as_coupling


def fixation_index(models: int, sample_size: int, share: float) -> float:
    """The share of the pool's diversity that lies between models, exact: a float.

    Each of K models reads a share m from the others, in equal parts. Both diversities are summed
    over all generations; their ratio is the long-run value with rare fresh data. Derived: two draws
    of one model need K (M - 1) generations on average to coalesce (`total_diversity`), and two of
    different models 1/a more, until both descend from one model, with a = 2 m (1 - m) / (K - 1) +
    (K
    - 2) m^2 / (K - 1)^2. A share 1 - 1/K of the pool's pairs comes from different models.

    Args:
        models: K >= 2.
        sample_size: M of each model.
        share: m > 0, of all others together.

    References:
        Slatkin 1991 (by mean times).
    """
    other = _other_share(models, share)
    meets = 2 * other * (1 - share) + (models - 2) * other**2
    apart = (1 - 1 / models) / meets
    return float(apart / (apart + total_diversity(models, sample_size)))


def wright_fixation_index(models: int, sample_size: int, share: float) -> float:
    """The same for large M and small m: 1 / (1 + 2 M m (K / (K - 1))^2), a float.

    A population of M diploids has 4 instead of 2. Arguments as in `fixation_index`.

    References:
        Wright 1943 (K -> infinity); Slatkin 1991.
    """
    size = int(as_sample_size(sample_size))
    return float(1 / (1 + 2 * size * _other_share(models, share) * models**2 / (models - 1)))


def total_diversity(models: int, sample_size: int) -> float:
    """Diversity within a model, summed over all generations, mean over models: K (M - 1).

    The unit is the population's diversity. It holds with multinomial counts for every coupling
    whose rows and columns sum to 1 and that does not isolate a group of models. Derived: followed
    back in time, two points are a pair of random walks over models, for which all K^2 states are
    equally likely in the long run. K generations pass on average between visits to a common model
    (Kac), in each visit they coalesce with probability 1/M, and the first visit is at the start.
    The mean number of generations until they coalesce is K (M - 1).

    References:
        Strobeck 1987 (the mean time within a deme does not depend on migration).
    """
    return float(models * (int(as_sample_size(sample_size)) - 1))


def curated_counts_distribution(
    generation: ArrayLike,
    sample_size: int,
    probability: float,
    coupling: ArrayLike,
    published: Sequence[Callable[[np.ndarray], np.ndarray]],
) -> np.ndarray:
    """Joint distribution of one outcome's counts in models 0 and 1: float64 [M + 1, M + 1].

    The counts are among the M points that generation g is fitted to. Derived: a point of model k is
    the outcome with probability sum_j coupling[k, j] published[j](p_j), p_j = count_j / M, and the
    rest of the row is real data; given the counts, the next two are independent and binomial.

    Args:
        generation: One int.
        sample_size: M; the distribution has (M + 1)^2 entries.
        probability: The population's.
        coupling: [2, 2].
        published: Functions [2] from a model's probability p [M + 1] of the outcome to that among
            the points that it publishes.
    """
    last, size = int(as_generation(generation)), int(as_sample_size(sample_size))
    coupling, real = as_coupling(coupling), float(as_unit_interval(probability))
    counts = np.arange(size + 1)
    read = [as_unit_interval(one(counts / size)) for one in published]
    first = stats.binom.pmf(counts, size, real)
    law = np.outer(first, first)
    following = [
        np.clip(
            row[0] * read[0][:, None] + row[1] * read[1][None, :] + (1 - row.sum()) * real, 0, 1
        )
        for row in coupling
    ]
    of_each = [stats.binom.pmf(counts, size, one[..., None]) for one in following]
    for _ in range(last):
        law = np.einsum("ab,abi,abj->ij", law, *of_each, optimize=True)
    return law


def _other_share(models, share):
    """The share that a model reads from each other model."""
    if models < 2 or not 0 < share <= 1:
        raise ValueError(f"models must be >= 2 and share in (0, 1], got {models!r} and {share!r}")
    return share / (models - 1)
