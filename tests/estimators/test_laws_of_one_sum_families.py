"""One-parameter families in the workflows that keep old data: exact second moments, |z| < 4."""

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.theory import exponential_families as theory

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(88)
ESTIMATORS = cj.estimators
# family, the population, and its mean; of the Pareto, 1 / shape, which is the mean of the
# log-excesses.
FAMILIES = {
    "bernoulli": (ESTIMATORS.bernoulli(), ESTIMATORS.bernoulli_params(0.3), "mean", 0.3),
    "poisson": (ESTIMATORS.poisson(), ESTIMATORS.poisson_params(0.8), "mean", 0.8),
    "exponential": (ESTIMATORS.exponential(), ESTIMATORS.exponential_params(2.0), "mean", 2.0),
    "pareto": (ESTIMATORS.pareto(), ESTIMATORS.pareto_params(4.0), "log_shape", 0.25),
}
MIXED = {"workflow": "mix", "alpha": 0.5, "beta": 0.0, "gamma": 0.5}
SLOW = [
    ("bernoulli", {"workflow": "accumulate"}),
    ("bernoulli", {"workflow": "mix", "alpha": 0.5, "beta": 0.3, "gamma": 0.2}),
    ("poisson", {"workflow": "accumulate_subsample"}),
    ("exponential", MIXED),
    (
        "pareto",
        {"workflow": "mix", "alpha": 0.5, "beta": 0.3, "gamma": 0.2, "random_counts": False},
    ),
]
CASES = [
    ("poisson", {"workflow": "accumulate"}),
    ("poisson", MIXED),
    ("exponential", {"workflow": "accumulate"}),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW),
]


@pytest.mark.parametrize(
    ("name", "case"),
    CASES,
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_moments_of_the_mean(name, case, assert_mean):
    family, params, metric, mean = FAMILIES[name]
    options = {key: value for key, value in case.items() if key != "workflow"}
    workflow = getattr(cj.workflows, case["workflow"])(**options)
    process = cj.generational_process(
        family, cj.sources.population(family, params), workflow, sample_size=10
    )
    trace = cj.simulate(
        process, KEY, generations=6, chains=10_000, metrics=(metric,), record=(0, 2, 6)
    )
    values = trace[metric].astype(np.float64)
    values = np.exp(-values) if name == "pareto" else values
    quadratic = theory.QUADRATICS["exponential" if name == "pareto" else name]
    assert_mean(values, mean)
    assert_mean(
        (values - mean) ** 2,
        theory.expected_squared_mean_error(trace.generations, 10, mean, quadratic, **case),
    )
