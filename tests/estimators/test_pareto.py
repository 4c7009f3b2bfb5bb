"""The Pareto family against SciPy, and chains against products of Gamma variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import collapse_jax as cj
from collapse_jax.estimators.pareto import ParetoParams, pareto, pareto_params
from collapse_jax.theory import exponential_families as theory

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(84)
FAMILY, REAL = pareto(2.0), pareto_params(3.0)
DEAD = ParetoParams(jnp.float32(np.inf))


def test_samples_and_statistics():
    x = np.asarray(FAMILY.sample(KEY, REAL, 50_000), np.float64)
    assert stats.kstest(x, stats.pareto(3, scale=2).cdf).pvalue > 1e-4
    few = jnp.array([2.5, 2, 6, 9])
    params, _ = FAMILY.fit(KEY, REAL, FAMILY.summarise(few, jnp.array([1.0, 1, 1, 0])))
    assert float(FAMILY.metrics["shape"](params)) == pytest.approx(
        stats.pareto.fit(few[:3], floc=0, fscale=2)[0], rel=1e-4
    )
    whole = FAMILY.merge(
        FAMILY.summarise(few[:1], jnp.ones(1)), FAMILY.summarise(few[1:], jnp.ones(3))
    )
    np.testing.assert_allclose(
        jax.tree.leaves(whole), jax.tree.leaves(FAMILY.summarise(few, jnp.ones(4))), rtol=1e-6
    )
    points = jnp.array([2, 3.0, 1.9])
    np.testing.assert_allclose(
        FAMILY.log_prob(REAL, points), stats.pareto(3, scale=2).logpdf([2, 3.0, 1.9]), rtol=1e-5
    )


@pytest.mark.parametrize("shape", [0.7, 1.5, 2.5, 40.0])
def test_metrics_against_scipy(shape):
    law, model = stats.pareto(shape, scale=2), pareto_params(shape)
    value = {name: float(metric(model)) for name, metric in FAMILY.metrics.items()}
    variance = law.var() if shape > 2 else np.inf
    assert value["mean"] == pytest.approx(law.mean(), rel=1e-5) and value[
        "variance"
    ] == pytest.approx(variance, rel=1e-5)
    assert value["log_variance"] == pytest.approx(np.log(variance), rel=1e-5) and value[
        "entropy"
    ] == pytest.approx(law.entropy(), rel=1e-5)
    assert value["shape"] == pytest.approx(shape) and value["log_shape"] == pytest.approx(
        np.log(shape), rel=1e-6
    )


def test_distances_against_quadrature():
    model, p, q = pareto_params(5.0), stats.pareto(5, scale=2), stats.pareto(3, scale=2)
    for name, one, other in (("kl_model_to_real", p, q), ("kl_real_to_model", q, p)):
        exact = integrate.quad(
            lambda x, one=one, other=other: one.pdf(x) * (one.logpdf(x) - other.logpdf(x)),
            2,
            np.inf,
        )[0]
        assert float(FAMILY.distances[name](model, REAL)) == pytest.approx(exact, rel=1e-5)
    exact = integrate.quad(
        lambda t: (p.isf(np.exp(-t)) - q.isf(np.exp(-t))) ** 2 * np.exp(-t), 0, 200
    )[0]
    assert float(FAMILY.distances["squared_wasserstein2"](model, REAL)) == pytest.approx(
        exact, rel=1e-4
    )
    heavy = pareto_params(1.9)
    assert (
        FAMILY.distances["wasserstein2"](heavy, REAL) == np.inf
        and FAMILY.distances["wasserstein2"](heavy, heavy) == 0
    )


def test_temperatures():
    for temperature in (0.5, 1.0, 2.0):
        cold = FAMILY.tempered(REAL, temperature)
        ratio = [float(one) for one in FAMILY.log_prob(cold, jnp.array([2.5, 7.0]))]
        before = [float(one) for one in FAMILY.log_prob(REAL, jnp.array([2.5, 7.0]))]
        assert ratio[1] - ratio[0] == pytest.approx((before[1] - before[0]) / temperature, rel=1e-5)
    assert (
        FAMILY.metrics["shape"](FAMILY.tempered(REAL, 4.01)) == 0
    )  # (3 + 1) / T is no longer above 1
    assert FAMILY.metrics["shape"](FAMILY.tempered(REAL, 9.0)) == 0
    assert FAMILY.metrics["log_shape"](
        FAMILY.tempered(ParetoParams(jnp.float32(5000)), 0.5)
    ) == pytest.approx(5000 + np.log(2))


def test_a_collapsed_model():
    params, _ = FAMILY.fit(KEY, REAL, FAMILY.summarise(jnp.full(5, 2.0), jnp.ones(5)))
    assert (
        params == DEAD
        and FAMILY.draw(KEY, DEAD, 10).log_mean == -np.inf
        and (FAMILY.sample(KEY, DEAD, 5) == 2).all()
    )
    value = {name: float(metric(DEAD)) for name, metric in FAMILY.metrics.items()}
    assert (value["mean"], value["variance"], value["log_variance"], value["entropy"]) == (
        2,
        0,
        -np.inf,
        -np.inf,
    )
    kl = [
        float(FAMILY.distances[name](DEAD, REAL))
        for name in ("kl_model_to_real", "kl_real_to_model")
    ]
    assert kl == [np.inf, np.inf] and float(
        FAMILY.distances["squared_wasserstein2"](DEAD, REAL)
    ) == pytest.approx(8 / 9 / (2 / 3 * 1 / 3))
    np.testing.assert_array_equal(
        FAMILY.log_prob(DEAD, jnp.array([2, 2.1, 1])), [np.inf, -np.inf, -np.inf]
    )


def test_whole_chains_and_a_hundred_thousand_generations(assert_mean):
    process = cj.generational_process(
        FAMILY, cj.sources.population(FAMILY, REAL), cj.workflows.replace(), sample_size=8
    )
    early = cj.simulate(process, KEY, generations=3, chains=20_000, metrics=("log_shape", "shape"))
    assert_mean(early["shape"], theory.pareto_expected_shape(early.generations, 8, shape=3.0))
    expected = -theory.exponential_expected_log_mean(early.generations, 8, mean=1 / 3)
    assert_mean(early["log_shape"], expected)
    assert_mean(
        (early["log_shape"] - expected) ** 2,
        theory.exponential_log_mean_std(early.generations, 8) ** 2,
    )
    late = cj.simulate(
        process,
        KEY,
        generations=100_000,
        chains=64,
        metrics=("log_shape", "log_variance", "mean"),
        record=(100_000,),
    )
    late = {name: values[:, -1] for name, values in late.items()}
    assert np.isfinite(late["log_variance"]).all() and (late["mean"] == 2).all()
    far, deviation = (
        -theory.exponential_expected_log_mean(100_000, 8, mean=1 / 3),
        theory.exponential_log_mean_std(100_000, 8),
    )
    assert abs(late["log_shape"].mean() - far) < 4 * deviation / 8
    np.testing.assert_allclose(
        late["log_variance"], 2 * np.log(2) - 2 * late["log_shape"], rtol=1e-6
    )


def test_bad_input_is_named():
    for bad in (0, -1.0, np.inf, "1", True):
        with pytest.raises(cj.InputError, match="minimum is"):
            pareto(bad)
    with pytest.raises(cj.InputError, match="shape is"):
        pareto_params(0)
