"""Early-warning alarms: how early recorded metrics indicate that a loss will collapse.

The limits of the alarms are set on one half of the steady chains (those with even numbers), so that
the other half has alarms at most at the requested rate; with n chains that set a limit the smallest
rate is 1/(n + 1). One half of the collapsing chains determines whether a metric rises or falls
before a collapse; with fewer than four chains, alarms are for "either". All reported numbers come
from the other halves, so that nothing is chosen and tested on the same chains. If no steady chains
are given, chains that do not cross the threshold within their records are used as steady; they are
not used otherwise.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from collapse_jax.core.html import html_table
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
from collapse_jax.drivers.warning.indicators import AUTOCORRELATION, LEVEL, VARIANCE
from collapse_jax.drivers.warning.watched import Watched, watched_chains
from collapse_jax.errors import InputError, did_you_mean, one_of, real, whole

# What is left of a chain's records for windows that move on.
_WINDOW_SHARE = 0.25
_LEADS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
# Collapsing chains from which a direction can be learned.
_ENOUGH_TO_LEARN = 4
# Steady chains, of which half have a standard deviation at each generation.
_ENOUGH_FOR_A_DEVIATION = 6


_HEAD = ("alarm", "median lead", "false alarms", "AUC")


class EarlyWarning(NamedTuple):
    """The result of `early_warning`.

    loss, threshold, rises: a chain collapses when its loss is at least the threshold, or at most
        the threshold if `rises` is False; with `relative`, in units of the chain's first loss.
    crossings: [collapsing chain], the generation of the collapse; nan if there is none yet.
    steady, dropped: the number of chains that do not cross, and the number of chains that were
        given as steady but cross.
    generations: [generation], the generations at which all chains were recorded.
    window: the number of generations that an indicator uses.
    alarms: one for each metric and indicator, that of the loss itself first.
    left_out: name of a recorded metric -> the reason why it has no alarm.
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
    left_out: Mapping[str, str] = {}

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

    def __str__(self) -> str:
        """A summary line, and a line for each alarm, the earliest first."""
        rows = [_HEAD, *map(_cells, self.earliest())]
        lines = (f"{name:40}{lead:>12}{false:>14}{area:>8}" for name, lead, false, area in rows)
        return "\n".join([self._watched(), *lines, *self.notes()])

    def __repr__(self) -> str:
        return f"EarlyWarning: {self._watched()}, {len(self.alarms)} alarms"

    def _repr_html_(self) -> str:
        return html_table(_HEAD, map(_cells, self.earliest()), self._watched())

    def _watched(self):
        crossed = int((~np.isnan(self.crossings)).sum())
        return (
            f"{self.loss} {'rises' if self.rises else 'falls'} to {self.threshold:g}"
            f"{' times its first value' if self.relative else ''} in {crossed} of "
            f"{len(self.crossings)} chains; {self.steady} steady chains"
        )

    def notes(self) -> list[str]:
        """Returns a line for each reason why recorded metrics have no alarm.

        A further line says if no metric gave a warning before the crossing.
        """
        names: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            names.setdefault(why, []).append(name)
        lines = [f"not watched, {why}: {', '.join(of)}" for why, of in names.items()]
        leads = [alarm.leads for alarm in self.alarms]
        known = np.concatenate([of[~np.isnan(of)] for of in leads]) if leads else np.empty(0)
        if known.size and known.max() <= 0:
            lines.append("no metric gave a warning before the crossing")
        return lines

    def earliest(self) -> list[Alarm]:
        """Returns the alarms sorted by median lead, the longest first, then by AUC."""

        def place(alarm):
            numbers = (alarm.lead.value, alarm.curve.area.value)
            return tuple(math.inf if math.isnan(number) else -number for number in numbers)

        return sorted(self.alarms, key=place)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields a row of plain numbers for each alarm, for a table or a JSON file."""
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


def _cells(alarm):
    return (
        f"{alarm.indicator} of {alarm.metric} ({alarm.direction})",
        f"{alarm.lead.value:.4g}",
        f"{alarm.false_alarms.share:.3g}",
        f"{alarm.curve.area.value:.3f}",
    )


class Asked(NamedTuple):
    """What an alarm is asked to be; arguments of `early_warning`, checked."""

    indicators: tuple[str, ...]
    rate: float | None
    limits: Mapping[str, float] | None
    change: float | None
    directions: Mapping[str, str] | str
    by_generation: bool
    lead: int
    window: int | None

    @property
    def is_given(self) -> bool:
        """Whether limits are given, and no chain is needed to set them."""
        return self.limits is not None or self.change is not None


def early_warning(
    collapsing: Records,
    steady: Records | None = None,
    *,
    loss: str,
    threshold: float,
    relative: bool = False,
    metrics: Iterable[str] | None = None,
    indicators: str | Iterable[str] | None = None,
    false_alarm_rate: float | None = None,
    limits: Mapping[str, float] | None = None,
    change: float | None = None,
    directions: Mapping[str, str] | str | None = None,
    by_generation: bool = False,
    lead: int = 1,
    window: int | None = None,
    set_size: int = 1,
) -> EarlyWarning:
    """Returns how many generations before the collapse of a loss each metric gives an alarm.

    Half of the steady chains set the limits, and half of the collapsing ones the directions; all
    results come from the other halves. The loss is a metric too, the first one.

    Args:
        collapsing: chains whose loss collapses; a run folder, or a result of `cj.simulate` or
            `cj.run`.
        steady: chains that do not; by default those of the collapsing run that never cross.
        loss: the name of the loss metric.
        threshold: crossed upwards if it is above the median first loss, else downwards.
        relative: whether the threshold is in units of each chain's first loss.
        metrics: names; by default all with one number per generation that both runs recorded.
        indicators: "level", "change" since the first generation, and "variance" and
            "autocorrelation" of the residuals of a line through the last `window` generations. By
            default all but "change"; with limits or change only "level".
        false_alarm_rate: probability that a steady chain ever has an alarm; 0.05 by default.
        limits: metric -> a limit of its level, instead of a rate; other metrics have no alarm.
        change: the share of its first value by which a level must change, instead of a rate.
        directions: "rises", "falls" or "either", for all or by metric; by default learned.
        by_generation: whether limits are in standard deviations of the steady chains at each
            generation.
        lead: generations before the collapse at which an alarm must come to count as a detection.
        window: in generations; by default a quarter of the records, at least 8 of them.
        set_size: chains per set; sets are observed by means and by "disagreement on METRIC".

    Raises:
        InputError: if an option is wrong, the runs do not fit together, no chain crosses, or the
            steady chains are too few for the rate.
    """
    rule = (false_alarm_rate, limits, change)
    asked = _asked(indicators, *rule, directions, by_generation, lead, window)
    whole("set_size", set_size, 1)
    found = watched_chains(collapsing, steady, loss, threshold, relative, metrics, set_size)
    return _of_all(found, asked, float(threshold), relative)


def _of_all(found: Watched, asked: Asked, threshold, relative):
    """Every alarm that is asked for."""
    span = _window(asked.window, asked.indicators, found)
    names = [found.loss, *(name for name in found.collapsing if name != found.loss)]
    if asked.limits is not None:
        names = _known("limits", asked.limits, found)
    if asked.change is not None:
        names, found = _with_relative_changes(names, found)
    if not isinstance(asked.directions, str):
        _known("directions", asked.directions, found)
    if not asked.is_given and not found.steady_count:
        raise InputError(
            f"steady is not given, and every chain crosses {found.loss} = {threshold:g}: give the "
            "chains of a run that does not collapse as steady=, or give limits= or change=, which "
            "need none"
        )
    watched = int(found.generations[-1] - found.generations[0])
    if asked.lead > watched:
        raise InputError(
            f"lead is {asked.lead}, but the chains have {watched} generations; lead must be smaller"
        )
    if asked.by_generation and found.steady_count < _ENOUGH_FOR_A_DEVIATION:
        raise InputError(
            f"by_generation is True, which needs at least {_ENOUGH_FOR_A_DEVIATION} steady chains "
            f"for their standard deviations, but there are {found.steady_count}"
        )
    alarms = tuple(_alarm(found, asked, name, what, span) for name in names
                   for what in asked.indicators)  # fmt: skip
    return EarlyWarning(
        found.loss, threshold, found.rises, relative, found.crossings, found.steady_count,
        found.dropped, found.generations, span * _stride(found.generations), alarms,
        found.left_out,
    )  # fmt: skip


def _alarm(found: Watched, asked: Asked, name, what, span):
    """One alarm; of the halves that test it, where something was learned of the others."""
    steady, collapsing = (
        indicators.indicator(what, _relative(values) if asked.change is not None else values, span)
        for values in (found.steady[name], found.collapsing[name][found.has_crossed])
    )
    crossed = found.crossed[found.has_crossed]
    series = Series(collapsing[:0], collapsing[:0], collapsing, steady)
    if asked.rate is not None:
        series = series._replace(learn_steady=steady[::2], steady=steady[1::2])
    watch = Watch(found.generations, crossed, asked.lead, _LEADS)
    direction = _direction(found, asked, name, what)
    if direction is None and asked.rate is not None and len(crossed) >= _ENOUGH_TO_LEARN:
        series = series._replace(learn_collapsing=collapsing[::2], collapsing=collapsing[1::2])
        watch = watch._replace(crossed=crossed[1::2])
        direction = learned_direction(series, watch, crossed[::2])
    limit = math.nan
    if asked.limits is not None:
        limit = asked.limits[name]
        direction = direction or (RISES if limit > np.nanmedian(collapsing[:, 0]) else FALLS)
    if asked.change is not None:
        limit = -asked.change if direction == FALLS else asked.change
    rule = Rule(asked.rate, asked.by_generation)
    return alarm_of((name, what), series, watch, rule, direction or EITHER, limit)


def _with_relative_changes(names, found: Watched):
    """The names with a first value other than 0, and what was found with the others left out."""
    zero = [name for name in names if not found.collapsing[name][found.has_crossed, 0].any()]
    why = dict.fromkeys(zero, "first value 0: a relative change is undefined")
    left = [name for name in names if name not in why]
    if not left:
        raise InputError(
            "change is given, and the first value of every metric is 0, of which a relative change "
            "is undefined; give limits="
        )
    return left, found._replace(left_out={**found.left_out, **why})


def _relative(values):
    """Changes since the first generation as shares of its value; nan where that is 0."""
    first = np.where(values[:, :1] == 0, np.nan, np.abs(values[:, :1]))
    return (values - values[:, :1]) / first


def _direction(found, asked, name, what):
    """The direction that is given or known; None for one to learn."""
    if isinstance(asked.directions, str):
        return asked.directions
    given = asked.directions.get(name)
    # The loss collapses towards its threshold.
    if given is None and name == found.loss and what not in indicators.OF_WINDOWS:
        return RISES if found.rises else FALLS
    return given


def _window(window, wanted, found: Watched):
    """Generations of a window, as a number of records."""
    count = len(found.generations)
    used = set(wanted) & set(indicators.OF_WINDOWS)
    if window is not None and not used:
        raise InputError(
            f"window is {window}, which only the indicators variance and autocorrelation use"
        )
    if used and len(set(np.diff(found.generations))) > 1:
        raise InputError(
            f"indicators has {min(used)}, which needs records at equal distances, as with "
            "record=1; give indicators=('level',)"
        )
    stride = _stride(found.generations)
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


def _stride(generations):
    return int(generations[1] - generations[0]) if len(generations) > 1 else 1


def _asked(wanted, rate, limits, change, directions, by_generation, lead, window):
    """What is asked for; raises for a wrong option before anything is read."""
    if wanted is None:
        is_fixed = limits is not None or change is not None
        wanted = (LEVEL,) if is_fixed else (LEVEL, VARIANCE, AUTOCORRELATION)
    wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in wanted:
        one_of("indicators", name, indicators.INDICATORS)
    if not wanted:
        raise InputError(f"indicators is empty; give one of {', '.join(indicators.INDICATORS)}")
    whole("lead", lead, 1)
    ways = {"limits": limits, "change": change, "false_alarm_rate": rate}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are given; each defines the alarms: give one")
    is_fixed = given and given[0] != "false_alarm_rate"
    if is_fixed and wanted != (LEVEL,):
        raise InputError(
            f"{given[0]} is given, which applies only to the level of a metric; give "
            "indicators=('level',)"
        )
    if is_fixed and by_generation:
        raise InputError(
            "by_generation is True, which applies only to limits by false_alarm_rate; leave out "
            f"{given[0]}"
        )
    if not is_fixed:
        rate = real("false_alarm_rate", 0.05 if rate is None else rate, above=0, below=1)
    if change is not None:
        real("change", change, above=0)
    if limits is not None and (not isinstance(limits, Mapping) or not limits):
        raise InputError(f"limits is {limits!r:.200}; it must be a dict metric -> number")
    if limits is not None:
        limits = {name: real(f"limits of {name}", value) for name, value in limits.items()}
    directions = _checked_directions(directions)
    return Asked(wanted, rate, limits, change, directions, bool(by_generation), lead, window)


def _checked_directions(directions):
    if isinstance(directions, str):
        return one_of("directions", directions, DIRECTIONS)
    if directions is not None and not isinstance(directions, Mapping):
        raise InputError(
            f"directions is {directions!r:.200}; it must be one of {', '.join(DIRECTIONS)}, or a "
            "dict metric -> direction"
        )
    for name, value in (directions or {}).items():
        one_of(f"directions[{name!r}]", value, DIRECTIONS)
    return dict(directions or {})


def _known(what, given, found: Watched):
    """The names of a mapping, all of which are watched."""
    for name in given:
        if name not in found.collapsing:
            close = did_you_mean(name, found.collapsing)
            raise InputError(f"{what} names {name!r}, which is not watched{close}")
    return list(given)
