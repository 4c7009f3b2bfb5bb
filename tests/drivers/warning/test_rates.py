"""Limits, rates and curves, held against SciPy and against laws of ranks."""

import math

import numpy as np
import pytest
from scipy import stats

from collapse_jax.drivers.warning import rates
from collapse_jax.errors import InputError

RNG = np.random.default_rng(3)


def test_a_limit_keeps_its_rate_on_fresh_chains():
    """The rate of a limit from n chains is Beta(k, n + 1 - k), whatever the law (here Cauchy)."""
    count, fresh, trials = 59, 200, 2000
    shares = []
    for _ in range(trials):
        limit, promised = rates.limit_of(RNG.standard_cauchy(count), 0.05)
        shares.append(np.mean(RNG.standard_cauchy(fresh) > limit))
    assert promised == pytest.approx(3 / 60)
    law = stats.betabinom(fresh, 3, count + 1 - 3)
    assert law.mean() / fresh == pytest.approx(promised)
    assert abs(np.mean(shares) - promised) < 4 * law.std() / fresh / math.sqrt(trials)


def test_too_few_chains_for_a_rate():
    with pytest.raises(
        InputError, match=r"18 steady chains .* smallest rate is 0\.0526: give 38 steady"
    ):
        rates.limit_of(np.zeros(18), 0.05)
    assert rates.limit_of(np.arange(19.0), 0.05) == (18.0, 1 / 20)


def test_a_rate_has_scipys_interval():
    found = rates.rate_of(np.arange(40) < 7)
    exact = stats.binomtest(7, 40).proportion_ci(method="exact")
    assert found == pytest.approx((7 / 40, exact.low, exact.high, 40))
    assert rates.rate_of(np.zeros(3, bool))[1] == 0 and math.isnan(rates.rate_of(np.zeros(0))[0])


def test_a_median_has_scipys_interval():
    values = RNG.normal(size=31)
    exact = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    assert rates.median_of(values) == pytest.approx((np.median(values), exact.low, exact.high))
    assert rates.median_of(np.array([-np.inf, 4.0, 6.0])) == (4.0, -np.inf, np.inf)
    assert rates.median_of(np.full(8, -np.inf))[0] == -np.inf


def test_the_area_is_the_mann_whitney_statistic_and_its_error_delongs():
    x, y = np.round(RNG.normal(0.7, 1, 23), 1), np.round(RNG.normal(size=31), 1)
    curve = rates.curve_of(x, np.tile(y, (23, 1)))
    u = stats.mannwhitneyu(x, y).statistic / (23 * 31)
    wins = (x[:, None] > y) + (x[:, None] == y) / 2
    error = math.sqrt(wins.mean(1).var(ddof=1) / 23 + wins.mean(0).var(ddof=1) / 31)
    assert curve.area == pytest.approx((u, error))
    assert np.trapezoid(curve.true, curve.false) == pytest.approx(u)


def test_the_area_of_windows_of_different_lengths():
    """Steady chains are watched as long as others: 1/2 of noise, with errors that are right."""
    z, slopes = [], []
    for _ in range(400):
        ends = RNG.integers(1, 30, 40)
        mine, theirs = RNG.normal(size=(40, 30)), RNG.normal(size=(35, 30))
        scores = np.maximum.accumulate(mine, 1)[np.arange(40), ends]
        windows = np.maximum.accumulate(theirs, 1)[:, ends].T
        area = rates.curve_of(scores, windows).area
        z.append((area.value - 0.5) / area.error)
        slopes.append(area.value)
    assert abs(np.mean(slopes) - 0.5) < 4 * np.std(slopes) / 20
    assert 0.85 < np.std(z) < 1.15
    by_hand = np.mean((scores[:, None, None] > windows) + (scores[:, None, None] == windows) / 2)
    assert slopes[-1] == pytest.approx(by_hand)


def test_the_error_counts_that_windows_are_drawn_too():
    """Steady chains whose score is the length of the watch, nearly: windows decide the area."""
    areas = []
    for _ in range(200):
        ends = RNG.uniform(0, 30, 25)
        steady = ends[:, None] + 0.1 * RNG.normal(size=(25, 25))
        areas.append(rates.curve_of(RNG.normal(15, 1, 25), steady).area)
    z = np.array([(area.value - 0.5) / area.error for area in areas])
    assert 0.8 < z.std() < 1.25


def test_blocks_of_steady_chains_change_nothing(monkeypatch):
    x, y = RNG.normal(size=8), RNG.normal(size=(8, 21))
    whole = rates.curve_of(x, y)
    monkeypatch.setattr(rates, "_BLOCK", 24)
    assert rates.curve_of(x, y).area == pytest.approx(whole.area)
