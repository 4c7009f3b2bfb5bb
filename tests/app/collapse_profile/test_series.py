"""Intervals over chains: against SciPy's, and against laws that are known."""

import numpy as np
import pytest
from scipy import stats

from collapse_jax.app.collapse_profile.series import LEVEL, Chains, Summarised
from collapse_jax.drivers.recorded import Statistics
from collapse_jax.drivers.summary import QUANTILES, summarise


def drawn(law, chains, generations=4, seed=0):
    return law.rvs((chains, generations), random_state=np.random.default_rng(seed))


@pytest.mark.parametrize("chains", [6, 37, 200])
def test_medians_have_scipys_interval(chains):
    x = drawn(stats.norm(), chains)
    band = Chains(x).median()
    assert band.level == LEVEL
    for column in range(x.shape[1]):
        exact = stats.quantile_test(x[:, column], p=0.5).confidence_interval(LEVEL)
        assert (band.low[column], band.high[column]) == (exact.low, exact.high)
    np.testing.assert_array_equal(band.number, np.median(x, axis=0))


@pytest.mark.parametrize(("chains", "level"), [(1, 0.0), (2, 0.5), (3, 0.75), (5, 0.9375)])
def test_few_chains_say_how_rarely_they_hold_the_median(chains, level):
    x = drawn(stats.norm(), chains)
    band = Chains(x).median()
    assert band.level == pytest.approx(level)  # 1 - 2^(1 - n): not all on one side
    np.testing.assert_array_equal([band.low, band.high], [x.min(0), x.max(0)])


def test_means_have_students_interval():
    x = drawn(stats.norm(3), 20)
    band = Chains(x).mean()
    exact = stats.ttest_1samp(x, 0).confidence_interval(LEVEL)
    np.testing.assert_allclose([band.low, band.high], [exact.low, exact.high], rtol=1e-12)
    assert not band.few.any()


def test_missing_chains_are_left_out():
    x = drawn(stats.norm(), 30)
    x[20:, 2] = np.nan
    whole, short = Chains(x), Chains(x[:20, 2:3])
    for name in ("mean", "median"):
        band, alone = getattr(whole, name)(), getattr(short, name)()
        assert (band.number[2], band.low[2], band.high[2]) == (
            alone.number[0], alone.low[0], alone.high[0],
        )  # fmt: skip


def test_ratios_of_means_hold_the_true_one_as_often_as_they_say():
    rng, held = np.random.default_rng(1), []
    for _ in range(400):
        first = rng.gamma(4.0, size=60)
        # The same chain later: correlated, with 3 times the mean.
        x = np.stack([first, 1.5 * (first + rng.gamma(4.0, size=60))], axis=1)
        band = Chains(x).log_ratio_of_means(0)
        held.append(band.low[1] <= np.log(3.0) <= band.high[1])
    assert abs(np.sum(held) - 380) < 4 * np.sqrt(400 * 0.95 * 0.05)
    assert band.number[0] == band.low[0] == band.high[0] == 0


def test_ratios_of_medians_hold_the_true_one_at_least_as_often():
    rng, held = np.random.default_rng(2), []
    for _ in range(300):
        x = rng.exponential(size=(40, 2)) * [1.0, 5.0]
        band = Chains(x).log_ratio_of_medians(0)
        held.append(band.low[1] <= np.log(5.0) <= band.high[1])
    assert np.mean(held) > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 300)


def test_a_mean_that_few_carry_is_bounded_from_below_alone():
    law = stats.pareto(1.1)  # mean 11, infinite variance
    bands = [Chains(drawn(law, 4000, 1, seed)).mean() for seed in range(100)]
    few = [band for band in bands if band.few.all()]
    # Hill's estimate has an error of 1 / sqrt(200): few are taken for laws of power 1.5.
    assert len(few) >= 95 and all(np.isposinf(band.high[0]) for band in few)
    below = sum(band.low[0] <= law.mean() for band in few)
    assert below >= len(few) - 4 * np.sqrt(len(few) * 0.025)
    assert min(band.low[0] for band in few) > 2  # it says something: the median is 1.88


@pytest.mark.parametrize("law", [stats.chi2(1), stats.expon(), stats.lognorm(0.5), stats.uniform()])
def test_ordinary_means_are_not_carried_by_few(law):
    assert not Chains(drawn(law, 1000, 50)).mean().few.any()


@pytest.mark.parametrize("transform", ["same", "negative", "bits", "complement"])
def test_statistics_alone_give_the_same_mean(transform):
    x = drawn(stats.norm(1), 400)
    parts = summarise(x, len(x))
    kept = Chains(x).transformed(transform)
    alone = Summarised(Statistics(*(parts[name][0] for name in ("mean", "std", "quantile"))),
                       QUANTILES, len(x)).transformed(transform)  # fmt: skip
    for ours, theirs in zip(alone.mean()[:3], kept.mean()[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    ours, theirs = alone.median(), kept.median()
    np.testing.assert_allclose(ours.number, theirs.number, rtol=1e-9, atol=1e-12)
    # Both are sqrt(pi / 2) deviations over sqrt(n) wide, up to their own noise.
    exact = 2 * stats.norm.ppf(0.975) * np.sqrt(np.pi / 2 / 400) * (0.693 if transform == "bits"
                                                                    else 1)  # fmt: skip
    np.testing.assert_allclose((ours.high - ours.low) / exact, 1, atol=0.3)


def test_without_a_count_statistics_have_no_interval():
    parts = summarise(drawn(stats.norm(), 50), 50)
    alone = Summarised(Statistics(*(parts[name][0] for name in ("mean", "std", "quantile"))),
                       QUANTILES, 0)  # fmt: skip
    for band in (alone.mean(), alone.median(), alone.log_ratio_of_medians(0)):
        assert band.level == 0
