"""Models that read each other as a subdivided population: classical forms, and curated readers.

`theory.islands` has the exact recursions. Here are what population genetics made of them, and the
exact law of two outcomes where every model is read through a curation of its own.
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

    K models each read a share m of the others, alike. Both diversities are summed over all
    generations, which is the ratio that rare fresh data leaves in the long run. Derived: two draws
    of one model have K (M - 1) generations to go on average (`total_diversity`), and two of
    different ones 1/a more, until both descend from one model, with a = 2 m (1 - m) / (K - 1) + (K
    - 2) m^2 / (K - 1)^2. Of the pool's pairs 1 - 1/K are of different models.

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

    A population of M diploids has 4 in the place of 2. Arguments as in `fixation_index`.

    References:
        Wright 1943 (K -> infinity); Slatkin 1991.
    """
    size = int(as_sample_size(sample_size))
    return float(1 / (1 + 2 * size * _other_share(models, share) * models**2 / (models - 1)))


def total_diversity(models: int, sample_size: int) -> float:
    """Diversity within a model, summed over all generations, mean over models: K (M - 1).

    Over the population's. It holds for every coupling whose rows and columns sum to 1 and that
    leaves no group of models alone, with multinomial counts. Derived: followed back, two points are
    a pair of random walks over models for which all K^2 places are equally likely in the long run;
    so from one visit to a common model to the next K generations pass on average (Kac), in each
    visit they meet with probability 1/M, and the first visit is at the start: the mean of the
    generations until they meet is K (M - 1).

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
    """Law of (count of model 0, count of model 1) of one of two outcomes: float64 [M + 1, M + 1].

    The counts are among the M points that generation g is fitted to. Derived: a point of model k is
    the outcome with probability sum_j coupling[k, j] published[j](p_j), p_j = count_j / M, and
    what the row lacks to 1 is real; given the counts, the next two are independent and binomial.

    Args:
        generation: One int.
        sample_size: M; the law has (M + 1)^2 places.
        probability: The population's.
        coupling: [2, 2].
        published: What a reader gets from a model that gives the outcome p [M + 1]: functions
            [2] of it.
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
    """What a model reads of each other one."""
    if models < 2 or not 0 < share <= 1:
        raise ValueError(f"models must be >= 2 and share in (0, 1], got {models!r} and {share!r}")
    return share / (models - 1)
