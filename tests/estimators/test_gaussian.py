"""The Gaussian family: the law of its evidence, its arithmetic, and the collapsed regime; |z| < 4 and p > 1e-4 at fixed keys."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from collapse_jax.errors import InputError
from collapse_jax.estimators.gaussian import (
    GaussianParams,
    Moments,
    gaussian,
    gaussian_params,
    log_variance,
    merge,
    semidefinite_factor,
    summarise,
    variance,
)

pytestmark = pytest.mark.usefixtures("quick_compile")
MEAN4 = np.array([1.0, -2.0, 0.5, 3.0])
ROOT4 = np.array([[2.0, 0, 0, 0], [0.5, 1, 0, 0], [-0.3, 0.2, 0.5, 0], [1, 0, 0.4, 1.5]])
COVARIANCE4 = ROOT4 @ ROOT4.T


PARAMS = {
    1: gaussian_params(3.0, 4.0),
    4: gaussian_params(MEAN4, COVARIANCE4),
    64: gaussian_params(np.zeros(64), np.diag(np.linspace(0.5, 2, 64))),
}


@functools.partial(jax.jit, static_argnums=0)
def evidence_of(dim, keys, n):
    """Evidence of n draws from its law, for many keys; n is traced."""
    return jax.vmap(gaussian(dim).draw, (0, None, None))(keys, PARAMS[dim], n)


def in_float64(evidence):
    return Moments(*(np.asarray(leaf, np.float64) for leaf in evidence))


@functools.cache
def drawn(dim, n, chains):
    return in_float64(evidence_of(dim, jax.random.split(jax.random.key(2), chains), n))


def log_det(scatter):
    return np.linalg.slogdet(scatter)[1]


@pytest.mark.parametrize("n", [2, 5, 30])
def test_evidence_in_one_dimension_is_normal_and_chi_square(n):
    evidence = drawn(1, n, 20_000)
    mean, scatter = evidence.mean[:, 0], evidence.scatter[:, 0, 0]
    assert (evidence.count == n).all()
    assert stats.kstest(mean, stats.norm(3, 2 / np.sqrt(n)).cdf).pvalue > 1e-4
    assert stats.kstest(scatter / 4, stats.chi2(n - 1).cdf).pvalue > 1e-4
    assert stats.spearmanr(np.abs(mean - 3), scatter).pvalue > 1e-4
    # the test of fit has power: one degree of freedom more is found
    assert stats.kstest(scatter / 4, stats.chi2(n).cdf).pvalue < 1e-4


def expected_log_det(dim, n):
    return special.digamma((n - np.arange(1, dim + 1)) / 2).sum() + dim * np.log(2)


@pytest.mark.parametrize("n", [5, 12])
def test_evidence_in_four_dimensions_is_wishart(n, assert_mean):
    evidence = drawn(4, n, 10_000)
    assert_mean(evidence.scatter, (n - 1) * COVARIANCE4)
    assert_mean(log_det(evidence.scatter), expected_log_det(4, n) + np.linalg.slogdet(COVARIANCE4)[1])
    centred = evidence.mean - MEAN4
    assert_mean(centred[:, :, None] * centred[:, None, :], COVARIANCE4 / n)
    # one entry's whole law: x^T scatter x / x^T covariance x is chi-square for every direction x
    direction = np.array([0.3, -1, 2, 0.7])
    scaled = direction @ evidence.scatter @ direction / (direction @ COVARIANCE4 @ direction)
    assert stats.kstest(scaled, stats.chi2(n - 1).cdf).pvalue > 1e-4


def test_evidence_in_64_dimensions(assert_mean):
    evidence = drawn(64, 100, 400)
    covariance = np.diag(np.linspace(0.5, 2, 64))
    assert_mean(np.trace(evidence.scatter, axis1=1, axis2=2), 99 * np.trace(covariance))
    assert_mean(log_det(evidence.scatter), expected_log_det(64, 100) + np.log(np.diag(covariance)).sum())
    spread = special.polygamma(1, (100 - np.arange(1, 65)) / 2).sum()
    assert abs(log_det(evidence.scatter).var(ddof=1) / spread - 1) < 4 * np.sqrt(2 / 400)


def test_evidence_from_its_law_and_from_points_agree():
    def from_points(key):
        return summarise(gaussian(4).sample(key, PARAMS[4], 5), jnp.ones(5))

    law = drawn(4, 5, 10_000)
    points = in_float64(jax.jit(jax.vmap(from_points))(jax.random.split(jax.random.key(3), 10_000)))
    statistics = {
        "trace": lambda e: np.trace(e.scatter, axis1=1, axis2=2),
        "log_det": lambda e: log_det(e.scatter),
        "entry": lambda e: e.scatter[:, 3, 1],
        "mean": lambda e: e.mean @ np.arange(4),
        "both": lambda e: e.mean[:, 0] * e.scatter[:, 0, 0],
    }
    for name, statistic in statistics.items():
        assert stats.ks_2samp(statistic(law), statistic(points)).pvalue > 1e-4, name


def test_a_traced_size_gives_the_same_numbers():
    keys = jax.random.split(jax.random.key(4), 2)
    known_draw = jax.jit(jax.vmap(gaussian(4).draw, (0, None, None)), static_argnums=2)
    for n in (0, 12):
        for traced, known in zip(evidence_of(4, keys, n), known_draw(keys, PARAMS[4], n), strict=True):
            np.testing.assert_allclose(traced, known, rtol=1e-5, atol=1e-6)


def test_sizes_up_to_the_dimension(assert_mean):
    for n in (1, 2, 3, 4):
        evidence = drawn(4, n, 10_000)
        assert all(np.isfinite(leaf).all() for leaf in evidence)
        eigenvalues = np.linalg.eigvalsh(evidence.scatter)
        assert (eigenvalues[:, : 5 - n] < 1e-4 * eigenvalues[:, -1:] + 1e-30).all()
        if n > 1:
            assert np.mean(eigenvalues[:, 5 - n] > 1e-4 * eigenvalues[:, -1]) > 0.95
        assert_mean(evidence.scatter, (n - 1) * COVARIANCE4)
    assert not drawn(4, 1, 10_000).scatter.any()


def test_no_draws_are_the_neutral_element():
    empty = jax.tree.map(lambda leaf: leaf[0], evidence_of(4, jax.random.split(jax.random.key(0), 1), 0))
    assert empty.count == 0 and not empty.scatter.any() and jnp.isfinite(empty.mean).all()
    some = summarise(points_of(np.random.default_rng(6), 6, 4), jnp.ones(6))
    for merged in (merge(some, empty), merge(empty, some)):
        for got, want in zip(merged, some, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def points_of(rng, n, dim=3):
    return rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) + 5 * rng.normal(size=dim)


def assert_moments(evidence, x):
    x = np.asarray(x, np.float64)
    centred = x - x.mean(0)
    assert evidence.count == len(x)
    np.testing.assert_allclose(evidence.mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(evidence.scatter, centred.T @ centred, rtol=1e-4, atol=1e-4 * np.abs(centred.T @ centred).max())


def test_summarise_and_merge_add():
    rng = np.random.default_rng(0)
    for sizes in ((4, 9), (1, 1), (20, 1)):
        a, b = (points_of(rng, size) for size in sizes)
        ones = [jnp.ones(size) for size in sizes]
        assert_moments(summarise(a, ones[0]), a)
        assert_moments(merge(summarise(a, ones[0]), summarise(b, ones[1])), np.concatenate([a, b]))
        assert_moments(merge(summarise(b, ones[1]), summarise(a, ones[0])), np.concatenate([a, b]))


def test_a_point_of_weight_0_changes_nothing():
    rng = np.random.default_rng(1)
    x = points_of(rng, 6)
    with_empty = np.concatenate([x[:2], np.full((3, 3), 77.0), x[2:]])
    weight = np.array([1, 1, 0, 0, 0, 1, 1, 1, 1.0])
    assert_moments(summarise(with_empty, weight), x)
    nothing = summarise(with_empty, np.zeros(9))
    assert nothing.count == 0 and not nothing.scatter.any()


def test_a_weight_of_2_is_the_point_twice():
    x = points_of(np.random.default_rng(2), 5)
    assert_moments(summarise(x, np.array([2.0, 1, 1, 1, 1])), np.concatenate([x[:1], x]))


@pytest.mark.parametrize("ddof", [0, 1])
def test_fit_is_numpy_mean_and_covariance(ddof):
    x = points_of(np.random.default_rng(3), 12)
    params, info = gaussian(3, ddof).fit(jax.random.key(0), None, summarise(x, np.ones(12)))
    assert info.converged
    np.testing.assert_allclose(params.mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(params.factor @ params.factor.T, np.cov(x.T, ddof=ddof), rtol=1e-4, atol=1e-4)
    one, _ = gaussian(3, ddof).fit(jax.random.key(0), None, summarise(x[:1], np.ones(1)))
    assert not one.factor.any()


def test_a_collapsed_model_stays_finite():
    family = gaussian(3)
    params = GaussianParams(jnp.array([1.0, 2, 3]), jnp.zeros((3, 3)))
    draw = jax.jit(family.draw)
    for n in (0, 1, 50):
        evidence = draw(jax.random.key(0), params, n)
        np.testing.assert_array_equal(evidence.mean, params.mean)
        assert not evidence.scatter.any()
        fitted, _ = family.fit(jax.random.key(0), params, evidence)
        np.testing.assert_array_equal(fitted.mean, params.mean)
        assert not fitted.factor.any()
    assert family.metrics["variance"](params) == 0
    assert family.metrics["log_variance"](params) == -jnp.inf
    np.testing.assert_array_equal(family.sample(jax.random.key(0), params, 4), np.tile([1, 2, 3], (4, 1)))


def test_almost_collapsed_models_give_no_nan():
    @jax.jit
    @jax.vmap
    def next_model(scale):
        params = GaussianParams(jnp.ones(2), jnp.sqrt(scale) * jnp.eye(2))
        evidence = gaussian(2).draw(jax.random.key(0), params, 20)
        fitted, _ = gaussian(2).fit(jax.random.key(0), params, evidence)
        return evidence, fitted, variance(fitted), log_variance(fitted)

    evidence, fitted, spread, log_spread = next_model(jnp.array([1e-30, 1e-38, 1e-40, 1e-45, 0.0]))
    assert all(jnp.isfinite(leaf).all() for leaf in (*evidence, *fitted))
    assert not jnp.isnan(log_spread).any()
    assert 0.1 < spread[0] / 1e-30 < 4


def test_semidefinite_factor():
    rng = np.random.default_rng(4)
    for dim in (1, 4, 20):
        root = rng.normal(size=(dim, dim + 3))
        covariance = (root @ root.T).astype(np.float32)
        want = np.linalg.cholesky(covariance.astype(np.float64))
        np.testing.assert_allclose(semidefinite_factor(jnp.asarray(covariance)), want, rtol=2e-3, atol=1e-4 * want.max())


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_semidefinite_factor_of_singular_matrices(rank):
    rng = np.random.default_rng(5)
    root = rng.normal(size=(5, max(rank, 1))) * (rank > 0)
    covariance = (root @ root.T).astype(np.float32)
    factor = np.asarray(semidefinite_factor(jnp.asarray(covariance)), np.float64)
    assert np.isfinite(factor).all() and not np.triu(factor, 1).any()
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-4 * max(np.abs(covariance).max(), 1e-30))
    assert np.sum(np.abs(factor).max(0) > 1e-3) == rank
    # an empty direction in the middle
    apart = np.diag([2.0, 0, 3]).astype(np.float32)
    np.testing.assert_allclose(semidefinite_factor(jnp.asarray(apart)), np.sqrt(apart), rtol=1e-6)


def test_metrics_against_numpy():
    params = gaussian_params(MEAN4, COVARIANCE4)
    metrics = gaussian(4).metrics
    np.testing.assert_allclose(metrics["mean"](params), MEAN4)
    np.testing.assert_allclose(metrics["variance"](params), np.trace(COVARIANCE4) / 4, rtol=1e-5)
    np.testing.assert_allclose(metrics["log_variance"](params), np.linalg.slogdet(COVARIANCE4)[1] / 4, rtol=1e-4)
    one = gaussian_params(3.0, 4.0)
    assert gaussian(1).metrics["mean"](one).shape == ()
    assert gaussian(1).metrics["mean"](one) == 3
    np.testing.assert_allclose(gaussian(1).metrics["log_variance"](one), np.log(4), rtol=1e-6)


def test_sample_has_the_right_moments(assert_mean):
    x = np.asarray(gaussian(4).sample(jax.random.key(0), gaussian_params(MEAN4, COVARIANCE4), 50_000), np.float64)
    assert x.shape == (50_000, 4)
    assert_mean(x, MEAN4)
    centred = x - MEAN4
    assert_mean(centred[:, :, None] * centred[:, None, :], COVARIANCE4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gaussian(0), ["dim", "0"]),
        (lambda: gaussian(2.0), ["dim", "2.0"]),
        (lambda: gaussian(True), ["dim", "True"]),
        (lambda: gaussian(2, ddof=2), ["ddof", "2"]),
        (lambda: gaussian_params([0.0, 0.0], [[1.0]]), ["mean", "covariance", "(2,)", "(1, 1)"]),
        (lambda: gaussian_params([[0.0]], [[1.0]]), ["mean", "(1, 1)"]),
        (lambda: gaussian_params([np.nan], [[1.0]]), ["mean", "finite"]),
        (lambda: gaussian_params([0.0], [[np.inf]]), ["covariance", "finite"]),
        (lambda: gaussian_params([0.0], [[-1.0]]), ["covariance", "-1.0"]),
        (lambda: gaussian_params([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), ["covariance", "symmetric", "0.5"]),
    ],
)
def test_bad_input_is_named(make, words):
    with pytest.raises(InputError) as error:
        make()
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)
