"""Comparisons: chance alone rejects as rarely as it says, and what is wrong is rejected."""

import numpy as np
import pytest
from scipy import stats

from collapse_jax.app.reproduce import compare

RNG = np.random.default_rng(11)
TRIALS, LEVEL = 1_000, 0.05
NULL = {
    "means": lambda: compare.means(RNG.gamma(9.0, 1 / 9, (200, 3)), [1.0, 1.0, 1.0]),
    "means within a tolerance": lambda: compare.means(
        RNG.normal(1.05, 1, 200), 1.0, tolerance=0.05, why="a test"
    ),
    "published means": lambda: compare.published_means(
        RNG.normal(2, 1, 100), RNG.normal(2, 0.5), 0.5
    ),
    "medians": lambda: compare.medians(RNG.exponential(1, 101), np.log(2)),
    "quantiles of few values": lambda: compare.quantiles(RNG.poisson(3.0, 150), 5.0, 0.9),
    "proportions": lambda: compare.proportions(RNG.binomial(300, [0.02, 0.7]), 300, [0.02, 0.7]),
    "counts": lambda: compare.counts(
        RNG.multinomial(400, [0.5, 0.3, 0.19, 0.01]), [0.5, 0.3, 0.19, 0.01]
    ),
    "distribution": lambda: compare.distribution(RNG.logistic(0, 1, 80), stats.logistic()),
    "one run of many": lambda: compare.one_of(RNG.normal(size=2), RNG.normal(size=(120, 2))),
    "a bound that is met exactly": lambda: compare.at_most(RNG.normal(3, 1, 200), 3.0),
    "a bound from below": lambda: compare.at_least(RNG.normal(3, 1, 200), 3.0),
}


@pytest.mark.parametrize("kind", NULL)
def test_chance_alone_rejects_no_more_often_than_it_says(kind):
    rejected = sum(NULL[kind]().p_value < LEVEL for _ in range(TRIALS))
    assert stats.binomtest(rejected, TRIALS, LEVEL, alternative="greater").pvalue > 1e-4, (
        rejected / TRIALS
    )


WRONG = {
    "means": lambda: compare.means(RNG.normal([1.0, 1.1], 1, (4_000, 2)), [1.0, 1.0]),
    "beyond the tolerance": lambda: compare.means(
        RNG.normal(1.2, 1, 4_000), 1.0, tolerance=0.05, why="a test"
    ),
    "published means": lambda: compare.published_means(RNG.normal(2, 1, 4_000), 2.2, 0.01),
    "medians": lambda: compare.medians(RNG.exponential(1, 4_000), 0.8),
    "quantiles of few values": lambda: compare.quantiles(RNG.poisson(3.0, 4_000), 7.0, 0.9),
    "proportions": lambda: compare.proportions(
        RNG.binomial(3_000, [0.02, 0.7]), 3_000, [0.04, 0.7]
    ),
    "something impossible": lambda: compare.proportions([1, 2_999], 3_000, [0.0, 1.0]),
    "counts": lambda: compare.counts([1_000, 1_200, 1_000], [1 / 3, 1 / 3, 1 / 3]),
    "an impossible count": lambda: compare.counts([1_000, 1_000, 1], [0.5, 0.5, 0.0]),
    "distribution": lambda: compare.distribution(RNG.logistic(0, 1.2, 4_000), stats.logistic()),
    "a run unlike ours": lambda: compare.one_of(9.0, RNG.normal(size=20_000)),
    "a bound that is broken": lambda: compare.at_most(RNG.normal(3.2, 1, 4_000), 3.0),
    "a bound from below that is broken": lambda: compare.at_least(RNG.normal(2.8, 1, 4_000), 3.0),
    "numbers without chance": lambda: compare.equal([1.0, 1.1], [1.0, 1.0], 0.05, "a test"),
    "no difference where one is claimed": lambda: compare.exceeds(
        RNG.normal(0, 1, 500), RNG.normal(0, 1, 500)
    ),
    "the wrong order": lambda: compare.exceeds(RNG.normal(0, 1, 500), 1.0),
    "nan": lambda: compare.means(np.full(100, np.nan), 1.0),
    "nan in a bound": lambda: compare.at_most(np.full(100, np.nan), 1.0),
    "nan in a median": lambda: compare.medians(np.full(100, np.nan), 1.0),
    "nan in a run": lambda: compare.one_of(1.0, np.full(100, np.nan)),
    "nan in an order": lambda: compare.exceeds(np.full(100, np.nan), 1.0),
    "nan as a number": lambda: compare.equal(np.nan, 1.0, 0.1, "a test"),
    "no chance at all": lambda: compare.means(np.full(100, 1.001), 1.0),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_rejected(kind):
    assert WRONG[kind]().p_value < 1e-4


def test_deterministic_agreement_is_certain():
    assert compare.equal([1.0, 2.0], [1.01, 2.0], 0.05, "rounding").p_value == 1.0
    assert compare.means(np.full(100, 1 + 1e-7), 1.0).p_value == 1.0
    assert compare.exceeds(RNG.normal(1, 1, 500), RNG.normal(0, 1, 500)).p_value == 1.0
    assert compare.exceeds(np.full(5, 2.0), np.full(5, 1.0)).p_value == 1.0
    assert compare.exceeds(np.full(5, 1.0), np.full(5, 1.0)).p_value == 0.0


def test_the_numbers_are_those_of_the_samples():
    samples = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 60.0]])
    one = compare.means(samples, [2.0, 25.0], at=[0, 5], what="x")
    np.testing.assert_allclose(one.ours, [2, 30])
    np.testing.assert_allclose(one.error, np.std(samples, 0, ddof=1) / np.sqrt(3))
    np.testing.assert_allclose(
        one.z, [0, 5 / (np.std([10, 20, 60], ddof=1) / np.sqrt(3))], rtol=1e-5
    )
    assert one.at.tolist() == [0, 5] and one.what == "x" and one.worst() == 1


def test_a_tolerance_is_said_with_its_reason():
    assert compare.equal(1.0, 1.0, 0.25, "one run").rule == "equal within 0.25 (one run)"


def test_refuted_numbers_say_so():
    one = compare.refuted(compare.equal(1.0, 2.0, 0.1, "a test"))
    assert one.refuted and one.rule.startswith("must not agree")


def test_places_must_fit_the_points():
    with pytest.raises(ValueError, match="2 points, but 3 places"):
        compare.means(np.zeros((5, 2)), [0, 0], at=[1, 2, 3])
