"""Tests of fit of samples to exact laws, and the decision over a family of them."""

import numpy as np
import pytest
from scipy import stats

LEVEL = 1e-4


@pytest.fixture(scope="session")
def assert_fits():
    """assert_fits({name: p-value}): no p-value is small for so many of them (Bonferroni).

    The keys are fixed, so it never flickers.
    """

    def check(p_values):
        assert p_values and all(np.isfinite(p) for p in p_values.values()), p_values
        bad = {name: p for name, p in p_values.items() if p * len(p_values) <= LEVEL}
        assert not bad, f"of {len(p_values)} tests these fail: {bad}"

    return check


def goodness(observed, cumulative, fewest=10, most_cells=2000):
    """p-values of chi-square and Kolmogorov's test for counts in adjoining cells.

    The cells' exact cumulative probabilities are given.
    """
    total = observed.sum()
    law = np.diff(cumulative, prepend=0)
    group = np.floor(
        np.concatenate([[0], np.cumsum(law[:-1])]) * total / max(fewest, total / most_cells)
    ).astype(int)
    start = np.flatnonzero(np.diff(group, prepend=-1))
    seen, expected = np.add.reduceat(observed, start), np.add.reduceat(law, start) * total
    if len(start) > 1 and expected[-1] < fewest:
        seen, expected = (
            np.append(seen[:-2], seen[-2:].sum()),
            np.append(expected[:-2], expected[-2:].sum()),
        )
    if len(seen) == 1:
        return 1.0, 1.0
    distance = np.abs(np.cumsum(observed) / total - cumulative).max()
    return stats.chi2.sf(
        np.sum((seen - expected) ** 2 / expected), len(seen) - 1
    ), stats.kstwobign.sf(distance * total**0.5)


@pytest.fixture(scope="session")
def fit_of_counts():
    """fit_of_counts(counts, law of scipy.stats) -> p-value.

    Nothing outside the support may occur.
    """

    def p_value(counts, law):
        counts = np.asarray(counts).ravel()
        low, high = int(counts.min()), int(counts.max())
        assert low >= law.support()[0] and high <= law.support()[1], (low, high, law.support())
        width = (high - low) // 20_000 + 1
        observed = np.bincount((counts - low) // width)
        cumulative = law.cdf(low + width * np.arange(1, len(observed) + 1) - 1)
        cumulative[-1] = 1
        return min(1.0, 2 * min(goodness(observed, cumulative)))

    return p_value


@pytest.fixture(scope="session")
def fit_of_reals():
    """fit_of_reals(values, cumulative distribution function) -> p-value.

    It has 4000 equal cells between the extremes.
    """

    def p_value(values, cdf):
        values = np.asarray(values, np.float64).ravel()
        low, high = values.min(), values.max()
        cell = np.minimum(((values - low) * (4000 / (high - low))).astype(np.int32), 3999)
        cumulative = cdf(low + (high - low) / 4000 * np.arange(1, 4001))
        cumulative[-1] = 1
        return min(1.0, 2 * min(goodness(np.bincount(cell, minlength=4000), cumulative)))

    return p_value


@pytest.fixture(scope="session")
def fit_of_means():
    """fit_of_means(samples [draws, ...], expected [...]) -> p-values [...] of the means.

    They come from the samples' own standard errors.
    """

    def p_values(samples, expected):
        samples = np.asarray(samples, np.float64)
        error = samples.std(0, ddof=1) / len(samples) ** 0.5
        # the second term is the rounding of float32, for entries that do not vary
        distance = np.maximum(np.abs(samples.mean(0) - expected) - 1e-6 * np.abs(expected), 0)
        return 2 * stats.norm.sf(
            np.divide(distance, error, out=np.where(distance > 0, np.inf, 0.0), where=error > 0)
        )

    return p_values


@pytest.fixture(scope="session")
def fit_of_covariances(fit_of_means):
    """fit_of_covariances(samples [draws, K], means [K], covariance [K, K]) -> {name: p-value}.

    For the means and the covariances.
    """

    def p_values(samples, means, covariance):
        centred = np.asarray(samples, np.float64) - means
        rows, columns = np.tril_indices(len(means))
        first = fit_of_means(centred, np.zeros(len(means)))
        second = fit_of_means(
            centred[:, rows] * centred[:, columns], np.asarray(covariance)[rows, columns]
        )
        named = {f"mean {i}": p for i, p in enumerate(first)}
        return named | {f"cov {i},{j}": p for i, j, p in zip(rows, columns, second, strict=True)}

    return p_values


@pytest.fixture(scope="session")
def word_at():
    """word_at(q [...]) -> the uint32 words that an inversion maps to ever larger values.

    q = 0 .. 2^32 - 1.
    """

    def words(q):
        q = np.asarray(q, np.int64)
        return np.where(q < 2**31, 2 * q, 2 * (2**32 - 1 - q) + 1).astype(np.uint32)

    return words
