"""Gerstgrasser et al. 2024: least squares on the labels of its predecessors.

With the real data discarded or kept.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("2404.01413", "Gerstgrasser et al. 2024", "Is Model Collapse Inevitable?")
SIZE, DIM, TRUTH = 50, 10, np.zeros(10)
AT = np.array([0, 1, 4, 9, 19])
DESIGN = np.random.default_rng(0).normal(size=(SIZE, DIM))
SETTING = (
    f"T = {SIZE} rows, d = {DIM} features N(0, I), noise 1, generations 0 to 19, 20,000 chains"
)


def test_error(key, workflow, design=None, at=AT):
    """Excess risk [chain, at] of the fits, labels made anew by the newest fit."""
    estimator = cj.estimators.linear_regression(DIM, design=design)
    real = cj.sources.population(estimator, cj.estimators.regression_params(TRUTH))
    process = cj.generational_process(estimator, real, workflow, sample_size=SIZE)
    return cj.simulate(
        process, key, generations=int(at[-1]), chains=20_000, metrics="test_error", record=at
    )["test_error"]


@entry(
    "ger-linreg-replace",
    claim="Discarded data: every generation adds the same to the test error of least squares.",
    status="published formula",
    setting=SETTING + ", fresh features and one design",
    oracle="n noise^2 d / (T - d - 1) after n fits (section 3 of the paper, after 2402.07712): "
    "theory.regression.expected_test_error; for the one design tr (X'X)^-1 instead of the "
    "mean d / (T - d - 1): theory.regression.design_test_error",
    y="test error",
)
def replace(key):
    fresh, same = (
        test_error(key, cj.workflows.replace()),
        test_error(key, cj.workflows.replace(), DESIGN),
    )
    exact = theory.regression.expected_test_error(AT, SIZE, DIM)
    one = theory.regression.design_test_error(AT, DESIGN, TRUTH)
    return [
        compare.means(fresh, exact, at=AT, what="test error, fresh features"),
        compare.means(same, one, at=AT, what="test error, one design"),
        compare.equal(
            one / one[0], AT + 1, 1e-9, "float64", at=AT, what="closed form over its first"
        ),
    ]


@entry(
    "ger-linreg-acc",
    claim="Kept data: the test error of least squares stays below pi^2/6 of the first, for any "
    "number of generations.",
    status="published formula",
    setting=SETTING + " and 200, one design",
    oracle="the sum of 1/i^2 over the fits (Theorem 2 of the paper), at most pi^2/6: "
    "theory.regression.design_test_error, limiting_test_error",
    y="test error",
)
def accumulate(key):
    at = np.array([*AT, 199])
    errors = test_error(key, cj.workflows.accumulate(), DESIGN, at)
    exact = theory.regression.design_test_error(at, DESIGN, TRUTH, workflow="accumulate")
    limit = exact[0] * np.pi**2 / 6
    return [
        compare.means(errors, exact, at=at, what="test error, accumulate"),
        compare.means(
            errors[:, -1],
            limit,
            at=[199],
            tolerance=exact[0] / 200,
            why="fits from the 201st on",
            what="limit pi^2/6",
        ),
        compare.at_most(errors, np.full(len(at), limit), at=at, what="bound pi^2/6"),
        compare.equal(
            exact[:5] / exact[0],
            [1, 1.25, 1.464, 1.550, 1.596],
            5e-4,
            "digits",
            at=AT,
            what="closed form over its first",
        ),
    ]


@entry(
    "ger-linreg-acc-fresh",
    claim="With new features in every generation and kept data, the error stays below pi^2/6 at "
    "a finite T/d: here at most 1.54 times the first.",
    status="derived here",
    setting=SETTING,
    oracle="noise^2 d times the sum of 1 / (i (i T - d - 1)), from the inverse of a Wishart sum: "
    "theory.regression.expected_test_error; as the trap in the paper's setting, whose theorem has "
    "one design",
    y="test error",
)
def accumulate_fresh(key):
    errors = test_error(key, cj.workflows.accumulate())
    exact = theory.regression.expected_test_error(AT, SIZE, DIM, workflow="accumulate")
    published = theory.regression.expected_test_error(
        AT, SIZE, DIM, workflow="accumulate", design="same"
    )
    return [
        compare.means(errors, exact, at=AT, what="test error, accumulate, fresh features"),
        compare.refuted(
            compare.means(errors[:, -1], published[-1], at=[19], what="test error of one design")
        ),
    ]
