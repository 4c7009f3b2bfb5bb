"""The Poisson family against SciPy, and whole chains against their branching process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax.estimators.poisson import PoissonAverage, PoissonParams, poisson, poisson_params
from collapse_jax.theory import exponential_families as theory

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(82)
FAMILY, REAL = poisson(), poisson_params(2.5)


def test_samples_and_statistics(chi_square_p):
    x = np.asarray(FAMILY.sample(KEY, REAL, 50_000))
    law = stats.poisson(2.5)
    assert (
        x.dtype == np.int32
        and chi_square_p(np.bincount(x, minlength=30)[:30], law.pmf(np.arange(30))) > 1e-4
    )
    statistics = FAMILY.summarise(jnp.array([3, 0, 7, 9]), jnp.array([1.0, 1, 1, 0]))
    assert (float(statistics.count), float(statistics.mean)) == (3, pytest.approx(10 / 3))
    pooled = FAMILY.merge(statistics, PoissonAverage(jnp.float32(5), jnp.float32(1)))
    assert (float(pooled.count), float(pooled.mean)) == (8, pytest.approx(15 / 8))
    nothing = FAMILY.draw(KEY, REAL, 0)
    np.testing.assert_allclose(
        jax.tree.leaves(FAMILY.merge(nothing, pooled)), jax.tree.leaves(pooled)
    )
    np.testing.assert_allclose(
        FAMILY.log_prob(REAL, jnp.array([0, 3, 40, -1])), law.logpmf([0, 3, 40, -1]), rtol=1e-5
    )


def test_metrics_and_distances():
    model, k = poisson_params(1.7), np.arange(60)
    value = {name: float(metric(model)) for name, metric in FAMILY.metrics.items()}
    assert value == pytest.approx(
        {
            "mean": 1.7,
            "rate": 1.7,
            "variance": 1.7,
            "log_rate": np.log(1.7),
            "log_variance": np.log(1.7),
            "absorbed": 0,
        },
        rel=1e-6,
    )
    p, q = stats.poisson.pmf(k, 1.7), stats.poisson.pmf(k, 2.5)
    assert float(FAMILY.distances["kl_model_to_real"](model, REAL)) == pytest.approx(
        stats.entropy(p, q), rel=1e-5
    )
    assert float(FAMILY.distances["kl_real_to_model"](model, REAL)) == pytest.approx(
        stats.entropy(q, p), rel=1e-5
    )
    near = np.float32(2.5001)
    exact = float(near) * np.log(float(near) / 2.5) - float(near) + 2.5
    assert float(
        FAMILY.distances["kl_model_to_real"](PoissonParams(jnp.float32(near)), REAL)
    ) == pytest.approx(exact, rel=1e-4)


def test_an_absorbed_model():
    dead = poisson_params(0)
    assert FAMILY.metrics["absorbed"](dead) == 1 and FAMILY.metrics["log_variance"](dead) == -np.inf
    assert (
        FAMILY.distances["kl_model_to_real"](dead, REAL) == 2.5
        and FAMILY.distances["kl_real_to_model"](dead, REAL) == np.inf
    )
    assert FAMILY.distances["kl_model_to_real"](dead, dead) == 0
    assert FAMILY.draw(KEY, dead, 1000).mean == 0 and (FAMILY.sample(KEY, dead, 9) == 0).all()
    np.testing.assert_allclose(FAMILY.log_prob(dead, jnp.array([0, 1])), [0, -np.inf], atol=1e-6)


def test_whole_chains_are_the_branching_process(chi_square_p, assert_mean):
    """M = 10, rate 0.4: exact laws of the sum, and of the rate 0."""
    source = cj.sources.population(FAMILY, poisson_params(0.4))
    process = cj.generational_process(FAMILY, source, cj.workflows.replace(), sample_size=10)
    trace = cj.simulate(
        process, KEY, generations=12, chains=20_000, metrics=("rate", "absorbed"), record=(0, 3, 12)
    )
    for place, generation in enumerate(trace.generations):
        sums = trace["rate"][:, place].astype(np.float64) * 10
        law = theory.poisson_sum_distribution(generation, 10, 0.4, 400)
        assert np.abs(sums - np.rint(sums)).max() < 1e-4
        assert (
            chi_square_p(np.bincount(np.rint(sums).astype(int), minlength=401), law / law.sum())
            > 1e-4
        )
    assert_mean(
        trace["absorbed"], theory.poisson_absorption_probability(trace.generations, 10, 0.4)
    )


def test_a_schedule_of_sizes(assert_mean):
    sizes = [5, 12, 8, 20]
    process = cj.generational_process(
        FAMILY,
        cj.sources.population(FAMILY, REAL),
        cj.workflows.replace(),
        sample_size=lambda generation: jnp.array(sizes)[generation],
    )
    trace = cj.simulate(process, KEY, generations=3, chains=10_000, metrics=("rate", "absorbed"))
    expected = theory.expected_squared_mean_error(
        trace.generations, sizes, 2.5, theory.QUADRATICS["poisson"]
    )
    assert_mean((trace["rate"].astype(np.float64) - 2.5) ** 2, expected)


def test_bad_input_is_named():
    for rate in (-1, np.inf, np.nan):
        with pytest.raises(cj.InputError, match="rate is"):
            poisson_params(rate)
