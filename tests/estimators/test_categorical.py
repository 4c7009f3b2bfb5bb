"""The categorical family against NumPy and SciPy; |z| < 4 and p > 1e-4 at fixed keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.errors import InputError
from collapse_jax.estimators.categorical import CategoricalParams, Counts, categorical

pytestmark = pytest.mark.usefixtures("quick_compile")
PROBABILITIES = np.array([0.4, 0.0, 0.35, 0.25, 0.0])
PARAMS = CategoricalParams(jnp.asarray(PROBABILITIES, jnp.float32))
FAMILY = categorical(5)


def test_sample_has_its_law(chi_square_p):
    x = FAMILY.sample(jax.random.key(0), PARAMS, 50_000)
    assert x.dtype == jnp.int32 and x.shape == (50_000,)
    assert chi_square_p(np.bincount(x, minlength=5), PROBABILITIES) > 1e-4
    assert chi_square_p(np.bincount(x[:-1] * 5 + x[1:], minlength=25), np.outer(PROBABILITIES, PROBABILITIES).ravel()) > 1e-4


def test_draw_has_the_law_of_summarised_samples(chi_square_p):
    keys = jax.random.split(jax.random.key(1), 20_000)
    drawn = jax.vmap(lambda key: FAMILY.draw(key, PARAMS, 6).counts)(keys)
    counted = jax.vmap(lambda key: FAMILY.summarise(FAMILY.sample(key, PARAMS, 6), jnp.ones(6)).counts)(keys)
    for counts in (drawn, counted):
        assert counts.dtype == jnp.int32 and (counts.sum(1) == 6).all()
        for k, p in enumerate(PROBABILITIES):
            assert chi_square_p(np.bincount(counts[:, k], minlength=7), stats.binom.pmf(np.arange(7), 6, p)) > 1e-4


def test_summarise_counts_filled_slots_and_merge_adds():
    rng = np.random.default_rng(0)
    a, b = rng.integers(5, size=12).astype(np.int32), rng.integers(5, size=7).astype(np.int32)
    weight = rng.integers(2, size=12).astype(float)
    first, second = FAMILY.summarise(a, weight), FAMILY.summarise(b, np.ones(7))
    np.testing.assert_array_equal(first.counts, np.bincount(a[weight > 0], minlength=5))
    pooled = FAMILY.merge(first, second)
    np.testing.assert_array_equal(pooled.counts, np.bincount(np.concatenate([a[weight > 0], b]), minlength=5))
    nothing = FAMILY.summarise(a, np.zeros(12))
    np.testing.assert_array_equal(FAMILY.merge(pooled, nothing).counts, pooled.counts)


def test_fit_is_the_frequencies():
    params, info = FAMILY.fit(jax.random.key(0), PARAMS, Counts(jnp.array([3, 0, 5, 1, 1])))
    assert info.converged
    np.testing.assert_allclose(params.probabilities, [0.3, 0, 0.5, 0.1, 0.1], rtol=1e-6)
    absorbed, _ = FAMILY.fit(jax.random.key(0), PARAMS, Counts(jnp.array([0, 0, 8, 0, 0])))
    np.testing.assert_array_equal(absorbed.probabilities, [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(FAMILY.draw(jax.random.key(0), absorbed, 30).counts, [0, 0, 30, 0, 0])


def test_subsample_takes_points_that_are_there(chi_square_p):
    evidence = Counts(jnp.array([3, 0, 2, 1, 0]))
    keys = jax.random.split(jax.random.key(2), 20_000)
    counts = jax.vmap(lambda key: FAMILY.subsample(key, evidence, 4).counts)(keys)
    assert (counts.sum(1) == 4).all() and (counts <= evidence.counts).all()
    for k, here in enumerate([3, 0, 2, 1, 0]):
        assert chi_square_p(np.bincount(counts[:, k], minlength=5), stats.hypergeom.pmf(np.arange(5), 6, here, 4)) > 1e-4


def test_metrics_against_numpy_and_scipy():
    value = {name: np.asarray(metric(PARAMS)) for name, metric in FAMILY.metrics.items()}
    index = np.arange(5)
    law = stats.rv_discrete(values=(index, PROBABILITIES))
    np.testing.assert_allclose(value["mean"], law.mean(), rtol=1e-6)
    np.testing.assert_allclose(value["variance"], law.var(), rtol=1e-5)
    np.testing.assert_allclose(value["log_variance"], np.log(law.var()), rtol=1e-5)
    np.testing.assert_allclose(value["heterozygosity"], 1 - np.sum(PROBABILITIES**2), rtol=1e-6)
    np.testing.assert_allclose(value["entropy"], stats.entropy(PROBABILITIES), rtol=1e-6)
    np.testing.assert_allclose(value["probabilities"], PROBABILITIES, rtol=1e-6)
    assert value["support"] == 3 and value["support"].dtype == np.int32


def test_metrics_of_an_absorbed_model():
    absorbed = CategoricalParams(jnp.array([0.0, 0, 0, 1, 0]))
    value = {name: np.asarray(metric(absorbed)) for name, metric in FAMILY.metrics.items()}
    assert (value["mean"], value["support"]) == (3, 1)
    assert value["variance"] == value["heterozygosity"] == value["entropy"] == 0
    assert value["log_variance"] == -np.inf


@pytest.mark.parametrize("bad", [0, -2, 2.0, True])
def test_bad_input_is_named(bad):
    with pytest.raises(InputError) as error:
        categorical(bad)
    assert "num_categories" in str(error.value) and repr(bad) in str(error.value) and "\n" not in str(error.value)
