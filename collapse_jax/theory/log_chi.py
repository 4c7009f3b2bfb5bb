"""Moments of chi variables and their logarithms; distribution of sums of log chi^2 variables.

They are the single steps of a Gaussian that is refitted to its own draws: one sampling multiplies
the variance by an independent chi^2_{M-1}/(M - ddof). Arrays in, float64 of the same shape out.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

# probability that may lie outside the window of the Fourier series
WINDOW_TAIL = 1e-13


def log_c4(sample_size: ArrayLike) -> np.ndarray:
    """Natural log of `c4`, exact to a few 1e-14 for every M >= 2; 1 gives nan.

    Derived: log[Gamma(x + 1/2)/Gamma(x)] - log(x)/2 at x = (M - 1)/2, above x = 50 by its
    asymptotic series.
    """
    half = (np.asarray(sample_size, dtype=np.float64) - 1) / 2
    half = np.where(half > 0, half, np.nan)
    series = -1 / (8 * half) + 1 / (192 * half**3) - 1 / (640 * half**5) + 17 / (14336 * half**7)
    return np.where(
        half > 50, series, special.gammaln(half + 0.5) - special.gammaln(half) - np.log(half) / 2
    )


def c4(sample_size: ArrayLike) -> np.ndarray:
    """E[root of the unbiased variance of M normal draws] / standard deviation; 1 gives nan.

    In (0, 1). Standard: sqrt(2/(M-1)) Gamma(M/2)/Gamma((M-1)/2), the mean of a chi variable over
    sqrt(M - 1).
    """
    return np.exp(log_c4(sample_size))


def log_chi_mean(degrees: ArrayLike) -> np.ndarray:
    """E[log chi_k] for k > 0 degrees of freedom.

    Standard: chi^2_k / 2 is Gamma(k/2), whose log has mean digamma(k/2); half of digamma(k/2) + log
    2.
    """
    return (special.digamma(np.asarray(degrees, dtype=np.float64) / 2) + np.log(2)) / 2


def log_chi_variance(degrees: ArrayLike) -> np.ndarray:
    """Var[log chi_k] for k > 0 degrees of freedom. Standard: trigamma(k/2)/4."""
    return special.polygamma(1, np.asarray(degrees, dtype=np.float64) / 2) / 4


def log_mean_chi(degrees: ArrayLike) -> np.ndarray:
    """log E[chi_k] for k > 0 degrees of freedom; 0 gives nan.

    Standard: E chi_k = sqrt(2) Gamma((k + 1)/2)/Gamma(k/2) = sqrt(k) c4(k + 1).
    """
    degrees = np.asarray(degrees, dtype=np.float64)
    return log_c4(degrees + 1) + np.log(np.where(degrees > 0, degrees, np.nan)) / 2


def _log_gamma_excess(shape, shift):
    """log Gamma(z + s) - log Gamma(z) - s digamma(z) for complex s, without cancellation.

    From z = 30 on by Stirling's series.
    """
    if shape < 30:
        return (
            special.loggamma(shape + shift)
            - special.loggamma(shape)
            - shift * special.digamma(shape)
        )
    ratio = shift / shape
    # numpy's complex log1p loses the real part when it is far below one
    logarithm = 0.5 * np.log1p(2 * ratio.real + np.abs(ratio) ** 2) + 1j * np.arctan2(
        ratio.imag, 1 + ratio.real
    )

    def bernoulli(z):
        return 1 / (12 * z) - 1 / (360 * z**3) + 1 / (1260 * z**5) - 1 / (1680 * z**7)

    correction = (
        1 / (2 * shape)
        + 1 / (12 * shape**2)
        - 1 / (120 * shape**4)
        + 1 / (252 * shape**6)
        - 1 / (240 * shape**8)
    )
    return (
        (shape - 0.5 + shift) * logarithm
        - shift * (1 - correction)
        + bernoulli(shape + shift)
        - bernoulli(shape)
    )


class LogChiSquareSum:
    """Distribution of the centred sum of independent log chi^2 variables, by a Fourier series.

    Args:
        degrees: Degrees of freedom [n].
    """

    def __init__(self, degrees):
        self.shapes, self.repeats = np.unique(degrees / 2, return_counts=True)
        deviation = np.sqrt(np.sum(self.repeats * special.polygamma(1, self.shapes)))
        # Chernoff: P(Y > x) <= exp(K(s) - s x), solved for x at the wanted tail; every s gives a
        # valid edge
        tilt = np.geomspace(0.3, 300, 600) / deviation
        self.high = np.min((self._log_characteristic(tilt).real - np.log(WINDOW_TAIL)) / tilt)
        smallest = self.shapes[0]
        tilt = tilt[tilt < smallest * (0.5 if smallest >= 30 else 0.999)]
        self.low = -np.min((self._log_characteristic(-tilt).real - np.log(WINDOW_TAIL)) / tilt)
        terms = 64
        while (
            self._log_characteristic(2j * np.pi * np.array([terms]) / (self.high - self.low))[
                0
            ].real
            > -40
        ):
            terms *= 2
        self.frequency = 2 * np.pi * np.arange(1, terms + 1) / (self.high - self.low)
        self.weight = np.exp(self._log_characteristic(1j * self.frequency)) / (1j * self.frequency)

    def _log_characteristic(self, shift):
        shift = np.asarray(shift, dtype=np.complex128)
        terms = zip(self.shapes, self.repeats, strict=True)
        return sum(
            (repeat * _log_gamma_excess(shape, shift) for shape, repeat in terms),
            start=np.zeros_like(shift),
        )

    def cdf(self, value):
        value = np.clip(value, self.low, self.high)
        width = self.high - self.low
        waves = np.exp(-1j * self.frequency * self.low) - np.exp(
            -1j * value[..., None] * self.frequency
        )
        return np.clip(
            (value - self.low) / width + 2 / width * (waves @ self.weight).real, 0.0, 1.0
        )

    def quantile(self, probability):
        low, high = np.full(probability.shape, self.low), np.full(probability.shape, self.high)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.cdf(middle) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2
