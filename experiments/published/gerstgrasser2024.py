"""Gerstgrasser et al. 2024: least squares on the labels of its predecessors, with the real data thrown away or kept."""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.reproduce import Paper, compare, entry

PAPER = Paper("2404.01413", "Gerstgrasser et al. 2024", "Is Model Collapse Inevitable?")
SIZE, DIM = 50, 10
SETTING = f"T = {SIZE} rows, d = {DIM} features N(0, I), noise 1, generations 0 to 19, 1,500 chains"


def test_error(key, workflow, design=None):
    """Excess risk of the fits [chain, generation], labels made anew by the newest fit."""
    estimator = cj.estimators.linear_regression(DIM, design=design)
    real = cj.sources.population(estimator, cj.estimators.regression_params(np.zeros(DIM)))
    process = cj.generational_process(estimator, real, workflow, sample_size=SIZE)
    return cj.simulate(process, key, generations=19, chains=1_500, metrics="test_error")["test_error"]


@entry(
    "ger-linreg-replace",
    claim="Thrown-away data: every generation adds the same to the test error of least squares.",
    status="published formula",
    setting=SETTING + ", fresh features",
    oracle="n noise^2 d / (T - d - 1) after n fits (section 3 there, after 2402.07712): theory.regression.expected_test_error",
    y="test error",
)
def replace(key):
    at = np.array([0, 1, 4, 9, 19])
    errors = test_error(key, cj.workflows.replace())
    return compare.means(errors[:, at], theory.regression.expected_test_error(at, SIZE, DIM), at=at, what="test error, replace")
