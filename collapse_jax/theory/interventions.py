"""Closed forms for Gaussian and categorical chains with something done between sampling and
fitting.

Sampling bias (as a low temperature does), additive smoothing of counts, curation by a reward,
correction towards the population, a detector of synthetic data, sampling at a temperature, and
nucleus sampling. The first two are exact for finite samples, and so is `mapped_count_distribution`
for whatever is done to two categories; the others follow the deterministic map of infinite samples.

Index convention: generation 0 is the model fitted to `sample_size` real draws; a bias acts on model
draws only, so generation g has
felt it g times.
"""

import numpy as np
from scipy import stats

from . import gaussian
from .ancestry import as_generation, as_sample_size
from .categorical import as_probabilities, as_unit_interval


def biased_expected_log_variance(generation, sample_size, bias, *, ddof, dim=1, variance=1.0):
    """E[log det Sigma_g]/dim under 'replace' if model draws come from N(mu, bias Sigma): float64 of
    generation's shape.

    bias: lambda > 0; below 1 it keeps quality and loses diversity. Other arguments as in
    `gaussian.expected_log_variance`; its
    standard deviation and quantiles move along. Source: Alemohammad et al. 2023 ("MAD"), the
    setting; derived: each biased sampling
    adds log lambda. Raises ValueError for bad arguments.
    """
    logarithm = gaussian.expected_log_variance(
        generation, sample_size, ddof=ddof, dim=dim, variance=variance
    )
    return logarithm + as_generation(generation) * np.log(_positive(bias, "bias"))


def biased_expected_moments(generation, sample_size, bias, *, ddof, variance=1.0):
    """(expected variance, expected squared mean error) per coordinate under 'replace' with biased
    sampling: generation's shape.

    Arguments as in `biased_expected_log_variance`. Source: derived: each biased sampling multiplies
    the variance by lambda more, and
    the mean of generation i > 0 moves by variance lambda S_{i-1}/M_i. Raises ValueError for bad
    arguments.
    """
    bias = _positive(bias, "bias")
    generation, sizes = gaussian.replace_arguments(generation, sample_size, ddof)
    every = np.arange(np.max(generation, initial=0) + 1)
    spread = gaussian.expected_variance(every, sizes, ddof=ddof) * bias**every
    steps = np.broadcast_to(sizes, every.shape) if sizes.ndim == 0 else sizes[: every.size]
    offset = np.cumsum(np.append(1.0, bias * spread[:-1]) / steps)
    return variance * spread[generation], variance * offset[generation]


def neutral_sampling_bias(sample_size, *, ddof, dim=1):
    """The bias lambda >= 1 at which the expected log determinant of a 'replace' chain stays put
    after generation 0: a float.

    A larger one makes the typical variance grow, a smaller one shrink. sample_size: one fixed M >
    dim (else inf). About
    1 + (ddof=0: (dim + 3)/2, ddof=1: (dim + 1)/2)/M. Source: derived: exp(- the drift of
    `gaussian.expected_log_variance`).
    Raises ValueError for bad arguments.
    """
    return float(np.exp(-gaussian.expected_log_variance(0, int(sample_size), ddof=ddof, dim=dim)))


def smoothed_moments(generation, sample_size, probability, smoothing, num_categories):
    """(mean, variance) of a category's probability in the generation-g model under 'replace' with
    additive smoothing: two arrays.

    The fit is (count + kappa)/(M + K kappa). probability: float or array q of the population;
    smoothing: kappa >= 0; num_categories: K. Both are float64 of shape generation.shape +
    probability.shape. The mean tends to 1/K, and the variance to a positive limit: with
    s = M/(M + K kappa), mean' = s mean + (1 - s)/K and variance' = s^2 (variance + (mean (1 - mean)
    - variance)/M).
    Source: derived: binomial moments given the model. Raises ValueError for bad arguments.
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


def smoothed_count_distribution(generation, sample_size, probability, smoothing, num_categories):
    """Law of a category's count among the M draws that generation g is fitted to, under 'replace'
    with additive smoothing: [M + 1].

    One generation >= 0 and one probability; other arguments as in `smoothed_moments`; M >= 1.
    Source: derived: the transition from
    count i is Binomial(M, (i + kappa)/(M + K kappa)). Raises ValueError for bad arguments.
    """
    last, size = int(as_generation(generation)), int(as_sample_size(sample_size))
    counts = np.arange(size + 1)
    law = stats.binom.pmf(counts, size, float(as_unit_interval(probability)))
    rows = stats.binom.pmf(
        counts[None, :], size, (counts[:, None] + smoothing) / (size + num_categories * smoothing)
    )
    return law @ np.linalg.matrix_power(rows, last)


def mapped_count_distribution(generation, sample_size, probability, step):
    """Law of the count of one of two categories among the M draws that generation g is fitted to:
    float64 [M + 1].

    step(p [M + 1]) -> [M + 1], the probability with which a point of the next training set is of
    that category when the model gives it
    p: any curation, temperature, truncation, or mixture with real data where each point is drawn on
    its own.
    One generation >= 0; probability: the population's. Source: standard (Wright-Fisher with
    selection): the count is a Markov chain with rows Binomial(M, step(i/M)). Raises ValueError
    where step gives no probabilities.
    """
    last, size = int(as_generation(generation)), int(as_sample_size(sample_size))
    counts = np.arange(size + 1)
    following = as_unit_interval(step(counts / size))
    law = stats.binom.pmf(counts, size, float(as_unit_interval(probability)))
    return law @ np.linalg.matrix_power(
        stats.binom.pmf(counts[None, :], size, following[:, None]), last
    )


def best_of_probabilities(k, probabilities, reward):
    """Categorical law after one round of best-of-k curation: float64 [K]; candidate i is taken with
    probability e^r_i / sum_j e^r_j.

    k >= 1 candidates from probabilities [K]; reward: [K], finite. It tends to
    `curated_probabilities` of one round as k grows.
    Source: Ferbach et al. 2024, the setting; by enumeration of the numbers of candidates, (k + 1)^K
    of them.
    Raises ValueError for bad arguments.
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


def best_of_normal(k, slope):
    """(mean, variance) of the point that best-of-k curation with the reward r(x) = slope x takes
    from N(0, 1): two floats.

    k >= 1 candidates; slope, also negative, up to about 3 in size. As k grows they tend to (slope,
    1).
    Source: derived: 1/sum_j e^(r_j) is the integral of exp(-t sum_j e^(r_j)) over t > 0, in which
    the candidates part; trapezoid rule in x and log t, right to about 1e-10. Raises ValueError for
    bad arguments.
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


def curated_expected_precision(generation, sample_size, width, *, variance=1.0):
    """E[1/variance of the generation-g model] (ddof=1), each curated to infinity with r(x) =
    -x^2/(2 width^2): generation's shape.

    sample_size: one fixed M >= 4. The population's own points are not curated. Source: Ferbach et
    al. 2024, the limit of many
    candidates; derived: curation adds 1/width^2 to the precision, and a fit multiplies it by (M -
    1)/chi^2_{M-1}, (M - 1)/(M - 3) on average. Raises ValueError for bad arguments.
    """
    generation, size = as_generation(generation), int(as_sample_size(sample_size))
    if size < 4:
        raise ValueError(f"sample_size must be at least 4, got {size}")
    grows, added = (size - 1) / (size - 3), 1 / _positive(width, "width") ** 2
    precision = [grows / _positive(variance, "variance")]
    for _ in range(int(np.max(generation, initial=0))):
        precision.append(grows * (precision[-1] + added))
    return np.array(precision)[generation]


def curated_gaussian(rounds, *, mean=0.0, variance=1.0, slope=0.0, width=np.inf):
    """(mean, variance) after rounds of best-of-infinity curation with the reward r(x) = slope x -
    x^2/(2 width^2): two arrays.

    rounds: int or int array >= 0. width > 0 in the units of the data, inf for a linear reward: the
    mean moves by slope * variance a
    round and the variance stays; slope 0: 1/variance grows by 1/width^2 a round. Returns float64 of
    rounds' shape.
    Source: Ferbach et al. 2024: p_t proportional to p_0 e^(t r); derived: complete the square.
    Raises ValueError for bad arguments.
    """
    rounds = as_generation(rounds)
    precision = 1 / _positive(variance, "variance") + rounds / _positive(width, "width") ** 2
    return (mean / variance + rounds * slope) / precision, 1 / precision


def curated_probabilities(rounds, probabilities, reward):
    """Categorical law after rounds of best-of-infinity curation: float64 rounds.shape + [K],
    proportional to p_0 e^(t r).

    rounds: int or int array >= 0. probabilities: [K], the population. reward: [K], finite. It ends
    uniform-in-p_0 on the best categories. Source: Ferbach et al. 2024. Raises ValueError for bad
    arguments.
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


def mean_contraction(synthetic_ratio, *, correction=0.0):
    """Factor by which the mean's distance to the population's shrinks per generation, infinite
    samples: float64, ratio's shape.

    synthetic_ratio: lambda >= 0, synthetic points per real one (float or array; inf: no real data).
    correction: strength
    gamma >= 0 of p -> (p + gamma p_0)/(1 + gamma) applied to the synthetic data. Below 1 for every
    finite lambda, so the published stability conditions are sufficient, not necessary.
    Source: settings of Bertrand et al. 2023 and Gillman et al. 2024; derived: lambda/(1 + lambda)
    of the data are the model's, a
    share 1/(1 + gamma) of them uncorrected. Raises ValueError for bad arguments.
    """
    ratio = np.asarray(synthetic_ratio, dtype=np.float64)
    if not np.all(ratio >= 0) or not correction >= 0:
        raise ValueError("synthetic_ratio and correction must be >= 0")
    with np.errstate(divide="ignore"):
        return 1 / (1 + 1 / ratio) / (1 + correction)


def real_share_after_detection(gamma, true_positive_rate, false_positive_rate):
    """Share of real data among the points that a detector of synthetic data lets pass: float64 of
    the broadcast shape.

    gamma: the share before, in [0, 1]. true_positive_rate: the chance that a synthetic point is
    thrown out; false_positive_rate:
    that a real one is. If nothing passes, nan. Put the answer into `gaussian.fresh_real_limit` or
    `ancestry.retention` if points are drawn until M have passed. Source: derived (Bayes); the
    setting is Drayson et al. 2025. Raises ValueError outside [0, 1].
    """
    gamma, caught, wrong = (
        as_unit_interval(value) for value in (gamma, true_positive_rate, false_positive_rate)
    )
    real, synthetic = gamma * (1 - wrong), (1 - gamma) * (1 - caught)
    total = real + synthetic
    return np.where(total > 0, real / np.where(total > 0, total, 1), np.nan)


def temperature_real_share_boundary(temperature):
    """Share of uniform real data above which the uniform law is stable under sampling at a
    temperature: float64, same shape.

    The map is p' = alpha u + (1 - alpha) p^(1/tau)/Z over K categories with u uniform. temperature:
    tau > 0 (float or array); 0 for
    tau >= 1. For K > 2 a collapsed fixed point can live on above this border (hysteresis).
    Source: Marchi et al. 2024, the loop; derived: at the uniform law the map multiplies a
    perturbation by (1 - alpha)/tau, so
    alpha = 1 - tau. Raises ValueError for bad arguments.
    """
    return np.maximum(1 - _positive(temperature, "temperature"), 0.0)


def tempered_probabilities(probabilities, temperature, *, real_shares=(0.0,), real=None):
    """The laws [len(real_shares) + 1, K] that follow each other under p' = alpha real + (1 - alpha)
    p^(1/tau)/Z, from probabilities [K] on.

    temperature: tau > 0. real_shares: alpha of each round, in [0, 1]. real: [K], by default
    uniform.
    Source: Marchi et al. 2024, the loop. Raises ValueError for bad arguments.
    """
    law = as_probabilities(probabilities)
    real = np.full(law.shape, 1 / law.size) if real is None else as_probabilities(real)
    power, laws = 1 / _positive(temperature, "temperature"), [law]
    for share in as_unit_interval(real_shares):
        sharp = law**power
        law = share * real + (1 - share) * sharp / np.sum(sharp)
        laws.append(law)
    return np.array(laws)


def nucleus_probabilities(probabilities, p):
    """The categorical law cut down to its fewest most probable categories that hold probability p:
    float64 [K]; ties: the first ones.

    Source: Holtzman et al. 2020. Raises ValueError unless 0 < p <= 1.
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
