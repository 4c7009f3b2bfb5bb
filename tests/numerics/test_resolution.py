"""Chains that are held as points keep to their law until their digits end, and stop there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.estimators.exponential import exponential
from collapse_jax.estimators.gaussian import summarise
from collapse_jax.estimators.kde import kde
from collapse_jax.estimators.pareto import pareto
from collapse_jax.estimators.uniform import uniform

pytestmark = pytest.mark.usefixtures("quick_compile")


def gaussians(workflow, sample_size=5):
    family, params = cj.estimators.gaussian(1), cj.estimators.gaussian_params(1.0, 1.0)
    real = cj.sources.population(family, params)
    return cj.generational_process(family, real, workflow, sample_size=sample_size)


def exact_chains(generations, chains, size=5):
    """Log variances [chains] under mix(1/2, 1/2, 0), each set standardised in float64."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(chains, size))
    log_scale = np.zeros(chains)
    for _ in range(generations + 1):
        mean, deviation = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
        log_scale += np.log(deviation[:, 0])
        previous = rng.permuted((x - mean) / deviation, axis=1)
        new = np.arange(size) < rng.binomial(size, 0.5, (chains, 1))
        x = np.where(new, rng.normal(size=x.shape), previous)
    return 2 * log_scale


def test_points_of_earlier_generations_keep_to_the_law_until_their_digits_end():
    process = gaussians(cj.workflows.mix(0.5, 0.5, 0))
    with pytest.raises(cj.DivergenceError, match=r"nan by generation \d+; .*float64"):
        cj.simulate(process, jax.random.key(1), generations=200, chains=40)
    trace = cj.simulate(
        process, jax.random.key(1), generations=20, chains=400, metrics="log_variance"
    )
    for generation in (5, 20):
        wanted = np.median(exact_chains(generation, 20_000))
        below = np.sum(np.asarray(trace["log_variance"])[:, generation] < wanted)
        assert abs(below - 200) < 4 * (400 * 0.25 * (1 + 400 / 20_000)) ** 0.5


def test_chosen_points_stop_where_their_digits_end():
    best = cj.curation.best_of(2, lambda x: -jnp.abs(x[:, 0] - 1))
    with pytest.raises(cj.DivergenceError, match=r"nan by generation \d+; .*float64"):
        cj.simulate(gaussians(best(cj.workflows.replace())), jax.random.key(1), generations=300)


def test_points_that_differ_by_roundings_have_no_variance_to_tell():
    ulp = 2.0**-23
    x = np.array([[1, 0], [1 + ulp, 1], [1 + 5 * ulp, 2]], np.float32)
    for points, scale in [(x, np.nan), (np.full((3, 2), 0.1, np.float32), -np.inf)]:
        found = jax.jit(summarise, static_argnums=2)(points, jnp.ones(3), 2)
        np.testing.assert_array_equal(found.log_scale, [scale] * 2)
    far = jax.jit(summarise, static_argnums=2)(np.float32(x * 64 - 63), jnp.ones(3), 2)
    assert np.isfinite(far.log_scale).all()
    fitted, _ = jax.jit(kde(2).fit)(jax.random.key(0), None, kde(2).summarise(x, jnp.ones(3)))
    assert np.isnan(fitted.log_scale).all()


def test_points_near_the_end_of_their_floats():
    ones = jnp.ones(4)
    tiny = np.array([1, 3, 0, 2], np.float32) * 1e-37
    for family in (exponential(), uniform()):
        summed = jax.jit(lambda x, family=family: family.summarise(x, ones)[-1])
        assert np.isnan(summed(tiny)) and np.isfinite(summed(tiny * 1e9))
        assert summed(0 * tiny) == -np.inf
    excess = jax.jit(lambda x: pareto(1.0).summarise(x, ones).log_mean)
    assert np.isnan(excess(1 + jnp.arange(4) * 2.0**-23))
    assert np.isfinite(excess(1 + jnp.arange(4) * 2.0**-16)) and excess(ones) == -np.inf
