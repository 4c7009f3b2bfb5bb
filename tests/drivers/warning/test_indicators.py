"""What is watched of a metric, held against NumPy's line fits and SciPy's Kendall tau."""

import numpy as np
import pytest
from scipy import signal, stats

from collapse_jax.drivers.warning import indicators

WALKS = np.cumsum(np.random.default_rng(1).normal(size=(3, 40)), axis=1)


def test_windows_are_those_of_detrended_pieces():
    window = 9
    variance = indicators.rolling_variance(WALKS, window)
    correlation = indicators.rolling_autocorrelation(WALKS, window)
    assert np.isnan(variance[:, : window - 1]).all() and np.isnan(correlation[:, :8]).all()
    for chain in range(3):
        for last in range(window - 1, 40):
            left = signal.detrend(WALKS[chain, last - window + 1 : last + 1])
            assert variance[chain, last] == pytest.approx(left @ left / (window - 2), rel=1e-9)
            by_hand = left[1:] @ left[:-1] / (left @ left)
            assert correlation[chain, last] == pytest.approx(by_hand, rel=1e-9, abs=1e-12)


def test_an_alarm_does_not_see_the_future():
    cut = 25
    for name in indicators.INDICATORS:
        whole = indicators.indicator(name, WALKS, 8)[:, :cut]
        cut_short = indicators.indicator(name, WALKS[:, :cut], 8)
        np.testing.assert_allclose(cut_short, whole, rtol=1e-12)


def test_a_line_has_no_variance():
    line = 1e6 + 3.7 * np.arange(30.0)[None]
    assert (indicators.rolling_variance(line, 6)[:, 5:] == 0).all()
    assert np.isnan(indicators.rolling_autocorrelation(line, 6)).all()


def test_autocorrelation_of_white_noise_is_minus_two_over_the_window():
    """tr(R S)/tr(R), of the projection R beside a line and the shift S; R's trace is w - 2."""
    window, chains = 12, 4000
    noise = np.random.default_rng(2).normal(size=(chains, window))
    found = signal.detrend(noise, axis=1)
    above, below = np.sum(found[:, 1:] * found[:, :-1], 1), np.sum(found**2, 1)
    apart = above + 2 / window * below
    assert abs(apart.mean()) < 4 * apart.std() / np.sqrt(chains)
    ours = indicators.rolling_autocorrelation(noise, window)[:, -1]
    np.testing.assert_allclose(ours, above / below, rtol=1e-9, atol=1e-12)


def test_trend_is_kendalls_tau_up_to_each_generation():
    values = np.round(WALKS, 0)  # with ties
    values[1, 7], values[2, :4] = np.nan, np.nan
    found = indicators.trend(values)
    for chain in range(3):
        for last in range(3, 40):
            row = values[chain, : last + 1]
            there = np.isfinite(row)
            if there.sum() < 3:
                assert np.isnan(found[chain, last])
            elif len(set(row[there])) > 1:
                tau = stats.kendalltau(np.flatnonzero(there), row[there]).statistic
                assert found[chain, last] == pytest.approx(tau, abs=1e-12)


def test_trend_knows_infinite_values():
    row = np.array([[3.0, 2.0, -np.inf, -np.inf]])
    tau = stats.kendalltau(np.arange(4), [3.0, 2.0, -9.0, -9.0]).statistic
    assert indicators.trend(row)[0, -1] == pytest.approx(tau)
