"""Closed forms for chains with an intervention between sampling and fitting.

For Gaussian and categorical models: sampling bias (as a low temperature does), additive smoothing
of counts, curation by a reward, correction towards the population, a detector of synthetic data,
sampling at a temperature, and nucleus sampling. The first two are exact for finite samples, and so
is `mapped_count_distribution` for any intervention on two categories. The others follow the
deterministic map of infinite samples.

A bias acts only on model draws, so that it has been applied g times at generation g.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from . import gaussian
from .ancestry import as_generation, as_sample_size
from .categorical import as_probabilities, as_unit_interval


def biased_expected_log_variance(
    generation: ArrayLike,
    sample_size: ArrayLike,
    bias: ArrayLike,
    *,
    ddof: int,
    dim: int = 1,
    variance: float = 1.0,
) -> np.ndarray:
    """E[log det Sigma_g]/dim under 'replace' if model draws come from N(mu, bias Sigma).

    Its standard deviation is unchanged, and its quantiles are shifted by the same amount. Derived:
    each biased sampling adds log lambda.

    Args:
        bias: lambda > 0; below 1 it preserves quality and reduces diversity.

    References:
        Alemohammad et al. 2023 ("MAD"), the setting.
    """
    logarithm = gaussian.expected_log_variance(
        generation, sample_size, ddof=ddof, dim=dim, variance=variance
    )
    return logarithm + as_generation(generation) * np.log(_positive(bias, "bias"))


def biased_expected_moments(
    generation: ArrayLike,
    sample_size: ArrayLike,
    bias: ArrayLike,
    *,
    ddof: int,
    variance: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Expected variance and squared mean error per coordinate under 'replace' with biased sampling.

    Derived: each biased sampling multiplies the variance by an additional lambda, and the mean of
        generation i > 0 moves by a step of variance lambda S_{i-1}/M_i. Arguments as in
        `biased_expected_log_variance`.
    """
    bias = _positive(bias, "bias")
    generation, sizes = gaussian.replace_arguments(generation, sample_size, ddof)
    every = np.arange(np.max(generation, initial=0) + 1)
    spread = gaussian.expected_variance(every, sizes, ddof=ddof) * bias**every
    steps = np.broadcast_to(sizes, every.shape) if sizes.ndim == 0 else sizes[: every.size]
    offset = np.cumsum(np.append(1.0, bias * spread[:-1]) / steps)
    return variance * spread[generation], variance * offset[generation]


def neutral_sampling_bias(sample_size: int, *, ddof: int, dim: int = 1) -> float:
    """The bias at which the expected log determinant is constant after generation 0: a float >= 1.

    A larger one makes the typical variance of a 'replace' chain grow, a smaller one shrink. About 1
    + (ddof=0: (dim + 3)/2, ddof=1: (dim + 1)/2)/M. Derived: exp(- the drift of
    `gaussian.expected_log_variance`).

    Args:
        sample_size: One fixed M > dim (else inf).
    """
    return float(np.exp(-gaussian.expected_log_variance(0, int(sample_size), ddof=ddof, dim=dim)))


def smoothed_moments(
    generation: ArrayLike,
    sample_size: ArrayLike,
    probability: ArrayLike,
    smoothing: float,
    num_categories: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a category's probability under 'replace' with additive smoothing.

    The fit is (count + kappa)/(M + K kappa). The mean tends to 1/K, and the variance to a positive
    limit: with s = M/(M + K kappa), mean' = s mean + (1 - s)/K and variance' = s^2 (variance +
    (mean (1 - mean) - variance)/M). Derived: binomial moments given the model.

    Args:
        probability: The population's q, a float or an array.
        smoothing: kappa >= 0.
        num_categories: K.

    Returns:
        (mean, variance), float64 generation.shape + probability.shape.
    """
    generation = as_generation(generation)
    probability, size = as_unit_interval(probability), int(as_sample_size(sample_size))
    if not (np.isfinite(smoothing) and smoothing >= 0):
        raise ValueError(f"smoothing must be finite and >= 0, got {smoothing!r}")
    kept = size / (size + num_categories * smoothing)
    means, variances = (
        np.empty((int(np.max(generation, initial=0)) + 1, *probability.shape)) for _ in range(2)
    )
    mean, variance = probability, np.zeros(probability.shape)
    for step in range(len(means)):
        variance = kept**2 * (variance + (mean * (1 - mean) - variance) / size)
        mean = kept * mean + (1 - kept) / num_categories
        means[step], variances[step] = mean, variance
    return means[generation], variances[generation]


def smoothed_count_distribution(
    generation: ArrayLike,
    sample_size: ArrayLike,
    probability: float,
    smoothing: float,
    num_categories: int,
) -> np.ndarray:
    """Distribution of a category's count under 'replace' with additive smoothing: float64 [M + 1].

    The count is among the M draws that generation g is fitted to. Derived: the transition from
    count i is Binomial(M, (i + kappa)/(M + K kappa)). One generation and one probability; other
    arguments as in `smoothed_moments`.
    """
    last, size = int(as_generation(generation)), int(as_sample_size(sample_size))
    counts = np.arange(size + 1)
    law = stats.binom.pmf(counts, size, float(as_unit_interval(probability)))
    rows = stats.binom.pmf(
        counts[None, :], size, (counts[:, None] + smoothing) / (size + num_categories * smoothing)
    )
    return law @ np.linalg.matrix_power(rows, last)


def mapped_count_distribution(
    generation: ArrayLike,
    sample_size: ArrayLike,
    probability: float,
    step: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Distribution of the count of one of two categories among the draws of generation g.

    Standard (Wright-Fisher with selection): the count is a Markov chain with rows Binomial(M,
    step(i/M)).

    Args:
        generation: One int.
        probability: The population's.
        step: step(p [M + 1]) -> [M + 1], the probability with which a point of the next training
            set is of that category when the model gives it p: any curation, temperature,
            truncation, or mixture with real data in which each point is drawn independently.

    Returns:
        float64 [M + 1].
    """
    last, size = int(as_generation(generation)), int(as_sample_size(sample_size))
    counts = np.arange(size + 1)
    following = as_unit_interval(step(counts / size))
    law = stats.binom.pmf(counts, size, float(as_unit_interval(probability)))
    return law @ np.linalg.matrix_power(
        stats.binom.pmf(counts[None, :], size, following[:, None]), last
    )


def best_of_probabilities(k: int, probabilities: ArrayLike, reward: ArrayLike) -> np.ndarray:
    """Categorical distribution after one round of best-of-k curation: float64 [K].

    Candidate i is taken with probability e^r_i / sum_j e^r_j, by enumeration of the (k + 1)^K
    counts of candidates. It tends to `curated_probabilities` of one round as k grows.

    Args:
        k: Candidates, at least 1.
        probabilities: [K], of the candidates.
        reward: [K], finite.

    References:
        Ferbach et al. 2024, the setting.
    """
    probabilities, reward = as_probabilities(probabilities), np.asarray(reward, dtype=np.float64)
    if (
        reward.shape != probabilities.shape
        or not np.all(np.isfinite(reward))
        or int(k) != k
        or k < 1
    ):
        raise ValueError(
            f"k must be >= 1 and reward one finite number per category, got {k!r} and {reward!r}"
        )
    weights = np.exp(reward - reward.max())
    counts = np.indices((k + 1,) * len(weights)).reshape(len(weights), -1).T
    counts = counts[counts.sum(1) == k]
    chosen = counts * weights / (counts @ weights)[:, None]
    return stats.multinomial.pmf(counts, k, probabilities) @ chosen


def best_of_normal(k: int, slope: float) -> tuple[float, float]:
    """(mean, variance) of the point that best-of-k curation selects from N(0, 1): two floats.

    The reward is r(x) = slope x. As k grows they tend to (slope, 1). Derived: 1/sum_j e^(r_j) is
    the integral of exp(-t sum_j e^(r_j)) over t > 0, in which the candidates factorise; trapezoid
    rule in x and log t, accurate to about 1e-10.

    Args:
        k: Candidates, at least 1.
        slope: Positive or negative, up to about 3 in absolute value.
    """
    if int(k) != k or k < 1 or not np.isfinite(slope):
        raise ValueError(f"k must be a whole number >= 1 and slope finite, got {k!r} and {slope!r}")
    x, dx = np.linspace(-13, 13, 2001, retstep=True)
    density = stats.norm.pdf(x) * dx
    log_t, step = np.linspace(-60 - 13 * abs(slope), 8 + 13 * abs(slope), 2001, retstep=True)
    hazard = np.exp(np.minimum(log_t[:, None] + slope * x, 300.0))
    survives = np.exp(-hazard)
    others = (survives @ density) ** (k - 1)
    mean, square = (
        k * step * np.sum(others * ((hazard * survives) @ (density * x**power))) for power in (1, 2)
    )
    return float(mean), float(square - mean**2)


def curated_expected_precision(
    generation: ArrayLike, sample_size: ArrayLike, width: float, *, variance: float = 1.0
) -> np.ndarray:
    """E[1/variance of the generation-g model] (ddof=1) with best-of-infinity curation.

    The reward is r(x) = -x^2/(2 width^2); real points are not curated. Derived: curation adds
    1/width^2 to the precision, and a fit multiplies it by (M - 1)/chi^2_{M-1}, (M - 1)/(M - 3) on
    average.

    Args:
        sample_size: One fixed M >= 4.

    References:
        Ferbach et al. 2024, the limit of many candidates.
    """
    generation, size = as_generation(generation), int(as_sample_size(sample_size))
    if size < 4:
        raise ValueError(f"sample_size must be at least 4, got {size}")
    grows, added = (size - 1) / (size - 3), 1 / _positive(width, "width") ** 2
    precision = [grows / _positive(variance, "variance")]
    for _ in range(int(np.max(generation, initial=0))):
        precision.append(grows * (precision[-1] + added))
    return np.array(precision)[generation]


def curated_gaussian(
    rounds: ArrayLike,
    *,
    mean: float = 0.0,
    variance: float = 1.0,
    slope: float = 0.0,
    width: float = np.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """(mean, variance) after rounds of best-of-infinity curation of a Gaussian.

    The reward is r(x) = slope x - x^2/(2 width^2). Derived: complete the square of p_t proportional
    to p_0 e^(t r).

    Args:
        rounds: An int or int array >= 0.
        slope: with 0, 1/variance grows by 1/width^2 per round.
        width: > 0 in the units of the data. inf, a linear reward: the mean moves by slope *
            variance per round, and the variance is constant.

    Returns:
        Two float64 arrays of rounds' shape.

    References:
        Ferbach et al. 2024.
    """
    rounds = as_generation(rounds)
    precision = 1 / _positive(variance, "variance") + rounds / _positive(width, "width") ** 2
    return (mean / variance + rounds * slope) / precision, 1 / precision


def curated_probabilities(
    rounds: ArrayLike, probabilities: ArrayLike, reward: ArrayLike
) -> np.ndarray:
    """Categorical distribution after best-of-infinity curation, proportional to p_0 e^(t r).

    In the limit only the categories of the highest reward remain, in proportion to p_0.

    Args:
        rounds: An int or int array >= 0.
        probabilities: [K], the population.
        reward: [K], finite.

    Returns:
        float64 rounds.shape + [K].

    References:
        Ferbach et al. 2024.
    """
    probabilities = as_probabilities(probabilities)
    reward = np.asarray(reward, dtype=np.float64)
    if reward.shape != probabilities.shape or not np.all(np.isfinite(reward)):
        raise ValueError(f"reward must hold one finite number per category, got {reward!r}")
    held = probabilities > 0
    exponent = np.multiply.outer(as_generation(rounds), reward)
    exponent = exponent - np.max(np.where(held, exponent, -np.inf), axis=-1, keepdims=True)
    weights = probabilities * np.exp(np.where(held, exponent, 0.0))
    return weights / np.sum(weights, axis=-1, keepdims=True)


def mean_contraction(synthetic_ratio: ArrayLike, *, correction: float = 0.0) -> np.ndarray:
    """Factor per generation of the distance between the model's mean and the population's.

    For infinite samples. Below 1 for every finite lambda, so the published stability conditions are
    sufficient, not necessary. Derived: a share lambda/(1 + lambda) of the data comes from the
    model, and a share 1/(1 + gamma) of that is uncorrected.

    Args:
        synthetic_ratio: lambda >= 0, synthetic points per real one, a float or an array; inf: no
            real data.
        correction: Strength gamma >= 0 of p -> (p + gamma p_0)/(1 + gamma) applied to the synthetic
            data.

    Returns:
        float64 of synthetic_ratio's shape.

    References:
        Settings of Bertrand et al. 2023 and Gillman et al. 2024.
    """
    ratio = np.asarray(synthetic_ratio, dtype=np.float64)
    if not np.all(ratio >= 0) or not correction >= 0:
        raise ValueError("synthetic_ratio and correction must be >= 0")
    with np.errstate(divide="ignore"):
        return 1 / (1 + 1 / ratio) / (1 + correction)


def real_share_after_detection(
    gamma: ArrayLike, true_positive_rate: ArrayLike, false_positive_rate: ArrayLike
) -> np.ndarray:
    """Share of real data among the points that pass a detector of synthetic data.

    Use it in `gaussian.fresh_real_limit` or `ancestry.retention` if points are drawn until M have
    passed. Derived (Bayes).

    Args:
        gamma: The share before, in [0, 1].
        true_positive_rate: Probability that a synthetic point is rejected.
        false_positive_rate: Probability that a real point is rejected.

    Returns:
        float64 of the broadcast shape; nan where nothing passes.

    References:
        Drayson et al. 2025, the setting.
    """
    gamma, caught, wrong = (
        as_unit_interval(value) for value in (gamma, true_positive_rate, false_positive_rate)
    )
    real, synthetic = gamma * (1 - wrong), (1 - gamma) * (1 - caught)
    total = real + synthetic
    return np.where(total > 0, real / np.where(total > 0, total, 1), np.nan)


def temperature_real_share_boundary(temperature: ArrayLike) -> np.ndarray:
    """Share of uniform real data above which the uniform distribution is stable when tempered.

    The map is p' = alpha u + (1 - alpha) p^(1/tau)/Z over K categories with u uniform. For K > 2 a
    collapsed fixed point can also exist above this boundary (hysteresis). Derived: at the uniform
    distribution the map multiplies a perturbation by (1 - alpha)/tau, so alpha = 1 - tau.

    Args:
        temperature: tau > 0, a float or an array; tau >= 1 gives 0.

    Returns:
        float64 of temperature's shape.

    References:
        Marchi et al. 2024, the loop.
    """
    return np.maximum(1 - _positive(temperature, "temperature"), 0.0)


def tempered_probabilities(
    probabilities: ArrayLike,
    temperature: float,
    *,
    real_shares: ArrayLike = (0.0,),
    real: ArrayLike | None = None,
) -> np.ndarray:
    """The sequence of distributions under p' = alpha real + (1 - alpha) p^(1/tau)/Z.

    Args:
        probabilities: [K], the first distribution.
        temperature: tau > 0.
        real_shares: alpha of each round, in [0, 1].
        real: [K], by default uniform.

    Returns:
        float64 [len(real_shares) + 1, K].

    References:
        Marchi et al. 2024, the loop.
    """
    law = as_probabilities(probabilities)
    real = np.full(law.shape, 1 / law.size) if real is None else as_probabilities(real)
    power, laws = 1 / _positive(temperature, "temperature"), [law]
    for share in as_unit_interval(real_shares):
        sharp = law**power
        law = share * real + (1 - share) * sharp / np.sum(sharp)
        laws.append(law)
    return np.array(laws)


def nucleus_probabilities(probabilities: ArrayLike, p: float) -> np.ndarray:
    """The distribution restricted to its nucleus of probability p: float64 [K].

    The nucleus is the smallest set of most probable categories whose total probability is at least
    p, in (0, 1]. Among equally probable categories the first ones are kept.

    References:
        Holtzman et al. 2020.
    """
    law = as_probabilities(probabilities)
    if not 0 < p <= 1:
        raise ValueError(f"p must be in (0, 1], got {p!r}")
    order = np.argsort(-law, kind="stable")
    before = np.cumsum(law[order]) - law[order]
    kept = np.zeros(law.shape)
    kept[order] = np.where(before < p - 1e-12, law[order], 0.0)
    return kept / np.sum(kept)


def _positive(value, name):
    array = np.asarray(value, dtype=np.float64)
    if not np.all(array > 0):
        raise ValueError(f"{name} must be above 0, got {value!r}")
    return array
