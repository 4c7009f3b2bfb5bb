"""Limits, rates and curves of alarms, with their errors.

Scores are numbers of chains; a higher one speaks for a collapse. -inf is a chain of which nothing
was seen.
"""

import math
from typing import NamedTuple

import numpy as np

from collapse_jax.errors import InputError

# Points of a curve that is drawn.
_POINTS = 400
# Pairs of chains that are compared at once.
_BLOCK = 2_000_000
_CONFIDENCE = 0.95


class Rate(NamedTuple):
    """A share of chains.

    share: the share; nan if there are no chains.
    low, high: 95% Clopper-Pearson interval, which is never too narrow.
    chains: the number of chains.
    """

    share: float
    low: float
    high: float
    chains: int


class Estimate(NamedTuple):
    """value: the estimate, nan if unknown. error: its standard error."""

    value: float
    error: float


class Median(NamedTuple):
    """A median of lead times, in which chains without an alarm count as -inf.

    low, high: 95% interval by order statistics, exact for any distribution.
    """

    value: float
    low: float
    high: float


class Curve(NamedTuple):
    """A receiver operating characteristic.

    false, true: [point] shares of chains with an alarm, ascending from 0 to 1.
    area: the AUC of all pairs, not of these points alone.
    """

    false: np.ndarray
    true: np.ndarray
    area: Estimate


def smallest_rate(chains: int) -> float:
    """The smallest false-alarm rate that so many steady chains can promise."""
    return 1 / (chains + 1)


def limit_of(extremes: np.ndarray, rate: float) -> tuple[float, float]:
    """The limit that a further steady chain exceeds with a probability of at most `rate`.

    Of n chains it is the k-th largest extreme, k = floor(rate (n + 1)): a further one, drawn alike,
    is above it with probability k/(n + 1) where no two are equal, and less where some are, whatever
    the law of the extremes (Vovk et al. 2005, conformal prediction).

    Args:
        extremes: [n] the highest score of each chain.
        rate: in (0, 1).

    Returns:
        (the limit, the promised rate k/(n + 1)).

    Raises:
        InputError: if n is too small for the rate.
    """
    count = len(extremes)
    place = math.floor(rate * (count + 1) + 1e-9)
    if place < 1:
        raise InputError(
            f"false_alarm_rate is {rate:g}; {count} steady chains set the limits, with which the "
            f"smallest rate is {smallest_rate(count):.3g}: give "
            f"{2 * math.ceil(1 / rate - 1)} steady chains (one half sets the limits, the other "
            "tests them), or a higher rate"
        )
    return float(np.sort(extremes)[count - place]), place / (count + 1)


def rate_of(happened: np.ndarray) -> Rate:
    """The share of chains of which something is true, with its interval."""
    from scipy import stats

    count, hits = len(happened), int(np.sum(happened))
    if not count:
        return Rate(math.nan, math.nan, math.nan, 0)
    tail = (1 - _CONFIDENCE) / 2
    low = stats.beta.ppf(tail, hits, count - hits + 1) if hits else 0.0
    high = stats.beta.ppf(1 - tail, hits + 1, count - hits) if hits < count else 1.0
    return Rate(hits / count, float(low), float(high), count)


def median_of(values: np.ndarray) -> Median:
    """The median of values, of which some may be -inf, with an exact interval.

    The interval is the widest there is, -inf to inf, below six values.
    """
    from scipy import stats

    ordered = np.sort(values)
    count = len(ordered)
    if not count:
        return Median(math.nan, math.nan, math.nan)
    lower, upper = ordered[(count - 1) // 2], ordered[count // 2]
    middle = lower if lower == upper else (lower + upper) / 2
    # P(the r-th smallest is above the median) = P(Binomial(n, 1/2) < r).
    place = int(stats.binom.ppf((1 - _CONFIDENCE) / 2, count, 0.5))
    while place and stats.binom.cdf(place - 1, count, 0.5) > (1 - _CONFIDENCE) / 2:
        place -= 1
    if not place:
        return Median(float(middle), -math.inf, math.inf)
    return Median(float(middle), float(ordered[place - 1]), float(ordered[count - place]))


def mean_of(values: np.ndarray) -> Estimate:
    """The mean of finite values, and its standard error (nan of one alone)."""
    values = values[np.isfinite(values)]
    if not len(values):
        return Estimate(math.nan, math.nan)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), float(error))


def curve_of(collapsing: np.ndarray, steady: np.ndarray) -> Curve:
    """The curve of one limit for all chains, and the area below it.

    A steady chain is watched for as long as a collapsing one was: the false-alarm rate is that over
    all pairs. So a metric that knows nothing of the collapse has an area of 1/2, however different
    the times are at which chains collapse.

    The area is the mean over all (i', i, j) of [x_i' > y_ij] + [x_i' = y_ij]/2. Its error is
    Hajek's: each chain's contribution to that mean, in both of its roles, as in DeLong et al. 1988.
    Where all chains are watched equally long it is the Mann-Whitney statistic.

    Args:
        collapsing: [m] scores x.
        steady: [m, n] scores y_ij of steady chain j, watched as long as collapsing chain i.
    """
    m, n = steady.shape
    if not m or not n:
        nothing = np.empty(0)
        return Curve(nothing, nothing, Estimate(math.nan, math.nan))
    ordered = np.sort(collapsing)
    above = np.zeros(m)  # of collapsing chain i, over all pairs of windows and steady chains
    of_window, of_steady = np.zeros(m), np.empty(n)
    block = max(1, _BLOCK // m)
    for begin in range(0, n, block):
        part = steady[:, begin : begin + block]
        wins = _share_above(ordered, part)
        of_window += wins.sum(1) / n
        of_steady[begin : begin + block] = wins.mean(0)
        flat = np.sort(part, axis=None)
        left, right = (np.searchsorted(flat, collapsing, side) for side in ("left", "right"))
        above += (left + right) / 2 / (m * n)
    area = float(of_steady.mean())
    variance = math.nan
    if m > 1 and n > 1:
        variance = (above + of_window).var(ddof=1) / m + of_steady.var(ddof=1) / n
    limits = _limits(collapsing, steady)
    false, true = (1 - _share_at_most(values, limits) for values in (steady.ravel(), collapsing))
    ends = np.array([0.0]), np.array([1.0])
    false, true = (np.concatenate([ends[0], one, ends[1]]) for one in (false, true))
    return Curve(false, true, Estimate(area, math.sqrt(variance)))


def _share_above(ordered, scores):
    """The share of ascending scores that is above each of others; equal ones count half."""
    left, right = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return 1 - (left + right) / 2 / len(ordered)


def _share_at_most(values, limits):
    return np.searchsorted(np.sort(values), limits, "right") / len(values)


def _limits(collapsing, steady):
    """Limits, descending, at which the curve is drawn."""
    limits = np.unique(np.concatenate([collapsing, steady.ravel()]))[::-1]
    if len(limits) > _POINTS:
        shares = np.linspace(0, 1, _POINTS)
        held = [np.sort(values, axis=None) for values in (collapsing, steady)]
        picked = [one[np.round(shares * (len(one) - 1)).astype(int)] for one in held]
        limits = np.unique(np.concatenate(picked))[::-1]
    return limits
