"""Policies against brute force over whole points, and against the real process."""

import itertools

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.theory import spending

pytestmark = pytest.mark.usefixtures("quick_compile")
E = cj.estimators
KEY = jax.random.key(3)
FAST = {"starts": 2, "steps": 60}


def value(counts, objective, **options):
    errors = spending.expected_squared_error(*counts, **options)
    return errors[..., -1] if objective == "final" else errors[..., 1:].mean(-1)


@pytest.mark.parametrize("workflow", spending.WORKFLOWS)
@pytest.mark.parametrize("objective", ["final", "mean"])
def test_of_all_ways_to_share_out_the_best(workflow, objective):
    """Every way to give 9 real points to 4 sets of 5; sizes that differ too."""
    for sizes, v2 in ((np.full(4, 5), 0.0), (np.array([3, 6, 2, 5]), -1.0)):
        ways = np.array(list(itertools.product(*(range(size + 1) for size in sizes))))
        ways = ways[ways.sum(1) == 9]
        options = {"first": 4, "workflow": workflow, "v2": v2}
        best = value((ways, sizes - ways), objective, **options).min()
        found = cj.policy(4, real=9, sample_size=sizes, objective=objective, **options, **FAST)
        assert found.value == pytest.approx(best, rel=1e-12)
        assert found.real.sum() == 9 and np.array_equal(found.sizes, sizes)
        assert np.all((found.real >= 0) & (found.real <= sizes))
        assert found.constant_value >= best
        exact = spending.expected_squared_error(found.real, found.synthetic, **options)
        np.testing.assert_allclose(found.errors, exact, rtol=1e-12)


@pytest.mark.parametrize("workflow", spending.WORKFLOWS)
@pytest.mark.parametrize("objective", ["final", "mean"])
def test_of_all_ways_to_spend_a_budget_the_best(workflow, objective):
    """Three generations, a real point at 2 and a synthetic one at 1, 14 together."""
    cells = np.array(list(itertools.product(range(8), range(13), repeat=3))).reshape(-1, 3, 2)
    cost = (cells @ [2, 1]).sum(1)
    ways = cells[(cost <= 14) & (cost >= 12) & (cells.sum(2) >= 1).all(1)].astype(float)
    options = {"first": 3, "workflow": workflow}
    values = value((ways[:, :, 0], ways[:, :, 1]), objective, **options)
    found = cj.policy(
        3, budget=14, real_cost=2, synthetic_cost=1, objective=objective, **options, **FAST
    )
    assert found.value == pytest.approx(values.min(), rel=1e-12)
    assert 2 * found.real.sum() + found.synthetic.sum() <= 14 and found.sizes.min() >= 1
    alike = np.all(ways == ways[:, :1], axis=(1, 2))
    assert found.constant_value == pytest.approx(values[alike].min(), rel=1e-12)


def test_late_early_and_in_turns():
    """The answers of docs/policies.md."""
    options = {"real": 100, "sample_size": 100}
    late = cj.policy(20, **options, **FAST)
    np.testing.assert_array_equal(late.real, [0] * 19 + [100])
    assert late.value == pytest.approx(0.01)
    early = cj.policy(20, real=500, sample_size=100, workflow="accumulate", **FAST)
    np.testing.assert_array_equal(early.real, [100] * 5 + [0] * 15)
    turns = cj.policy(20, real=500, sample_size=100, objective="mean", **FAST)
    assert turns.value < 0.94 * turns.constant_value
    apart = np.flatnonzero(turns.real >= 20)
    assert np.all(np.diff(apart) == 2) and turns.real[apart].sum() >= 495


@pytest.mark.parametrize(
    ("workflow", "name"),
    [
        ("mix", "empirical"),
        ("accumulate", "gaussian"),
        pytest.param("mix", "gaussian", marks=pytest.mark.slow),
        pytest.param("accumulate", "empirical", marks=pytest.mark.slow),
    ],
)
def test_the_process_errs_as_its_policy_says(workflow, name):
    family, params = {
        "gaussian": (E.gaussian(1, ddof=0), E.gaussian_params(1.0, 4.0)),
        "empirical": (E.empirical(), E.empirical_params([0.0, 1.0, 3.0, 7.0])),
    }[name]
    found = cj.policy(
        5, real=14, sample_size=[6, 9, 4, 8, 6], first=7, workflow=workflow, v2=-1.0, **FAST
    )
    source = cj.sources.population(family, params)
    check = found.check(KEY, family, source, chains=2000)
    assert np.abs(check.z).max() < 4, repr(check)
    assert "expected" in repr(check)


def test_what_a_policy_gives():
    found = cj.policy(3, real=6, sample_size=[4, 5, 6], first=8, **FAST)
    size, share = found.to_sample_size(), found.to_real_share()
    assert [int(size(g)) for g in range(5)] == [8, 4, 5, 6, 6]
    np.testing.assert_allclose([float(share(g)) for g in range(4)], [1.0, *found.shares])
    rows = found.to_rows()
    assert [row["real"] for row in rows] == [8, *found.real.tolist()]
    assert rows[-1]["error"] == found.value and "best constant" in repr(found)
    process = found.to_process(E.kde(1), cj.sources.normal(0.0, 1.0))
    state, _ = process.init(KEY)
    for g, (real, of) in enumerate(zip(found.real, found.sizes, strict=True), 1):
        state, info = process.step(jax.random.fold_in(KEY, g), state)
        assert info.data.weight.sum() == of and real <= of


@pytest.mark.slow
def test_workflows_of_tables_keep_the_contract():
    for flow in ("mix", "accumulate"):
        assert "same_in_both_drivers" in cj.check_workflow(
            cj.workflows.planned([0, 4, 12], workflow=flow)
        )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cj.policy(0, real=3, sample_size=5), "generations is 0"),
        (lambda: cj.policy(3), "give real and sample_size"),
        (lambda: cj.policy(3, real=16, sample_size=5), "real is 16, but the training sets have 15"),
        (lambda: cj.policy(3, real=-1, sample_size=5), "real is -1"),
        (lambda: cj.policy(3, real=3, sample_size=[5, 5]), r"sample_size has shape \[2\]"),
        (lambda: cj.policy(3, real=3, sample_size=[5, 0, 5]), "generation 2 is 0"),
        (lambda: cj.policy(3, real=3, sample_size=5, real_cost=2), "real_cost is 2 without"),
        (lambda: cj.policy(3, real=3, sample_size=5, workflow="replace"), "workflow is 'replace'"),
        (lambda: cj.policy(3, real=3, sample_size=5, objective="last"), "objective is 'last'"),
        (lambda: cj.policy(3, real=3, sample_size=5, v2=-2), "v2 is -2"),
        (lambda: cj.policy(3, budget=9, synthetic_cost=1, first=3, real=3), "real is given with"),
        (lambda: cj.policy(3, budget=9, first=3), "synthetic_cost is not given"),
        (lambda: cj.policy(3, budget=9, synthetic_cost=0, first=3), "synthetic_cost is 0"),
        (lambda: cj.policy(3, budget=2, synthetic_cost=1, first=3), "need one point each"),
        (lambda: cj.workflows.planned([1, -2]), r"real\[1\] is -2"),
        (lambda: cj.workflows.planned([[1]]), r"real has shape \[1, 1\]"),
        (lambda: cj.workflows.planned([1], workflow="replace"), "workflow is 'replace'"),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(cj.InputError, match=says) as error:
        call()
    assert "\n" not in str(error.value)
