"""The chain of distributions P_{i+1} = alpha F(P_i) + beta P_i + gamma P_0 for Gaussian fits.

F(P_i) is the Gaussian fitted to M draws of P_i. Distributions are mixed here, not data sets as in
the workflow 'mix'. With ddof=0 the variance keeps the same share of its initial value as the
heterozygosity of a categorical model (`ancestry.mixture_of_distributions_heterozygosity`).

Generation g stands for P_{g+1}, the first distribution that contains the model of generation g (g +
1 samplings), or with of_model=True for the model F(P_g) itself. sample_size is one M >= 1 for
ddof=0, M >= 2 for ddof=1.
"""

import numpy as np
from numpy.typing import ArrayLike

from .ancestry import as_generation, as_sample_size, check_mixture
from .gaussian import checked_sizes


def expected_moments(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    alpha: float,
    beta: float,
    gamma: float,
    ddof: int,
    variance: float = 1.0,
    of_model: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Expected variance and squared mean error of P_{g+1} or of the model.

    Derived: for P_0 of variance 1, with S = E_P x^2, m the mean of P and V = E[S - m^2], E m'^2 =
    (1-gamma)^2 E m^2 + alpha^2 V/M and E S' = (1-gamma) E S + gamma, plus alpha V/M for ddof=1. For
    ddof=0 so V' = (1-gamma)^2 V + 1-(1-gamma)^2 - alpha^2 V/M.

    Returns:
        (expected variance, expected squared mean error), in the units of `variance`.

    References:
        Shumailov et al. 2024, the chain.
    """
    generation = as_generation(generation)
    size = float(checked_sizes(as_sample_size(sample_size), ddof))
    check_mixture("mix", alpha, beta, gamma)
    path = np.empty((int(np.max(generation, initial=0)) + 1, 2))
    square, error = 1.0, 0.0
    for step in range(len(path)):
        spread = square - error
        if of_model:
            path[step] = spread * (1 if ddof == 1 else 1 - 1 / size), error + spread / size
        square = (1 - gamma) * square + gamma + (alpha * spread / size if ddof == 1 else 0.0)
        error = (1 - gamma) ** 2 * error + alpha**2 * spread / size
        if not of_model:
            path[step] = square - error, error
    return variance * path[generation, 0], variance * path[generation, 1]


def limit(
    sample_size: ArrayLike,
    *,
    alpha: float,
    beta: float,
    gamma: float,
    ddof: int,
    variance: float = 1.0,
) -> tuple[float, float]:
    """`expected_moments` of P_{g+1} for generation -> infinity: two floats.

    gamma = 0 gives (0, variance) for ddof=0 and (variance, inf) for ddof=1, or (inf, inf) there if
    beta > 0 too; alpha = 0 gives (variance, 0). For ddof=1 both are inf if (alpha/gamma)(1 -
    alpha/(2 - gamma)) >= M; at beta = 0 that is the border of `gaussian.second_moment_boundary`.
    For ddof=0 the first is also the limiting share of the heterozygosity.

    Derived: the fixed point; with G = 1-(1-gamma)^2 the variance is G/(G + alpha^2/M) for ddof=0
    and 1/(1 - alpha/(gamma M) + alpha^2/(G M)) for ddof=1, the squared error alpha^2/(G M) times
    it.
    """
    size = float(checked_sizes(as_sample_size(sample_size), ddof))
    check_mixture("mix", alpha, beta, gamma)
    if alpha == 0:
        return variance, 0.0
    if gamma == 0:
        if ddof == 0:
            return 0.0, variance
        return (variance, np.inf) if beta == 0 else (np.inf, np.inf)
    gain = gamma * (2 - gamma)
    drawn = alpha**2 / (gain * size)
    denominator = 1 + drawn if ddof == 0 else 1 + drawn - alpha / (gamma * size)
    if denominator <= 0:
        return np.inf, np.inf
    return variance / denominator, variance * drawn / denominator
