"""The uniform family against SciPy, and whole chains against the law of products of maxima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax.estimators.uniform import UniformParams, uniform, uniform_params
from collapse_jax.theory import exponential_families as theory

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(85)
FAMILY, REAL = uniform(), uniform_params(3.0)
DEAD = UniformParams(jnp.float32(-np.inf))


def test_samples_and_statistics():
    x = np.asarray(FAMILY.sample(KEY, REAL, 50_000), np.float64)
    assert stats.kstest(x, stats.uniform(0, 3).cdf).pvalue > 1e-4
    statistics = FAMILY.summarise(jnp.array([0.5, 0, 2, 9]), jnp.array([1.0, 1, 1, 0]))
    assert float(statistics.log_maximum) == pytest.approx(np.log(2))
    assert (
        FAMILY.merge(statistics, FAMILY.draw(KEY, REAL, 0))
        == FAMILY.merge(FAMILY.draw(KEY, REAL, jnp.int32(0)), statistics)
        == statistics
    )
    keys = jax.random.split(KEY, 20_000)
    for n in (1, 30, jnp.int32(30)):
        found = jax.vmap(lambda key, n=n: FAMILY.draw(key, REAL, n).log_maximum)(keys)
        assert (
            stats.kstest(
                np.exp(np.asarray(found, np.float64)) / 3, stats.beta(int(n), 1).cdf
            ).pvalue
            > 1e-4
        )
    np.testing.assert_allclose(
        FAMILY.log_prob(REAL, jnp.array([0, 2.9, 3.1, -1])),
        stats.uniform(0, 3).logpdf([0, 2.9, 3.1, -1]),
        rtol=1e-6,
    )


def test_metrics_and_distances():
    model, law = uniform_params(1.2), stats.uniform(0, 1.2)
    value = {name: float(metric(model)) for name, metric in FAMILY.metrics.items()}
    assert value["mean"] == pytest.approx(law.mean()) and value["variance"] == pytest.approx(
        law.var(), rel=1e-6
    )
    assert value["log_variance"] == pytest.approx(np.log(law.var()), rel=1e-6) and value[
        "entropy"
    ] == pytest.approx(law.entropy(), rel=1e-5)
    assert value["maximum"] == pytest.approx(1.2)
    short = {name: float(one(model, REAL)) for name, one in FAMILY.distances.items()}
    assert short == pytest.approx(
        {
            "total_variation": 0.6,
            "kl_model_to_real": np.log(2.5),
            "kl_real_to_model": np.inf,
            "squared_wasserstein2": 1.8**2 / 3,
            "wasserstein2": 1.8 / 3**0.5,
        },
        rel=1e-5,
    )
    long = {name: float(one(REAL, model)) for name, one in FAMILY.distances.items()}
    assert (long["kl_model_to_real"], long["kl_real_to_model"]) == (
        np.inf,
        pytest.approx(np.log(2.5)),
    )
    assert all(float(one(REAL, REAL)) == 0 for one in FAMILY.distances.values())
    assert FAMILY.tempered(REAL, 0.3) == REAL


def test_a_collapsed_model():
    assert FAMILY.summarise(jnp.zeros(5), jnp.ones(5)) == FAMILY.draw(KEY, DEAD, 5) == (-np.inf,)
    assert (FAMILY.sample(KEY, DEAD, 5) == 0).all()
    far = {name: float(one(DEAD, REAL)) for name, one in FAMILY.distances.items()}
    assert (far["total_variation"], far["kl_model_to_real"], far["kl_real_to_model"]) == (
        1,
        np.inf,
        np.inf,
    )
    assert far["squared_wasserstein2"] == pytest.approx(3) and all(
        float(one(DEAD, DEAD)) == 0 for one in FAMILY.distances.values()
    )
    assert FAMILY.metrics["log_variance"](DEAD) == -np.inf and FAMILY.metrics["variance"](DEAD) == 0
    np.testing.assert_array_equal(
        FAMILY.log_prob(DEAD, jnp.array([0, 1e-30, -1])), [np.inf, -np.inf, -np.inf]
    )


def chains(workflow, generations, count, record=1, size=20):
    process = cj.generational_process(
        FAMILY, cj.sources.population(FAMILY, uniform_params(1)), workflow, sample_size=size
    )
    return cj.simulate(
        process,
        KEY,
        generations=generations,
        chains=count,
        metrics=("log_maximum", "maximum", "log_variance"),
        record=record,
    )


def test_whole_chains_under_replace(assert_mean):
    trace = chains(cj.workflows.replace(), 30, 10_000, record=(0, 3, 30))
    assert_mean(trace["log_maximum"], theory.uniform_expected_log_maximum(trace.generations, 20))
    assert_mean(trace["maximum"], theory.uniform_expected_power(trace.generations, 20))
    for place, generation in enumerate(trace.generations):
        law = lambda x, g=generation: theory.uniform_log_maximum_cdf(x, g, 20)  # noqa: E731
        assert stats.kstest(trace["log_maximum"][:, place], law).pvalue > 1e-4


def test_a_pool_never_grows_nor_shrinks(assert_mean):
    trace = chains(cj.workflows.accumulate(), 5, 4000)
    np.testing.assert_array_equal(
        trace["log_maximum"], trace["log_maximum"][:, :1].repeat(6, axis=1)
    )
    assert_mean(trace["maximum"][:, 0], theory.uniform_expected_power(0, 20))


def test_whole_chains_with_fresh_real_data():
    trace = chains(cj.workflows.mix(0.5, 0.0, 0.5), 4, 10_000)
    for generation in (1, 4):
        law = lambda x, g=generation: theory.uniform_mixed_maximum_cdf(x, g, 20, 0.5)  # noqa: E731
        assert stats.kstest(trace["maximum"][:, generation], law).pvalue > 1e-4
    assert (
        stats.kstest(
            trace["maximum"][:, 4], lambda x: theory.uniform_mixed_maximum_cdf(x, 1, 20, 0.5)
        ).pvalue
        < 1e-4
    )


def test_a_hundred_thousand_generations():
    values = chains(cj.workflows.replace(), 100_000, 64, record=(100_000,))
    assert np.isfinite(values["log_variance"]).all()
    last = values["log_maximum"][:, -1].astype(np.float64)
    assert (
        abs(last.mean() - theory.uniform_expected_log_maximum(100_000, 20))
        < 4 * 100_001**0.5 / 20 / 8
    )


def test_bad_input_is_named():
    for maximum in (-1, 0, np.inf, np.nan):
        with pytest.raises(cj.InputError, match="maximum is"):
            uniform_params(maximum)
