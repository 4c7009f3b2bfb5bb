"""How early one could have known that a loss would collapse, by every metric that was recorded."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from collapse_jax.drivers.recorded import Records
from collapse_jax.drivers.warning import indicators
from collapse_jax.drivers.warning.alarms import (
    DIRECTIONS,
    EITHER,
    FALLS,
    RISES,
    Alarm,
    Rule,
    Series,
    Watch,
    alarm_of,
    learned_direction,
)
from collapse_jax.drivers.warning.watched import Watched, watched_chains
from collapse_jax.errors import InputError, did_you_mean, one_of, real, whole

# What is left of a chain's records for windows that move on.
_WINDOW_SHARE = 0.25
_LEADS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
# Collapsing chains from which a direction can be learned.
_ENOUGH_TO_LEARN = 4


class EarlyWarning(NamedTuple):
    """What `early_warning` found.

    loss, threshold, rises: a chain collapses where its loss is at least the threshold, or at most
        where `rises` is False. With `relative` in units of its own first loss.
    crossings: [collapsing chain] the generation of that, nan of a chain that has not crossed yet.
    steady, dropped: how many chains do not cross, and how many that were given as steady did.
    generations: [generation] those that all chains were watched at.
    window: generations that indicators look back on.
    alarms: one for each metric and indicator, that of the loss itself first.
    """

    loss: str
    threshold: float
    rises: bool
    relative: bool
    crossings: np.ndarray
    steady: int
    dropped: int
    generations: np.ndarray
    window: int
    alarms: tuple[Alarm, ...]

    def __getitem__(self, metric: Any) -> Any:
        """The alarm on the level of a metric, or that of (metric, indicator)."""
        if isinstance(metric, int | slice):
            return tuple(self)[metric]
        name, what = metric if isinstance(metric, tuple) else (metric, None)
        for alarm in self.alarms:
            if alarm.metric == name and what in (None, alarm.indicator):
                return alarm
        names = [alarm.metric for alarm in self.alarms]
        raise KeyError(f"no alarm on {metric!r}{did_you_mean(name, names)}")

    def earliest(self) -> list[Alarm]:
        """The alarms by their median lead, the longest first; then by their AUC."""

        def place(alarm):
            numbers = (alarm.lead.value, alarm.curve.area.value)
            return tuple(math.inf if math.isnan(number) else -number for number in numbers)

        return sorted(self.alarms, key=place)

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row of plain numbers for each alarm, as a table or a JSON file takes them."""
        for alarm in self.alarms:
            yield {
                "metric": alarm.metric,
                "indicator": alarm.indicator,
                "direction": alarm.direction,
                "limit": alarm.limit,
                "promised_false_alarms": alarm.promised,
                "false_alarms": alarm.false_alarms.share,
                "false_alarms_low": alarm.false_alarms.low,
                "false_alarms_high": alarm.false_alarms.high,
                "steady_chains": alarm.false_alarms.chains,
                "detected": alarm.detected.share,
                "detected_low": alarm.detected.low,
                "detected_high": alarm.detected.high,
                "collapsing_chains": alarm.detected.chains,
                "median_lead": alarm.lead.value,
                "median_lead_low": alarm.lead.low,
                "median_lead_high": alarm.lead.high,
                "mean_lead": alarm.mean_lead.value,
                "mean_lead_error": alarm.mean_lead.error,
                "auc": alarm.curve.area.value,
                "auc_error": alarm.curve.area.error,
                "kendall_tau": alarm.trend.value,
                "kendall_tau_error": alarm.trend.error,
                "steady_kendall_tau": alarm.steady_trend.value,
                "kendall_tau_auc": alarm.trend_area.value,
                "kendall_tau_auc_error": alarm.trend_area.error,
                "auc_by_lead": {str(at): area.value for at, area in alarm.by_lead.items()},
            }


def early_warning(
    collapsing: Records,
    steady: Records | None = None,
    *,
    loss: str,
    threshold: float,
    relative: bool = False,
    metrics: Iterable[str] | None = None,
    indicators: Iterable[str] = ("level", "variance", "autocorrelation"),
    false_alarm_rate: float | None = None,
    limits: Mapping[str, float] | None = None,
    change: float | None = None,
    directions: Mapping[str, str] | str | None = None,
    by_generation: bool = False,
    lead: int = 1,
    window: int | None = None,
    set_size: int = 1,
) -> EarlyWarning:
    """How many generations before a loss crosses its threshold each metric rings an alarm.

    Alarms are set on one half of the steady chains (those with even numbers) so that the other half
    rings at most at the rate that is asked for; on one half of the collapsing chains it is learned
    whether a metric rises or falls. What is reported is of the other halves. The loss is a metric
    too: its own alarm says what the others are worth beyond watching it.

    Args:
        collapsing: chains whose loss crosses the threshold: whatever `drivers.recorded` reads, as
            what `cj.simulate` returns, a run folder, or a dict of arrays [chain, generation].
            Chains that do not cross within their records count for nothing.
        steady: chains that do not collapse, recorded at the same generations; ones that cross are
            left out. By default the collapsing run's own chains that do not cross.
        loss: the metric that is the loss.
        threshold: of the loss. Above its median at the first generation it is crossed upwards, else
            downwards.
        relative: whether the threshold is in units of each chain's own first loss.
        metrics: names; by default all with one number a generation.
        indicators: what is watched of each: "level", "change" (since the first generation), and of
            the last `window` generations, without their line, "variance" and "autocorrelation".
        false_alarm_rate: the chance that a steady chain rings at all in the whole watch, .05 by
            default. n steady chains that set limits can promise 1/(n + 1) at best.
        limits: metric -> a limit of its level that is given, instead of a rate; other metrics have
            no alarm then. All chains are tested.
        change: the share of its first value by which a metric's level must change, as .1 for 10%,
            instead of a rate. It needs no steady chain, and says nothing of false alarms without.
        directions: "rises", "falls" or "either", for all or by metric. By default learned; of fewer
            than four collapsing chains "either".
        by_generation: whether indicators are counted in standard deviations of the steady chains at
            the same generation, which needs a control run that goes on beside the watched one.
        lead: generations that an alarm must be ahead to count as a detection.
        window: generations of windows; by default a quarter of those recorded, at least 8.
        set_size: watch sets of so many chains each instead of chains: a set has the mean of each
            metric, and "disagreement on METRIC", the standard deviation over its chains.

    Raises:
        InputError: before any work, if the runs do not fit together, no chain crosses, a name is
            unknown, or the steady chains are too few for the rate.
    """
    wanted = _checked(indicators, lead, set_size, limits, change, false_alarm_rate, directions)
    directed = directions if isinstance(directions, str) else dict(directions or {})
    found = watched_chains(collapsing, steady, loss, threshold, relative, metrics, set_size)
    span = _window(window, wanted, found)
    names = [loss, *(name for name in found.collapsing if name != loss)]
    if limits is not None:
        names = _known("limits", limits, found)
    if not isinstance(directed, str):
        _known("directions", directed, found)
    given = limits is not None or change is not None
    rule = Rule(None if given else (0.05 if false_alarm_rate is None else false_alarm_rate))
    rule = rule._replace(by_generation=by_generation)
    if given and by_generation:
        raise InputError(
            "by_generation is True, which only limits by false_alarm_rate have; leave it out with "
            "limits= and change="
        )
    if not given and not found.steady_count:
        raise InputError(
            f"steady is not given, and every chain crosses {loss} = {threshold:g}: pass the chains "
            "of a loop that does not collapse as steady=, or limits= or change= for alarms that "
            "need none"
        )
    alarms = []
    for name in names:
        for what in wanted:
            alarms.append(_alarm(found, name, what, span, rule, directed, lead, limits, change))
    return EarlyWarning(
        loss, float(threshold), found.rises, relative, found.crossings, found.steady_count,
        found.dropped, found.generations, span, tuple(alarms),
    )  # fmt: skip


def _alarm(found, name, what, span, rule, directions, lead, limits, change):
    """One alarm; of the halves that test it, where something was learned of the others."""
    of_steady, of_collapsing = found.steady[name], found.collapsing[name][found.has_crossed]
    if change is not None:
        first = np.abs(of_steady[:, :1]), np.abs(of_collapsing[:, :1])
        with np.errstate(invalid="ignore", divide="ignore"):
            of_steady = (of_steady - of_steady[:, :1]) / first[0]
            of_collapsing = (of_collapsing - of_collapsing[:, :1]) / first[1]
    of_steady, of_collapsing = (
        indicators.indicator(what, values, span) for values in (of_steady, of_collapsing)
    )
    direction = directions if isinstance(directions, str) else directions.get(name)
    if direction is None and name == found.loss and what not in indicators.OF_WINDOWS:
        direction = RISES if found.rises else FALLS
    none = of_collapsing[:0]
    crossed = found.crossed[found.has_crossed]
    learns = direction is None and limits is None and change is None
    learns = learns and len(crossed) >= _ENOUGH_TO_LEARN
    series = Series(none, none, of_collapsing, of_steady)
    if rule.rate is not None:
        series = series._replace(learn_steady=of_steady[::2], steady=of_steady[1::2])
    own = Watch(found.generations, crossed, lead, _LEADS)
    if learns:
        series = series._replace(
            learn_collapsing=of_collapsing[::2], collapsing=of_collapsing[1::2]
        )
        own = own._replace(crossed=crossed[1::2])
        direction = learned_direction(series, own, crossed[::2])
    limit = math.nan
    if limits is not None:
        limit = real(f"limits of {name}", limits[name])
        direction = direction or (RISES if limit > np.nanmedian(of_collapsing[:, 0]) else FALLS)
    if change is not None:
        limit = -change if direction == FALLS else change
    return alarm_of((name, what), series, own, rule, direction or EITHER, limit)


def _window(window, wanted, found: Watched):
    """Generations of a window, as a number of records."""
    count = len(found.generations)
    used = set(wanted) & set(indicators.OF_WINDOWS)
    if window is not None and not used:
        raise InputError(
            f"window is {window}, which only the indicators variance and autocorrelation have"
        )
    if used and len(set(np.diff(found.generations))) > 1:
        raise InputError(
            f"indicators has {min(used)}, which needs records at equal distances, as record=1 "
            "keeps them; give indicators=('level',)"
        )
    stride = int(found.generations[1] - found.generations[0]) if count > 1 else 1
    if window is None:
        return max(2 * indicators.SMALLEST_WINDOW, round(_WINDOW_SHARE * count))
    span = whole("window", window, 1) // stride
    if not indicators.SMALLEST_WINDOW <= span <= count:
        least = indicators.SMALLEST_WINDOW * stride
        raise InputError(
            f"window is {window}; of {count} records at a distance of {stride} it must be from "
            f"{least} to {count * stride}"
        )
    return span


def _checked(wanted, lead, set_size, limits, change, rate, directions):
    """The indicators; raises for a wrong option before anything is read."""
    wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in wanted:
        one_of("indicators", name, indicators.INDICATORS)
    if not wanted:
        raise InputError(f"indicators is empty; give one of {', '.join(indicators.INDICATORS)}")
    whole("lead", lead, 1)
    whole("set_size", set_size, 1)
    ways = {"limits": limits, "change": change, "false_alarm_rate": rate}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are given; each says when alarms ring: give one")
    if rate is not None:
        real("false_alarm_rate", rate, above=0, below=1)
    if change is not None:
        real("change", change, above=0)
    if given and given[0] != "false_alarm_rate" and wanted != (indicators.LEVEL,):
        raise InputError(
            f"{given[0]} is given, which is a rule for the level of a metric; give "
            "indicators=('level',)"
        )
    if isinstance(directions, str):
        one_of("directions", directions, DIRECTIONS)
    elif directions is not None and not isinstance(directions, Mapping):
        raise InputError(
            f"directions is {directions!r:.200}; it must be one of {', '.join(DIRECTIONS)}, or a "
            "dict of them by metric"
        )
    else:
        for name, value in (directions or {}).items():
            one_of(f"directions[{name!r}]", value, DIRECTIONS)
    if limits is not None and (not isinstance(limits, Mapping) or not limits):
        raise InputError(f"limits is {limits!r:.200}; it must be a dict of numbers by metric")
    return wanted


def _known(what, given, found: Watched):
    """The names of a mapping, all of which are watched."""
    for name in given:
        if name not in found.collapsing:
            close = did_you_mean(name, found.collapsing)
            raise InputError(f"{what} names {name!r}, which is not watched{close}")
    return list(given)
