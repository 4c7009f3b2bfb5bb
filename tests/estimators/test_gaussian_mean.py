"""The Gaussian of known covariance against NumPy, SciPy and `theory.known_variance`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax.estimators.gaussian_mean import gaussian_mean, gaussian_mean_params
from collapse_jax.theory import known_variance

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(86)
COVARIANCE = np.array([[2.0, 0.6], [0.6, 0.5]])
FAMILY, REAL = gaussian_mean(COVARIANCE), gaussian_mean_params([1.0, -2.0])
WIDE = np.eye(14) + 0.3


def as_vector(mean):
    return np.stack(mean, -1) if isinstance(mean, tuple) else np.asarray(mean)


@pytest.mark.parametrize(("covariance", "n"), [(COVARIANCE, 7), (COVARIANCE, 10**9), (WIDE, 7)])
def test_statistics_has_its_law(covariance, n, assert_mean):
    dim = len(covariance)
    family, params = gaussian_mean(covariance), gaussian_mean_params(np.zeros(dim))
    mean = (
        as_vector(
            jax.vmap(lambda key: family.draw(key, params, n).mean)(jax.random.split(KEY, 20_000))
        ).astype(np.float64)
        * n**0.5
    )
    assert_mean(mean, np.zeros(dim))
    assert_mean((mean[:, :, None] * mean[:, None, :]).reshape(len(mean), -1), covariance.ravel())
    assert stats.kstest(mean[:, -1] / covariance[-1, -1] ** 0.5, "norm").pvalue > 1e-4
    x = np.asarray(family.sample(KEY, params, 20_000), np.float64)
    assert_mean((x[:, :, None] * x[:, None, :]).reshape(len(x), -1), covariance.ravel())


def test_summarise_merge_and_log_prob():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(9, 2)), np.array([1, 1, 0, 1, 1, 0, 1, 1, 1.0])
    a, b = (
        FAMILY.summarise(x[:4], jnp.asarray(weight[:4])),
        FAMILY.summarise(x[4:], jnp.asarray(weight[4:])),
    )
    pooled = FAMILY.merge(a, b)
    np.testing.assert_allclose(as_vector(pooled.mean), x[weight > 0].mean(0), rtol=1e-5)
    assert float(pooled.count) == 7
    np.testing.assert_allclose(
        jax.tree.leaves(FAMILY.merge(pooled, FAMILY.draw(KEY, REAL, 0))),
        jax.tree.leaves(pooled),
        rtol=1e-6,
    )
    law = stats.multivariate_normal([1, -2], COVARIANCE)
    np.testing.assert_allclose(FAMILY.log_prob(REAL, jnp.asarray(x)), law.logpdf(x), rtol=1e-5)
    hot = FAMILY.tempered(REAL, 2.0)
    np.testing.assert_allclose(
        FAMILY.log_prob(hot, jnp.asarray(x)),
        stats.multivariate_normal([1, -2], 2 * COVARIANCE).logpdf(x),
        rtol=1e-5,
    )
    assert float(FAMILY.metrics["variance"](hot)) == pytest.approx(2.5)
    fitted, _ = FAMILY.fit(KEY, hot, pooled)
    assert float(fitted.log_scale) == 0


def test_metrics_and_distances():
    model, shift = gaussian_mean_params([0.5, -1.0]), np.array([-0.5, 1.0])
    assert float(FAMILY.metrics["variance"](model)) == pytest.approx(1.25)
    assert float(FAMILY.metrics["log_variance"](model)) == pytest.approx(
        np.log(np.linalg.det(COVARIANCE)) / 2, rel=1e-5
    )
    np.testing.assert_allclose(FAMILY.metrics["mean"](model), [0.5, -1])
    kl = shift @ np.linalg.solve(COVARIANCE, shift) / 2
    distance = {name: float(one(model, REAL)) for name, one in FAMILY.distances.items()}
    assert distance == pytest.approx(
        {
            "squared_wasserstein2": 1.25,
            "wasserstein2": 1.25**0.5,
            "kl_model_to_real": kl,
            "kl_real_to_model": kl,
        },
        rel=1e-5,
    )
    # against the family that fits the covariance too, where the scales differ
    hot, full = FAMILY.tempered(model, 2.0), cj.estimators.gaussian(2)
    other = (
        cj.estimators.gaussian_params([0.5, -1.0], 2 * COVARIANCE),
        cj.estimators.gaussian_params([1.0, -2.0], COVARIANCE),
    )
    for name, one in FAMILY.distances.items():
        assert float(one(hot, REAL)) == pytest.approx(float(full.distances[name](*other)), rel=1e-4)


@pytest.mark.parametrize("other", [np.diag([1.0, 3.0]), COVARIANCE * 2, WIDE[:2, :2]])
def test_distances_to_a_population_of_another_known_covariance(other):
    """Against the family that fits the covariance too; they counted it as one's own."""
    source = cj.sources.population(gaussian_mean(other), REAL)
    process = cj.generational_process(FAMILY, source, cj.workflows.replace(), sample_size=20)
    names = list(FAMILY.distances)
    trace = cj.simulate(process, KEY, generations=1, chains=1, metrics=("mean", *names))
    full = cj.estimators.gaussian(2)
    params = cj.estimators.gaussian_params(trace["mean"][0, 1], COVARIANCE)
    real = cj.estimators.gaussian_params([1.0, -2.0], other)
    for name in names:
        wanted = full.distances[name](params, real)
        np.testing.assert_allclose(trace[name][0, 1], wanted, rtol=1e-4)


@pytest.mark.parametrize("flow", ["replace", "accumulate", "mix"])
def test_whole_chains(flow, assert_mean):
    shares = {"alpha": 0.5, "beta": 0.3, "gamma": 0.2} if flow == "mix" else {}
    source = cj.sources.population(FAMILY, REAL)
    process = cj.generational_process(
        FAMILY, source, getattr(cj.workflows, flow)(*shares.values()), sample_size=10
    )
    trace = cj.simulate(
        process,
        KEY,
        generations=6,
        chains=5000,
        metrics=("mean", "variance", "kl_model_to_real"),
        record=(0, 2, 6),
    )
    expected = known_variance.expected_squared_mean_error(
        trace.generations, 10, workflow=flow, **shares
    )
    errors = (trace["mean"].astype(np.float64) - [1, -2]) ** 2
    assert_mean(errors, expected[:, None] * np.diag(COVARIANCE))
    assert_mean(trace["kl_model_to_real"], expected)  # twice one half: two dimensions
    np.testing.assert_allclose(trace["variance"], 1.25, rtol=1e-6)


def test_one_dimension_and_a_hundred_thousand_generations():
    family = gaussian_mean(4.0)
    process = cj.generational_process(
        family,
        cj.sources.population(family, gaussian_mean_params(0.0)),
        cj.workflows.replace(),
        sample_size=5,
    )
    trace = cj.simulate(process, KEY, generations=100_000, chains=200, record=(100_000,))
    last = trace["mean"][:, -1].astype(np.float64) / (100_001 * 4 / 5) ** 0.5
    assert last.shape == (200,) and stats.kstest(last, "norm").pvalue > 1e-4


def test_bad_input_is_named():
    for covariance in (0.0, -1.0, np.ones((2, 3)), [[1, 2], [2, 1]], np.nan):
        with pytest.raises(cj.InputError, match="covariance"):
            gaussian_mean(covariance)
    with pytest.raises(cj.InputError, match="mean is"):
        gaussian_mean_params([np.inf])
