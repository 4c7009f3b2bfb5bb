"""What a simulation says beside what it should: each function gives a `Comparison` with the p-value
of their agreement.

Everything is computed in float64. A tolerance goes with the reason for it, and widens the
hypothesis: agreement then means that the true value lies within the tolerance of the expected one.
Several points in one comparison share its p-value by Bonferroni's rule.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

# What float32 rounds off, relative to a value: no difference below it is one.
_ROUNDING = 1e-6
# An ordering counts as shown from this many standard errors on.
SHOWN = 4.0
_QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


class Comparison(NamedTuple):
    """Points of a simulation beside the expected ones.

    what: the quantity, in words. at: [n] where on the x axis (numbers or names). ours, error,
    expected: [n] estimate, its standard error, and what it should be (nan where there is no such
    number). z: [n] distances in standard errors, beyond the tolerance if there is one. p_value: of
    their agreement, 0 or 1 where chance has no part. rule: how it was judged, in words.
    refuted: whether the expected numbers are known to be wrong, so that agreement would be the
    surprise.
    """

    what: str
    at: np.ndarray
    ours: np.ndarray
    error: np.ndarray
    expected: np.ndarray
    z: np.ndarray
    p_value: float
    rule: str
    refuted: bool = False

    def worst(self) -> int:
        """The index of the point that is furthest off."""
        return int(np.argmax(np.nan_to_num(np.abs(self.z), nan=np.inf)))


def means(samples, exact, *, at=None, what="mean", tolerance=0.0, why="") -> Comparison:
    """Means of `samples` [chains, n] (or [chains]) beside `exact` [n], by their z scores."""
    samples = _columns(samples)
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    return estimates(
        samples.mean(0),
        error,
        exact,
        at=at,
        what=what,
        tolerance=tolerance,
        why=why,
        rule=f"mean of {len(samples):,}",
    )


def estimates(
    ours, error, exact, *, at=None, what="", tolerance=0.0, why="", rule="estimate"
) -> Comparison:
    """Estimates [n] with standard errors [n] beside `exact` [n], by their z scores."""
    ours, error, exact = _points(ours, error, exact)
    beyond = np.maximum(np.abs(ours - exact) - tolerance - _ROUNDING * np.abs(exact), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(beyond == 0, 0.0, np.sign(ours - exact) * beyond / error)
    p = _all_of(2 * stats.norm.sf(np.abs(z)))
    return _comparison(what, at, ours, error, exact, z, p, rule + _within(tolerance, why))


def quantiles(samples, exact, probability=0.5, *, at=None, what="") -> Comparison:
    """Quantiles of `samples` [chains, n] beside `exact` [n], by the exact law of how many chains
    lie below (ties count for both).
    """
    samples, exact = _columns(samples), np.atleast_1d(np.asarray(exact, float))
    chains = len(samples)
    rounding = _ROUNDING * np.abs(exact)
    below, above = (samples < exact - rounding).sum(0), (samples > exact + rounding).sum(0)
    tails = (
        stats.binom.sf(below - 1, chains, probability),
        stats.binom.sf(above - 1, chains, 1 - probability),
    )
    p = np.minimum(1, 2 * np.minimum(*tails))
    spread = np.sqrt(probability * (1 - probability) / chains)
    low, ours, high = np.quantile(
        samples, np.clip([probability - spread, probability, probability + spread], 0, 1), axis=0
    )
    name = "median" if probability == 0.5 else f"{probability:.0%} quantile"
    z = np.sign(ours - exact) * stats.norm.isf(p / 2)
    return _comparison(
        what or name,
        at,
        ours,
        (high - low) / 2,
        exact,
        z,
        _all_of(p),
        f"{name} of {chains:,}, sign test",
    )


def medians(samples, exact, *, at=None, what="median") -> Comparison:
    """Medians of `samples` [chains, n] beside `exact` [n]: `quantiles` at one half."""
    return quantiles(samples, exact, 0.5, at=at, what=what)


def proportions(
    successes, trials: int, probabilities, *, at=None, what="probability"
) -> Comparison:
    """Shares of `successes` [n] among `trials` beside exact probabilities [n], by the exact
    binomial test.
    """
    successes, probabilities = _points(successes, probabilities)
    ours = successes / trials
    p = np.array(
        [
            stats.binomtest(int(k), trials, q).pvalue
            for k, q in zip(successes, probabilities, strict=True)
        ]
    )
    error = np.sqrt(probabilities * (1 - probabilities) / trials)
    z = np.sign(ours - probabilities) * stats.norm.isf(np.minimum(p, 1) / 2)
    return _comparison(
        what, at, ours, error, probabilities, z, _all_of(p), f"binomial test of {trials:,}"
    )


def counts(observed, law, *, at=None, what="share") -> Comparison:
    """Counts [cells] beside a law [cells], by Pearson's chi-square; cells are pooled from the
    rarest on until they expect at least 5.
    """
    observed, law = _points(observed, law)
    total = observed.sum()
    order = np.argsort(law)
    rare = int(np.searchsorted(np.cumsum(law[order]) * total, 5)) + 1
    cells = [order[:rare], *order[rare:, None]]
    pooled, expected = (
        np.array([values[cell].sum() for cell in cells]) for values in (observed, law * total)
    )
    p = (
        0.0
        if observed[law == 0].any()
        else stats.chisquare(pooled, expected * total / expected.sum()).pvalue
        if len(cells) > 1
        else 1.0
    )
    error = np.sqrt(law * (1 - law) / total)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.nan_to_num((observed / total - law) / error)
    return _comparison(
        what,
        at,
        observed / total,
        error,
        law,
        z,
        p,
        f"chi-square of {int(total):,} in {len(cells)} cells",
    )


def distribution(samples, law, *, what="law") -> Comparison:
    """`samples` [chains] beside a continuous law with `cdf` and `ppf` (as SciPy's), by Kolmogorov
    and Smirnov; drawn as quantiles.
    """
    samples = np.asarray(samples, float)
    p = stats.kstest(samples, law.cdf).pvalue
    parts = [quantiles(samples, law.ppf(q), q) for q in _QUANTILES]
    ours, error, expected = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("ours", "error", "expected")
    )
    z = np.full(len(_QUANTILES), stats.norm.isf(p / 2))
    names = [f"{q:.0%}" for q in _QUANTILES]
    return _comparison(
        what, names, ours, error, expected, z, p, f"Kolmogorov-Smirnov of {len(samples):,}"
    )


def one_of(published, samples, *, at=None, what="published run") -> Comparison:
    """Single published runs [n] as if each were one more of `samples` [chains, n], by their ranks;
    the error is half of 16 to 84%.
    """
    samples, published = _columns(samples), np.atleast_1d(np.asarray(published, float))
    chains = len(samples)
    tails = (samples <= published).sum(0) + 1, (samples >= published).sum(0) + 1
    p = np.minimum(1, 2 * np.minimum(*tails) / (chains + 1))
    low, ours, high = np.quantile(samples, [0.16, 0.5, 0.84], axis=0)
    z = np.sign(ours - published) * stats.norm.isf(p / 2)
    rule = f"rank of the published run among {chains:,}"
    return _comparison(what, at, ours, (high - low) / 2, published, z, _all_of(p), rule)


def published_means(samples, published, published_error, *, at=None, what="mean") -> Comparison:
    """Means of `samples` [chains, n] beside published means [n] that have standard errors [n] of
    their own.
    """
    samples = _columns(samples)
    own = samples.std(0, ddof=1) / np.sqrt(len(samples))
    both = np.hypot(own, np.atleast_1d(published_error))
    return estimates(
        samples.mean(0),
        both,
        published,
        at=at,
        what=what,
        rule=f"mean of {len(samples):,}, both errors",
    )


def equal(ours, expected, tolerance, why: str, *, at=None, what="value") -> Comparison:
    """Numbers without chance [n] beside expected ones [n]: equal within `tolerance` (absolute), for
    the reason `why`.
    """
    ours, expected, tolerance = _points(ours, expected, tolerance)
    off = np.abs(ours - expected)
    agrees = bool(np.all(off <= tolerance))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(off <= tolerance, 0.0, off / tolerance)
    return _comparison(
        what,
        at,
        ours,
        np.zeros_like(ours),
        expected,
        z,
        float(agrees),
        f"equal{_within(tolerance.max(), why)}",
    )


def at_most(samples, bound, *, at=None, what="mean") -> Comparison:
    """Means of `samples` [chains, n] below a proven bound [n]; only what lies significantly above
    it disagrees.
    """
    samples, bound = _columns(samples), np.atleast_1d(np.asarray(bound, float))
    ours, error = samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))
    excess = ours - bound - _ROUNDING * np.abs(bound)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(excess > 0, excess / error, 0.0)
    return _comparison(
        what,
        at,
        ours,
        error,
        bound,
        z,
        _all_of(np.where(excess > 0, stats.norm.sf(z), 1.0)),
        "at most the bound",
    )


def at_least(samples, bound, *, at=None, what="mean") -> Comparison:
    """Means of `samples` [chains, n] above a proven bound [n]; the mirror of `at_most`."""
    mirrored = at_most(-_columns(samples), -np.asarray(bound, float), at=at, what=what)
    return mirrored._replace(
        ours=-mirrored.ours, expected=-mirrored.expected, z=-mirrored.z, rule="at least the bound"
    )


def exceeds(larger, smaller, *, at=None, what="difference of means") -> Comparison:
    """That means of `larger` [chains, n] lie above those of `smaller` [chains, n] or above one
    number: shown at 4 standard errors.

    Agreement needs data here: no difference is a disagreement.
    """
    larger, smaller = (
        _columns(larger),
        np.full((1, 1), smaller) if np.ndim(smaller) == 0 else _columns(smaller),
    )
    spread = smaller.var(0, ddof=1) / len(smaller) if len(smaller) > 1 else 0.0
    error = np.sqrt(larger.var(0, ddof=1) / len(larger) + spread)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (larger.mean(0) - smaller.mean(0)) / error
    z = np.where(np.isnan(z), 0.0, z)
    shown = float(np.all(z > SHOWN))
    return _comparison(
        what,
        at,
        larger.mean(0),
        error,
        smaller.mean(0),
        z,
        shown,
        f"larger, shown at {SHOWN:g} standard errors",
    )


def refuted(comparison: Comparison) -> Comparison:
    """The same with numbers that are known to be wrong: it is in order when they do *not* agree."""
    return comparison._replace(refuted=True, rule=f"must not agree: {comparison.rule}")


def _comparison(what, at, ours, error, expected, z, p_value, rule):
    ours, error, expected, z = (
        np.array(part, float) for part in np.broadcast_arrays(ours, error, expected, z)
    )
    at = np.arange(len(ours)) if at is None else np.atleast_1d(np.asarray(at))
    if len(at) != len(ours):
        raise ValueError(f"{what}: {len(ours)} points, but {len(at)} places for them")
    p_value = 0.0 if np.isnan(ours).any() or np.isnan(p_value) else float(p_value)
    return Comparison(what, at, ours, error, expected, z, p_value, rule)


def _columns(samples):
    samples = np.asarray(samples, float)
    return samples[:, None] if samples.ndim == 1 else samples


def _points(*parts):
    return [
        np.array(part, float)
        for part in np.broadcast_arrays(*(np.atleast_1d(np.asarray(part, float)) for part in parts))
    ]


def _all_of(p_values):
    """The p-value of several at once."""
    p_values = np.nan_to_num(np.atleast_1d(p_values))
    return min(1.0, float(p_values.min()) * p_values.size)


def _within(tolerance, why):
    largest = float(np.max(tolerance))
    return f" within {largest:.3g} ({why})" if largest else ""
