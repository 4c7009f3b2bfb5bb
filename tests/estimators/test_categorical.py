"""The categorical family against NumPy and SciPy; |z| < 4 and p > 1e-4 at fixed keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.errors import InputError
from collapse_jax.estimators.categorical import (
    CategoricalParams,
    Counts,
    categorical,
    categorical_params,
)

pytestmark = pytest.mark.usefixtures("quick_compile")
PROBABILITIES = np.array([0.4, 0.0, 0.35, 0.25, 0.0])
PARAMS = categorical_params(PROBABILITIES)
# the same law as counts, which are drawn from category by category
COUNTED = CategoricalParams(jnp.array([8, 0, 7, 5, 0], jnp.int32), jnp.arange(5, dtype=jnp.int32))
SHORT = CategoricalParams(jnp.array([8, 7, 5], jnp.int32), jnp.array([0, 2, 3], jnp.int32))
FAMILY = categorical(5)


def counts_of(values):
    return Counts(jnp.asarray(values, jnp.int32), jnp.arange(len(values), dtype=jnp.int32))


@pytest.mark.parametrize("params", [PARAMS, COUNTED, SHORT], ids=["floats", "counts", "compacted"])
def test_sample_has_its_law(params, chi_square_p):
    x = FAMILY.sample(jax.random.key(0), params, 50_000)
    assert x.dtype == jnp.int32 and x.shape == (50_000,)
    assert chi_square_p(np.bincount(x, minlength=5), PROBABILITIES) > 1e-4
    assert (
        chi_square_p(
            np.bincount(x[:-1] * 5 + x[1:], minlength=25),
            np.outer(PROBABILITIES, PROBABILITIES).ravel(),
        )
        > 1e-4
    )


@pytest.mark.parametrize("method", ["auto", "binomials", "individuals"])
def test_draw_has_the_law_of_summarised_samples(method, chi_square_p):
    keys = jax.random.split(jax.random.key(1), 20_000)
    family = categorical(5, method)
    found = [
        jax.vmap(lambda key, params=params: family.draw(key, params, 6).counts)(keys)
        for params in (PARAMS, COUNTED)
    ]
    if method == "auto":
        found.append(
            jax.vmap(
                lambda key: FAMILY.summarise(FAMILY.sample(key, PARAMS, 6), jnp.ones(6)).counts
            )(keys)
        )
    for counts in found:
        assert counts.dtype == jnp.int32 and (counts.sum(1) == 6).all()
        for k, p in enumerate(PROBABILITIES):
            assert (
                chi_square_p(
                    np.bincount(counts[:, k], minlength=7), stats.binom.pmf(np.arange(7), 6, p)
                )
                > 1e-4
            )


def test_summarise_counts_filled_slots_and_merge_adds():
    rng = np.random.default_rng(0)
    a, b = rng.integers(5, size=12).astype(np.int32), rng.integers(5, size=7).astype(np.int32)
    weight = rng.integers(2, size=12).astype(float)
    first, second = FAMILY.summarise(a, weight), FAMILY.summarise(b, np.ones(7))
    np.testing.assert_array_equal(first.counts, np.bincount(a[weight > 0], minlength=5))
    np.testing.assert_array_equal(first.categories, np.arange(5))
    pooled = FAMILY.merge(first, second)
    np.testing.assert_array_equal(
        pooled.counts, np.bincount(np.concatenate([a[weight > 0], b]), minlength=5)
    )
    np.testing.assert_array_equal(pooled.categories, np.arange(5))
    nothing = FAMILY.summarise(a, np.zeros(12))
    np.testing.assert_array_equal(FAMILY.merge(pooled, nothing).counts, pooled.counts)


def test_fit_is_the_frequencies():
    params, info = FAMILY.fit(jax.random.key(0), PARAMS, counts_of([3, 0, 5, 1, 1]))
    assert info.converged and params.weights.dtype == jnp.int32
    np.testing.assert_allclose(params.probabilities, [0.3, 0, 0.5, 0.1, 0.1], rtol=1e-6)
    absorbed, _ = FAMILY.fit(jax.random.key(0), PARAMS, counts_of([0, 0, 8, 0, 0]))
    np.testing.assert_array_equal(absorbed.probabilities, [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(
        FAMILY.draw(jax.random.key(0), absorbed, 30).counts, [0, 0, 30, 0, 0]
    )


def test_subsample_takes_points_that_are_there(chi_square_p):
    statistics = counts_of([3, 0, 2, 1, 0])
    keys = jax.random.split(jax.random.key(2), 20_000)
    taken = jax.vmap(lambda key: FAMILY.subsample(key, statistics, 4))(keys)
    counts = taken.counts
    np.testing.assert_array_equal(taken.categories[0], np.arange(5))
    assert (counts.sum(1) == 4).all() and (counts <= statistics.counts).all()
    for k, here in enumerate([3, 0, 2, 1, 0]):
        assert (
            chi_square_p(
                np.bincount(counts[:, k], minlength=5),
                stats.hypergeom.pmf(np.arange(5), 6, here, 4),
            )
            > 1e-4
        )


@pytest.mark.parametrize("params", [PARAMS, COUNTED, SHORT], ids=["floats", "counts", "compacted"])
def test_metrics_against_numpy_and_scipy(params):
    value = {name: np.asarray(metric(params)) for name, metric in FAMILY.metrics.items()}
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
    absorbed = categorical_params([0.0, 0, 0, 1, 0])
    value = {name: np.asarray(metric(absorbed)) for name, metric in FAMILY.metrics.items()}
    assert (value["mean"], value["support"]) == (3, 1)
    assert value["variance"] == value["heterozygosity"] == value["entropy"] == 0
    assert value["log_variance"] == -np.inf


@pytest.mark.parametrize("size", [3, 4, 5])
def test_a_compacted_model_is_the_same_model(size):
    short = FAMILY.compaction.to_size(COUNTED, size)
    assert (
        short.weights.shape == short.categories.shape == (size,)
        and short.weights.dtype == jnp.int32
    )
    np.testing.assert_array_equal(short.weights, [8, 7, 5, 0, 0][:size])
    np.testing.assert_array_equal(short.categories[:3], [0, 2, 3])
    assert [FAMILY.compaction.num_in_use(params) for params in (COUNTED, short)] == [3, 3]
    np.testing.assert_array_equal(
        FAMILY.metrics["probabilities"](short), FAMILY.metrics["probabilities"](COUNTED)
    )
    for n in (1, 20, 1000):
        whole, few = (FAMILY.draw(jax.random.key(n), params, n) for params in (COUNTED, short))
        np.testing.assert_array_equal(np.asarray(whole.counts)[[0, 2, 3]], few.counts[:3])
        assert few.counts.sum() == n and not few.counts[3:].any()
        np.testing.assert_array_equal(few.categories, short.categories)


def test_many_chains_are_compacted_each_on_its_own():
    rng = np.random.default_rng(3)
    weights = jnp.asarray(
        rng.integers(0, 3, size=(50, 30)) * (rng.random((50, 30)) < 0.2), jnp.int32
    )
    params = CategoricalParams(weights, jnp.broadcast_to(jnp.arange(30, dtype=jnp.int32), (50, 30)))
    most = int(jax.vmap(FAMILY.compaction.num_in_use)(params).max())
    short = jax.jit(jax.vmap(lambda model: FAMILY.compaction.to_size(model, most)))(params)
    assert short.weights.shape == (50, most) and most < 15
    for here, few, categories in zip(
        np.asarray(weights), np.asarray(short.weights), np.asarray(short.categories), strict=True
    ):
        alive = np.flatnonzero(here)
        np.testing.assert_array_equal(categories[: len(alive)], alive)
        np.testing.assert_array_equal(
            few, np.concatenate([here[alive], np.zeros(most - len(alive))])
        )


@pytest.mark.parametrize("bad", [0, -2, 2.0, True])
def test_bad_input_is_named(bad):
    with pytest.raises(InputError) as error:
        categorical(bad)
    assert (
        "num_categories" in str(error.value)
        and repr(bad) in str(error.value)
        and "\n" not in str(error.value)
    )


def test_an_unknown_method_is_named():
    with pytest.raises(InputError, match=r"method is 'often'.*binomials"):
        categorical(3, "often")
