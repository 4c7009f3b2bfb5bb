"""Expected squared Wasserstein-2 distance between a refitted Gaussian and the population.

Between Gaussians W2^2 = |mean difference|^2 + tr Sigma + tr Sigma_0 - 2 tr (Sigma_0^1/2 Sigma
Sigma_0^1/2)^1/2. In expectation the first two terms are exact in every workflow and dimension. The
last is E[standard deviation] in one dimension, which is exact for 'replace' and 'accumulate' (there
the chain is a product of independent factors); in the other workflows it has no closed form, and in
several dimensions not even for 'replace'; the two bounds below enclose it.

Arguments as in `gaussian`; `eigenvalues` [d] are those of the population's covariance, in whose
units the results are.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from . import accumulation, gaussian
from .ancestry import sum_over_samplings
from .log_chi import log_mean_chi


def expected_squared_wasserstein2(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    ddof: int,
    workflow: str = "replace",
    variance: float = 1.0,
) -> np.ndarray:
    """E[W2^2] between the 1-D generation-g model and the population, in the units of `variance`.

    Under 'replace' it grows without bound for ddof=1 (Theorem 3.1) but never above 2 * variance for
    ddof=0. Derived: W2^2 = (mu_g - mu)^2 + (sigma_g - sigma)^2, and the last square opens into
    expected variance, standard deviation and `variance`.

    Args:
        workflow: 'replace' or 'accumulate' (E[standard deviation] of the others is not known; their
            generation 0 is that of 'replace').

    References:
        Shumailov et al. 2024, Theorem 3.1.
    """
    if workflow == "replace":
        deviation = gaussian.expected_standard_deviation(generation, sample_size, ddof=ddof)
    elif workflow == "accumulate":
        deviation = accumulation.expected_standard_deviation(generation, sample_size, ddof=ddof)
    else:
        raise ValueError(f"workflow must be 'replace' or 'accumulate', got {workflow!r}")
    spread = gaussian.expected_variance(generation, sample_size, ddof=ddof, workflow=workflow)
    offset = gaussian.expected_squared_mean_error(
        generation, sample_size, ddof=ddof, workflow=workflow
    )
    return variance * (offset + spread + 1 - 2 * deviation)


def expected_squared_mean_distance(
    generation: ArrayLike,
    sample_size: ArrayLike,
    eigenvalues: ArrayLike,
    *,
    ddof: int,
    **workflow: Any,
) -> np.ndarray:
    """E|mean of the generation-g model - population mean|^2 in d dimensions, a term of E[W2^2].

    Exact in every workflow: `gaussian.expected_squared_mean_error` per coordinate, with its
    keywords ('replace', ddof=1: tr Sigma_0 * sum_i 1/M_i).
    """
    return np.sum(_as_eigenvalues(eigenvalues)) * gaussian.expected_squared_mean_error(
        generation, sample_size, ddof=ddof, **workflow
    )


def expected_trace(
    generation: ArrayLike,
    sample_size: ArrayLike,
    eigenvalues: ArrayLike,
    *,
    ddof: int,
    **workflow: Any,
) -> np.ndarray:
    """E[tr Sigma_g] in d dimensions, exact in every workflow.

    It is `gaussian.expected_variance` per coordinate, with its keywords.
    """
    return np.sum(_as_eigenvalues(eigenvalues)) * gaussian.expected_variance(
        generation, sample_size, ddof=ddof, **workflow
    )


def squared_wasserstein2_lower_bound(
    generation: ArrayLike,
    sample_size: ArrayLike,
    eigenvalues: ArrayLike,
    *,
    ddof: int,
    workflow: str = "replace",
) -> np.ndarray:
    """A lower bound on E[W2^2] in d dimensions, an equality for d = 1.

    Derived: a coupling of two distributions also couples their coordinates, so W2^2 is at least the
    sum of the W2^2 along the population's principal axes, each of which is a 1-D chain.

    Args:
        workflow: 'replace' or 'accumulate'.
    """
    one = expected_squared_wasserstein2(generation, sample_size, ddof=ddof, workflow=workflow)
    return np.sum(_as_eigenvalues(eigenvalues)) * one


def squared_wasserstein2_upper_bound(
    generation: ArrayLike, sample_size: ArrayLike, eigenvalues: ArrayLike, *, ddof: int
) -> np.ndarray:
    """An upper bound on E[W2^2] in d dimensions under 'replace', an equality for d = 1.

    Derived: Sigma_g = A L L^T A^T with A A^T = Sigma_0, A^T A = diag(eigenvalues, largest first)
    and L a product of Bartlett factors; the root's trace is the nuclear norm of A^T A L, so at
    least its trace sum_j eigenvalue_j L_jj, and E L_jj = prod_i E[chi_{M_i - j}]/sqrt(M_i - ddof).
    """
    eigenvalues = np.sort(_as_eigenvalues(eigenvalues))[::-1]
    overlap = 0.0
    for j, eigenvalue in enumerate(eigenvalues, start=1):
        grown, sizes = gaussian.replace_arguments(generation, sample_size, ddof)

        def step(size, below=j):
            degrees = size - below
            moment = log_mean_chi(np.maximum(degrees, 1)) - np.log(np.maximum(size - ddof, 1)) / 2
            return np.where(degrees > 0, moment, -np.inf)

        overlap = overlap + eigenvalue * np.exp(sum_over_samplings(grown, sizes, step))
    offset = expected_squared_mean_distance(generation, sample_size, eigenvalues, ddof=ddof)
    return (
        offset
        + expected_trace(generation, sample_size, eigenvalues, ddof=ddof)
        + np.sum(eigenvalues)
        - 2 * overlap
    )


def early_squared_wasserstein2(
    generation: ArrayLike, sample_size: ArrayLike, eigenvalues: ArrayLike
) -> np.ndarray:
    """E[W2^2] under 'replace' to first order in sum_i 1/M_i, the early collapse, for both ddof.

    For d = 1 it is (3/2) variance sum_i 1/M_i. Valid only while d * sum_i 1/M_i << 1. Derived: to
    second order in D = Sigma - Sigma_0 the covariance part is sum_jk D_jk^2/(2 (l_j + l_k)) in the
    eigenbasis, with E D_jk^2 = l_j l_k (1 + [j = k])/M.

    References:
        Shumailov et al. 2024, supplement (d = 1).
    """
    generation, sizes = gaussian.replace_arguments(generation, sample_size, 0)
    eigenvalues = _as_eigenvalues(eigenvalues)
    total = eigenvalues[:, None] + eigenvalues
    # an axis without variance stays so and adds nothing
    product = (
        np.outer(eigenvalues, eigenvalues)
        * (1 + np.eye(eigenvalues.size))
        / np.where(total > 0, total, 1)
    )
    return (np.sum(eigenvalues) + np.sum(product) / 2) * sum_over_samplings(
        generation, sizes, lambda size: 1 / size
    )


def settled_squared_wasserstein2_quantile(
    probability: ArrayLike, *, ddof: int, variance: float = 1.0
) -> np.ndarray:
    """Quantiles of W2^2 under 'replace' in one dimension after the collapse, for large M.

    The limit generation -> infinity first, then M -> infinity; it is reached after about 10 M
    generations, and for M = 100 the median is accurate to 1%. The collapsed chain is at distance
    |mu - mu_0|, and W2^2 = (mu - mu_0)^2 + variance. ddof=1: (mu - mu_0)/sigma_0 has Student's t
    distribution with 2 degrees of freedom, so the median is (5/3) variance and the mean is
    infinite. ddof=0: it is Student's t with 4 degrees of freedom over sqrt 2, so the mean is 2
    variance.

    Derived: with s = g/(2M), log variance is 2 (B_s - nu s), nu = 1 for ddof=1, 2 for ddof=0, and
    (mu - mu_0)^2 = Z^2 2 int exp(2 (B_s - nu s)) ds, an integral with the distribution of 1/(2
    Gamma_nu).

    References:
        Dufresne 1990.
    """
    probability = np.asarray(probability, dtype=np.float64)
    if not np.all((probability > 0) & (probability < 1)):
        raise ValueError(f"probability must lie strictly between 0 and 1, got {probability!r}")
    if ddof not in (0, 1):
        raise ValueError(f"ddof must be 0 or 1, got {ddof!r}")
    squared = stats.f.ppf(probability, 1, 2) if ddof == 1 else stats.f.ppf(probability, 1, 4) / 2
    return variance * (1 + squared)


def _as_eigenvalues(eigenvalues):
    array = np.atleast_1d(np.asarray(eigenvalues, dtype=np.float64))
    if (
        array.ndim != 1
        or array.size == 0
        or not np.all(array >= 0)
        or not np.all(np.isfinite(array))
    ):
        raise ValueError(
            f"eigenvalues must be a 1-D array of finite numbers >= 0, got {eigenvalues!r}"
        )
    return array
