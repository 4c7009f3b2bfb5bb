"""One alarm, which is a limit of an indicator of a metric: its lead time and its false alarms."""

import math
from typing import NamedTuple

import numpy as np

from collapse_jax.drivers.warning import indicators
from collapse_jax.drivers.warning.rates import (
    Curve,
    Estimate,
    Median,
    Rate,
    curve_of,
    limit_of,
    mean_of,
    median_of,
    rate_of,
)

RISES, FALLS, EITHER = "rises", "falls", "either"
DIRECTIONS = (RISES, FALLS, EITHER)


class Alarm(NamedTuple):
    """The performance of one alarm.

    metric, indicator: the observed quantity; see `indicators`.
    direction: the change that gives an alarm: "rises", "falls" or "either".
    limit: the limit of the indicator; for "either" of its distance from `centre`; for limits by
        generation in standard deviations of the steady chains.
    centre: the median of the steady chains, for "either"; else nan.
    promised: the false-alarm rate for which the limit was set; nan for a given limit.
    false_alarms: the share with an alarm at any time among the steady chains that did not set the
        limit.
    detected: the share of collapsing chains with an alarm at least `lead` generations before the
        collapse.
    lead: the median lead time in generations over collapsing chains; an alarm that comes too late
        has a lead of 0 or below, a chain without an alarm -inf.
    mean_lead: the mean over chains with an alarm.
    leads: [chain], the lead times; -inf for a chain without an alarm before its last record, nan if
        the indicator has no value yet when the loss crosses. Rates and means leave nan out.
    curve: false alarms and detections at every limit, for alarms at least `lead` generations ahead.
    by_lead: {lead: AUC} of detecting a collapse that many generations ahead.
    trend, steady_trend: for indicators over windows, the mean of Kendall's tau up to `lead`
        generations before the crossing, and that of steady chains at the same generations.
    trend_area: the AUC of that tau.
    """

    metric: str
    indicator: str
    direction: str
    limit: float
    centre: float
    promised: float
    false_alarms: Rate
    detected: Rate
    lead: Median
    mean_lead: Estimate
    leads: np.ndarray
    curve: Curve
    by_lead: dict[int, Estimate]
    trend: Estimate
    steady_trend: Estimate
    trend_area: Estimate


class Watch(NamedTuple):
    """When chains are watched.

    generations: [generation] their numbers.
    crossed: [collapsing chain] the place of the first generation beyond the loss's threshold.
    lead: how many generations ahead an alarm must ring.
    leads: those that `Alarm.by_lead` has.
    """

    generations: np.ndarray
    crossed: np.ndarray
    lead: int
    leads: tuple[int, ...]

    def last_places(self, lead: int) -> np.ndarray:
        """[chain] the last place that is `lead` generations before the crossing; -1 without one."""
        at = self.generations[self.crossed] - lead
        return np.searchsorted(self.generations, at, "right") - 1


class Series(NamedTuple):
    """One indicator [chain, generation] of the chains that set the alarm, and that test it.

    Arrays of no chains stand for chains that there are not.
    """

    learn_collapsing: np.ndarray
    learn_steady: np.ndarray
    collapsing: np.ndarray
    steady: np.ndarray

    def map(self, function) -> "Series":
        """The same chains by a function of each array."""
        return Series(*(function(values) for values in self))


class Rule(NamedTuple):
    """How a limit comes about.

    rate: the false-alarm rate that it must keep to; None for a limit that is given.
    by_generation: whether indicators are held against the steady chains' mean and deviation at each
        generation, instead of one limit for all.
    """

    rate: float | None
    by_generation: bool = False


def learned_direction(series: Series, watch: Watch, crossed: np.ndarray) -> str:
    """Whether the chains that set the alarm rise or fall before they collapse.

    Args:
        series: the indicator.
        watch: when the chains of the test are watched.
        crossed: places of the crossings of `series.learn_collapsing`.
    """
    own = watch._replace(crossed=crossed)
    areas = []
    for sign in (1, -1):
        scores = _scores(series.map(lambda values, sign=sign: sign * values), own, watch.lead, True)
        areas.append(curve_of(*scores).area.value if len(scores[0]) else math.nan)
    return FALLS if areas[1] > areas[0] else RISES


def alarm_of(
    names: tuple[str, str],
    series: Series,
    watch: Watch,
    rule: Rule,
    direction: str,
    limit: float = math.nan,
) -> Alarm:
    """What an alarm is worth.

    Args:
        names: (metric, indicator).
        series: the indicator.
        watch: when chains are watched.
        rule: how the limit comes about.
        direction: one of `DIRECTIONS`.
        limit: the indicator's limit, where the rule has no rate.
    """
    plain, centre = series, math.nan
    if rule.by_generation:
        series = _standardised(series)
    if direction == EITHER:
        centre = _centre(series)
        series = series.map(lambda values: np.abs(values - centre))
    sign = -1.0 if direction == FALLS else 1.0
    series = series.map(lambda values: sign * values)
    promised, level = math.nan, sign * limit
    if rule.rate is not None:
        level, promised = limit_of(_extremes(series.learn_steady), rule.rate)
        # Steady chains without a value set no limit.
        level = math.nan if level == -math.inf else level
    leads = _leads(series.collapsing, level, watch)
    scores = _scores(series, watch, watch.lead)
    by_lead = {}
    for lead in watch.leads:
        found = _scores(series, watch, lead)
        # A lead that most chains have no generation for says nothing of them.
        if 2 * len(found[0]) > len(watch.crossed):
            by_lead[lead] = curve_of(*found).area
    tau = _trends(names[1], plain, watch)
    known = leads[~np.isnan(leads)]
    return Alarm(
        *names,
        direction,
        sign * level,
        centre,
        promised,
        rate_of(_extremes(series.steady) > level),
        rate_of(known >= watch.lead),
        median_of(known),
        mean_of(known),
        leads,
        curve_of(*scores),
        by_lead,
        *tau,
    )


def _extremes(values):
    """The highest score [chain] of the whole watch."""
    return np.fmax.reduce(np.where(np.isnan(values), -np.inf, values), axis=1, initial=-np.inf)


def _centre(series):
    values = series.learn_steady[np.isfinite(series.learn_steady)]
    return float(np.median(values)) if len(values) else 0.0


def _standardised(series):
    """Distances from the steady chains' mean at each generation, in their standard deviations."""
    of = np.where(np.isfinite(series.learn_steady), series.learn_steady, np.nan)
    counts = np.sum(np.isfinite(of), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(of, axis=0) / counts
        deviation = np.sqrt(np.nansum((of - mean) ** 2, axis=0) / (counts - 1))

    def standardised(values):
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = values - mean
            return np.where(apart == 0, 0.0, apart / deviation)

    return series.map(standardised)


def _leads(values, level, watch):
    """Generations [chain] from the first alarm to the crossing; -inf without an alarm.

    nan of a chain that has no value up to its crossing.
    """
    rings = values > level
    first = watch.generations[np.argmax(rings, axis=1)] if rings.size else np.empty(0)
    leads = watch.generations[watch.crossed] - first
    leads = np.where(rings.any(1), leads.astype(np.float64), -np.inf)
    there = np.arange(values.shape[1]) <= watch.crossed[:, None]
    return np.where(np.any(there & ~np.isnan(values), axis=1), leads, np.nan)


def _scores(series, watch, lead, learning=False):
    """(scores [m], scores [m, n] of steady chains that were watched as long) of alarms in time."""
    collapsing = series.learn_collapsing if learning else series.collapsing
    steady = series.learn_steady if learning else series.steady
    return _at_ends(_running(collapsing), _running(steady), watch.last_places(lead))


def _running(values):
    """The highest score [chain, generation] up to each generation; nan before there is one."""
    return np.fmax.accumulate(values, axis=1)


def _at_ends(collapsing, steady, places):
    """Scores at the ends of the watches of those collapsing chains that have one there."""
    there = np.flatnonzero(places >= 0)
    there = there[~np.isnan(collapsing[there, places[there]])]
    of_steady = steady[:, places[there]].T
    return collapsing[there, places[there]], np.where(np.isnan(of_steady), -np.inf, of_steady)


def _trends(indicator, series, watch):
    """(mean tau, that of steady chains, AUC), nan where the indicator has no window."""
    nothing = Estimate(math.nan, math.nan)
    if indicator not in indicators.OF_WINDOWS:
        return nothing, nothing, nothing
    own, steady = (indicators.trend(values) for values in (series.collapsing, series.steady))
    own, steady = _at_ends(own, steady, watch.last_places(watch.lead))
    known = np.isfinite(steady)
    counts = known.sum(0)
    # Each steady chain once: its mean over the generations at which others collapsed.
    sums = np.where(known, steady, 0).sum(0)
    of_steady = sums[counts > 0] / counts[counts > 0]
    return mean_of(own), mean_of(of_steady), curve_of(own, steady).area
