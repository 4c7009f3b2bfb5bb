"""Which checks are made, how near is near enough, and what is printed."""

import pathlib

import numpy as np
import pytest

from collapse_jax.drivers import contract
from collapse_jax.drivers.contract import CHECKS, TOLERANT, check_estimator
from collapse_jax.errors import InputError
from collapse_jax.estimators.gaussian import example


@pytest.fixture
def calls(monkeypatch):
    """(check, its tolerance) of the checks that are made, which do nothing and pass."""
    made = []

    def instead(name):
        def check(subject, tolerance=None):
            made.append((name, tolerance))
            assert name != "survives_collapse", "it does not"

        return check

    monkeypatch.setattr(contract, "CHECKS", {name: instead(name) for name in CHECKS})
    return made


def test_only_and_skip(calls):
    assert check_estimator(None, example=example, only=("vmaps", "is_pure")) == ("is_pure", "vmaps")
    assert check_estimator(None, example=example, only="vmaps") == ("vmaps",)
    assert check_estimator(None, example=example, only="vmaps", skip=("vmaps",)) == ()
    rest = set(CHECKS) - {"survives_collapse"}
    assert set(check_estimator(None, example=example, skip="survives_collapse")) == rest


def test_a_tolerance_reaches_the_checks_that_hold_two_programs_against_each_other(calls):
    check_estimator(None, example=example, skip=("survives_collapse",), rtol=0.5)
    assert {name for name, tolerance in calls if tolerance == 0.5} == set(TOLERANT)
    assert {name for name, tolerance in calls if tolerance is None} == set(CHECKS) - set(
        (*TOLERANT, "survives_collapse")
    )


def test_a_line_for_each_check(calls, capsys):
    with pytest.raises(AssertionError, match="survives_collapse: AssertionError: it does not"):
        check_estimator(None, example=example, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(CHECKS)
    assert lines[0] == "is_pure: passed (0.0 s)"
    assert "survives_collapse: AssertionError: it does not (0.0 s)" in lines
    check_estimator(None, example=example, only="vmaps")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"only": ("vmap",)}, "only has 'vmap'; it must be made of is_pure"),
        ({"skip": ("vmap",)}, "skip has 'vmap'; it must be made of is_pure"),
        ({"rtol": 0}, "rtol is 0; it must be"),
        ({"rtol": "much"}, "rtol is 'much'; it must be"),
    ],
)
def test_bad_options_are_named(options, text):
    with pytest.raises(InputError, match=text):
        check_estimator(None, example=example, **options)


def test_the_relative_difference_is_said():
    """475 and 598 degrees of freedom are one model where the likelihood is flat."""
    found, wanted = {"df": np.array([3.3, 475.0])}, {"df": np.array([3.3, 598.0])}
    with pytest.raises(AssertionError, match=r"relative difference 0\.21, allowed 0\.001; .*rtol="):
        contract._assert_same(found, wanted, "under simulate, and under run", 1e-3)
    contract._assert_same(found, wanted, "under simulate, and under run", 0.25)


def test_every_check_is_documented():
    page = pathlib.Path(__file__).parents[2] / "docs" / "contract.md"
    for text in (check_estimator.__doc__, page.read_text(encoding="utf-8")):
        assert all(name in text for name in CHECKS)
