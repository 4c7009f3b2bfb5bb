"""The area of a loop, and what is left of it when a sweep takes for ever."""

import math
from typing import NamedTuple

import numpy as np

from collapse_jax.drivers.warning.rates import Estimate

FIRST_ORDER, CONTINUOUS, UNDECIDED = "first order", "continuous", "undecided"
# A + c n^-p never holds exactly for finite n: areas count with an error of 2% at least.
_INEXACT = 0.02
# From slow (a passage through a fold or a fork has 2/3 or 1/2) to what follows at once (1).
_EXPONENTS = np.arange(0.4, 2.001, 0.02)
_DEVIATIONS = 3.0
_FEWEST, _SMALL = 3, 0.2


class Limit(NamedTuple):
    """The area of a sweep that takes for ever, by A + c n^-p fitted to areas at several lengths n.

    value: A of the best fit.
    low, high: what no p in [.4, 2] rejects at three standard errors. An extrapolation: it covers
        the truth where the areas follow such a law.
    exponent: p of the best fit; it says little where the areas hardly change.
    sweeps: how many of the slowest areas were fitted.
    """

    value: float
    low: float
    high: float
    exponent: float
    sweeps: int


def loop_area(setting: np.ndarray, out: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Area between the way out and the way back, by trapezoids.

    Positive where the metric is higher on the way to higher settings than on the way from them.

    Args:
        setting: [n + 1] ascending or descending.
        out, back: [..., n + 1] a metric at these settings, both in this order.

    Returns:
        [...].
    """
    sign = 1.0 if setting[-1] > setting[0] else -1.0
    out, back = (np.asarray(values, np.float64) for values in (out, back))
    return sign * np.trapezoid(out - back, setting, axis=-1)


def limit_of_areas(lengths: np.ndarray, areas: list[Estimate]) -> Limit:
    """What is left of a loop's area when a sweep takes for ever.

    Sweeps before the one with the largest area are so fast that the chain does not follow at all,
    and are left out. Fewer than three others give an interval without ends.

    Args:
        lengths: [sweep] generations of one way, ascending.
        areas: of each sweep, the mean over chains with its standard error (nan counts as 0).
    """
    values = np.array([area.value for area in areas])
    begin = int(np.argmax(np.abs(values)))
    values, count = values[begin:], len(values) - begin
    if count < _FEWEST:
        return Limit(float(values[-1]), -math.inf, math.inf, math.nan, count)
    errors = np.nan_to_num(np.array([area.error for area in areas[begin:]]))
    scale = float(np.abs(values).max()) or 1.0
    sigma = np.sqrt(errors**2 + (_INEXACT * values) ** 2) + 1e-9 * scale
    ratios = np.asarray(lengths[begin:], np.float64) / lengths[begin]
    fits = [_fit(ratios**-p, values, sigma) for p in _EXPONENTS]
    misfits = np.array([misfit for _, _, misfit in fits])
    best = int(np.argmin(misfits))
    low, high = math.inf, -math.inf
    for area, error, misfit in fits:
        left = _DEVIATIONS**2 - (misfit - misfits[best])
        if left >= 0:
            low = min(low, area - math.sqrt(left) * error)
            high = max(high, area + math.sqrt(left) * error)
    return Limit(fits[best][0], low, high, float(_EXPONENTS[best]), count)


def _fit(decay, values, sigma):
    """(A, its standard error, chi square) of A + c decay."""
    design = np.stack([np.ones_like(decay), decay], axis=1) / sigma[:, None]
    covariance = np.linalg.inv(design.T @ design)
    found = covariance @ design.T @ (values / sigma)
    misfit = float(np.sum((values / sigma - design @ found) ** 2))
    return float(found[0]), math.sqrt(covariance[0, 0]), misfit


def verdict_of(limit: Limit, areas: list[Estimate]) -> str:
    """Whether a loop stays ("first order"), vanishes ("continuous"), or neither is sure.

    A loop stays whose limit has one sign over the whole interval. It vanishes where the interval
    holds 0 and the slowest sweep has left less than a fifth of the largest area, or no more than
    three standard errors. So "continuous" means: what loop there is, is smaller than that.

    A finite sample jumps by itself once a sweep is slow enough, and its loop shrinks with the
    logarithm of the length. "First order" is said of the lengths that were swept. Nothing is sure
    where an area has no error (nan), as that of a single chain.
    """
    slowest = areas[-1]
    if np.isnan([area.error for area in areas]).any():
        return UNDECIDED
    if abs(slowest.value) <= _DEVIATIONS * slowest.error:
        return CONTINUOUS
    if limit.low > 0 or limit.high < 0:
        return FIRST_ORDER
    largest = max(abs(area.value) for area in areas)
    is_sure = limit.sweeps >= _FEWEST and abs(slowest.value) < _SMALL * largest
    return CONTINUOUS if is_sure else UNDECIDED
