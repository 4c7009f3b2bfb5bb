"""A metric over generations, with what its chains, or their statistics, allow to say of it.

Intervals have two sides and hold with probability `LEVEL` at one generation.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from collapse_jax.drivers.recorded import Statistics

LEVEL = 0.95
# A mean is carried by few chains where so many equal ones would err as much, and where they are
# fewer than this share of all.
_FEWEST, _SHARE = 50, 0.25
# Or where P(X > x) falls like a power below this one among the largest chains, by so many at least
# and this share of all: an average then errs by more than its deviation says, and mostly downwards.
_LEAST_POWER, _TAIL_CHAINS, _TAIL_SHARE = 1.5, 10, 0.05
_LOG_2 = np.log(2.0)
# Numbers of all chains that are float64 in memory at once.
_AT_ONCE = 2**23


def _same(x):
    return x


def _log(x):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x)


def _exp(x):
    with np.errstate(over="ignore"):
        return np.exp(x)


TRANSFORMS: Mapping[str, Callable] = {
    "same": _same,
    "log": _log,
    "exp": _exp,
    "negative": np.negative,
    "bits": lambda x: x * _LOG_2,
    "complement": lambda x: 1 - x,
    "infinite": lambda x: np.where(np.isnan(x), np.nan, np.isinf(x)),
}
# Those that fall with their argument, and those that a mean passes through.
_FALLING, _LINEAR = ("negative", "complement"), ("same", "negative", "bits", "complement")


class Band(NamedTuple):
    """A statistic over chains at each generation.

    number: [generation].
    low, high: [generation] its interval.
    level: the probability that the interval holds it, 0 where there is one chain.
    few: [generation] whether the mean is carried by few of the chains.
    """

    number: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    few: np.ndarray

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> "Band":
        """The same of an increasing function."""
        return self._replace(
            number=function(self.number), low=function(self.low), high=function(self.high)
        )


class Chains(NamedTuple):
    """A metric of each chain, of which some generations at once are float64 in memory.

    values: [chain, generation], nan where there is none.
    steps: transformations that are done to each value, names of `TRANSFORMS`.
    base: the place of the generation whose value is taken off each chain's; None takes off none.
    """

    values: np.ndarray
    steps: tuple[str, ...] = ()
    base: int | None = None

    @property
    def count(self) -> int:
        """How many chains there are."""
        return len(self.values)

    def at(self, places: Any) -> np.ndarray:
        """[chain, places] the metric at some generations, transformed."""
        x = np.array(self.values[:, places], float)
        for name in self.steps:
            x = TRANSFORMS[name](x)
        if self.base is None:
            return x
        with np.errstate(invalid="ignore"):
            return x - self._replace(base=None).at([self.base])

    def transformed(self, name: str) -> "Chains":
        """The metric with each value changed."""
        return self._replace(steps=(*self.steps, name))

    def less_first(self, place: int) -> "Chains":
        """The metric less that of the same chain at a place."""
        return self._replace(base=place)

    def windows(self, windows: Sequence[np.ndarray]) -> "Chains":
        """The averages of each chain over windows, which are places of generations."""
        sums = np.zeros((len(self.values), len(windows)))
        for column, places in enumerate(windows):
            for part in self._parts(places):
                with np.errstate(invalid="ignore"):
                    sums[:, column] += self.at(part).sum(1)
        return Chains(sums / [len(places) for places in windows])

    def missing(self) -> np.ndarray:
        """[generation] how many chains have no number where others have one."""
        missing = np.isnan(self.values).sum(0)
        return np.where(missing < len(self.values), missing, 0)

    def mean(self) -> Band:
        """The mean with Student's t interval; where few chains carry it, a bound from below alone.

        That bound is Anderson's (1969), which holds for every law of numbers of at least 0.
        """
        return self._joined(_mean)

    def median(self, level: float = LEVEL) -> Band:
        """The median between two order statistics (`scipy.stats.quantile_test`'s interval)."""
        return self._joined(functools.partial(_median, level=level))

    def log_ratio_of_means(self, place: int) -> Band:
        """log of the mean over that at a place; the error by the delta method, chain by chain."""
        return self._joined(functools.partial(_log_ratio_of_means, first=self.at([place])))

    def log_ratio_of_medians(self, place: int) -> Band:
        """log of the median over that at a place: both intervals at half the error, combined."""
        return _log_ratio(self.median((1 + LEVEL) / 2), place, self.median())

    def _parts(self, places):
        """The places, so many at once that no copy of their values is large."""
        size = max(_AT_ONCE // max(len(self.values), 1), 1)
        return [places[first : first + size] for first in range(0, len(places), size)]

    def _joined(self, function):
        """A band whose function of [chain, places] looks at each place alone."""
        places = np.arange(self.values.shape[1])
        bands = [function(self.at(part)) for part in self._parts(places)]
        number, low, high, few = (
            np.concatenate([getattr(band, name) for band in bands])
            for name in ("number", "low", "high", "few")
        )
        return Band(number, low, high, min(band.level for band in bands), few)


class Summarised(NamedTuple):
    """Statistics of a metric over chains that were not kept.

    Generations are of the same chains, but nothing says how they go together: differences get the
    sum of both errors, which holds for every correlation.

    chains: how many, 0 where unknown: then there are no intervals.
    has_mean: whether the mean passed through the transformation.
    """

    statistics: Statistics
    levels: tuple[float, ...]
    chains: int
    has_mean: bool = True

    @property
    def count(self) -> int:
        """Chains."""
        return self.chains

    def missing(self) -> np.ndarray:
        """[generation] 0: statistics do not say how many chains they lack."""
        return np.zeros(len(self.statistics.mean), int)

    def transformed(self, name: str) -> "Summarised":
        """The metric with each value changed; a mean passes through linear changes alone."""
        change, (mean, std, quantile) = TRANSFORMS[name], self.statistics
        if name in _LINEAR:
            factor = _LOG_2 if name == "bits" else 1.0
            mean, std = change(mean), std * factor
        else:
            mean, std = np.full_like(mean, np.nan), np.full_like(std, np.nan)
        quantile = change(quantile)
        if name in _FALLING:
            quantile = quantile[..., ::-1]
        levels = tuple(1 - q for q in reversed(self.levels)) if name in _FALLING else self.levels
        has_mean = self.has_mean and name in _LINEAR
        return Summarised(Statistics(mean, std, quantile), levels, self.chains, has_mean)

    def mean(self) -> Band:
        """The mean with Student's t interval; where few chains carry it, a bound from below alone.

        That bound is Markov's, by the best of the quantiles.
        """
        mean, std, _ = self.statistics
        count = np.full(len(mean), max(self.chains, 1))
        band, few = _with_error(mean, std / np.sqrt(count), count), self._few()
        return band._replace(
            low=np.where(few, self._least_mean(), band.low),
            high=np.where(few, np.inf, band.high),
            few=few,
        )

    def _few(self):
        """[generation] whether few chains carry the mean, by its deviation."""
        # The tail itself is not seen: more chains are asked for.
        least = min(_SHARE * self.chains, max(_FEWEST, _TAIL_SHARE * self.chains))
        mean, std, _ = self.statistics
        if self.chains < 8:
            return np.zeros(len(mean), bool)
        with np.errstate(invalid="ignore", divide="ignore"):
            effective = self.chains / (1 + (std / mean) ** 2)
        is_amount = self.statistics.quantile.min(-1) >= 0 if self.levels else mean > 0
        return is_amount & (mean > 0) & (effective < least)

    def _least_mean(self):
        """[generation] the mean of numbers of at least 0 is a quantile times what is above it."""
        if not self.levels:
            return np.zeros(len(self.statistics.mean))
        return (self.statistics.quantile * (1 - np.asarray(self.levels))).max(-1)

    def median(self, level: float = LEVEL) -> Band:
        """The median, with the error of a normal law as wide as the quartiles."""
        quantile = self.statistics.quantile
        number = _level_of(quantile, self.levels, 0.5)
        wide = _level_of(quantile, self.levels, 0.75) - _level_of(quantile, self.levels, 0.25)
        # sqrt(pi / 2) deviations of a normal law, whose quartiles are 1.349 apart.
        error = np.sqrt(np.pi / 2) * wide / 1.349 / np.sqrt(max(self.chains, 1))
        width = stats.norm.ppf((1 + level) / 2) * error
        if self.chains < 2:
            return Band(number, number, number, 0.0, np.zeros(len(number), bool))
        return Band(number, number - width, number + width, level, np.zeros(len(number), bool))

    def log_ratio_of_means(self, place: int) -> Band:
        """log of the mean over that at a place."""
        mean, std, _ = self.statistics
        with np.errstate(divide="ignore", invalid="ignore"):
            number = np.log(mean / mean[place])
            error = std / mean / np.sqrt(max(self.chains, 1))
            least = np.log(self._least_mean() / self.mean().high[place])
        count = np.full(len(mean), max(self.chains, 1))
        error = np.where(np.arange(len(mean)) == place, 0.0, error + error[place])
        band, few = _with_error(number, error, count), self._few()
        return band._replace(
            low=np.where(few, least, band.low), high=np.where(few, np.inf, band.high), few=few
        )

    def log_ratio_of_medians(self, place: int) -> Band:
        """log of the median over that at a place."""
        return _log_ratio(self.median((1 + LEVEL) / 2), place, self.median())

    def windows(self, windows: Sequence[np.ndarray]) -> "Summarised":
        """Statistics averaged over windows: the mean's is exact, deviations are upper bounds."""
        parts = [np.stack([part[places].mean(0) for places in windows]) for part in self.statistics]
        return self._replace(statistics=Statistics(*parts))

    def less_first(self, place: int) -> "Summarised":
        """The metric less that at a place, with the sum of both spreads."""
        mean, std, quantile = self.statistics
        middle = _level_of(quantile, self.levels, 0.5)
        spread = quantile - middle[:, None]
        both = Statistics(
            mean - mean[place],
            np.where(np.arange(len(std)) == place, 0.0, std + std[place]),
            (middle - middle[place])[:, None]
            + np.where((np.arange(len(std)) == place)[:, None], 0.0, spread + spread[place]),
        )
        return self._replace(statistics=both)


Series = Chains | Summarised


def _mean(x):
    number, error, count = _moments(x)
    band, few = _with_error(number, error, count), _carried_by_few(x)
    if not few.any():
        return band
    low, high = band.low.copy(), band.high.copy()
    low[few], high[few] = _least_mean(x[:, few]), np.inf
    return band._replace(low=low, high=high, few=few)


def _median(x, level):
    ordered = np.sort(x, axis=0)  # nan last
    counts = np.maximum((~np.isnan(ordered)).sum(0), 1)
    columns = np.arange(ordered.shape[1])
    lower = np.maximum(stats.binom.ppf((1 - level) / 2, counts, 0.5).astype(int), 1)
    held = 1 - 2 * stats.binom.cdf(lower - 1, counts, 0.5)
    middle = ordered[(counts - 1) // 2, columns], ordered[counts // 2, columns]
    with np.errstate(invalid="ignore"):
        number = np.where(middle[0] == middle[1], middle[0], (middle[0] + middle[1]) / 2)
    low, high = ordered[lower - 1, columns], ordered[counts - lower, columns]
    # A generation that no chain recorded has no interval to speak of.
    held = held[~np.isnan(ordered[0])] if len(ordered) else held
    least = min([level, *np.maximum(held, 0.0)])
    return Band(number, low, high, float(least), np.zeros(len(columns), bool))


def _log_ratio_of_means(x, first):
    """first: [chain, 1] what the means are held against."""
    (mean, _, count), (reference, error, known) = _moments(x), _moments(first)
    with np.errstate(divide="ignore", invalid="ignore"):
        number = np.log(mean / reference)
        # Of the reference itself both are one, and the error is 0.
        band = _with_error(number, _moments(x / mean - first / reference)[1], count)
        few = _carried_by_few(x)
        if not few.any():
            return band
        most = _with_error(reference, error, known).high
        low, high = band.low.copy(), band.high.copy()
        low[few], high[few] = np.log(_least_mean(x[:, few]) / most), np.inf
    return band._replace(low=low, high=high, few=few)


def _moments(x):
    """(mean, its standard error, count) over chains of [chain, generation]."""
    count = (~np.isnan(x)).sum(0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = np.nansum(x, 0) / count
        squares = np.nansum(np.where(np.isfinite(x), (x - mean) ** 2, 0.0), 0)
        variance = squares / np.maximum(count - 1, 1)
    return mean, np.sqrt(variance / np.maximum(count, 1)), count


def _with_error(number, error, count):
    """Student's t interval; one chain, or infinite numbers, have none."""
    several = count > 1
    width = np.where(several, stats.t.ppf((1 + LEVEL) / 2, np.maximum(count - 1, 1)) * error, 0.0)
    with np.errstate(invalid="ignore"):
        width = np.where(np.isfinite(number) & np.isfinite(width), width, 0.0)
    level = LEVEL if several[count > 0].all() and several.size else 0.0
    return Band(number, number - width, number + width, level, np.zeros(len(number), bool))


def _carried_by_few(x):
    """[generation] where the mean of numbers of at least 0 is made by few of the chains.

    (sum x)^2 / sum x^2 equal chains would err as much (Kish's effective number). The power of the
    tail is Hill's estimate.
    """
    count = (~np.isnan(x)).sum(0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        total, squares = np.nansum(x, 0), np.nansum(x**2, 0)
        effective = np.where(squares > 0, total**2 / squares, count)
        is_amount = np.nanmin(np.where(np.isnan(x), np.inf, x), axis=0) >= 0
    few = effective < np.minimum(_FEWEST, _SHARE * count)
    few = few | (_tail_power(x) < _LEAST_POWER)
    return few & is_amount & (count >= 8) & np.isfinite(total)


def _tail_power(x):
    """[generation] Hill's bound from above of the largest chains' power; inf of few chains."""
    most = int(len(x) * _TAIL_SHARE)
    if most < _TAIL_CHAINS:
        return np.full(x.shape[1], np.inf)
    largest = np.partition(np.where(np.isnan(x), 0.0, x), len(x) - most - 1, axis=0)[-most - 1 :]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        excess = np.log(largest[1:] / largest[0]).mean(0)
        # Where the smallest of them is 0, most chains are: the effective number tells.
        power = np.where((largest[0] > 0) & (excess > 0), 1 / excess, np.inf)
    # Two standard errors above: no law is taken for one of few chains by chance.
    return power * (1 + 2 / np.sqrt(most))


def _least_mean(x):
    """Anderson's bound from below of the mean of numbers of at least 0.

    It holds with probability (1 + LEVEL) / 2, as one side of the other intervals.
    P(X > t) is at least the share of chains above t, less sqrt(log(1 / alpha) / 2n) for all t at
    once; the mean is its integral.
    """
    ordered = np.sort(x, axis=0)
    n = len(ordered)
    gaps = np.diff(np.concatenate([np.zeros_like(ordered[:1]), ordered]), axis=0)
    margin = np.sqrt(np.log(2 / (1 - LEVEL)) / (2 * n))
    share = np.maximum(1 - np.arange(n) / n - margin, 0.0)[:, None]
    return np.nansum(gaps * share, axis=0)


def _log_ratio(wide, place, plain):
    """log of a band over its value at a place, each bound with the other's worst."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        number = np.log(plain.number / plain.number[place])
        low = np.log(wide.low / wide.high[place])
        high = np.log(wide.high / wide.low[place])
    low[place] = high[place] = number[place] = 0.0
    if not 0 < plain.number[place] < np.inf:
        number, low, high = np.full((3, len(number)), np.nan)
    level = 0.0 if wide.level == 0 else min(LEVEL, max(2 * wide.level - 1, 0.0))
    low, high = (np.where(np.isnan(bound), number, bound) for bound in (low, high))
    return Band(number, low, high, level, plain.few)


def _level_of(quantile, levels, level):
    """A quantile [generation], between the nearest that are there."""
    levels = np.asarray(levels, float)
    if not len(levels) or not levels.min() <= level <= levels.max():
        return np.full(len(quantile), np.nan)
    order = np.argsort(levels)
    return np.array([np.interp(level, levels[order], row[order]) for row in quantile])
