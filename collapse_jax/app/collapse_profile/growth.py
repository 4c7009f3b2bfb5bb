"""Whether a loss grows without bound, as far as a run of some length can tell."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from collapse_jax.app.collapse_profile.definitions import Scale
from collapse_jax.app.collapse_profile.findings import (
    CANNOT_TELL,
    MET,
    NOT_MET,
    Finding,
    of_band,
    undecided,
)
from collapse_jax.app.collapse_profile.series import LEVEL, Band, Chains, Series

_FEWEST_SAMPLINGS = 8
# Fewer chains have no bootstrap.
_FEWEST_CHAINS = 6
_RESAMPLES = 999
# Of a pace: a smaller change is rounding.
_ROUNDING = 1e-9


def divergence(
    statistic: str, series: Series, scale: Scale, threshold: float, generations: np.ndarray
) -> Finding:
    """Compares the pace of a loss in its last doubling with its pace before.

    The clock is t = generation + 1, the samplings so far, and the windows are (0, T/4], (T/4, T/2]
    and (3T/4, T]: of one length, since a median of averages depends on how long these are. Each
    chain's loss is averaged over each window; pace is the rise from one window to the next per unit
    of the average log t. A loss that tends to a limit like a power or an exponential of t has an
    ever smaller pace; one that grows faster than log t an ever larger one.
    Met: the loss rose in the last doubling, by more than the threshold, and at a larger pace. Not
    met: it rose by no more than the threshold, or at a smaller pace. The interval of each is one
    over chains, so that nothing is assumed of how generations depend on each other. No finite run
    can tell a limit that is reached far beyond its end, nor growth like log t from a limit.

    A mean is judged on the generations before few chains carry it.

    Args:
        series: the loss, transformed to nats, or an error.
        threshold: the factor of the loss (of perplexity, of an error) in a doubling that counts as
            growth.
    """
    band = getattr(series, statistic)()
    infinite = np.isposinf(band.number)
    if infinite.any():
        return _infinite(statistic, band, generations, infinite)
    windows = _windows(band, generations)
    if windows is None:
        note = f"{_FEWEST_SAMPLINGS} samplings or more are needed, with records in all quarters"
        if band.few.any():
            note += "; those are counted before few chains carry the mean"
        empty = np.full(len(generations), np.nan)
        return undecided(statistic, Band(empty, empty, empty, 0.0, band.few), generations, note)
    averages = series.windows(windows)
    clock = np.array([np.log(generations[places] + 1.0).mean() for places in windows])
    paces = _paces(averages, statistic, _weights(clock))
    levels = getattr(averages, statistic)().number
    if paces is None:
        note = "one chain: a chain that only wanders may rise ever faster, too"
        if series.count > 1:
            note = f"{series.count} chains are too few for an interval of their median's growth"
        return _growth(statistic, CANNOT_TELL, scale, generations, windows, levels, clock, note)
    return _judged(statistic, paces, scale, threshold, generations, windows, levels, clock)


def _judged(statistic, paces, scale, threshold, generations, windows, levels, clock):
    """The verdict from the last pace and its change, each with its interval."""
    (pace, low, high), (change, change_low, change_high) = paces
    rounding = _ROUNDING * abs(pace)
    grown = [_factor(bound * np.log(2.0), levels[1], scale) for bound in (low, high)]
    ends = [int(generations[places[-1]]) for places in windows]
    words = (
        f"its pace changed by {change:.3g} ({change_low:.3g} to {change_high:.3g}) between "
        f"generations {ends[0]}, {ends[1]} and {ends[2]}"
    )
    if grown[1] <= threshold:
        verdict, why = NOT_MET, "it hardly grows; slower growth than that cannot be excluded"
    elif low > 0 and change_low > rounding and grown[0] > threshold:
        verdict, why = MET, "it grows faster than log t; a limit far beyond cannot be excluded"
    elif change_high < -rounding:
        verdict, why = NOT_MET, "it grows slower than log t, as towards a limit"
    else:
        verdict, why = CANNOT_TELL, "it grows about like log t, which no run tells from a limit"
    note = f"{why}; {words}"
    return _growth(
        statistic, verdict, scale, generations, windows, levels, clock, note, grown=grown
    )


def _windows(band: Band, generations: np.ndarray) -> list[np.ndarray] | None:
    """Places in the three windows; of a mean, before few chains carry it."""
    good = ~np.isnan(band.number) & ~band.few
    # What is known from some generation on counts from there.
    start = int(np.argmax(~np.isnan(band.number)))
    bad = np.flatnonzero(~good[start:])
    known = np.arange(start, start + int(bad[0]) if bad.size else len(good))
    if not known.size or generations[known[-1]] + 1 < _FEWEST_SAMPLINGS:
        return None
    clock = generations[known] + 1
    pairs = np.array([[0.0, 0.25], [0.25, 0.5], [0.75, 1.0]]) * clock[-1]
    windows = [known[(clock > after) & (clock <= end)] for after, end in pairs]
    return windows if all(places.size for places in windows) else None


def _weights(clock: np.ndarray) -> np.ndarray:
    """[2, 3] of the losses in three windows: the last pace, and its change."""
    first = np.array([-1.0, 1.0, 0.0]) / (clock[1] - clock[0])
    last = np.array([0.0, -1.0, 1.0]) / (clock[2] - clock[1])
    return np.stack([last, last - first])


def _paces(averages: Series, statistic: str, weights: np.ndarray):
    """((pace, low, high), (its change, low, high)); None where there is no interval."""
    if isinstance(averages, Chains):
        x = averages.at(slice(None))
        x = x[~np.isnan(x).any(1)]
        return _of_means(x @ weights.T) if statistic == "mean" else _of_medians(x, weights)
    band = getattr(averages, statistic)()
    if band.level == 0 or np.isnan(band.number).any():
        return None
    # Nothing says how the windows go together: the sum of their errors holds in any case.
    number, width = weights @ band.number, np.abs(weights) @ (band.high - band.low) / 2
    return _triples(number, number - width, number + width)


def _of_means(contrasts):
    """Student's t intervals of the contrasts [chain, 2]."""
    n = len(contrasts)
    if n < 2:
        return None
    number, error = contrasts.mean(0), contrasts.std(0, ddof=1) / np.sqrt(n)
    width = stats.t.ppf((1 + LEVEL) / 2, n - 1) * error
    return _triples(number, number - width, number + width)


def _of_medians(x, weights):
    """Percentile bootstrap, over chains, of the contrasts of medians."""
    if len(x) < _FEWEST_CHAINS:
        return None

    def contrasts(*windows, axis):
        return np.tensordot(weights, np.stack([np.median(one, axis=axis) for one in windows]), 1)

    found = stats.bootstrap(
        tuple(x.T),
        contrasts,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(2**20 // len(x), 1),
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return _triples(weights @ np.median(x, axis=0), found.low, found.high)


def _triples(*parts):
    return tuple(tuple(map(float, three)) for three in zip(*parts, strict=True))


def _factor(rise, level, scale):
    """A rise in the loss as a factor of perplexity, or of an error of some level."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return float(np.exp(rise) if scale.kind == "factor" else 1 + np.divide(rise, level))


def _growth(statistic, verdict, scale, generations, windows, levels, clock, note, grown=None):
    """A finding whose number is the factor of loss in the last doubling."""
    pace = (levels[2] - levels[1]) / (clock[2] - clock[1])
    number = _factor(pace * np.log(2.0), levels[1], scale)
    low, high = (number, number) if grown is None else grown
    last: Sequence[int] = windows[2]
    states = np.full(len(generations), -1)
    states[last] = {MET: 1, NOT_MET: 0}.get(verdict, -1)
    numbers = np.full(len(generations), np.nan)
    numbers[last] = number
    there = np.isnan(numbers)
    band = Band(
        numbers,
        np.where(there, np.nan, low),
        np.where(there, np.nan, high),
        0.0 if grown is None else LEVEL,
        np.zeros(len(generations), bool),
    )
    first = int(generations[last[0]]) if verdict == MET else None
    return of_band(statistic, verdict, band, states, generations, int(last[-1]), first, None, note)


def _infinite(statistic, band, generations, infinite):
    at = int(np.argmax(infinite))
    note = f"it is infinite from generation {generations[at]} on"
    if at == 0:
        return undecided(statistic, band, generations, note)
    states, first = np.where(infinite, 1, -1), int(generations[at])
    return of_band(statistic, MET, band, states, generations, len(states) - 1, first, None, note)
