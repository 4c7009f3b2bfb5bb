"""Closed forms for the mean of a Gaussian with known variance: each generation fits only the mean.

Every model has the population's variance, so E[W2^2] to the population is the expected squared mean
error itself, and the expected divergence (either way) is that over 2 * variance. Arguments as in
`gaussian.expected_variance`.
"""

import numpy as np
from numpy.typing import ArrayLike

from .ancestry import as_generation, as_sample_size, check_mixture, sum_over_samplings
from .exponential_families import mixed_mean_error, subsampled_mean_error


def expected_squared_mean_error(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    workflow: str = "replace",
    variance: float = 1.0,
    alpha: float = 1.0,
    beta: float = 0.0,
    gamma: float = 0.0,
    random_counts: bool = True,
) -> np.ndarray:
    """E[(mean of the generation-g model - population mean)^2] per coordinate, units of `variance`.

    Under 'replace' and 'accumulate' the error is normal, so that this determines its distribution.
    Replace: variance * sum_i 1/M_i (standard). Accumulate: the pool's mean moves by (new - old)/i,
    so variance/M * sum_i 1/i^2, at most pi^2/6 times generation 0. The others: derived, as in
    `gaussian` but with fresh draws of fixed variance.

    References:
        Gerstgrasser et al. 2024; Dey & Donoho 2024 (accumulate).
    """
    check_mixture(workflow, alpha, beta, gamma)
    generation = as_generation(generation)
    if workflow == "replace":
        sizes = as_sample_size(sample_size, generation)
        return variance * sum_over_samplings(generation, sizes, lambda size: 1 / size)
    size = float(as_sample_size(sample_size))
    rounds = int(np.max(generation, initial=0)) + 1
    if workflow == "accumulate":
        error = np.cumsum(1 / np.arange(1, rounds + 1, dtype=np.float64) ** 2) / size
    elif workflow == "accumulate_subsample":
        error = subsampled_mean_error(rounds, size, 1.0, 0.0)
    else:
        error = mixed_mean_error(rounds, int(size), 1.0, 0.0, (alpha, beta, gamma, random_counts))
    return variance * error[generation]


def kept_real_squared_mean_error(
    generation: ArrayLike, real: int, synthetic: int, *, variance: float = 1.0
) -> np.ndarray:
    """`expected_squared_mean_error` if the same real points are all kept.

    Generation 0 is fitted to `real` = n draws, every later one to these and to `synthetic` = s
    fresh draws from its predecessor. The error is normal. At a fixed generation it first rises with
    s, then falls back to that of generation 0; its limit in g only rises, to 3 variance/(2n).

    Derived: with c = s/(n + s) the mean moves as c (old mean + noise of variance/s) + (1 - c) (the
    real points' mean), so to variance/n it adds variance s/(n + s)^2 (1 - c^(2g))/(1 - c^2).
    """
    generation, kept = as_generation(generation), float(as_sample_size(real))
    if not synthetic >= 0:
        raise ValueError(f"synthetic must be >= 0, got {synthetic!r}")
    share = synthetic / (kept + synthetic)
    steps = np.where(generation > 0, share ** (2.0 * generation), 1.0)
    return variance * (
        1 / kept + synthetic / (kept + synthetic) ** 2 * (1 - steps) / (1 - share**2)
    )


def expected_total_variation(squared_mean_error: ArrayLike, *, variance: float = 1.0) -> np.ndarray:
    """E[total variation between N(m, variance) and N(0, variance)] over a normal m.

    m is N(0, squared_mean_error). Derived: it is 2 Phi(|m|/(2 sigma)) - 1, and E[2 Phi(a |Z|) - 1]
    = (2/pi) arctan a.

    Returns:
        float64 of squared_mean_error's shape.
    """
    error = np.asarray(squared_mean_error, dtype=np.float64)
    if not np.all(error >= 0):
        raise ValueError(f"squared_mean_error must be >= 0, got {squared_mean_error!r}")
    return 2 / np.pi * np.arctan(np.sqrt(error / variance) / 2)


def fresh_real_limit(sample_size: ArrayLike, gamma: float, *, variance: float = 1.0) -> float:
    """Expected squared mean error for generation -> infinity under 'mix' with beta = 0: a float.

    Random counts. Any share of real data keeps it finite. Derived: the fixed point of the
    recursion, variance/(M gamma (2 - gamma) - gamma (1 - gamma)), about variance/(2 M gamma) for
    1/M << gamma << 1.

    Args:
        gamma: The share of fresh real data in [0, 1]; 0 gives inf ('replace'), 1 gives variance/M.
    """
    size = float(as_sample_size(sample_size))
    check_mixture("mix", 1 - gamma, 0.0, gamma)
    return np.inf if gamma == 0 else variance / (size * gamma * (2 - gamma) - gamma * (1 - gamma))
