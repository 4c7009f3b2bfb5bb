"""Empirical distribution functions: weights, distances by SciPy, what is lost by resampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.core.types import Dataset
from collapse_jax.errors import InputError
from collapse_jax.estimators.empirical import empirical, empirical_params

pytestmark = pytest.mark.usefixtures("quick_compile")
FAMILY = empirical(jax.scipy.stats.norm.cdf)
RNG = np.random.default_rng(0)


def test_the_distance_is_that_of_cramer_and_von_mises():
    x = RNG.normal(size=30)
    ours = FAMILY.metrics["cramer_von_mises"](empirical_params(x))
    # SciPy's statistic is n times it.
    assert float(ours) == pytest.approx(stats.cramervonmises(x, "norm").statistic / 30, rel=1e-5)


def test_weighted_distances_are_integrals():
    x, weight = RNG.normal(size=6), np.array([1.0, 0.25, 3.0, 0.0, 1.0, 0.5])
    order = np.argsort(x)
    levels = np.r_[0, np.cumsum(weight[order])] / weight.sum()
    ends = np.r_[0, stats.norm.cdf(x[order]), 1]
    want = sum(
        integrate.quad(lambda u, level=level: (level - u) ** 2, a, b)[0]
        for level, a, b in zip(levels, ends[:-1], ends[1:], strict=True)
    )
    params = empirical_params(x, weight)
    assert float(FAMILY.metrics["cramer_von_mises"](params)) == pytest.approx(want, rel=1e-5)
    other = empirical_params([0.0, 0.5, 0.5, 2.0], [1, 1, 2, 4])
    shares = np.array([1, 1, 2, 4]) / 8
    at = np.array([0.0, 0.5, 0.5, 2.0])
    f = np.array([weight[x <= one].sum() / weight.sum() for one in at])
    g = np.array([shares[at <= one].sum() for one in at])
    ours = FAMILY.distances["squared_distance"](params, other)
    assert float(ours) == pytest.approx(np.sum(shares * (f - g) ** 2), rel=1e-5)


def test_other_distances_are_scipys():
    x, y = RNG.normal(size=20), RNG.normal(size=31) * 2 + 1
    weight = RNG.exponential(size=31)
    ours, theirs = empirical_params(x), empirical_params(y, weight)
    alone = float(FAMILY.metrics["kolmogorov_smirnov"](ours))
    assert alone == pytest.approx(stats.ks_1samp(x, stats.norm.cdf).statistic, rel=1e-5)
    equal = float(FAMILY.distances["kolmogorov_smirnov_distance"](ours, empirical_params(y)))
    assert equal == pytest.approx(stats.ks_2samp(x, y).statistic, rel=1e-5)
    first = float(FAMILY.distances["wasserstein1"](ours, theirs))
    exact = stats.wasserstein_distance(x, y, v_weights=weight)
    assert first == pytest.approx(exact, rel=1e-5)
    second = float(FAMILY.distances["squared_wasserstein2"](ours, empirical_params(y[:20])))
    exact = np.mean((np.sort(x) - np.sort(y[:20])) ** 2)
    assert second == pytest.approx(exact, rel=1e-5)


def test_draws_are_copies_of_slots():
    x = jnp.asarray([3.0, np.nan, -1.0, 3.0, 2.0], jnp.float32)
    data = Dataset(x, jnp.asarray([1.0, 0.0, 2.0, 1.0, 1.0], jnp.float32))
    params, _ = FAMILY.fit(None, None, data)
    key = jax.random.key(0)
    slots = FAMILY.copied(key, params, data, 4000)
    np.testing.assert_array_equal(FAMILY.sample(key, params, 4000), x[slots])
    counts = np.bincount(slots, minlength=5)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3, 4]], np.array([1, 2, 1, 1]) * 800).pvalue > 1e-4
    heterozygosity = 1 - (0.4**2 + 0.4**2 + 0.2**2)
    assert float(FAMILY.metrics["heterozygosity"](params)) == pytest.approx(heterozygosity)


def test_empty_slots_do_not_count():
    x = np.array([3.0, np.nan, -1.0, 7.0, 2.0], np.float32)
    weight = np.array([1.0, 0.0, 2.0, 0.0, 1.0], np.float32)
    params, info = FAMILY.fit(None, None, Dataset(jnp.asarray(x), jnp.asarray(weight)))
    alone = empirical_params([3.0, -1.0, 2.0], [1, 2, 1])
    np.testing.assert_array_equal(params.x[:3], alone.x)
    np.testing.assert_array_equal(params.weight, [2, 1, 1, 0, 0])
    assert info.converged and int(FAMILY.metrics["support"](params)) == 3
    for name in ("mean", "variance", "cramer_von_mises"):
        assert float(FAMILY.metrics[name](params)) == pytest.approx(
            float(FAMILY.metrics[name](alone)), rel=1e-6
        )
    assert float(FAMILY.metrics["mean"](params)) == pytest.approx(0.75)
    assert float(FAMILY.metrics["variance"](params)) == pytest.approx(3.1875)
    sample = np.asarray(FAMILY.sample(jax.random.key(0), params, 4000))
    values, counts = np.unique(sample, return_counts=True)
    assert values.tolist() == [-1, 2, 3]
    assert stats.chisquare(counts, [2000, 1000, 1000]).pvalue > 1e-4


def test_resampling_loses_points_as_a_categorical_model_does(assert_mean):
    """The squared distance under replace grows as the variance of a mean does, by shared draws."""
    real = cj.Source(lambda key, n: jax.random.normal(key, (n,)))
    process = cj.generational_process(FAMILY, real, cj.workflows.replace(), sample_size=12)
    trace = cj.simulate(
        process,
        jax.random.key(1),
        generations=4,
        chains=1500,
        metrics=("cramer_von_mises", "support"),
    )
    lost = 1 - theory.ancestry.retention(np.arange(5), 12)
    assert_mean(trace["cramer_von_mises"], lost / 6)
    ancestors = [theory.lineages.expected_living_ancestors(g, 12) for g in range(5)]
    assert_mean(trace["support"], ancestors)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: empirical(3), "cdf"),
        (lambda: empirical_params([[1.0]]), r"x has shape \[1, 1\]"),
        (lambda: empirical_params([1.0, 2.0], [1.0]), r"weight \[1\]"),
        (lambda: empirical_params([1.0, 2.0], [0.0, 0.0]), "one above 0"),
        (lambda: empirical_params([1.0, np.inf]), "x must be finite"),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(InputError, match=says) as error:
        call()
    assert "\n" not in str(error.value)
