"""Verdicts, at a level that limits the false alarms of the whole table."""

import jax
import numpy as np
import pytest
from scipy import stats

from collapse_jax.app.reproduce import (
    FALSE_ALARM,
    OutOfReach,
    Paper,
    compare,
    decide,
    entry,
    out_of_reach,
    report,
)
from collapse_jax.app.reproduce.judge import AGREES, DIFFERS, DISAGREES, FAILED, UNREACHABLE, key_of

TEXT = {"claim": "A claim.", "status": "derived here", "setting": "none", "oracle": "none"}
GOOD, BAD = compare.equal(1.0, 1.0, 0.1, "a test"), compare.equal(2.0, 1.0, 0.1, "a test")


def made(*comparisons, id="x", **options):
    return entry(id, **TEXT, **options)(lambda key: list(comparisons))._replace(
        paper=Paper("1234.56789", "Somebody 2020", "Something")
    )


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (made(GOOD), AGREES),
        (made(GOOD, BAD), FAILED),
        (made(), FAILED),
        (made(GOOD, differs="code and text"), DIFFERS),
        (made(GOOD, BAD, differs="code and text"), FAILED),
        (made(GOOD, compare.refuted(BAD), disagrees="rare runs"), DISAGREES),
        (made(GOOD, compare.refuted(GOOD), disagrees="rare runs"), FAILED),
        (
            made(
                GOOD,
                compare.refuted(compare.equal(np.nan, 1.0, 0.1, "a test")),
                disagrees="rare runs",
            ),
            FAILED,
        ),
        (out_of_reach("y", **TEXT, cost="weights", command="collapse-jax lm"), UNREACHABLE),
    ],
)
def test_verdicts(one, verdict):
    assert decide(one, 0, 10).verdict == verdict


def test_a_check_that_raises_fails_in_one_line():
    def check(key):
        raise RuntimeError("broken\nin two lines")

    result = decide(entry("x", **TEXT)(check), 0, 10)
    assert (result.verdict, result.reason) == (FAILED, "RuntimeError: broken")


def test_what_is_missing_is_said():
    def check(key):
        raise OutOfReach("needs scikit-learn")

    assert decide(entry("x", **TEXT)(check), 0, 10)[1:5] == (
        UNREACHABLE,
        (),
        0.0,
        "needs scikit-learn",
    )


def test_levels_share_the_false_alarm():
    result = decide(made(GOOD, GOOD, compare.refuted(BAD), disagrees="rare runs"), 0, 50)
    assert result.level == pytest.approx(FALSE_ALARM / 50 / 2)


def test_the_whole_table_raises_few_false_alarms():
    """20 entries of 3 comparisons that are all true, 200 times.

    As many failing tables as FALSE_ALARM says, or fewer.
    """
    from scipy import stats

    rng = np.random.default_rng(5)

    def table():
        return any(
            decide(
                made(*(compare.means(rng.normal(size=400), 0.0) for _ in range(3))), 0, 20
            ).verdict
            == FAILED
            for _ in range(20)
        )

    alarms = sum(table() for _ in range(200))
    assert stats.binomtest(alarms, 200, FALSE_ALARM, alternative="greater").pvalue > 1e-3, alarms


def test_the_headline_is_what_failed():
    assert decide(made(GOOD, BAD), 0, 10).headline() is BAD
    refuted = compare.refuted(BAD)
    assert decide(made(refuted, GOOD, disagrees="rare runs"), 0, 10).headline() is GOOD


def test_what_decided_is_said_with_what_is_allowed():
    """By Bonferroni's rule over 50 entries, 2 comparisons and 3 points."""
    three = compare.estimates([1.0, 1.2, 1.0], [0.1] * 3, [1.0] * 3, at=[5, 8, 9], what="reach")
    one = compare.estimates([1.0], [0.1], [1.0], what="identity")
    allowed = stats.norm.isf(FALSE_ALARM / 50 / 2 / 3 / 2)
    said = report.decided_by(decide(made(three, one), 0, 50))
    assert said == (
        f"least probable of 4 numbers compared: reach, at 8; |z| up to {allowed:.1f} is allowed"
    )
    allowed = stats.norm.isf(FALSE_ALARM / 50 / 2)
    said = report.decided_by(decide(made(one._replace(p_value=1.0)), 0, 50))
    assert said == f"identity; |z| up to {allowed:.1f} is allowed"
    assert report.decided_by(decide(made(GOOD), 0, 50)) == GOOD.what
    assert report.decided_by(decide(made(), 0, 50)) == ""


def test_keys_follow_seed_and_id_alone():
    keys = [
        jax.random.key_data(key_of(made(GOOD, id=id), seed)).tolist()
        for id in ("a", "b")
        for seed in (0, 1)
    ]
    assert len({tuple(key) for key in keys}) == 4
    assert jax.random.key_data(key_of(made(BAD, id="a", differs="more"), 0)).tolist() == keys[0]
