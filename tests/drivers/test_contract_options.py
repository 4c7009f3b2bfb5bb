"""Which checks are made, how near is near enough, and what is printed."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.drivers import checks, contract
from collapse_jax.drivers.contract import check_estimator
from collapse_jax.drivers.contract_checks import CHECKS, TOLERANT, assert_same
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
        ({"workflows": ("mixed",)}, "workflows is 'mixed'; it must be made of mix, accumulate"),
        ({"workflows": (1,)}, "workflows .*one of cj.workflows"),
        ({"verbose": "yes"}, "verbose is 'yes'; it must be True"),
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
        assert_same(found, wanted, "under simulate, and under run", 1e-3)
    assert_same(found, wanted, "under simulate, and under run", 0.25)


def test_every_check_is_documented():
    page = pathlib.Path(__file__).parents[2] / "docs" / "contract.md"
    for text in (check_estimator.__doc__, page.read_text(encoding="utf-8")):
        assert all(name in text for name in CHECKS)


def test_workflows_take_the_place_of_the_three(calls):
    options = {"example": example, "only": ("is_pure",)}
    assert check_estimator(None, workflows="mix", **options) == ("is_pure", "runs_under_mix")
    assert check_estimator(None, workflows=(), **options) == ("is_pure",)
    rest = check_estimator(None, example=example, skip="survives_collapse", workflows=("mix",))
    assert [name for name in rest if name.startswith("runs_")] == ["runs_under_mix"]
    assert set(CHECKS) - set(rest) == {
        *("survives_collapse", "runs_under_accumulate", "runs_under_accumulate_subsample")
    }


def test_a_workflow_of_ones_own_is_run():
    def broken(key, carry, supply, n):
        data = supply.model(key, n)
        return carry, jax.tree.map(lambda leaf: leaf * jnp.where(supply.generation > 1, 0, 1), data)

    own = cj.workflows.replace()._replace(name="own", next=broken)
    with pytest.raises(AssertionError, match=r"runs_under_own: .* is nan under own, in generation"):
        check_estimator(normal, only=("is_pure",), workflows=(own,))


def normal():
    """Its deviation is 0 / 0 without any point."""

    def fit(key, params, data):
        total = data.weight.sum()
        return data.weight @ data.x / total, cj.FitInfo.exact()

    def sample(key, params, n):
        return params + jax.random.normal(key, (n,))

    return cj.estimator(fit, sample, metrics={"mean": lambda params: params})


def test_lines_go_to_a_function_or_a_terminal_and_not_to_a_file(calls, capsys, monkeypatch):
    lines = []
    check_estimator(None, example=example, only="vmaps", verbose=lines.append)
    assert lines == ["vmaps: passed (0.0 s)"] and capsys.readouterr().out == ""
    monkeypatch.setattr(checks, "is_watched", lambda: True)
    check_estimator(None, example=example, only="vmaps")
    assert capsys.readouterr().out == "vmaps: passed (0.0 s)\n"
    check_estimator(None, example=example, only="vmaps", verbose=False)
    assert capsys.readouterr().out == ""


def test_programs_are_compiled_once_for_all_checks():
    """Fits of small samples, before and after others; counted by the traces of `fit`."""
    traced = []
    one = normal()

    def fit(key, params, data):
        traced.append(data.x.shape)
        return one.fit(key, params, data)

    subject = contract.Subject(cj.estimator(fit, one.sample, metrics=one.metrics), jnp.array(1.0))
    traced.clear()
    CHECKS["survives_collapse"](subject)
    CHECKS["statistics_add"](subject)
    CHECKS["survives_collapse"](subject)
    assert traced == [(24,), (29,)]
