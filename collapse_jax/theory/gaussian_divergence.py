"""Expected divergences and cross entropies between a refitted Gaussian and the population.

They do not change under an affine map of the data, so the population's covariance enters only the
entropies, as variance = det(Sigma_0)^(1/dim). Arguments as in `gaussian`.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import gaussian
from .ancestry import sum_over_samplings


def expected_cross_entropy_under_population(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    ddof: int,
    dim: int = 1,
    variance: float = 1.0,
    **workflow: Any,
) -> np.ndarray:
    """E[-log p_0(x)] of a draw x of the generation-g model, p_0 the population's density.

    It is the mean of the histograms of Shumailov et al. (samples of generation g scored by the
    first model). It is constant for ddof=0 and rises for ddof=1, although the typical path falls in
    both cases. Exact in every workflow.

    Derived: dim/2 [log(2 pi variance) + S + A], S and A the expected variance and squared mean
    error for a population of variance 1; S + A = 1 for ddof=0, and 1 + sum_i 1/M_i under 'replace'
    for ddof=1.

    Args:
        workflow: The keywords `workflow`, `alpha`, `beta`, `gamma`, `random_counts` of
            `gaussian.expected_variance`.
    """
    dim = gaussian.as_dimension(dim)
    spread = gaussian.expected_variance(generation, sample_size, ddof=ddof, **workflow)
    offset = gaussian.expected_squared_mean_error(generation, sample_size, ddof=ddof, **workflow)
    return dim / 2 * (np.log(2 * np.pi * variance) + spread + offset)


def expected_entropy(
    generation: ArrayLike, sample_size: ArrayLike, *, ddof: int, dim: int = 1, variance: float = 1.0
) -> np.ndarray:
    """E[differential entropy of the generation-g model] under 'replace'.

    -inf where the model is singular (some M_i - 1 < dim). Standard: dim/2 log(2 pi e) + log
    det(Sigma)/2, with the expected log determinant of `gaussian.expected_log_variance`.
    """
    logarithm = gaussian.expected_log_variance(
        generation, sample_size, ddof=ddof, dim=dim, variance=variance
    )
    return dim / 2 * (np.log(2 * np.pi * np.e) + logarithm)


def expected_reverse_kl(
    generation: ArrayLike, sample_size: ArrayLike, *, ddof: int, dim: int = 1
) -> np.ndarray:
    """E[KL(generation-g model || population)] under 'replace'; inf where the model is singular.

    About generation * dim (dim + 3)/(4 M) at first; later it grows by a constant per generation,
    for either ddof. Derived: `expected_cross_entropy_under_population` minus `expected_entropy`.
    """
    cross = expected_cross_entropy_under_population(generation, sample_size, ddof=ddof, dim=dim)
    return cross - expected_entropy(generation, sample_size, ddof=ddof, dim=dim)


def expected_forward_kl(
    generation: ArrayLike, sample_size: ArrayLike, *, ddof: int, dim: int = 1
) -> np.ndarray:
    """E[KL(population || generation-g model)] under 'replace'.

    The expected excess of the model's loss on real test data. inf from the first M_i <= dim + 2 on,
    where E[Sigma^-1] does not exist; otherwise it is exponential in the generation, and rare runs
    dominate it, as for `gaussian.expected_variance`.

    Derived: KL = [tr Sigma^-1 Sigma_0 + |mu - mu_0|^2_{Sigma^-1} - dim + log det(Sigma
    Sigma_0^-1)]/2. One sampling multiplies E[Sigma^-1] by f_i = (M_i - ddof)/(M_i - dim - 2)
    (inverse Wishart), and the step of the mean at sampling i has covariance Sigma_{i-1}/M_i, so the
    second term has mean dim * sum_i (1/M_i) prod_{k >= i} f_k.
    """
    dim = gaussian.as_dimension(dim)
    logarithm = gaussian.expected_log_variance(generation, sample_size, ddof=ddof, dim=dim)
    generation, sizes = gaussian.replace_arguments(generation, sample_size, ddof)
    last = int(np.max(generation, initial=0))
    precision, offset = np.empty(last + 1), np.empty(last + 1)
    inverse, error = 1.0, 0.0
    with np.errstate(over="ignore"):
        for step, size in enumerate(
            np.broadcast_to(sizes, (last + 1,)) if sizes.ndim == 0 else sizes[: last + 1]
        ):
            factor = (size - ddof) / (size - dim - 2) if size > dim + 2 else np.inf
            inverse, error = inverse * factor, (error + 1 / size) * factor
            precision[step], offset[step] = inverse, error
    finite = np.isfinite(precision[generation])
    # a singular model has log determinant -inf, but its precision is inf already
    total = precision[generation] + offset[generation] - 1 + np.where(finite, logarithm, 0.0)
    return dim / 2 * total


def early_kl(generation: ArrayLike, sample_size: ArrayLike, *, dim: int = 1) -> np.ndarray:
    """Either expected divergence under 'replace' to first order in sum_i 1/M_i, for both ddof.

    Valid while dim * sum_i 1/M_i << 1. Derived: half the number of free parameters, dim + dim (dim
    + 1)/2, times sum_i 1/M_i (Wilks).
    """
    dim = gaussian.as_dimension(dim)
    generation, sizes = gaussian.replace_arguments(generation, sample_size, 0)
    return dim * (dim + 3) / 4 * sum_over_samplings(generation, sizes, lambda size: 1 / size)
