"""Number of simulated runs that a mean needs: second moments of the variance, and a tail bound.

For the refitted Gaussian under 'replace'. Rarer and rarer runs dominate the mean of the variance,
so a test that averages it must know its standard error. Here sample_size is M >= 2, or a 1-D
schedule of such.
"""

import numpy as np
from numpy.typing import ArrayLike

from . import gaussian
from .ancestry import sum_over_samplings


def relative_variance_of_variance(generation: ArrayLike, sample_size: ArrayLike) -> np.ndarray:
    """Var[variance]/E[variance]^2 of the 1-D generation-g model, the same for both ddof.

    Derived: a product of independent chi^2_{M-1}/(M - ddof) has second moment prod (1 + 2/(M_i -
    1)) times the first squared.
    """
    generation, sizes = gaussian.replace_arguments(generation, sample_size, 1)
    return np.expm1(sum_over_samplings(generation, sizes, lambda size: np.log1p(2 / (size - 1))))


def runs_for_expected_variance(
    generation: ArrayLike, sample_size: ArrayLike, relative_error: float
) -> np.ndarray:
    """Independent runs whose average variance has the given relative standard error.

    Not rounded up. Long before this number reaches 1e9, the average is also far from normal: use
    `gaussian.expected_log_variance` or quantiles beyond generation M/2. Derived:
    `relative_variance_of_variance` / relative_error^2.

    Args:
        relative_error: > 0, e.g. 0.05.
    """
    if not relative_error > 0:
        raise ValueError(f"relative_error must be above 0, got {relative_error!r}")
    return relative_variance_of_variance(generation, sample_size) / relative_error**2


def share_that_carries_the_mean(
    generation: ArrayLike, sample_size: ArrayLike, part: float = 0.5
) -> np.ndarray:
    """The share of runs, those with the largest variance, that contributes `part` of E[variance].

    1-D Gaussian, the same for both ddof. Accurate to about 1e-10 absolute; for part = 0.5 about
    Phi(-sqrt(2 (g + 1)/M)). Derived: a chi^2_k weighted by its size has the distribution of
    chi^2_{k+2}. The runs weighted by their variance therefore have the distribution of a chain of M
    + 2 points times prod (M_i + 1)/(M_i - 1), and the result is P(variance > (1 - part) quantile of
    that distribution).

    Args:
        part: In (0, 1).
    """
    generation, sizes = gaussian.replace_arguments(generation, sample_size, 1)
    result = np.empty(generation.shape)
    for index, last in np.ndenumerate(generation):
        shift = sum_over_samplings(last, sizes, lambda size: np.log((size + 1) / (size - 1)))
        border = gaussian.log_variance_quantile(1 - part, last, sizes + 2, ddof=1) + shift
        result[index] = 1 - gaussian.log_variance_cdf(border, last, sizes, ddof=1)
    return result


def expected_squared_traces(
    generation: ArrayLike, sample_size: ArrayLike, eigenvalues: ArrayLike, *, ddof: int
) -> tuple[np.ndarray, np.ndarray]:
    """E[tr(Sigma_g^2)] and E[(tr Sigma_g)^2] in d dimensions.

    Their ratio is a participation ratio of means, not the mean effective rank. M_i may be below d;
    for ddof=0 it may be 1 (gives 0). Derived from the Wishart second moments with n = M - 1: n W
    has E tr W^2 = (n^2 + n) tr S^2 + n (tr S)^2 and E (tr W)^2 = 2 n tr S^2 + n^2 (tr S)^2.

    Args:
        eigenvalues: [d], those of the population's covariance.
    """
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
    if eigenvalues.ndim != 1 or not np.all(eigenvalues >= 0):
        raise ValueError(f"eigenvalues must be a 1-D array of numbers >= 0, got {eigenvalues!r}")
    generation, sizes = gaussian.replace_arguments(generation, sample_size, ddof)
    last = int(np.max(generation, initial=0))
    moments = np.array([np.sum(eigenvalues**2), np.sum(eigenvalues) ** 2])
    path = np.empty((last + 1, 2))
    for step, size in enumerate(
        np.broadcast_to(sizes, (last + 1,)) if sizes.ndim == 0 else sizes[: last + 1]
    ):
        free = float(size - 1)
        moments = (
            np.array([[free**2 + free, free], [2 * free, free**2]]) @ moments / (size - ddof) ** 2
        )
        path[step] = moments
    return path[generation, 0], path[generation, 1]


def standard_deviation_tail_bound(
    threshold: float,
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    standard_deviation: float = 1.0,
) -> np.ndarray:
    """Upper bound on P(standard deviation of the 1-D generation-g model > threshold), at most 1.

    Proved for ddof=1, so it also holds for the smaller standard deviation with ddof=0. The exact
    probability is 1
    - gaussian.log_variance_cdf(2 log threshold, ...). Derived: Markov with E sigma = prod c4(M_i)
    and c4(M) <= exp(-1/(4 M)).

    Args:
        threshold: > 0, in the units of the data.

    References:
        Suresh et al. 2024: (sigma_0/threshold) exp(-k/(4 M)) after k samplings.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be above 0, got {threshold!r}")
    generation, sizes = gaussian.replace_arguments(generation, sample_size, 1)
    return np.minimum(
        1.0,
        standard_deviation
        / threshold
        * np.exp(-sum_over_samplings(generation, sizes, lambda size: 1 / (4 * size))),
    )
