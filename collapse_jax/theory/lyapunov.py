"""The d directions of a refitted Gaussian: exact distribution of their log scales.

Under 'replace'. Write the generation-g covariance as A L L^T A^T with A A^T = Sigma_0 and L lower
triangular. One sampling multiplies L from the right by an independent Bartlett factor T/sqrt(M -
ddof), T lower triangular with T_jj = chi_{M-j} (j = 1 .. d), all independent. The diagonal of a
product of triangular matrices is the product of the diagonals, so the log scales s_j = log L_jj are
sums of independent log chi variables, and independent of each other. exp(2 s_j) is the variance of
coordinate j given the coordinates before it (the D of an LDL^T factorisation), and sum_j s_j is
half the log determinant.

The log eigenvalues of the covariance are not 2 s_j, but by Oseledets' theorem they grow at the same
rates, the Lyapunov exponents. These are distinct, so that one direction becomes exponentially
larger than all others: the covariance tends to rank one, relative to its trace. The expected
eigenvalues, condition number and effective rank at a given generation have no closed form.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from . import gaussian
from .ancestry import as_sample_size, sum_over_samplings
from .log_chi import LogChiSquareSum


def lyapunov_exponents(sample_size: ArrayLike, dim: int, *, ddof: int) -> np.ndarray:
    """Growth of the log scales per sampling: float64 [dim], falling.

    -inf from j = M on (singular model). The log eigenvalues of the covariance grow by twice these.
    Derived (see the module): [digamma((M - j)/2) + log(2/(M - ddof))]/2; their sum is the drift of
    log det / 2.

    Args:
        sample_size: One fixed M.
    """
    sizes = gaussian.checked_sizes(as_sample_size(sample_size), ddof)
    return _mean_step(sizes, gaussian.as_dimension(dim), ddof)


def expected_log_scales(
    generation: ArrayLike, sample_size: ArrayLike, dim: int, *, ddof: int
) -> np.ndarray:
    """E[s_j] for a population with L = I; for another start add its log scales. Derived.

    Returns:
        float64 generation.shape + [dim].
    """
    generation, sizes = gaussian.replace_arguments(generation, sample_size, ddof)
    dim = gaussian.as_dimension(dim)
    parts = [
        sum_over_samplings(generation, sizes, lambda size, j=j: _mean_step(size, dim, ddof)[..., j])
        for j in range(dim)
    ]
    return np.stack(parts, axis=-1)


def log_scales_std(generation: ArrayLike, sample_size: ArrayLike, dim: int) -> np.ndarray:
    """Standard deviation of s_j, the same for both ddof; nan for a singular direction.

    The s_j are independent, so a difference s_j - s_k (log condition number of the diagonal) has
    the sum of both variances. Derived: sum_i trigamma((M_i - j)/2)/4.

    Returns:
        float64 generation.shape + [dim].
    """
    generation, sizes = gaussian.replace_arguments(generation, sample_size, 0)

    def spread(size, j):
        degrees = size - j
        return np.where(
            degrees > 0, special.polygamma(1, np.where(degrees > 0, degrees, 1) / 2) / 4, np.nan
        )

    parts = [
        sum_over_samplings(generation, sizes, lambda size, j=j: spread(size, j))
        for j in range(1, gaussian.as_dimension(dim) + 1)
    ]
    return np.sqrt(np.stack(parts, axis=-1))


def log_scale_cdf(
    value: ArrayLike, generation: ArrayLike, sample_size: ArrayLike, direction: int, *, ddof: int
) -> np.ndarray:
    """P(s_j <= value) for one direction j, to about 1e-10 absolute.

    Derived: 2 s_j is a constant plus a sum of independent log chi^2_{M_i - j}, summed as in
    `gaussian.log_variance_cdf`.

    Args:
        value: A float or an array, natural log; for a start other than L = I subtract its log
            scale.
        sample_size: Every M_i must exceed j.
        direction: j = 1, 2, ...
    """
    return _per_generation(
        np.asarray(value, dtype=np.float64), generation, sample_size, direction, ddof, inverse=False
    )


def log_scale_quantile(
    probability: ArrayLike,
    generation: ArrayLike,
    sample_size: ArrayLike,
    direction: int,
    *,
    ddof: int,
) -> np.ndarray:
    """Quantiles of s_j for one direction j: the inverse of `log_scale_cdf`.

    Args:
        probability: A float or an array in (0, 1), trustworthy from 1e-8 to 1 - 1e-8.
        sample_size: Every M_i must exceed j.
        direction: j = 1, 2, ...
    """
    probability = np.asarray(probability, dtype=np.float64)
    if not np.all((probability > 0) & (probability < 1)):
        raise ValueError(f"probability must lie strictly between 0 and 1, got {probability!r}")
    return _per_generation(probability, generation, sample_size, direction, ddof, inverse=True)


def log_condition_rate(sample_size: ArrayLike, dim: int) -> float:
    """Growth per generation of the covariance's log condition number in the long run: a float.

    0 for dim = 1, about (dim - 1)/M for M >> dim. Derived: twice the gap of the Lyapunov exponents,
    digamma((M - 1)/2) - digamma((M - dim)/2).

    Args:
        sample_size: One fixed M > dim; else the model is singular.
    """
    size, dim = int(as_sample_size(sample_size)), gaussian.as_dimension(dim)
    if size <= dim:
        raise ValueError(f"sample_size must exceed dim for a regular model, got {size} and {dim}")
    return float(special.digamma((size - 1) / 2) - special.digamma((size - dim) / 2))


def _mean_step(size, dim, ddof):
    """E[log T_jj] - log(M - ddof)/2: the shape of `size` + [dim]."""
    degrees = np.asarray(size)[..., None] - np.arange(1, dim + 1)
    with np.errstate(divide="ignore"):
        step = (
            special.digamma(np.where(degrees > 0, degrees, 1) / 2)
            + np.log(2 / np.maximum(size - ddof, 1))[..., None]
        ) / 2
    return np.where(degrees > 0, step, -np.inf)


def _per_generation(argument, generation, sample_size, direction, ddof, inverse):
    generation, sizes = gaussian.replace_arguments(generation, sample_size, ddof)
    direction = gaussian.as_dimension(direction)
    if np.any(sizes <= direction):
        raise ValueError(f"direction {direction} is singular for sample_size {sample_size!r}")
    center = expected_log_scales(generation, sizes, direction, ddof=ddof)[..., -1]
    result = np.empty((*generation.shape, *argument.shape))
    for index, last in np.ndenumerate(generation):
        # M - 1 degrees of freedom belong to direction 1
        law = LogChiSquareSum(gaussian.degrees_of_freedom(last, sizes) + 1 - direction)
        if inverse:
            result[index] = center[index] + law.quantile(argument) / 2
        else:
            result[index] = law.cdf(2 * (argument - center[index]))
    return result
