"""Verdicts from bands over generations and thresholds, with the generation where each begins."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from collapse_jax.app.collapse_profile.definitions import Scale
from collapse_jax.app.collapse_profile.series import LEVEL, Band, Series

MET, NOT_MET, CANNOT_TELL = "met", "not met", "cannot tell"
STATISTICS = ("mean", "median")
# An interval that holds its number more rarely decides nothing.
LEAST_LEVEL = 0.5


class Finding(NamedTuple):
    """The finding of one statistic over chains on one definition.

    statistic: "mean" or "median".
    verdict: "met", "not met" or "cannot tell".
    number: the number at `generation`, in the unit of the verdict.
    low, high: its confidence interval.
    level: the confidence level; 0 for one chain.
    generation: the last generation, or the worst of those at which the definition was met.
    first: the first generation at which the definition is met; None if there is none.
    until: the last generation at which it was met, if it is not met at the end; else None.
    numbers, lows, highs: [generation].
    states: [generation], 1 met, 0 not met, -1 undecided.
    note: a further note for the reader.
    """

    statistic: str
    verdict: str
    number: float
    low: float
    high: float
    level: float
    generation: int
    first: int | None
    until: int | None
    numbers: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    states: np.ndarray
    note: str = ""


def band_of(series: Series, scale: Scale, statistic: str, place: int, truth: float | None) -> Band:
    """The number of a scale over generations, with its interval.

    Args:
        series: the metric, transformed.
        place: of the generation that is the reference, where `truth` is None.
        truth: the reference, transformed too.
    """
    if scale.kind in ("level", "factor"):
        final = _exp if scale.kind == "factor" else np.asarray
        if truth is None:
            return _difference(series, statistic, place).mapped(final)
        band = series.mean() if statistic == "mean" else series.median()
        return band.mapped(lambda x: final(x - truth))
    if truth is not None:
        band = series.mean() if statistic == "mean" else series.median()
        return band.mapped(lambda x: x / truth)
    if statistic == "mean":
        return series.log_ratio_of_means(place).mapped(_exp)
    return series.log_ratio_of_medians(place).mapped(_exp)


def _difference(series, statistic, place):
    """Paired differences to the reference; of a mean that few carry, its bound from below."""
    plain, paired = getattr(series, statistic)(), series.less_first(place)
    if not np.isfinite(plain.number[place]):
        nothing = np.full(len(plain.number), np.nan)
        return plain._replace(number=nothing, low=nothing, high=nothing)
    if statistic == "median":
        return paired.median()
    band, few = paired.mean(), plain.few
    with np.errstate(invalid="ignore"):
        low = np.where(few, plain.low - plain.high[place], band.low)
    return band._replace(low=low, high=np.where(few, np.inf, band.high), few=few)


def finding(
    statistic: str,
    band: Band,
    scale: Scale,
    threshold: float,
    generations: np.ndarray,
    count: int = 1,
) -> Finding:
    """The verdict of one statistic; count: how many chains it is of.

    Met at the end, and from where on: the generations are tested from the last one backwards, each
    at the level of the band's one side, until one fails (a fixed sequence, so that none of them is
    met falsely with more than that probability). Where the last one is not met, any other is tested
    with Bonferroni's correction, and must exceed the threshold by as much more.
    """
    states = _states(band, scale, threshold)
    known = np.flatnonzero(~np.isnan(band.number))
    if not known.size:
        kind = "finite number above 0" if scale.kind == "ratio" else "finite number"
        note = f"the first generation has no {kind} to compare with"
        return undecided(statistic, band, generations, note)
    if count > 1 and band.level < LEAST_LEVEL:
        return undecided(statistic, band, generations, f"{count} are too few for an interval")
    last, note = int(known[-1]), _note(band, generations)
    if states[last] == 1:
        before = known[states[known] != 1]
        first = int(generations[known[known > before[-1]][0] if before.size else known[0]])
        return of_band(statistic, MET, band, states, generations, last, first, None, note)
    transient = _surely_met(band, scale, threshold)
    if transient.any():
        worst = np.where(transient, band.number, -np.inf if scale.up else np.inf)
        at = int(np.argmax(worst) if scale.up else np.argmin(worst))
        held = np.flatnonzero(transient)
        first, until = int(generations[held[0]]), int(generations[held[-1]])
        return of_band(statistic, MET, band, states, generations, at, first, until, note)
    verdict = NOT_MET if states[last] == 0 else CANNOT_TELL
    return of_band(statistic, verdict, band, states, generations, last, None, None, note)


def _states(band, scale, threshold):
    """[generation] 1 where the whole interval is beyond the threshold, 0 where it is before it."""
    with np.errstate(invalid="ignore"):
        if scale.up:
            met, not_met = band.low > threshold, band.high <= threshold
        else:
            met, not_met = band.high < threshold, band.low >= threshold
    return np.where(met, 1, np.where(not_met, 0, -1))


def _surely_met(band, scale, threshold):
    """[generation] met, with a margin as for all generations together.

    The interval is widened as a normal one would be. One chain, and few, have nothing to widen.
    """
    count = max(len(band.number) - 1, 1)
    wider = 1.0
    if band.level >= LEVEL:
        wider = stats.norm.ppf(1 - (1 - LEVEL) / 2 / count) / stats.norm.ppf((1 + LEVEL) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        if scale.up:
            return band.number - wider * (band.number - band.low) > threshold
        return band.number + wider * (band.high - band.number) < threshold


def of_band(
    statistic: str,
    verdict: str,
    band: Band,
    states: np.ndarray,
    generations: np.ndarray,
    at: int,
    first: int | None,
    until: int | None,
    note: str,
) -> Finding:
    """A finding whose number is that of the band at a place."""
    return Finding(
        statistic,
        verdict,
        float(band.number[at]),
        float(band.low[at]),
        float(band.high[at]),
        band.level,
        int(generations[at]),
        first,
        until,
        band.number,
        band.low,
        band.high,
        states,
        note,
    )


def undecided(statistic: str, band: Band, generations: np.ndarray, note: str) -> Finding:
    """Returns an undecided finding."""
    states = np.full(len(generations), -1)
    return of_band(statistic, CANNOT_TELL, band, states, generations, -1, None, None, note)


def _note(band, generations):
    if not band.few.any():
        return ""
    since = int(generations[int(np.argmax(band.few))])
    return f"from generation {since} on few chains determine the mean: its number is a lower bound"


def _exp(x):
    with np.errstate(over="ignore"):
        return np.exp(x)
