"""Typical path of the 1-D Gaussian chain under 'accumulate'.

Its variance is a product of independent factors. Derived: let Q be the scatter (sum of squared
deviations) of the pool after t rounds of M points and S = Q/(t M - ddof) the model's variance. The
M new points add their own scatter S chi^2_{M-1}, and the distance of their mean from the pool's
adds S chi^2_1 t/(t + 1). So Q grows by the independent factor 1 + V_t/(t M - ddof), V_t =
chi^2_{M-1} + chi^2_1 t/(t + 1), and the log variance is log chi^2_{M-1} plus a sum of independent
terms, as under 'replace'. Each term's mean is computed by Gauss quadrature over the two chi^2
distributions (to about 1e-9, far better for M > 3), which is the only numerical error.

The expected variance and squared mean error of this chain are in `gaussian`. The same product does
not hold for 'accumulate_subsample' and 'mix', where points are chosen at random. Generation g is
fitted to (g + 1) M points; here sample_size is one fixed M >= 1, and M >= 2 with ddof=1.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from . import gaussian, log_chi
from .ancestry import as_generation, as_sample_size

QUADRATURE_NODES = 64
ROUNDS_AT_ONCE = 256


def expected_log_variance(
    generation: ArrayLike, sample_size: ArrayLike, *, ddof: int, variance: float = 1.0
) -> np.ndarray:
    """E[log variance of the generation-g model]; M = 1 gives -inf."""
    generation, size = _arguments(generation, sample_size, ddof)
    if size == 1:
        return np.full(generation.shape, -np.inf)
    growth = _sum_over_rounds(generation, size, ddof, lambda logarithm, mean: mean(logarithm))
    start = 2 * log_chi.log_chi_mean(size - 1)
    return np.log(variance) + start + growth - np.log((generation + 1.0) * size - ddof)


def log_variance_std(generation: ArrayLike, sample_size: ArrayLike, *, ddof: int) -> np.ndarray:
    """Standard deviation of the log variance of the generation-g model; M = 1 gives nan.

    It tends to a constant, since each round's term is of size 1/t.
    """
    generation, size = _arguments(generation, sample_size, ddof)
    if size == 1:
        return np.full(generation.shape, np.nan)

    def spread(logarithm, mean):
        return mean((logarithm - mean(logarithm)[:, None]) ** 2)

    return np.sqrt(
        4 * log_chi.log_chi_variance(size - 1) + _sum_over_rounds(generation, size, ddof, spread)
    )


def expected_standard_deviation(
    generation: ArrayLike, sample_size: ArrayLike, *, ddof: int, variance: float = 1.0
) -> np.ndarray:
    """E[standard deviation of the generation-g model] in the units of the data; M = 1 gives 0."""
    generation, size = _arguments(generation, sample_size, ddof)
    if size == 1:
        return np.zeros(generation.shape)
    growth = _sum_over_rounds(
        generation, size, ddof, lambda logarithm, mean: np.log(mean(np.exp(logarithm / 2)))
    )
    start = log_chi.log_mean_chi(size - 1)
    return np.sqrt(variance) * np.exp(start + growth - np.log((generation + 1.0) * size - ddof) / 2)


def _sum_over_rounds(generation, size, ddof, statistic):
    """Sum over rounds t = 1 .. g of statistic(log(1 + V_t/(t M - ddof)), mean over V_t)."""
    scatter, weight = _chi_square_rule(size - 1)
    offset, offset_weight = _chi_square_rule(1)
    weights = (weight[:, None] * offset_weight).ravel()
    rounds = np.arange(1, np.max(generation, initial=0) + 1, dtype=np.float64)
    total = np.zeros(rounds.size + 1)
    for first in range(0, rounds.size, ROUNDS_AT_ONCE):
        t = rounds[first : first + ROUNDS_AT_ONCE, None, None]
        growth = (scatter[:, None] + offset * t / (t + 1)) / (t * size - ddof)
        logarithm = np.log1p(growth).reshape(len(t), -1)
        total[first + 1 : first + 1 + len(t)] = statistic(
            logarithm, lambda values: values @ weights
        )
    return np.cumsum(total)[generation]


def _chi_square_rule(degrees):
    """Nodes and weights (sum 1) of Gauss quadrature for chi^2 (Laguerre, by Golub-Welsch)."""
    step = np.arange(QUADRATURE_NODES)
    shape = degrees / 2
    nodes, vectors = linalg.eigh_tridiagonal(
        2 * step + shape, np.sqrt(step[1:] * (step[1:] + shape - 1))
    )
    return 2 * nodes, vectors[0] ** 2


def _arguments(generation, sample_size, ddof):
    return as_generation(generation), int(gaussian.checked_sizes(as_sample_size(sample_size), ddof))
