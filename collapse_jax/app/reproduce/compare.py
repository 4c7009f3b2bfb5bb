"""A simulation beside what it should be: each function returns a `Comparison` with a p-value.

Everything is computed in float64. A tolerance comes with its reason, and widens the hypothesis:
agreement then means that the true value lies within the tolerance of the expected one. Several
points in one comparison share its p-value by Bonferroni's rule.

All functions take `at`, the places [n] of the points on the x axis (numbers or names; 0 to n - 1 by
default), and `what`, the name of the quantity.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

# What float32 rounds off, relative to a value: a smaller difference does not count.
_ROUNDING = 1e-6
# An ordering counts as shown from this many standard errors on.
SHOWN = 4.0
_QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


class Comparison(NamedTuple):
    """Points of a simulation beside the expected ones.

    what: The quantity.
    at: [n], places on the x axis: numbers or names.
    ours: [n], estimates.
    error: [n], their standard errors.
    expected: [n], what they should be; nan if there is no such number.
    z: [n], distances in standard errors, beyond the tolerance if there is one.
    p_value: Of their agreement; 0 or 1 if chance has no part.
    rule: How it was judged.
    refuted: Whether the expected numbers are known to be wrong; then they must not agree.
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


def means(
    samples: ArrayLike,
    exact: ArrayLike,
    *,
    at: ArrayLike | None = None,
    what: str = "mean",
    tolerance: ArrayLike = 0.0,
    why: str = "",
) -> Comparison:
    """Means of samples beside exact ones, by their z scores.

    Args:
        samples: [chains, n] or [chains].
        exact: [n].
        tolerance: Absolute, [n] or one number.
        why: Its reason.
    """
    ours, error = _means(_columns(samples))
    rule = f"mean of {np.shape(samples)[0]:,}"
    return estimates(ours, error, exact, at=at, what=what, tolerance=tolerance, why=why, rule=rule)


def estimates(
    ours: ArrayLike,
    error: ArrayLike,
    exact: ArrayLike,
    *,
    at: ArrayLike | None = None,
    what: str = "",
    tolerance: ArrayLike = 0.0,
    why: str = "",
    rule: str = "estimate",
) -> Comparison:
    """Estimates [n] with standard errors [n] beside exact values [n], by their z scores.

    Args:
        tolerance: Absolute, [n] or one number.
        why: Its reason.
        rule: What the estimates are.
    """
    ours, error, exact = _points(ours, error, exact)
    beyond = np.maximum(np.abs(ours - exact) - tolerance - _ROUNDING * np.abs(exact), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(beyond == 0, 0.0, np.sign(ours - exact) * beyond / error)
    p = _all_of(2 * stats.norm.sf(np.abs(z)))
    return _comparison(what, at, ours, error, exact, z, p, rule + _within(tolerance, why))


def quantiles(
    samples: ArrayLike,
    exact: ArrayLike,
    probability: float = 0.5,
    *,
    at: ArrayLike | None = None,
    what: str = "",
) -> Comparison:
    """Quantiles of samples beside exact ones, by the exact law of how many chains lie below.

    Ties count for both sides.

    Args:
        samples: [chains, n] or [chains].
        exact: [n].
        probability: Of the quantile.
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
    deviation = np.sqrt(probability * (1 - probability) / chains)
    around = np.clip(probability + deviation * np.array([-1, 0, 1]), 0, 1)
    low, ours, high = np.quantile(samples, around, axis=0)
    name = "median" if probability == 0.5 else f"{probability:.0%} quantile"
    z = np.sign(ours - exact) * stats.norm.isf(p / 2)
    rule = f"{name} of {chains:,}, sign test"
    return _comparison(what or name, at, ours, (high - low) / 2, exact, z, _all_of(p), rule)


def medians(
    samples: ArrayLike, exact: ArrayLike, *, at: ArrayLike | None = None, what: str = "median"
) -> Comparison:
    """Medians of samples [chains, n] beside exact ones [n]: `quantiles` at one half."""
    return quantiles(samples, exact, 0.5, at=at, what=what)


def proportions(
    successes: ArrayLike,
    trials: int,
    probabilities: ArrayLike,
    *,
    at: ArrayLike | None = None,
    what: str = "probability",
) -> Comparison:
    """Shares of successes [n] among trials beside exact ones [n], by the exact binomial test."""
    successes, probabilities = _points(successes, probabilities)
    ours = successes / trials
    tests = zip(successes, probabilities, strict=True)
    p = np.array([stats.binomtest(int(count), trials, share).pvalue for count, share in tests])
    error = np.sqrt(probabilities * (1 - probabilities) / trials)
    z = np.sign(ours - probabilities) * stats.norm.isf(np.minimum(p, 1) / 2)
    rule = f"binomial test of {trials:,}"
    return _comparison(what, at, ours, error, probabilities, z, _all_of(p), rule)


def counts(
    observed: ArrayLike, law: ArrayLike, *, at: ArrayLike | None = None, what: str = "share"
) -> Comparison:
    """Counts [cells] beside a law [cells], by Pearson's chi-square.

    The rarest cells are pooled until they expect at least 5.
    """
    observed, law = _points(observed, law)
    total = observed.sum()
    order = np.argsort(law)
    rare = int(np.searchsorted(np.cumsum(law[order]) * total, 5)) + 1
    cells = [order[:rare], *order[rare:, None]]
    pooled, expected = (
        np.array([values[cell].sum() for cell in cells]) for values in (observed, law * total)
    )
    if observed[law == 0].any():
        p = 0.0
    elif len(cells) == 1:
        p = 1.0
    else:
        p = stats.chisquare(pooled, expected * total / expected.sum()).pvalue
    error = np.sqrt(law * (1 - law) / total)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.nan_to_num((observed / total - law) / error)
    rule = f"chi-square of {int(total):,} in {len(cells)} cells"
    return _comparison(what, at, observed / total, error, law, z, p, rule)


def distribution(samples: ArrayLike, law: Any, *, what: str = "law") -> Comparison:
    """Samples [chains] beside a continuous law, by Kolmogorov and Smirnov; drawn as quantiles.

    Args:
        law: Has `cdf` and `ppf`, as SciPy's.
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
    rule = f"Kolmogorov-Smirnov of {len(samples):,}"
    return _comparison(what, names, ours, error, expected, z, p, rule)


def one_of(
    published: ArrayLike,
    samples: ArrayLike,
    *,
    at: ArrayLike | None = None,
    what: str = "published run",
) -> Comparison:
    """Single published runs [n] as if each were one more of `samples` [chains, n], by their ranks.

    The error is half of 16 to 84%.
    """
    samples, published = _columns(samples), np.atleast_1d(np.asarray(published, float))
    chains = len(samples)
    tails = (samples <= published).sum(0) + 1, (samples >= published).sum(0) + 1
    p = np.minimum(1, 2 * np.minimum(*tails) / (chains + 1))
    low, ours, high = np.quantile(samples, [0.16, 0.5, 0.84], axis=0)
    z = np.sign(ours - published) * stats.norm.isf(p / 2)
    rule = f"rank of the published run among {chains:,}"
    return _comparison(what, at, ours, (high - low) / 2, published, z, _all_of(p), rule)


def published_means(
    samples: ArrayLike,
    published: ArrayLike,
    published_error: ArrayLike,
    *,
    at: ArrayLike | None = None,
    what: str = "mean",
) -> Comparison:
    """Means of samples [chains, n] beside published ones [n] that have standard errors [n] too."""
    ours, error = _means(_columns(samples))
    both = np.hypot(error, np.atleast_1d(published_error))
    rule = f"mean of {np.shape(samples)[0]:,}, both errors"
    return estimates(ours, both, published, at=at, what=what, rule=rule)


def equal(
    ours: ArrayLike,
    expected: ArrayLike,
    tolerance: ArrayLike,
    why: str,
    *,
    at: ArrayLike | None = None,
    what: str = "value",
) -> Comparison:
    """Numbers [n] without chance beside expected ones [n], equal within an absolute tolerance.

    Args:
        tolerance: [n] or one number.
        why: Its reason.
    """
    ours, expected, tolerance = _points(ours, expected, tolerance)
    off = np.abs(ours - expected)
    agrees = bool(np.all(off <= tolerance))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(off <= tolerance, 0.0, off / tolerance)
    rule = f"equal{_within(tolerance.max(), why)}"
    return _comparison(what, at, ours, np.zeros_like(ours), expected, z, float(agrees), rule)


def at_most(
    samples: ArrayLike, bound: ArrayLike, *, at: ArrayLike | None = None, what: str = "mean"
) -> Comparison:
    """Means of samples [chains, n] below a proven bound [n]; only a clear excess disagrees."""
    bound = np.atleast_1d(np.asarray(bound, float))
    ours, error = _means(_columns(samples))
    excess = ours - bound - _ROUNDING * np.abs(bound)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(excess > 0, excess / error, 0.0)
    p = _all_of(np.where(excess > 0, stats.norm.sf(z), 1.0))
    return _comparison(what, at, ours, error, bound, z, p, "at most the bound")


def at_least(
    samples: ArrayLike, bound: ArrayLike, *, at: ArrayLike | None = None, what: str = "mean"
) -> Comparison:
    """Means of samples [chains, n] above a proven bound [n]; the mirror of `at_most`."""
    mirrored = at_most(-_columns(samples), -np.asarray(bound, float), at=at, what=what)
    return mirrored._replace(
        ours=-mirrored.ours, expected=-mirrored.expected, z=-mirrored.z, rule="at least the bound"
    )


def exceeds(
    larger: ArrayLike,
    smaller: ArrayLike,
    *,
    at: ArrayLike | None = None,
    what: str = "difference of means",
) -> Comparison:
    """That means of one sample lie above those of another or above a number.

    It is shown at 4 standard errors; agreement needs data here, so no difference is a disagreement.

    Args:
        larger: [chains, n].
        smaller: [chains, n], or one number.
    """
    larger = _columns(larger)
    smaller = np.full((1, 1), smaller) if np.ndim(smaller) == 0 else _columns(smaller)
    variance = smaller.var(0, ddof=1) / len(smaller) if len(smaller) > 1 else 0.0
    error = np.sqrt(larger.var(0, ddof=1) / len(larger) + variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (larger.mean(0) - smaller.mean(0)) / error
    z = np.where(np.isnan(z), 0.0, z)
    shown = float(np.all(z > SHOWN))
    rule = f"larger, shown at {SHOWN:g} standard errors"
    return _comparison(what, at, larger.mean(0), error, smaller.mean(0), z, shown, rule)


def refuted(comparison: Comparison) -> Comparison:
    """The same with numbers that are known to be wrong: they must *not* agree."""
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
    """[chains, n] of samples [chains, n] or [chains]."""
    samples = np.asarray(samples, float)
    return samples[:, None] if samples.ndim == 1 else samples


def _means(samples):
    """(means [n], standard errors [n]) over chains of [chains, n]."""
    return samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))


def _points(*parts):
    """Each part as [n]."""
    parts = [np.atleast_1d(np.asarray(part, float)) for part in parts]
    return [np.array(part, float) for part in np.broadcast_arrays(*parts)]


def _all_of(p_values):
    """The p-value of several at once, by Bonferroni's rule."""
    p_values = np.nan_to_num(np.atleast_1d(p_values))
    return min(1.0, float(p_values.min()) * p_values.size)


def _within(tolerance, why):
    largest = float(np.max(tolerance))
    return f" within {largest:.3g} ({why})" if largest else ""
