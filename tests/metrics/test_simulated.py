"""Metrics and distances of simulated chains against their exact means (|z| < 4).

Many collapsed chains are among them.
"""

import functools

import jax
import numpy as np
import pytest

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.drivers.simulate import simulate
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical
from collapse_jax.estimators.gaussian import gaussian
from collapse_jax.theory import categorical as categorical_theory
from collapse_jax.theory import gaussian_divergence, lyapunov, wasserstein

pytestmark = pytest.mark.usefixtures("quick_compile")
PROBABILITIES = np.array([0.35, 0.25, 0.2, 0.1, 0.06, 0.04])
COVARIANCE = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.5]])


def gaussian_process(dim, ddof, sample_size, workflow="replace"):
    source = sources.normal(np.zeros(dim), COVARIANCE if dim == 3 else np.eye(dim))
    return generational_process(
        gaussian(dim, ddof), source, getattr(workflows, workflow)(), sample_size=sample_size
    )


@functools.cache
def gaussian_chains(dim, ddof, sample_size, workflow="replace"):
    names = ["squared_wasserstein2", "kl_model_to_real", "kl_real_to_model"]
    names += ["total_variation"] if dim == 1 else ["entropy", "trace", "log_scale"]
    process = gaussian_process(dim, ddof, sample_size, workflow)
    return simulate(
        process, jax.random.key(3), generations=9, chains=4096, metrics=names, record=[0, 1, 3, 9]
    )


@pytest.mark.parametrize(
    ("ddof", "workflow"),
    [
        (0, "replace"),
        (1, "accumulate"),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in ((1, "replace"), (0, "accumulate"))
        ),
    ],
)
def test_wasserstein_distance_in_one_dimension(ddof, workflow, assert_mean):
    trace = gaussian_chains(1, ddof, 20, workflow)
    wanted = wasserstein.expected_squared_wasserstein2(
        trace.generations, 20, ddof=ddof, workflow=workflow
    )
    assert_mean(trace["squared_wasserstein2"], wanted)
    assert (trace["total_variation"] > 0).all() and (trace["total_variation"] < 1).all()
    # Pinsker's inequality, chain by chain
    assert (
        2 * trace["total_variation"] ** 2
        <= np.minimum(trace["kl_model_to_real"], trace["kl_real_to_model"]) + 1e-6
    ).all()


def test_wasserstein_distance_in_three_dimensions_keeps_to_its_bounds():
    trace = gaussian_chains(3, 1, 20)
    eigenvalues = np.linalg.eigvalsh(COVARIANCE)
    mean, error = trace["squared_wasserstein2"].mean(0), trace["squared_wasserstein2"].std(0) / 64
    assert (
        mean
        > wasserstein.squared_wasserstein2_lower_bound(trace.generations, 20, eigenvalues, ddof=1)
        - 4 * error
    ).all()
    assert (
        mean
        < wasserstein.squared_wasserstein2_upper_bound(trace.generations, 20, eigenvalues, ddof=1)
        + 4 * error
    ).all()


@pytest.mark.parametrize(("dim", "ddof"), [(1, 0), (1, 1), (3, 1)])
def test_divergences(dim, ddof, assert_mean):
    trace = gaussian_chains(dim, ddof, 20)
    wanted = gaussian_divergence.expected_reverse_kl(trace.generations, 20, ddof=ddof, dim=dim)
    assert_mean(trace["kl_model_to_real"], wanted)
    # Later generations of the other have no finite variance.
    early = gaussian_divergence.expected_forward_kl(trace.generations[:2], 20, ddof=ddof, dim=dim)
    assert_mean(trace["kl_real_to_model"][:, :2], early)


def test_entropy_trace_and_log_scales(assert_mean):
    trace = gaussian_chains(3, 1, 20)
    unit = np.linalg.det(COVARIANCE) ** (1 / 3)
    assert_mean(
        trace["entropy"],
        gaussian_divergence.expected_entropy(trace.generations, 20, ddof=1, dim=3, variance=unit),
    )
    assert_mean(
        trace["trace"],
        wasserstein.expected_trace(trace.generations, 20, np.linalg.eigvalsh(COVARIANCE), ddof=1),
    )
    start = np.log(np.diag(np.linalg.cholesky(COVARIANCE)))
    assert_mean(
        trace["log_scale"], lyapunov.expected_log_scales(trace.generations, 20, 3, ddof=1) + start
    )


def categorical_chains(workflow, metrics=None):
    """Chains with the metrics of these names, or with all."""
    process = generational_process(
        categorical(6), sources.categorical(PROBABILITIES), workflow, sample_size=12
    )
    metrics = tuple(process.metrics) if metrics is None else metrics
    return simulate(
        process,
        jax.random.key(4),
        generations=30,
        chains=4096,
        metrics=metrics,
        record=[0, 1, 3, 10, 30],
    )


def test_categorical_distances(assert_mean):
    trace = categorical_chains(workflows.replace())
    wanted = {
        "missing_mass": categorical_theory.expected_missing_mass,
        "total_variation": categorical_theory.expected_total_variation,
        "kl_model_to_real": categorical_theory.expected_reverse_kl,
        "squared_distance": categorical_theory.expected_squared_distance,
        "entropy": categorical_theory.expected_entropy,
        "support": categorical_theory.expected_support,
        "heterozygosity": categorical_theory.expected_heterozygosity,
    }
    for name, expected in wanted.items():
        assert_mean(trace[name], expected(trace.generations, 12, PROBABILITIES))
    np.testing.assert_array_equal(np.isinf(trace["kl_real_to_model"]), trace["support"] < 6)
    np.testing.assert_array_equal(trace["absorbed"], trace["support"] == 1)
    assert not any(np.isnan(values).any() for values in trace.values())
    # The distance along the index is at least that of the means.
    offset = np.abs(trace["mean"] - PROBABILITIES @ np.arange(6))
    assert (trace["wasserstein2"] > offset - 1e-4).all()


def test_categorical_distances_under_accumulate(assert_mean):
    wanted = {
        "squared_distance": categorical_theory.expected_squared_distance,
        "heterozygosity": categorical_theory.expected_heterozygosity,
    }
    trace = categorical_chains(workflows.accumulate(), tuple(wanted))
    for name, expected in wanted.items():
        assert_mean(
            trace[name], expected(trace.generations, 12, PROBABILITIES, workflow="accumulate")
        )


HEAVY = (
    "squared_wasserstein2",
    "kl_model_to_real",
    "kl_real_to_model",
    "effective_rank",
    "log_condition_number",
)
LIGHT = (
    "log_trace",
    "trace",
    "log_determinant",
    "log_scale",
    "entropy",
    "wasserstein2",
    "condition_number",
)


@pytest.mark.parametrize("dim", [1, pytest.param(14, marks=pytest.mark.slow)])
def test_no_metric_is_nan_however_far_a_gaussian_has_collapsed(dim):
    process = gaussian_process(dim, 0, dim + 4)
    last_one, chains = (3000, 64) if dim < 14 else (2000, 16)
    more = ("total_variation",) if dim == 1 else ()
    trace = simulate(
        process,
        jax.random.key(5),
        generations=last_one,
        chains=chains,
        metrics=HEAVY + LIGHT + more,
        record=last_one,
    )
    assert not any(np.isnan(values).any() for values in trace.values())
    last = {name: values[:, -1] for name, values in trace.items()}
    assert (
        (last["log_trace"] < -150).all()
        and (last["trace"] == 0).all()
        and np.isfinite(last["log_determinant"]).all()
    )
    assert (
        np.isfinite(last["kl_model_to_real"]).all()
        and np.isfinite(last["squared_wasserstein2"]).all()
    )
    assert (last["kl_real_to_model"] == np.inf).all()
    np.testing.assert_allclose(last["effective_rank"], 1, atol=1e-3)
    if dim > 1:
        np.testing.assert_allclose(
            last["log_condition_number"], 2 * np.ptp(last["log_scale"], axis=1), rtol=0.2
        )
        rate = lyapunov.log_condition_rate(dim + 4, dim) * (last_one + 1)
        assert abs(last["log_condition_number"].mean() / rate - 1) < 0.1


@pytest.mark.slow
def test_models_of_too_few_points_are_singular_and_still_measured():
    """Three points in five dimensions: rank 2, generation after generation."""
    trace = simulate(
        gaussian_process(5, 1, 3),
        jax.random.key(6),
        generations=20,
        chains=64,
        metrics=(*HEAVY, "log_determinant"),
    )
    assert not any(np.isnan(values).any() for values in trace.values())
    assert (trace["effective_rank"] < 2 + 1e-4).all() and (
        trace["effective_rank"] >= 1 - 1e-5
    ).all()
    for name, wanted in {
        "log_condition_number": np.inf,
        "log_determinant": -np.inf,
        "kl_model_to_real": np.inf,
    }.items():
        np.testing.assert_array_equal(trace[name], wanted)
    assert np.isfinite(trace["squared_wasserstein2"]).all()
