"""Categorical metrics against NumPy and SciPy in float64, whichever categories a model lists.

Collapsed chains are among them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.estimators.categorical import CategoricalParams, categorical, categorical_params

pytestmark = pytest.mark.usefixtures("quick_compile")
K = 9
REAL = np.array([0.3, 0.05, 0.0, 0.2, 0.1, 0.05, 0.15, 0.05, 0.1])
SAMPLES = np.random.default_rng(0).multinomial(12, REAL, size=40).astype(np.int32)
FAMILY = categorical(K)


@functools.cache
def measured(listed=K):
    """Models [chains] of counts and listed categories [chains, listed] -> name -> [chains]."""
    real = categorical_params(REAL)
    functions = FAMILY.metrics | {
        name: functools.partial(lambda f, params: f(params, real), f)
        for name, f in FAMILY.distances.items()
    }
    return jax.jit(
        lambda params: jax.vmap(lambda one: {name: f(one) for name, f in functions.items()}, -1)(
            params
        )
    )


def everything(counts):
    return CategoricalParams(
        jnp.asarray(counts).T,
        jnp.broadcast_to(jnp.arange(K, dtype=jnp.int32)[:, None], (K, len(counts))),
    )


def squared_wasserstein2(p, q, steps=200_000):
    """Equal quantiles paired, on a fine grid of levels."""
    levels = (np.arange(steps) + 0.5) / steps
    ours, theirs = (np.searchsorted(np.cumsum(one) / np.sum(one), levels) for one in (p, q))
    return np.mean((ours - theirs) ** 2.0)


def by_numpy(counts):
    p = counts / counts.sum()
    index, lost = np.arange(K), counts == 0
    with np.errstate(divide="ignore"):
        return {
            "mean": p @ index,
            "variance": p @ (index - p @ index) ** 2,
            "log_variance": np.log(p @ (index - p @ index) ** 2),
            "heterozygosity": 1 - np.sum(p**2),
            "entropy": stats.entropy(p),
            "support": np.sum(~lost),
            "absorbed": int(np.sum(~lost) == 1),
            "probabilities": p,
            "missing_mass": REAL[lost].sum(),
            "tail_lost": 1 - p[[1, 2, 5]].sum() / 0.1,  # the first of equal ones
            "total_variation": np.abs(p - REAL).sum() / 2,
            "squared_distance": np.sum((p - REAL) ** 2),
            "kl_model_to_real": stats.entropy(p, REAL),
            "kl_real_to_model": stats.entropy(REAL, p),
            "squared_wasserstein2": squared_wasserstein2(p, REAL),
            "wasserstein2": np.sqrt(squared_wasserstein2(p, REAL)),
        }


def assert_metrics(found, counts):
    assert not [name for name, values in found.items() if np.isnan(values).any()]
    for i, one in enumerate(counts):
        wanted = by_numpy(one)
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(
                found[name][i],
                value,
                rtol=1e-4 if "wasser" in name else 2e-5,
                atol=2e-6,
                err_msg=f"{name} of {one}",
            )


def test_metrics_against_numpy():
    counts = np.concatenate([SAMPLES, [np.ceil(1000 * REAL).astype(np.int32)]])
    found = measured()(everything(counts))
    assert_metrics(found, counts)
    assert np.isinf(found["kl_real_to_model"][:-1]).any() and np.isfinite(
        found["kl_real_to_model"][-1]
    )
    assert found["absorbed"].dtype == found["support"].dtype == jnp.int32


@pytest.mark.parametrize("size", [8, 9])
def test_lists_without_the_dead_give_the_same(size):
    """What `simulate` drops under `replace`.

    Where a list is longer than what is alive, its end is empty places.
    """
    full = everything(SAMPLES)
    short = jax.vmap(functools.partial(FAMILY.compaction.to_size, size=size), -1, -1)(full)
    assert short.weights.shape == (size, len(SAMPLES))
    assert_metrics(measured(size)(short), SAMPLES)


def test_absorbed_chains():
    counts = np.eye(K, dtype=np.int32)[[0, 3, 8]] * 12
    found = measured()(everything(counts))
    assert_metrics(found, counts)
    np.testing.assert_array_equal(found["absorbed"], 1)
    np.testing.assert_array_equal(found["entropy"], 0)
    np.testing.assert_array_equal(found["log_variance"], -np.inf)
    np.testing.assert_allclose(found["missing_mass"], found["total_variation"], rtol=1e-5)
    np.testing.assert_allclose(found["kl_model_to_real"], -np.log(REAL[[0, 3, 8]]), rtol=1e-5)
    short = jax.vmap(functools.partial(FAMILY.compaction.to_size, size=1), -1, -1)(
        everything(counts)
    )
    assert_metrics(measured(1)(short), counts)


def test_a_category_that_is_not_real_is_infinitely_far():
    counts = np.array([[3, 0, 9, 0, 0, 0, 0, 0, 0]], np.int32)
    assert measured()(everything(counts))["kl_model_to_real"][0] == np.inf
    assert_metrics(measured()(everything(counts)), counts)


def test_one_category():
    family, real = categorical(1), categorical_params([1.0])
    params = CategoricalParams(jnp.array([7], jnp.int32), jnp.array([0], jnp.int32))
    found = {name: metric(params) for name, metric in family.metrics.items()}
    assert (
        found["absorbed"] == found["support"] == 1
        and found["variance"] == found["entropy"] == found["heterozygosity"] == 0
    )
    assert not any(np.asarray(distance(params, real)) for distance in family.distances.values())


def test_close_models_do_not_cancel():
    """A sample of 10^8: divergences of 1e-8 where each of their terms is of order 0.1."""
    counts = np.random.default_rng(1).multinomial(10**8, REAL)[None].astype(np.int32)
    found, p, real = measured()(everything(counts)), counts[0] / 10**8, np.float64(np.float32(REAL))
    real, alive = real / real.sum(), REAL > 0
    wanted = np.sum((p - real)[alive] ** 2 / real[alive]) / 2
    for name in ("kl_model_to_real", "kl_real_to_model"):
        np.testing.assert_allclose(found[name][0], wanted, rtol=0.02)


def test_the_real_distribution_itself_is_at_distance_zero():
    real = categorical_params(REAL)
    for name, distance in FAMILY.distances.items():
        np.testing.assert_allclose(distance(real, real), 0, atol=1e-6, err_msg=name)
