"""The paper's chain of laws P_{i+1} = alpha F(P_i) + beta P_i + gamma P_0, for Gaussian fits:
moments and limits.

F(P_i) is the Gaussian fitted to M draws of P_i. Whole distributions are mixed here, not data sets
as in the workflow 'mix'; with
ddof=0 the variance keeps the same share of its start as the heterozygosity of a categorical model
does (`ancestry.mixture_of_distributions_heterozygosity`).

Index convention: generation g belongs to P_{g+1}, the first law that holds the model of generation
g (g + 1 samplings), or with of_model=True to the model F(P_g) itself.
"""

import numpy as np

from .ancestry import as_generation, as_sample_size, check_mixture
from .gaussian import checked_sizes


def expected_moments(
    generation, sample_size, *, alpha, beta, gamma, ddof, variance=1.0, of_model=False
):
    """(expected variance, expected squared mean error) of P_{g+1} or of the model: two float64
    arrays of generation's shape.

    generation: int or int array >= 0. sample_size: M >= 1 for ddof=0, M >= 2 for ddof=1. Units of
    `variance`.
    Source: Shumailov et al. 2024, the chain; derived: for P_0 of variance 1, with S = E_P x^2, m
    the mean of P and V = E[S - m^2],
    E m'^2 = (1-gamma)^2 E m^2 + alpha^2 V/M and E S' = (1-gamma) E S + gamma, plus alpha V/M for
    ddof=1. For ddof=0 so
    V' = (1-gamma)^2 V + 1-(1-gamma)^2 - alpha^2 V/M. Raises ValueError for bad arguments.
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


def limit(sample_size, *, alpha, beta, gamma, ddof, variance=1.0):
    """`expected_moments` of P_{g+1} for generation -> infinity: two floats in the units of
    `variance`.

    gamma = 0 gives (0, variance) for ddof=0 and (variance, inf) for ddof=1, or (inf, inf) there if
    beta > 0 too; alpha = 0 gives (variance, 0). For ddof=1 both are inf if (alpha/gamma)(1 -
    alpha/(2 - gamma)) >= M; at beta = 0 that is the border of `gaussian.second_moment_boundary`.
    For ddof=0 the first is also the limiting share of the heterozygosity.
    Source: derived: the fixed point; with G = 1-(1-gamma)^2 the variance is G/(G + alpha^2/M) for
    ddof=0 and
    1/(1 - alpha/(gamma M) + alpha^2/(G M)) for ddof=1, the squared error alpha^2/(G M) times it.
    Raises ValueError for bad arguments.
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
