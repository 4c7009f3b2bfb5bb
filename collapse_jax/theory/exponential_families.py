"""Closed forms for families with a one-dimensional sufficient statistic.

They are Bernoulli, Poisson, exponential, Pareto, uniform and the Gaussian mean. Where the fit is
the sample mean and the variance a quadratic function of the mean, v0 + v1 mean + v2 mean^2 (Morris
1982), the moments of the fitted mean follow one recursion in every workflow
(`expected_squared_mean_error`). `QUADRATICS` contains these functions; that of the exponential also
applies to the Pareto, for the mean of log(x/minimum), which is 1/shape.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from .ancestry import (
    as_generation,
    as_sample_size,
    check_mixture,
    fixed_mix_counts,
    mix_pair_shares,
    sum_over_samplings,
)
from .log_chi import LogChiSquareSum

# (v0, v1, v2) of the variance v0 + v1 mean + v2 mean^2; a Gaussian's known variance is in units of
# itself.
QUADRATICS = {
    "gaussian_mean": (1.0, 0.0, 0.0),
    "bernoulli": (0.0, 1.0, -1.0),
    "poisson": (0.0, 1.0, 0.0),
    "exponential": (0.0, 0.0, 1.0),
}


def expected_squared_mean_error(
    generation: ArrayLike,
    sample_size: ArrayLike,
    mean: float,
    quadratic: tuple[float, float, float],
    *,
    workflow: str = "replace",
    alpha: float = 1.0,
    beta: float = 0.0,
    gamma: float = 0.0,
    random_counts: bool = True,
) -> np.ndarray:
    """Var[mean of the generation-g model] about the population's `mean`, which is its expectation.

    Under 'replace' it grows like (1 + v2/M)^g if v2 > 0; rare runs then dominate this average.
    Derived: a fresh draw's variance is that of the population plus v2 times the error; the rest as
    in `known_variance`.

    Args:
        quadratic: (v0, v1, v2), see `QUADRATICS`.
        workflow, alpha, beta, gamma, random_counts: As in `ancestry.retention`.
    """
    check_mixture(workflow, alpha, beta, gamma)
    generation = as_generation(generation)
    spread = _at(mean, quadratic)
    rounds = int(np.max(generation, initial=0)) + 1
    sizes = as_sample_size(sample_size, generation if workflow == "replace" else None).astype(
        np.float64
    )
    if workflow == "replace":
        sizes = np.broadcast_to(sizes, rounds) if sizes.ndim == 0 else sizes
        error = _pooled(rounds, sizes, np.ones(rounds), spread, quadratic[2])
    elif workflow == "accumulate":
        error = _pooled(
            rounds, np.broadcast_to(sizes, rounds), np.arange(1, rounds + 1), spread, quadratic[2]
        )
    elif workflow == "accumulate_subsample":
        error = subsampled_mean_error(rounds, float(sizes), spread, quadratic[2])
    else:
        error = mixed_mean_error(
            rounds, int(sizes), spread, quadratic[2], (alpha, beta, gamma, random_counts)
        )
    return error[generation]


def expected_variance(
    generation: ArrayLike,
    sample_size: ArrayLike,
    mean: float,
    quadratic: tuple[float, float, float],
    **workflow: Any,
) -> np.ndarray:
    """E[variance of the generation-g model], which grows with the squared mean error.

    Derived: the population's variance + v2 times that error. Arguments as in
    `expected_squared_mean_error`.
    """
    return _at(mean, quadratic) + quadratic[2] * expected_squared_mean_error(
        generation, sample_size, mean, quadratic, **workflow
    )


def exponential_expected_log_mean(
    generation: ArrayLike, sample_size: ArrayLike, *, mean: float = 1.0
) -> np.ndarray:
    """E[log mean of the generation-g exponential] under 'replace'.

    Minus it, with mean = 1/shape, is the Pareto's E[log shape]. Standard: a sampling multiplies by
    Gamma(M)/M, so it adds digamma(M) - log M, about -1/(2M).
    """
    generation, sizes = _replace(generation, sample_size)
    return np.log(mean) + sum_over_samplings(
        generation, sizes, lambda size: special.digamma(size) - np.log(size)
    )


def exponential_log_mean_std(generation: ArrayLike, sample_size: ArrayLike) -> np.ndarray:
    """Standard deviation of the log mean under 'replace', and of the Pareto's log shape.

    Standard: the root of the sum of trigamma(M_i).
    """
    generation, sizes = _replace(generation, sample_size)
    return np.sqrt(sum_over_samplings(generation, sizes, lambda size: special.polygamma(1, size)))


def exponential_log_mean_cdf(
    value: ArrayLike, generation: ArrayLike, sample_size: ArrayLike, *, mean: float = 1.0
) -> np.ndarray:
    """P(log mean of the generation-g exponential <= value) under 'replace', to about 1e-10.

    Derived: log(Gamma(M)) is log(chi^2_{2M}/2), and independent terms add (see `log_chi`).

    Args:
        value: A float or an array.
        generation: One int.
    """
    generation, sizes = _replace(generation, sample_size)
    if generation.ndim:
        raise ValueError("exponential_log_mean_cdf takes one generation")
    used = (
        np.broadcast_to(sizes, int(generation) + 1)
        if sizes.ndim == 0
        else sizes[: int(generation) + 1]
    )
    center = exponential_expected_log_mean(generation, sample_size, mean=mean)
    return LogChiSquareSum(2.0 * used).cdf(np.asarray(value, dtype=np.float64) - center)


def exponential_second_moment(
    generation: ArrayLike, sample_size: ArrayLike, *, mean: float = 1.0
) -> np.ndarray:
    """E[mean^2 of the generation-g exponential] = mean^2 prod (1 + 1/M_i) under 'replace'.

    Standard: E Gamma(M)^2 = M (M + 1).
    """
    generation, sizes = _replace(generation, sample_size)
    return mean**2 * np.exp(sum_over_samplings(generation, sizes, lambda size: np.log1p(1 / size)))


def pareto_expected_shape(
    generation: ArrayLike, sample_size: ArrayLike, *, shape: float = 1.0
) -> np.ndarray:
    """E[shape of the generation-g Pareto] = shape prod M_i/(M_i - 1) under 'replace'.

    inf from an M_i = 1 on. Standard: E 1/Gamma(M) = 1/(M - 1).
    """
    generation, sizes = _replace(generation, sample_size)
    with np.errstate(divide="ignore"):
        return shape * np.exp(
            sum_over_samplings(generation, sizes, lambda size: -np.log1p(-1 / size))
        )


def uniform_expected_log_maximum(
    generation: ArrayLike, sample_size: ArrayLike, *, maximum: float = 1.0
) -> np.ndarray:
    """E[log maximum of the generation-g uniform] = log maximum - sum 1/M_i under 'replace'.

    Standard: -log(largest of M/maximum) is exponential of mean 1/M.
    """
    generation, sizes = _replace(generation, sample_size)
    return np.log(maximum) - sum_over_samplings(generation, sizes, lambda size: 1 / size)


def uniform_log_maximum_cdf(
    value: ArrayLike, generation: ArrayLike, sample_size: ArrayLike, *, maximum: float = 1.0
) -> np.ndarray:
    """P(log maximum of the generation-g uniform <= value) under 'replace' with one fixed M.

    Derived: M (log maximum - value) is Gamma(g + 1).
    """
    generation, size = as_generation(generation), int(as_sample_size(sample_size))
    value = np.asarray(value, dtype=np.float64)
    below = np.maximum(size * (np.log(maximum) - value), 0)
    shape = generation.reshape((*generation.shape, *(1,) * value.ndim)) + 1.0
    return special.gammaincc(shape, below)


def uniform_expected_power(
    generation: ArrayLike, sample_size: ArrayLike, power: float = 1, *, maximum: float = 1.0
) -> np.ndarray:
    """E[maximum^k of the generation-g uniform] = maximum^k prod M_i/(M_i + k) under 'replace'.

    Power 2 over 12 is the expected variance. Under 'accumulate' it stays that of generation 0: the
    pool's largest point is real. Standard: E U^(k/M) = M/(M + k).
    """
    generation, sizes = _replace(generation, sample_size)
    return maximum**power * np.exp(
        -sum_over_samplings(generation, sizes, lambda size: np.log1p(power / size))
    )


def uniform_mixed_maximum_cdf(
    value: ArrayLike,
    generation: ArrayLike,
    sample_size: ArrayLike,
    gamma: float,
    *,
    nodes: int = 400,
) -> np.ndarray:
    """P(maximum of the generation-g uniform <= value) under 'mix' with beta = 0 and random counts.

    The population is uniform on [0, 1]. Derived: given the model's maximum m, each of M points is
    below t with probability (1 - gamma) min(t/m, 1) + gamma t, and the distribution of m is
    represented by its quantiles at Gauss-Legendre nodes. Numerical: accurate to about 1e-4 with the
    default nodes.

    Args:
        value: An array in [0, 1].
        generation: One int.
        gamma: The share of fresh real data.
    """
    check_mixture("mix", 1 - gamma, 0.0, gamma)
    last, size = int(as_generation(generation)), int(as_sample_size(sample_size))
    points, weights = np.polynomial.legendre.leggauss(nodes)
    levels, weights = (points + 1) / 2, weights / 2
    grid = 1 - np.linspace(1, 0, 20_001) ** 3  # dense where the law lives, next to 1
    law = grid**size
    for _ in range(last):
        largest = np.interp(levels, law, grid)
        law = sum(
            w * ((1 - gamma) * np.minimum(grid / m, 1) + gamma * grid) ** size
            for w, m in zip(weights, largest, strict=True)
        )
    return np.interp(np.asarray(value, dtype=np.float64), grid, law)


def poisson_absorption_probability(
    generation: ArrayLike, sample_size: ArrayLike, rate: float
) -> np.ndarray:
    """P(the generation-g Poisson has rate 0) under 'replace'.

    With one fixed M it depends on M rate alone, and is exp(-M rate g_k) with the survival g_k of
    `lineages.branching_survival`, k = g + 1. Derived: the sum is a branching process with
    Poisson(M_{i+1}/M_i) offspring that starts with Poisson(M_0 rate): its generating functions are
    composed from the last backwards.
    """
    generation, sizes = _replace(generation, sample_size)
    result = np.empty(generation.shape)
    for index, last in np.ndenumerate(generation):
        result[index] = np.exp(_log_generating_function(0.0, int(last), sizes, rate).real)
    return result


def poisson_sum_distribution(
    generation: ArrayLike, sample_size: ArrayLike, rate: float, largest: int
) -> np.ndarray:
    """P(sum of the M draws that generation g is fitted to = k), k = 0 .. largest, under 'replace'.

    Derived: the generating function of `poisson_absorption_probability` at the roots of unity,
    transformed back.

    Args:
        generation: One int.
        largest: The largest k; it must be so far in the tail that the remaining mass is negligible,
            since that mass is added to small k.

    Returns:
        float64 [largest + 1].
    """
    generation, sizes = _replace(generation, sample_size)
    roots = np.exp(-2j * np.pi * np.arange(largest + 1) / (largest + 1))
    values = np.exp(_log_generating_function(roots, int(generation), sizes, rate))
    return np.maximum(np.fft.ifft(values).real, 0)


def bernoulli_sum_distribution(
    generation: ArrayLike,
    sample_size: ArrayLike,
    probability: float,
    *,
    workflow: str = "replace",
    gamma: float = 0.0,
) -> np.ndarray:
    """P(k ones among the M draws that generation g is fitted to), k = 0 .. M.

    Derived: from i ones to Binomial(M, (1 - gamma) i/M + gamma p).

    Args:
        generation: One int.
        sample_size: M <= 2000.
        workflow: 'replace', or 'mix' with beta = 0 and random counts.
        gamma: The share of fresh real data.
    """
    check_mixture("mix" if workflow == "mix" else workflow, 1 - gamma, 0.0, gamma)
    last, size = int(as_generation(generation)), int(as_sample_size(sample_size))
    if size > 2000:
        raise ValueError(f"the exact distribution is for sample_size <= 2000, got {size}")
    counts = np.arange(size + 1)
    rows = stats.binom.pmf(
        counts[None, :], size, (1 - gamma) * counts[:, None] / size + gamma * probability
    )
    return stats.binom.pmf(counts, size, probability) @ np.linalg.matrix_power(rows, last)


def _replace(generation, sample_size):
    generation = as_generation(generation)
    return generation, as_sample_size(sample_size, generation).astype(np.float64)


def _at(mean, quadratic):
    return quadratic[0] + quadratic[1] * mean + quadratic[2] * mean**2


def _log_generating_function(at, last, sizes, rate):
    """log E[at^S_last]: S_{i+1} is Poisson(S_i M_{i+1}/M_i) given S_i."""
    sizes = np.broadcast_to(sizes, last + 1) if sizes.ndim == 0 else sizes
    excess = np.asarray(at, dtype=np.complex128) - 1
    for i in range(last, 0, -1):
        excess = np.expm1(sizes[i] / sizes[i - 1] * excess)
    return sizes[0] * rate * excess


def _pooled(rounds, sizes, pools, spread, v2):
    """The mean moves by (new - old)/t, t = pools: 1 under 'replace', else the rounds so far."""
    error = np.empty(rounds)
    before = 0.0
    for g in range(rounds):
        before += (spread + v2 * before) / (sizes[g] * pools[g] ** 2)
        error[g] = before
    return error


def subsampled_mean_error(rounds: int, size: float, spread: float, v2: float) -> np.ndarray:
    """Squared mean error [rounds] under 'accumulate_subsample'.

    Fresh draws have the variance spread + v2 error. Derived: let S be the pool's unbiased variance
    and A its mean's squared error. The subsample's mean differs from the pool's by variance S/M (1
    - 1/t), and M draws about the subsample's mean then join the pool.
    """
    error = np.empty(rounds)
    # with M = 1 the pool of round 1 has no scatter, and the divisor max(., 1) only avoids 0/0
    scatter, pool_error = (size - 1) * spread, spread / size
    for t in range(1, rounds + 1):
        detour = scatter / max(t * size - 1, 1) / size * (1 - 1 / t)
        error[t - 1] = pool_error + detour
        within = spread + v2 * error[t - 1]
        new_mean = within / size + detour
        scatter += (size - 1) * within + t * size / (t + 1) * new_mean
        pool_error += new_mean / (t + 1) ** 2
    return error


def mixed_mean_error(
    rounds: int, size: int, spread: float, v2: float, shares: tuple[float, float, float, bool]
) -> np.ndarray:
    """Squared mean error [rounds] under 'mix', with draws of variance spread + v2 error.

    Derived: with P = E[x^2] of a training point and C = E[x y] of two distinct ones, the fit has
    error (P + (M-1) C)/M.

    Args:
        shares: alpha, beta, gamma and random_counts of `ancestry.retention`.
    """
    alpha, beta, gamma, random_counts = shares
    with_model, both_previous = mix_pair_shares(size, *shares)
    if not random_counts:
        alpha, beta, gamma = (count / size for count in fixed_mix_counts(size, alpha, beta, gamma))
    error = np.empty(rounds)
    point, pair = spread, 0.0
    for g in range(rounds):
        error[g] = (point + (size - 1) * pair) / size
        point = alpha * (error[g] + spread + v2 * error[g]) + beta * point + gamma * spread
        pair = with_model * error[g] + both_previous * pair
    return error
