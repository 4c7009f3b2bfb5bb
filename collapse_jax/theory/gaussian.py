"""Closed forms for a Gaussian refitted to its own draws, for the mean, the variance and the Wasserstein-2 distance.

The population is N(mean, variance); each coordinate of a d-dimensional Gaussian has the same expected variance and squared
mean error (for `variance` put that coordinate's variance). ddof=0 is maximum likelihood, ddof=1 the unbiased variance; it has
no default because it doubles the usual speed of collapse.

Index convention: generation 0 is the model fitted to `sample_size` real draws, so the law at generation g has seen
g + 1 samplings. sample_size is an int M >= 1, or for the workflow 'replace' a 1-D schedule M_0, M_1, ... with at least
max(generation) + 1 entries. M = 1 gives variance 0 with ddof=0, and a ValueError with ddof=1 (0/0).
"""

import numpy as np
from scipy import special

from .ancestry import as_generation, as_sample_size, check_mixture, fixed_mix_counts, mix_pair_shares, sum_over_samplings

# probability that may lie outside the window of the Fourier series
WINDOW_TAIL = 1e-13


def log_c4(sample_size):
    """Natural log of `c4`, exact to a few 1e-14 for every size. M >= 2 (int or array; 1 gives nan), same shape out.

    Source: derived: log[Gamma(x + 1/2)/Gamma(x)] - log(x)/2 at x = (M - 1)/2, above x = 50 by its asymptotic series.
    """
    half = (np.asarray(sample_size, dtype=np.float64) - 1) / 2
    half = np.where(half > 0, half, np.nan)
    series = -1 / (8 * half) + 1 / (192 * half**3) - 1 / (640 * half**5) + 17 / (14336 * half**7)
    return np.where(half > 50, series, special.gammaln(half + 0.5) - special.gammaln(half) - np.log(half) / 2)


def c4(sample_size):
    """E[unbiased-variance standard deviation of M normal draws] / true deviation, in (0, 1); 1 gives nan.

    Source: standard: sqrt(2/(M-1)) Gamma(M/2)/Gamma((M-1)/2), the mean of a chi variable over sqrt(M - 1).
    """
    return np.exp(log_c4(sample_size))


def log_chi_mean(degrees):
    """E[log chi_k], natural log, k > 0 degrees of freedom (array in, same shape out).

    Source: standard: chi^2_k / 2 is Gamma(k/2), whose log has mean digamma(k/2); half of digamma(k/2) + log 2.
    """
    return (special.digamma(np.asarray(degrees, dtype=np.float64) / 2) + np.log(2)) / 2


def log_chi_variance(degrees):
    """Var[log chi_k], k > 0 degrees of freedom (array in, same shape out). Source: standard: trigamma(k/2)/4."""
    return special.polygamma(1, np.asarray(degrees, dtype=np.float64) / 2) / 4


def expected_variance(
    generation, sample_size, *, ddof, workflow="replace", variance=1.0, alpha=1.0, beta=0.0, gamma=0.0, random_counts=True
):
    """Expected variance of the generation-g model: float64 of generation's shape, in the units of `variance`.

    Arguments as in `ancestry.retention`, which it equals for ddof=0 and variance=1. Do not hold the raw average of simulated
    runs against it for g > M/2: rare runs carry this mean (use `expected_log_variance` or quantiles there).
    Source: replace: Shumailov et al. 2024, one factor E[chi^2_{M-1}]/(M - ddof) per sampling. accumulate: Kazdan et al. 2024,
    prod (1 - 1/(i^2 M)) for ddof=0; derived for ddof=1: the pool's scatter gains S (M - 1/i), hence
    prod_{i>=2} (1 - 1/(i (i M - 1))). The others: derived, see `_subsample_moments` and `_mix_moments`.
    Raises ValueError for bad arguments.
    """
    shares = (alpha, beta, gamma, random_counts)
    return variance * _moments(generation, sample_size, ddof, workflow, shares)[0]


def expected_squared_mean_error(
    generation, sample_size, *, ddof, workflow="replace", variance=1.0, alpha=1.0, beta=0.0, gamma=0.0, random_counts=True
):
    """E[(mean of the generation-g model - population mean)^2] per coordinate: float64 of generation's shape.

    Arguments as in `ancestry.retention`; units of `variance`. M = 1 gives `variance` with ddof=0.
    Source: replace: Shumailov et al. 2024, variance * sum_i 1/M_i for ddof=1. Derived: each new mean is its model's mean plus
    noise of variance S/M (in a pool of i rounds S/(i^2 M)); for ddof=0 variance and squared error sum to `variance`.
    Raises ValueError for bad arguments.
    """
    shares = (alpha, beta, gamma, random_counts)
    return variance * _moments(generation, sample_size, ddof, workflow, shares)[1]


def expected_standard_deviation(generation, sample_size, *, ddof, variance=1.0):
    """E[standard deviation of the generation-g model] under 'replace': float64 of generation's shape, units of the data.

    Source: Suresh et al. 2024 (one factor c4 per sampling); derived: sigma_{i+1} = sigma_i chi_{M-1}/sqrt(M - ddof) with
    independent chi variables. Raises ValueError for bad arguments.
    """
    generation, sizes = _replace_arguments(generation, sample_size, ddof)
    return np.sqrt(variance) * np.exp(sum_over_samplings(generation, sizes, lambda size: _log_mean_deviation(size, ddof)))


def expected_squared_wasserstein2(generation, sample_size, *, ddof, variance=1.0):
    """E[W2^2] between the 1-D generation-g model and the population under 'replace', in the units of `variance`.

    Grows without bound for ddof=1 (Theorem 3.1) but never above 2 * variance for ddof=0. Returns generation's shape.
    Source: Shumailov et al. 2024, Theorem 3.1; derived: W2^2 = (mu_g - mu)^2 + (sigma_g - sigma)^2, and the last square
    opens into expected variance, standard deviation and `variance`. Raises ValueError for bad arguments.
    """
    spread = expected_variance(generation, sample_size, ddof=ddof)
    offset = expected_squared_mean_error(generation, sample_size, ddof=ddof)
    return variance * (offset + spread + 1 - 2 * expected_standard_deviation(generation, sample_size, ddof=ddof))


def expected_log_variance(generation, sample_size, *, ddof, dim=1, variance=1.0):
    """E[log det Sigma_g] / dim under 'replace' (natural log): float64 of generation's shape; dim=1: E[log variance].

    variance: the population's det(Sigma)^(1/dim). From the first M_i with M_i - 1 < dim on the model is singular: -inf.
    Source: Shumailov et al. 2024, proof of Theorem 3.1 (dim 1); derived (Bartlett): det(scatter)/det(Sigma) is a product of
    independent chi^2_{M-1}, ..., chi^2_{M-dim}, so each sampling adds sum_j [digamma((M-j)/2) + log(2/(M-ddof))] / dim.
    Raises ValueError for bad arguments.
    """
    generation, sizes = _replace_arguments(generation, sample_size, ddof)
    below = np.arange(1, _as_dimension(dim) + 1)

    def drift(size):
        half = (size[..., None] - below) / 2
        mean = special.digamma(np.where(half > 0, half, 1)) + np.log(2 / np.maximum(size[..., None] - ddof, 1))
        return np.mean(np.where(half > 0, mean, -np.inf), axis=-1)

    return np.log(variance) + sum_over_samplings(generation, sizes, drift)


def log_variance_std(generation, sample_size, *, dim=1):
    """Standard deviation of log det Sigma_g / dim under 'replace', the same for both ddof: float64 of generation's shape.

    nan where the model is singular (M_i - 1 < dim). Source: derived: independent terms, so the variances add:
    sum_i sum_j trigamma((M_i - j)/2) / dim^2. Raises ValueError for bad arguments.
    """
    generation, sizes = _replace_arguments(generation, sample_size, 0)
    below = np.arange(1, _as_dimension(dim) + 1)

    def spread(size):
        half = (size[..., None] - below) / 2
        return np.sum(np.where(half > 0, special.polygamma(1, np.where(half > 0, half, 1)), np.nan), axis=-1)

    return np.sqrt(sum_over_samplings(generation, sizes, spread)) / dim


def log_variance_cdf(value, generation, sample_size, *, ddof, variance=1.0):
    """P(log variance of the 1-D generation-g model <= value) under 'replace', to about 1e-10 absolute.

    value: float or array (natural log). generation: int or int array. sample_size: M >= 2 or a schedule of such (else
    ValueError). Returns float64 of shape generation.shape + value.shape.
    Source: derived: the log variance is a constant plus a sum of independent log chi^2_{M_i-1}, whose characteristic function
    is prod Gamma(k_i/2 + iw)/Gamma(k_i/2); summed as a Fourier series on a window that holds all but 1e-13 of the mass.
    """
    generation, sizes = _distribution_arguments(generation, sample_size, ddof)
    value = np.asarray(value, dtype=np.float64)
    result = np.empty((*generation.shape, *value.shape))
    for index, last in np.ndenumerate(generation):
        center = expected_log_variance(last, sizes, ddof=ddof, variance=variance)
        result[index] = _LogChiSquareSum(_degrees(last, sizes)).cdf(value - center)
    return result


def log_variance_quantile(probability, generation, sample_size, *, ddof, variance=1.0):
    """Quantiles of the log variance of the 1-D generation-g model under 'replace' (natural log).

    probability: float or array in (0, 1), trustworthy from 1e-8 to 1 - 1e-8; the rest as in `log_variance_cdf`, which is
    inverted by bisection: the true probability of the answer is right to about 1e-10. Returns float64 of shape
    generation.shape + probability.shape. exp(.) gives quantiles of the variance, exp(. / 2) of the standard deviation.
    Source: derived, see `log_variance_cdf`. Raises ValueError for bad arguments.
    """
    generation, sizes = _distribution_arguments(generation, sample_size, ddof)
    probability = np.asarray(probability, dtype=np.float64)
    if not np.all((probability > 0) & (probability < 1)):
        raise ValueError(f"probability must lie strictly between 0 and 1, got {probability!r}")
    result = np.empty((*generation.shape, *probability.shape))
    for index, last in np.ndenumerate(generation):
        center = expected_log_variance(last, sizes, ddof=ddof, variance=variance)
        result[index] = center + _LogChiSquareSum(_degrees(last, sizes)).quantile(probability)
    return result


def accumulate_variance_limit(sample_size, *, ddof, variance=1.0):
    """Expected variance under 'accumulate' for generation -> infinity, a float in the units of `variance`.

    sample_size: M >= 1 for ddof=0 (1 gives 0), M >= 2 for ddof=1. Source: Kazdan et al. 2024, sin(pi/sqrt M)/(pi/sqrt M) for
    ddof=0; derived for ddof=1: i(iM-1)-1 = M(i-r)(i-s) with r, s = (1/M +- sqrt(1/M^2+4/M))/2, and the product over i >= 2
    is Gamma(2 - 1/M)/(Gamma(2 - r) Gamma(2 - s)). Raises ValueError for bad arguments.
    """
    size = float(_checked_sizes(as_sample_size(sample_size), ddof))
    if ddof == 0:
        return variance * float(np.sinc(1 / np.sqrt(size)))
    root = np.sqrt(1 / size**2 + 4 / size)
    return variance * float(special.gamma(2 - 1 / size) * np.prod(special.rgamma([2 - (1 / size + s * root) / 2 for s in (1, -1)])))


def fresh_real_limit(sample_size, gamma, *, ddof, variance=1.0):
    """(expected variance, expected squared mean error) for generation -> infinity, two floats in the units of `variance`.

    Workflow 'mix' with beta = 0 and random counts: each of the M points is fresh and real with probability gamma in [0, 1],
    otherwise a model draw. M = 1 with ddof=0 gives (0, variance). For ddof=1 both are inf if M gamma (2 - gamma) <= 1 - gamma
    (about gamma < 1/(2M)), except that gamma = 0 is 'replace', (variance, inf).
    Source: derived: fixed point of `_mix_moments`. ddof=0: with G = 1-(1-gamma)^2, variance (1-1/M) G/(1-(1-1/M)(1-gamma)^2),
    about 2m/(1+2m) for m = gamma M. ddof=1: error 1/(M G - (1-gamma)), variance 1 + (1-gamma) error.
    Raises ValueError for bad arguments.
    """
    size = float(_checked_sizes(as_sample_size(sample_size), ddof))
    check_mixture("mix", 1 - gamma, 0.0, gamma)
    gain = gamma * (2 - gamma)
    if ddof == 0:
        kept = (1 - 1 / size) * gain / (1 - (1 - 1 / size) * (1 - gamma) ** 2)
        return variance * kept, variance * (1 - kept)
    surplus = size * gain - (1 - gamma)
    error = 1 / surplus if surplus > 0 else np.inf
    return variance * (1.0 if gamma == 0 else 1 + (1 - gamma) * error), variance * error


def _moments(generation, sample_size, ddof, workflow, shares):
    """(expected variance, expected squared mean error) at `generation` for a population of variance 1."""
    check_mixture(workflow, *shares[:3])
    if workflow == "replace":
        generation, sizes = _replace_arguments(generation, sample_size, ddof)
        if ddof == 1:
            return np.ones(generation.shape), sum_over_samplings(generation, sizes, lambda size: 1 / size)
        with np.errstate(divide="ignore"):
            logarithm = sum_over_samplings(generation, sizes, lambda size: np.log1p(-1 / size))
        return np.exp(logarithm), -np.expm1(logarithm)
    generation = as_generation(generation)
    size = float(_checked_sizes(as_sample_size(sample_size), ddof))
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
    """Both moments when the model is fitted to M of the t M pooled points, drawn without replacement, t = g + 1.

    Derived: let S be the pool's unbiased variance and A its mean's squared error. The subsample's mean differs from the pool's
    by variance S/M (1 - 1/t), its variance is S (ddof=1) or S (M-1)/M, and M draws from that model then join the pool.
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
    """Both moments when the training set mixes model draws, points of the previous set and fresh real draws.

    Derived: with the population mean at 0 let P = E[x^2] of a point and C = E[x y] of two distinct ones. The fit has squared
    mean (P + (M-1) C)/M; a model draw's pairs (but for pairs of old points, C) have that same E[x y], real ones 0.
    """
    alpha, beta, gamma, random_counts = shares
    with_model, both_previous = mix_pair_shares(int(size), *shares)
    if not random_counts:
        alpha, beta, gamma = (count / size for count in fixed_mix_counts(int(size), alpha, beta, gamma))
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


def _checked_sizes(sizes, ddof):
    if ddof not in (0, 1):
        raise ValueError(f"ddof must be 0 or 1, got {ddof!r}")
    if ddof == 1 and np.any(sizes == 1):
        raise ValueError("sample_size 1 has no unbiased variance (ddof=1)")
    return sizes


def _replace_arguments(generation, sample_size, ddof):
    generation = as_generation(generation)
    return generation, _checked_sizes(as_sample_size(sample_size, generation), ddof)


def _distribution_arguments(generation, sample_size, ddof):
    generation, sizes = _replace_arguments(generation, sample_size, ddof)
    if np.any(sizes < 2):
        raise ValueError("the log variance has no law for sample_size 1")
    return generation, sizes


def _as_dimension(dim):
    if int(dim) != dim or dim < 1:
        raise ValueError(f"dim must be a whole number >= 1, got {dim!r}")
    return int(dim)


def _degrees(last, sizes):
    return np.full(last + 1, int(sizes) - 1) if sizes.ndim == 0 else sizes[: last + 1] - 1


def _log_gamma_excess(shape, shift):
    """log Gamma(z + s) - log Gamma(z) - s digamma(z) for complex s, free of cancellation for large z (Stirling, z >= 30)."""
    if shape < 30:
        return special.loggamma(shape + shift) - special.loggamma(shape) - shift * special.digamma(shape)
    ratio = shift / shape
    # numpy's complex log1p loses the real part when it is far below one
    logarithm = 0.5 * np.log1p(2 * ratio.real + np.abs(ratio) ** 2) + 1j * np.arctan2(ratio.imag, 1 + ratio.real)

    def bernoulli(z):
        return 1 / (12 * z) - 1 / (360 * z**3) + 1 / (1260 * z**5) - 1 / (1680 * z**7)

    correction = 1 / (2 * shape) + 1 / (12 * shape**2) - 1 / (120 * shape**4) + 1 / (252 * shape**6) - 1 / (240 * shape**8)
    return (shape - 0.5 + shift) * logarithm - shift * (1 - correction) + bernoulli(shape + shift) - bernoulli(shape)


class _LogChiSquareSum:
    """Law of the centred sum of independent log chi^2 variables, degrees of freedom [n], by a Fourier series."""

    def __init__(self, degrees):
        self.shapes, self.repeats = np.unique(degrees / 2, return_counts=True)
        deviation = np.sqrt(np.sum(self.repeats * special.polygamma(1, self.shapes)))
        # Chernoff: P(Y > x) <= exp(K(s) - s x), solved for x at the wanted tail; every s gives a valid edge
        tilt = np.geomspace(0.3, 300, 600) / deviation
        self.high = np.min((self._log_characteristic(tilt).real - np.log(WINDOW_TAIL)) / tilt)
        smallest = self.shapes[0]
        tilt = tilt[tilt < smallest * (0.5 if smallest >= 30 else 0.999)]
        self.low = -np.min((self._log_characteristic(-tilt).real - np.log(WINDOW_TAIL)) / tilt)
        terms = 64
        while self._log_characteristic(2j * np.pi * np.array([terms]) / (self.high - self.low))[0].real > -40:
            terms *= 2
        self.frequency = 2 * np.pi * np.arange(1, terms + 1) / (self.high - self.low)
        self.weight = np.exp(self._log_characteristic(1j * self.frequency)) / (1j * self.frequency)

    def _log_characteristic(self, shift):
        shift = np.asarray(shift, dtype=np.complex128)
        return sum(repeat * _log_gamma_excess(shape, shift) for shape, repeat in zip(self.shapes, self.repeats, strict=True))

    def cdf(self, value):
        value = np.clip(value, self.low, self.high)
        width = self.high - self.low
        waves = np.exp(-1j * self.frequency * self.low) - np.exp(-1j * value[..., None] * self.frequency)
        return np.clip((value - self.low) / width + 2 / width * (waves @ self.weight).real, 0.0, 1.0)

    def quantile(self, probability):
        low, high = np.full(probability.shape, self.low), np.full(probability.shape, self.high)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.cdf(middle) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2
