"""Closed forms for a population with Zipf probabilities p_i = i^-b / Z over ranks i = 1, 2, ...

`num_categories=None` means infinitely many ranks and needs an exponent b > 1; a finite K takes any
b >= 0. "Missing mass" is the population's probability of all ranks that a sample does not contain.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .ancestry import as_sample_size
from .lineages import branching_survival

TAIL_TERMS = 20
RANKS_AT_ONCE = 2**20


def probabilities(num_categories: int, exponent: float) -> np.ndarray:
    """Zipf probabilities of the ranks 1 .. K: float64 [K], falling, sum 1.

    Args:
        num_categories: K >= 1.
        exponent: b >= 0 (0: uniform).
    """
    _check(exponent, num_categories)
    weights = np.arange(1, int(as_sample_size(num_categories)) + 1, dtype=np.float64) ** -float(
        exponent
    )
    return weights / np.sum(weights)


def tail_mass(rank: ArrayLike, exponent: float, *, num_categories: int | None = None) -> np.ndarray:
    """Probability of all ranks above `rank`: 1 for rank 0 and 0 from rank K on.

    It is the height of the plateau that no amount of data can reduce once the tail is cut there;
    about k^-(b-1)/((b-1) Z) for large k and infinitely many ranks. By definition zeta(b, k +
    1)/zeta(b) with Hurwitz's zeta, or the finite sum.

    Args:
        rank: k, an int or int array >= 0.

    Returns:
        float64 of rank's shape.

    References:
        Dohmatob et al. 2024, "A tale of tails".
    """
    rank = np.asarray(rank)
    if not np.issubdtype(rank.dtype, np.integer) or np.any(rank < 0):
        raise ValueError(f"rank must hold whole numbers >= 0, got {rank!r}")
    _check(exponent, num_categories)
    if num_categories is None:
        return special.zeta(exponent, rank + 1.0) / special.zeta(exponent)
    # summed from the rare end, where the small terms are
    above = np.append(np.cumsum(probabilities(num_categories, exponent)[::-1])[::-1], 0.0)
    return above[np.minimum(rank, int(num_categories))] / above[0]


def heterozygosity(exponent: float, *, num_categories: int | None = None) -> float:
    """1 - sum_i p_i^2, a float; 1 - zeta(2b)/zeta(b)^2 for infinitely many ranks."""
    _check(exponent, num_categories)
    if num_categories is None:
        return float(1 - special.zeta(2 * exponent) / special.zeta(exponent) ** 2)
    return float(1 - np.sum(probabilities(num_categories, exponent) ** 2))


def expected_missing_mass(
    sample_size: float,
    exponent: float,
    *,
    num_categories: int | None = None,
    cut: int | None = None,
) -> float:
    """Expected missing mass of T draws: a float, exact to about 1e-12.

    Derived: sum_i p_i (1 - p_i)^T; from the rank on where T p_i < 1/2, by its binomial series, each
    term a Hurwitz zeta. With a cut at k: `tail_mass`(k) + the same sum for i <= k with p_i/(mass up
    to k). About T^(1/b) ranks are summed.

    Args:
        sample_size: T > 0, need not be an integer (see `effective_sample_size`).
        cut: None, or a rank >= 1 above which the draws have no ranks (tail cut, the rest
            renormalised), while the mass is the full population's.
    """
    size = _check(exponent, num_categories, sample_size)
    if cut is not None:
        cut = int(as_sample_size(cut))
        last = cut if num_categories is None else min(cut, int(num_categories))
        beyond = float(tail_mass(last, exponent, num_categories=num_categories))
        return beyond + (1 - beyond) * expected_missing_mass(size, exponent, num_categories=last)
    return _sum_over_ranks(size, exponent, num_categories, order=1)


def expected_distinct(
    sample_size: float, exponent: float, *, num_categories: int | None = None
) -> float:
    """Expected number of distinct ranks among T draws: a float, exact to about 1e-12 relative.

    Derived: sum_i 1 - (1 - p_i)^T, summed as in `expected_missing_mass`.

    Args:
        sample_size: T > 0, need not be an integer.
    """
    return _sum_over_ranks(
        _check(exponent, num_categories, sample_size), exponent, num_categories, order=0
    )


def missing_mass_asymptote(sample_size: ArrayLike, exponent: float) -> np.ndarray:
    """Missing mass of T draws from infinitely many ranks for large T.

    C^(1/b) Gamma(1 - 1/b)/b * T^-(1 - 1/b), C = 1/zeta(b). Within 2% of the exact value for T >=
    10^4 at b = 1.5.

    Args:
        sample_size: T > 0, a float or an array.
        exponent: b > 1.

    Returns:
        float64 of sample_size's shape.

    References:
        Karlin 1967.
    """
    return distinct_asymptote(sample_size, exponent) / (
        exponent * np.asarray(sample_size, dtype=np.float64)
    )


def distinct_asymptote(sample_size: ArrayLike, exponent: float) -> np.ndarray:
    """Distinct ranks among T draws from infinitely many ranks for large T (Heaps' law).

    C^(1/b) Gamma(1 - 1/b) T^(1/b). Arguments, result and source as in `missing_mass_asymptote`.
    """
    _check(exponent, None)
    size = np.asarray(sample_size, dtype=np.float64)
    if not np.all(size > 0):
        raise ValueError(f"sample_size must be above 0, got {sample_size!r}")
    return (size / special.zeta(exponent)) ** (1 / exponent) * special.gamma(1 - 1 / exponent)


def effective_sample_size(generation: ArrayLike, sample_size: ArrayLike) -> np.ndarray:
    """Size of a real sample with about as many ranks as generation g under 'replace'.

    T g_{g+1} (`lineages.branching_survival`), about 2 T/g: use it in `expected_missing_mass` or
    `expected_distinct` to obtain the missing mass or the support of generation g. The missing mass
    then grows like (g/2)^(1 - 1/b), slower than linear. Accurate while g << T; it is the limit for
    large T of the exact result (`lineages`) for a finite K. Derived from: a rare rank is lost with
    probability exp(-T p_i g_{g+1}).

    References:
        Suresh et al. 2024.
    """
    return int(as_sample_size(sample_size)) * branching_survival(generation)


def _sum_over_ranks(size, exponent, num_categories, order):
    """sum_i p_i (1 - p_i)^T (order 1) or sum_i 1 - (1 - p_i)^T (order 0)."""
    if num_categories is None:
        scale = 1 / special.zeta(exponent)
        head = int(np.ceil((2 * max(size, 1.0) * scale) ** (1 / exponent))) + 1
    else:
        head = int(num_categories)
        scale = 1 / np.sum(np.arange(1, head + 1, dtype=np.float64) ** -float(exponent))
    total = 0.0
    for first in range(1, head + 1, RANKS_AT_ONCE):
        share = scale * np.arange(
            first, min(first + RANKS_AT_ONCE, head + 1), dtype=np.float64
        ) ** -float(exponent)
        # rounding may lift a single category's share above one
        with np.errstate(divide="ignore"):
            logarithm = size * np.log1p(-np.minimum(share, 1.0))
        total += np.sum(share * np.exp(logarithm) if order else -np.expm1(logarithm))
    if num_categories is None:
        coefficient = 1.0
        for power in range(TAIL_TERMS):
            term = (
                special.zeta(exponent * (power + order), head + 1.0) * scale ** (power + order)
                if power + order
                else 0.0
            )
            total += coefficient * term * (1 if order else -1)
            coefficient *= -(size - power) / (power + 1)
    return float(total)


def _check(exponent, num_categories, sample_size=1.0):
    if num_categories is None:
        if not (np.isfinite(exponent) and exponent > 1):
            raise ValueError(f"infinitely many ranks need an exponent above 1, got {exponent!r}")
    elif not (np.isfinite(exponent) and exponent >= 0) or as_sample_size(num_categories).ndim:
        raise ValueError(f"exponent must be >= 0, got {exponent!r}")
    if not (np.isfinite(sample_size) and sample_size > 0):
        raise ValueError(f"sample_size must be above 0, got {sample_size!r}")
    return float(sample_size)
