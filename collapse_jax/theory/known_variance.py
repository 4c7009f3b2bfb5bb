"""Closed forms for the mean of a Gaussian with known variance: each generation fits only the mean.

Every model has the population's variance, so E[W2^2] to the population is the expected squared mean
error itself, and the expected divergence (either way) is that over 2 * variance.

Index convention: generation 0 is the model fitted to `sample_size` real draws, so the law at
generation g has seen
g + 1 samplings. Arguments as in `gaussian.expected_variance`.
"""

import numpy as np

from .ancestry import (
    as_generation,
    as_sample_size,
    check_mixture,
    fixed_mix_counts,
    mix_pair_shares,
    sum_over_samplings,
)


def expected_squared_mean_error(
    generation,
    sample_size,
    *,
    workflow="replace",
    variance=1.0,
    alpha=1.0,
    beta=0.0,
    gamma=0.0,
    random_counts=True,
):
    """E[(mean of the generation-g model - population mean)^2] per coordinate: float64 of
    generation's shape, units of `variance`.

    Under 'replace' and 'accumulate' the error is normal, so this is its whole law. sample_size: M
    >= 1, or a 1-D schedule for
    'replace'. Source: replace: variance * sum_i 1/M_i (standard). accumulate: the pool's mean moves
    by (new - old)/i, so
    variance/M * sum_i 1/i^2, at most pi^2/6 times generation 0 (Gerstgrasser et al. 2024; Dey &
    Donoho 2024). The others:
    derived, as in `gaussian` but with fresh draws of fixed variance. Raises ValueError for bad
    arguments.
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
        error = _subsample_error(rounds, size)
    else:
        error = _mix_error(rounds, size, (alpha, beta, gamma, random_counts))
    return variance * error[generation]


def kept_real_squared_mean_error(generation, real, synthetic, *, variance=1.0):
    """E[(mean of the generation-g model - population mean)^2] if the same real points are all kept:
    float64 of generation's shape.

    Generation 0 is fitted to `real` = n draws, every later one to these and to `synthetic` = s
    fresh draws from its predecessor. The error is normal. At a fixed generation it first rises with
    s, then falls back to that of generation 0; its limit in g only rises, to
    3 variance/(2n). Source: derived: with c = s/(n + s) the mean moves as c (old mean + noise of
    variance/s) + (1 - c) (the real
    points' mean), so to variance/n it adds variance s/(n + s)^2 (1 - c^(2g))/(1 - c^2). Raises
    ValueError for bad arguments.
    """
    generation, kept = as_generation(generation), float(as_sample_size(real))
    if not synthetic >= 0:
        raise ValueError(f"synthetic must be >= 0, got {synthetic!r}")
    share = synthetic / (kept + synthetic)
    steps = np.where(generation > 0, share ** (2.0 * generation), 1.0)
    return variance * (
        1 / kept + synthetic / (kept + synthetic) ** 2 * (1 - steps) / (1 - share**2)
    )


def expected_total_variation(squared_mean_error, *, variance=1.0):
    """E[total variation between N(m, variance) and N(0, variance)] if m is N(0,
    squared_mean_error): float64, same shape.

    Source: derived: it is 2 Phi(|m|/(2 sigma)) - 1, and E[2 Phi(a |Z|) - 1] = (2/pi) arctan a.
    Raises ValueError below 0.
    """
    error = np.asarray(squared_mean_error, dtype=np.float64)
    if not np.all(error >= 0):
        raise ValueError(f"squared_mean_error must be >= 0, got {squared_mean_error!r}")
    return 2 / np.pi * np.arctan(np.sqrt(error / variance) / 2)


def fresh_real_limit(sample_size, gamma, *, variance=1.0):
    """Expected squared mean error for generation -> infinity in the workflow 'mix' with beta = 0
    and random counts: a float.

    gamma: the share of fresh real data in [0, 1]; 0 gives inf ('replace'), 1 gives variance/M.
    sample_size: M >= 1.
    Source: derived: the fixed point of `_mix_error`, variance/(M gamma (2 - gamma) - gamma (1 -
    gamma)), about variance/(2 M gamma)
    for 1/M << gamma << 1: any share of real data keeps it finite. Raises ValueError for bad
    arguments.
    """
    size = float(as_sample_size(sample_size))
    check_mixture("mix", 1 - gamma, 0.0, gamma)
    return np.inf if gamma == 0 else variance / (size * gamma * (2 - gamma) - gamma * (1 - gamma))


def _subsample_error(rounds, size):
    """Derived: let S be the pool's unbiased variance and A its mean's squared error. The
    subsample's mean differs from the pool's
    by variance S/M (1 - 1/t), and M draws of variance 1 about the subsample's mean then join the
    pool.
    """
    error = np.empty(rounds)
    # with M = 1 the pool of round 1 has no scatter, and the divisor max(., 1) only avoids 0/0
    scatter, pool_error = size - 1, 1 / size
    for t in range(1, rounds + 1):
        detour = scatter / max(t * size - 1, 1) / size * (1 - 1 / t)
        error[t - 1] = pool_error + detour
        new_mean = 1 / size + detour
        scatter += size - 1 + t * size / (t + 1) * new_mean
        pool_error += new_mean / (t + 1) ** 2
    return error


def _mix_error(rounds, size, shares):
    """Derived: with P = E[x^2] of a training point and C = E[x y] of two distinct ones, the fit has
    error (P + (M-1) C)/M.
    """
    alpha, beta, gamma, random_counts = shares
    with_model, both_previous = mix_pair_shares(int(size), *shares)
    if not random_counts:
        alpha, beta, gamma = (
            count / size for count in fixed_mix_counts(int(size), alpha, beta, gamma)
        )
    error = np.empty(rounds)
    point, pair = 1.0, 0.0
    for g in range(rounds):
        error[g] = (point + (size - 1) * pair) / size
        point = alpha * (error[g] + 1) + beta * point + gamma
        pair = with_model * error[g] + both_previous * pair
    return error
