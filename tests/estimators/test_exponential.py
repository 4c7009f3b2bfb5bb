"""The exponential family against SciPy, and chains against products of Gamma variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import collapse_jax as cj
from collapse_jax.estimators.exponential import (
    ExponentialAverage,
    ExponentialParams,
    exponential,
    exponential_params,
)
from collapse_jax.theory import exponential_families as theory

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(83)
FAMILY, REAL = exponential(), exponential_params(2.0)
DEAD = ExponentialParams(jnp.float32(-np.inf))


def test_samples_and_statistics():
    x = np.asarray(FAMILY.sample(KEY, REAL, 50_000), np.float64)
    assert stats.kstest(x, stats.expon(scale=2).cdf).pvalue > 1e-4
    statistics = FAMILY.summarise(jnp.array([3.0, 0, 6, 9]), jnp.array([1.0, 1, 1, 0]))
    assert (float(statistics.count), float(statistics.log_mean)) == (3, pytest.approx(np.log(3)))
    pooled = FAMILY.merge(statistics, ExponentialAverage(jnp.float32(5), jnp.log(jnp.float32(1))))
    assert (float(pooled.count), float(pooled.log_mean)) == (8, pytest.approx(np.log(14 / 8)))
    for n in (0, jnp.int32(0)):
        merged = FAMILY.merge(FAMILY.draw(KEY, REAL, n), pooled)
        np.testing.assert_allclose(jax.tree.leaves(merged), jax.tree.leaves(pooled), rtol=1e-6)
    far = FAMILY.merge(
        ExponentialAverage(jnp.float32(4), jnp.float32(-3000)),
        ExponentialAverage(jnp.float32(4), jnp.float32(-3001)),
    )
    assert float(far.log_mean) == pytest.approx(-3000 + np.log((1 + np.exp(-1)) / 2), abs=5e-4)
    np.testing.assert_allclose(
        FAMILY.log_prob(REAL, jnp.array([0, 3.0, -1, np.inf])),
        stats.expon(scale=2).logpdf([0, 3.0, -1, np.inf]),
        rtol=1e-6,
    )


def test_metrics_distances_and_temperature():
    model, p, q = exponential_params(0.5), stats.expon(scale=0.5), stats.expon(scale=2)
    value = {name: float(metric(model)) for name, metric in FAMILY.metrics.items()}
    assert value == pytest.approx(
        {
            "mean": 0.5,
            "log_mean": np.log(0.5),
            "rate": 2,
            "variance": 0.25,
            "log_variance": np.log(0.25),
            "entropy": p.entropy(),
        },
        rel=1e-6,
    )
    for name, one, other in (("kl_model_to_real", p, q), ("kl_real_to_model", q, p)):
        exact = integrate.quad(
            lambda x, one=one, other=other: one.pdf(x) * (one.logpdf(x) - other.logpdf(x)), 0, 80
        )[0]
        assert float(FAMILY.distances[name](model, REAL)) == pytest.approx(exact, rel=1e-5)
    exact = integrate.quad(lambda u: (p.ppf(u) - q.ppf(u)) ** 2, 0, 1)[0]
    assert float(FAMILY.distances["wasserstein2"](model, REAL)) == pytest.approx(
        exact**0.5, rel=1e-5
    )
    assert float(FAMILY.metrics["mean"](FAMILY.tempered(REAL, 0.25))) == pytest.approx(
        0.5
    )  # p^4 falls four times as fast


def test_a_collapsed_model():
    assert FAMILY.summarise(jnp.zeros(5), jnp.ones(5)).log_mean == -np.inf
    assert (
        FAMILY.draw(KEY, DEAD, 10).log_mean == -np.inf and (FAMILY.sample(KEY, DEAD, 5) == 0).all()
    )
    value = {name: float(metric(DEAD)) for name, metric in FAMILY.metrics.items()}
    assert value == {
        "mean": 0,
        "log_mean": -np.inf,
        "rate": np.inf,
        "variance": 0,
        "log_variance": -np.inf,
        "entropy": -np.inf,
    }
    assert [float(one(DEAD, REAL)) for one in FAMILY.distances.values()] == pytest.approx(
        [np.inf, np.inf, 8, 8**0.5]
    )
    np.testing.assert_array_equal(
        FAMILY.log_prob(DEAD, jnp.array([0, 1e-30, -1])), [np.inf, -np.inf, -np.inf]
    )
    single = FAMILY.draw(KEY, REAL, 1)
    assert np.isfinite(single.log_mean)


def test_whole_chains_have_the_law_of_gamma_products(assert_mean):
    process = cj.generational_process(
        FAMILY, cj.sources.population(FAMILY, REAL), cj.workflows.replace(), sample_size=20
    )
    trace = cj.simulate(
        process, KEY, generations=60, chains=10_000, metrics=("log_mean",), record=(0, 5, 60)
    )
    values, generations = trace["log_mean"].astype(np.float64), trace.generations
    expected = theory.exponential_expected_log_mean(generations, 20, mean=2.0)
    assert_mean(values, expected)
    assert_mean((values - expected) ** 2, theory.exponential_log_mean_std(generations, 20) ** 2)
    for place, generation in enumerate(generations):
        law = lambda x, g=generation: theory.exponential_log_mean_cdf(x, g, 20, mean=2.0)  # noqa: E731
        assert stats.kstest(values[:, place], law).pvalue > 1e-4
    assert_mean(
        np.exp(2 * values[:, :2]), theory.exponential_second_moment(generations[:2], 20, mean=2.0)
    )


def test_a_hundred_thousand_generations():
    """M = 3: the mean falls to e^-17600, and its logarithm keeps to its law."""
    process = cj.generational_process(
        FAMILY, cj.sources.population(FAMILY, REAL), cj.workflows.replace(), sample_size=3
    )
    metrics = ("log_mean", "log_variance", "mean", "kl_model_to_real", "kl_real_to_model")
    trace = cj.simulate(
        process, KEY, generations=100_000, chains=64, metrics=metrics, record=(100_000,)
    )
    assert (
        not any(np.isnan(values).any() for values in trace.values())
        and np.isfinite(trace["log_variance"]).all()
    )
    values = trace["log_mean"][:, -1].astype(np.float64)
    expected, deviation = (
        theory.exponential_expected_log_mean(100_000, 3, mean=2.0),
        theory.exponential_log_mean_std(100_000, 3),
    )
    assert (
        abs(values.mean() - expected) < 4 * deviation / 8 and 0.6 < values.std() / deviation < 1.5
    )


def test_bad_input_is_named():
    for mean in (-1, 0, np.inf, np.nan):
        with pytest.raises(cj.InputError, match="mean is"):
            exponential_params(mean)
