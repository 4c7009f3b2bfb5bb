"""Closed forms for a Gaussian refitted to its own draws: moments, distribution of log variance.

The population is N(mean, variance); each coordinate of a d-dimensional Gaussian has the same
expected variance and squared mean error (for `variance` put that coordinate's variance). M = 1
gives variance 0 with ddof=0, and raises ValueError with ddof=1 (0/0).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .ancestry import (
    as_generation,
    as_sample_size,
    check_mixture,
    fixed_mix_counts,
    mix_pair_shares,
    sum_over_samplings,
)
from .log_chi import LogChiSquareSum, log_c4


def expected_variance(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    ddof: int,
    workflow: str = "replace",
    variance: float = 1.0,
    alpha: float = 1.0,
    beta: float = 0.0,
    gamma: float = 0.0,
    random_counts: bool = True,
) -> np.ndarray:
    """Expected variance of the generation-g model, in the units of `variance`.

    Do not compare the raw average of simulated runs with it for g > M/2: rare runs dominate this
    mean (use `expected_log_variance` or quantiles there). Arguments as in `ancestry.retention`,
    which it equals for ddof=0 and variance=1.

    Derived, replace: one factor E[chi^2_{M-1}]/(M - ddof) per sampling. Accumulate, ddof=0: prod (1
    - 1/(i^2 M)); ddof=1: the pool's scatter gains S (M - 1/i), hence prod_{i>=2} (1 - 1/(i (i M -
    1))). The others: see `_subsample_moments` and `_mix_moments`.

    References:
        Shumailov et al. 2024 (replace); Kazdan et al. 2024 (accumulate, ddof=0).
    """
    shares = (alpha, beta, gamma, random_counts)
    return variance * _moments(generation, sample_size, ddof, workflow, shares)[0]


def expected_squared_mean_error(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    ddof: int,
    workflow: str = "replace",
    variance: float = 1.0,
    alpha: float = 1.0,
    beta: float = 0.0,
    gamma: float = 0.0,
    random_counts: bool = True,
) -> np.ndarray:
    """E[(mean of the generation-g model - population mean)^2] per coordinate, units of `variance`.

    M = 1 gives `variance` with ddof=0. Arguments as in `ancestry.retention`.

    Derived: each new mean is its model's mean plus noise of variance S/M (in a pool of i rounds
    S/(i^2 M)); for ddof=0 variance and squared error sum to `variance`.

    References:
        Shumailov et al. 2024: variance * sum_i 1/M_i under 'replace' for ddof=1.
    """
    shares = (alpha, beta, gamma, random_counts)
    return variance * _moments(generation, sample_size, ddof, workflow, shares)[1]


def expected_standard_deviation(
    generation: ArrayLike, sample_size: ArrayLike, *, ddof: int, variance: float = 1.0
) -> np.ndarray:
    """E[standard deviation of the generation-g model] under 'replace', in the units of the data.

    Derived: sigma_{i+1} = sigma_i chi_{M-1}/sqrt(M - ddof) with independent chi variables.

    References:
        Suresh et al. 2024 (one factor c4 per sampling).
    """
    generation, sizes = replace_arguments(generation, sample_size, ddof)
    return np.sqrt(variance) * np.exp(
        sum_over_samplings(generation, sizes, lambda size: _log_mean_deviation(size, ddof))
    )


def expected_log_variance(
    generation: ArrayLike, sample_size: ArrayLike, *, ddof: int, dim: int = 1, variance: float = 1.0
) -> np.ndarray:
    """E[log det Sigma_g] / dim under 'replace'; dim=1: E[log variance].

    From the first M_i with M_i - 1 < dim on the model is singular: -inf. Derived (Bartlett):
    det(scatter)/det(Sigma) is a product of independent chi^2_{M-1}, ..., chi^2_{M-dim}, so each
    sampling adds sum_j [digamma((M-j)/2) + log(2/(M-ddof))] / dim.

    Args:
        variance: The population's det(Sigma)^(1/dim).

    References:
        Shumailov et al. 2024, proof of Theorem 3.1 (dim 1).
    """
    generation, sizes = replace_arguments(generation, sample_size, ddof)
    below = np.arange(1, as_dimension(dim) + 1)

    def drift(size):
        half = (size[..., None] - below) / 2
        mean = special.digamma(np.where(half > 0, half, 1)) + np.log(
            2 / np.maximum(size[..., None] - ddof, 1)
        )
        return np.mean(np.where(half > 0, mean, -np.inf), axis=-1)

    return np.log(variance) + sum_over_samplings(generation, sizes, drift)


def log_variance_std(generation: ArrayLike, sample_size: ArrayLike, *, dim: int = 1) -> np.ndarray:
    """Standard deviation of log det Sigma_g / dim under 'replace', the same for both ddof.

    nan where the model is singular (M_i - 1 < dim). Derived: independent terms, so the variances
    add: sum_i sum_j trigamma((M_i - j)/2) / dim^2.
    """
    generation, sizes = replace_arguments(generation, sample_size, 0)
    below = np.arange(1, as_dimension(dim) + 1)

    def spread(size):
        half = (size[..., None] - below) / 2
        return np.sum(
            np.where(half > 0, special.polygamma(1, np.where(half > 0, half, 1)), np.nan), axis=-1
        )

    return np.sqrt(sum_over_samplings(generation, sizes, spread)) / dim


def log_variance_cdf(
    value: ArrayLike,
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    ddof: int,
    variance: float = 1.0,
) -> np.ndarray:
    """P(log variance of the 1-D generation-g model <= value) under 'replace', to about 1e-10.

    Derived: the log variance is a constant plus a sum of independent log chi^2_{M_i-1}, whose
    characteristic function is prod Gamma(k_i/2 + iw)/Gamma(k_i/2); summed as a Fourier series on a
    window that holds all but 1e-13 of the mass.

    Args:
        value: A float or an array, natural log.
        sample_size: M >= 2, or a schedule of such.
    """
    generation, sizes = _distribution_arguments(generation, sample_size, ddof)
    value = np.asarray(value, dtype=np.float64)
    result = np.empty((*generation.shape, *value.shape))
    for index, last in np.ndenumerate(generation):
        center = expected_log_variance(last, sizes, ddof=ddof, variance=variance)
        result[index] = LogChiSquareSum(degrees_of_freedom(last, sizes)).cdf(value - center)
    return result


def log_variance_quantile(
    probability: ArrayLike,
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    ddof: int,
    variance: float = 1.0,
) -> np.ndarray:
    """Quantiles of the log variance of the 1-D generation-g model under 'replace'.

    exp(.) gives quantiles of the variance, exp(. / 2) of the standard deviation. `log_variance_cdf`
    is inverted by bisection: the probability of the result is accurate to about 1e-10.

    Args:
        probability: A float or an array in (0, 1), accurate from 1e-8 to 1 - 1e-8.
        sample_size: M >= 2, or a schedule of such.
    """
    generation, sizes = _distribution_arguments(generation, sample_size, ddof)
    probability = np.asarray(probability, dtype=np.float64)
    if not np.all((probability > 0) & (probability < 1)):
        raise ValueError(f"probability must lie strictly between 0 and 1, got {probability!r}")
    result = np.empty((*generation.shape, *probability.shape))
    for index, last in np.ndenumerate(generation):
        center = expected_log_variance(last, sizes, ddof=ddof, variance=variance)
        result[index] = center + LogChiSquareSum(degrees_of_freedom(last, sizes)).quantile(
            probability
        )
    return result


def accumulate_variance_limit(sample_size: ArrayLike, *, ddof: int, variance: float = 1.0) -> float:
    """Expected variance under 'accumulate' for generation -> infinity: a float.

    In the units of `variance`. With ddof=0 it is sin(pi/sqrt M)/(pi/sqrt M), and M = 1 gives 0.
    Derived for ddof=1: i(iM-1)-1 = M(i-r)(i-s) with r, s = (1/M +- sqrt(1/M^2+4/M))/2, and the
    product over i >= 2 is Gamma(2 - 1/M)/(Gamma(2 - r) Gamma(2 - s)).

    References:
        Kazdan et al. 2024 (ddof=0).
    """
    size = float(checked_sizes(as_sample_size(sample_size), ddof))
    if ddof == 0:
        return variance * float(np.sinc(1 / np.sqrt(size)))
    root = np.sqrt(1 / size**2 + 4 / size)
    return variance * float(
        special.gamma(2 - 1 / size)
        * np.prod(special.rgamma([2 - (1 / size + s * root) / 2 for s in (1, -1)]))
    )


def accumulate_subsample_variance_limit(
    sample_size: ArrayLike, *, ddof: int, variance: float = 1.0
) -> float:
    """Expected variance under 'accumulate_subsample' for generation -> infinity: a float.

    In the units of `variance`. ddof=0: M = 1 gives 0, large M about 1 - (pi^2/2 - 2)/M. ddof=1
    gives inf: there the expected variance grows like generation^(1/M).

    Derived: in `_subsample_moments` each round u = 2, 3, .. multiplies the fit's expected variance
    by 1 - (3M-1)/(M u (uM-1)) for ddof=0 and by 1 + (u-3)/(u (uM-1)) for ddof=1; with r, s the
    roots of M^2 u^2 - M u - (3M-1), the first product is Gamma(2 - 1/M)/(Gamma(2 - r) Gamma(2 -
    s)).
    """
    size = float(checked_sizes(as_sample_size(sample_size), ddof))
    if ddof == 1:
        return np.inf
    roots = (1 + np.sqrt(12 * size - 3) * np.array([1, -1])) / (2 * size)
    return (
        variance
        * (1 - 1 / size)
        * float(special.gamma(2 - 1 / size) * np.prod(special.rgamma(2 - roots)))
    )


def fresh_real_limit(
    sample_size: ArrayLike, gamma: float, *, ddof: int, variance: float = 1.0
) -> tuple[float, float]:
    """Expected variance and squared mean error for generation -> infinity with fresh real data.

    The workflow is 'mix' with beta = 0. Each of the M points is fresh and real with probability
    gamma, otherwise a model draw (random counts). M = 1 with ddof=0 gives (0, variance). For ddof=1
    both are inf if M gamma (2 - gamma) <= 1 - gamma (about gamma < 1/(2M)), except that gamma = 0
    is 'replace', (variance, inf).

    Derived: fixed point of `_mix_moments`. ddof=0: with G = 1-(1-gamma)^2, variance (1-1/M)
    G/(1-(1-1/M)(1-gamma)^2), about 2m/(1+2m) for m = gamma M. ddof=1: error 1/(M G - (1-gamma)),
    variance 1 + (1-gamma) error.

    Args:
        gamma: In [0, 1].

    Returns:
        (expected variance, expected squared mean error), two floats in the units of `variance`.
    """
    size = float(checked_sizes(as_sample_size(sample_size), ddof))
    check_mixture("mix", 1 - gamma, 0.0, gamma)
    gain = gamma * (2 - gamma)
    if ddof == 0:
        kept = (1 - 1 / size) * gain / (1 - (1 - 1 / size) * (1 - gamma) ** 2)
        return variance * kept, variance * (1 - kept)
    surplus = size * gain - (1 - gamma)
    error = 1 / surplus if surplus > 0 else np.inf
    return variance * (1.0 if gamma == 0 else 1 + (1 - gamma) * error), variance * error


def second_moment_boundary(sample_size: ArrayLike) -> np.ndarray:
    """Share of fresh real data below which the second moments grow without bound.

    For 'mix' with beta = 0 and ddof=1; about 1/(2M). A larger share gives finite moments
    (`fresh_real_limit`); at this share itself they are infinite. With ddof=0 there is no such
    boundary. Derived: the root in (0, 1) of M gamma (2 - gamma) = 1 - gamma, where the denominator
    of `fresh_real_limit` vanishes.

    Args:
        sample_size: An int or int array M >= 2.

    Returns:
        float64 of sample_size's shape.
    """
    size = checked_sizes(as_sample_size(sample_size, 0), 1).astype(np.float64)
    # the smaller root of M x^2 - (2M + 1) x + 1, written without cancellation
    return 2 / (2 * size + 1 + np.sqrt(4 * size**2 + 1))


def _moments(generation, sample_size, ddof, workflow, shares):
    """(expected variance, expected squared mean error) for a population of variance 1."""
    check_mixture(workflow, *shares[:3])
    if workflow == "replace":
        generation, sizes = replace_arguments(generation, sample_size, ddof)
        if ddof == 1:
            return np.ones(generation.shape), sum_over_samplings(
                generation, sizes, lambda size: 1 / size
            )
        with np.errstate(divide="ignore"):
            logarithm = sum_over_samplings(generation, sizes, lambda size: np.log1p(-1 / size))
        return np.exp(logarithm), -np.expm1(logarithm)
    generation = as_generation(generation)
    size = float(checked_sizes(as_sample_size(sample_size), ddof))
    rounds = int(np.max(generation, initial=0)) + 1
    if workflow == "accumulate":
        spread, offset = _accumulate_moments(rounds, size, ddof)
    elif workflow == "accumulate_subsample":
        spread, offset = _subsample_moments(rounds, size, ddof)
    else:
        spread, offset = _mix_moments(rounds, size, ddof, shares)
    return spread[generation], offset[generation]


def _accumulate_moments(rounds, size, ddof):
    """Both moments for generations 0 .. rounds - 1 when the model is fitted to all data so far."""
    i = np.arange(1, rounds + 1, dtype=np.float64)
    if ddof == 0:
        factor = 1 - 1 / (i**2 * size)
    else:
        factor = np.concatenate([[1.0], 1 - 1 / (i[1:] * (i[1:] * size - 1))])
    spread = np.cumprod(factor)
    return spread, np.cumsum(np.concatenate([[1.0], spread[:-1]]) / (i**2 * size))


def _subsample_moments(rounds, size, ddof):
    """Both moments when the model is fitted to M of the t M pooled points, t = g + 1.

    They are drawn without replacement. Derived: let S be the pool's unbiased variance and A its
    mean's squared error. The subsample's mean differs from the pool's by variance S/M (1 - 1/t),
    its variance is S (ddof=1) or S (M-1)/M, and M draws from that model then join the pool.
    """
    spread, offset = np.empty(rounds), np.empty(rounds)
    # with M = 1 the pool's scatter is 0 for ever, and the divisor max(., 1) only avoids 0/0
    scatter, pool_error = size - 1, 1 / size
    for t in range(1, rounds + 1):
        unbiased = scatter / max(t * size - 1, 1)
        spread[t - 1] = unbiased if ddof == 1 else unbiased * (size - 1) / size
        detour = unbiased / size * (1 - 1 / t)
        offset[t - 1] = pool_error + detour
        new_mean = spread[t - 1] / size + detour
        scatter += (size - 1) * spread[t - 1] + t * size / (t + 1) * new_mean
        pool_error += new_mean / (t + 1) ** 2
    return spread, offset


def _mix_moments(rounds, size, ddof, shares):
    """Both moments when model draws, points of the previous set and fresh real draws are mixed.

    Derived: with the population mean at 0 let P = E[x^2] of a point and C = E[x y] of two distinct
    ones. The fit has squared mean (P + (M-1) C)/M; a model draw's pairs (but for pairs of old
    points, C) have that same E[x y], real ones 0.
    """
    alpha, beta, gamma, random_counts = shares
    with_model, both_previous = mix_pair_shares(int(size), *shares)
    if not random_counts:
        alpha, beta, gamma = (
            count / size for count in fixed_mix_counts(int(size), alpha, beta, gamma)
        )
    spread, offset = np.empty(rounds), np.empty(rounds)
    point, pair = 1.0, 0.0
    for g in range(rounds):
        offset[g] = (point + (size - 1) * pair) / size
        spread[g] = point - pair if ddof == 1 else (point - pair) * (size - 1) / size
        point = alpha * (offset[g] + spread[g]) + beta * point + gamma
        pair = with_model * offset[g] + both_previous * pair
    return spread, offset


def _log_mean_deviation(size, ddof):
    """log E[sigma_{i+1} / sigma_i], -inf for one draw with ddof=0."""
    one = size == 1
    ratio = 0.0 if ddof == 1 else np.log1p(-1 / np.where(one, 2, size)) / 2
    return np.where(one, -np.inf, log_c4(np.where(one, 2, size)) + ratio)


def checked_sizes(sizes: np.ndarray, ddof: int) -> np.ndarray:
    """`sizes`, unchanged.

    Raises:
        ValueError: Unless ddof is 0 or 1 and the variance is defined for every size.
    """
    if ddof not in (0, 1):
        raise ValueError(f"ddof must be 0 or 1, got {ddof!r}")
    if ddof == 1 and np.any(sizes == 1):
        raise ValueError("sample_size 1 has no unbiased variance (ddof=1)")
    return sizes


def replace_arguments(
    generation: ArrayLike, sample_size: ArrayLike, ddof: int
) -> tuple[np.ndarray, np.ndarray]:
    """(generation, sizes) as int64 arrays for the workflow 'replace'."""
    generation = as_generation(generation)
    return generation, checked_sizes(as_sample_size(sample_size, generation), ddof)


def _distribution_arguments(generation, sample_size, ddof):
    generation, sizes = replace_arguments(generation, sample_size, ddof)
    if np.any(sizes < 2):
        raise ValueError("the log variance is undefined for sample_size 1")
    return generation, sizes


def as_dimension(dim: Any) -> int:
    """`dim` as an int. Raises ValueError unless it is a whole number >= 1."""
    if int(dim) != dim or dim < 1:
        raise ValueError(f"dim must be a whole number >= 1, got {dim!r}")
    return int(dim)


def degrees_of_freedom(last: int, sizes: np.ndarray) -> np.ndarray:
    """M_i - 1 for the samplings i = 0 .. last: an int64 array [last + 1]."""
    return np.full(last + 1, int(sizes) - 1) if sizes.ndim == 0 else sizes[: last + 1] - 1
