"""The Gaussian family: its statistics' arithmetic, fit, collapsed regime and metrics.

Their laws: test_gaussian_statistics.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.estimators.gaussian import (
    covariance,
    gaussian,
    gaussian_params,
    log_variance,
    mean_vector,
    merge,
    summarise,
    unit_factor,
    variance,
)

pytestmark = pytest.mark.usefixtures("quick_compile")
MEAN4 = np.array([1.0, -2.0, 0.5, 3.0])
ROOT4 = np.array([[2.0, 0, 0, 0], [0.5, 1, 0, 0], [-0.3, 0.2, 0.5, 0], [1, 0, 0.4, 1.5]])
COVARIANCE4 = ROOT4 @ ROOT4.T
DIMS = [1, 3, 14]

join = jax.jit(merge)
summed_up = jax.jit(summarise, static_argnums=2)


def points_of(rng, n, dim=3):
    return rng.normal(size=(n, dim)) @ (
        rng.normal(size=(dim, dim)) + 2 * np.eye(dim)
    ) + 5 * rng.normal(size=dim)


def without_variance(model, dim):
    return (
        all((np.asarray(leaf) == -np.inf).all() for leaf in jax.tree.leaves(model.log_scale))
        and (unit_factor(model) == np.eye(dim)).all()
    )


def assert_moments(statistics, x, unpacked):
    x = np.asarray(x, np.float64)
    centred = x - x.mean(0)
    want = centred.T @ centred / len(x)
    mean, found, _, _ = unpacked(statistics, x.shape[1])
    assert statistics.count == len(x)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("dim", DIMS)
def test_summarise_and_merge_add(dim, unpacked):
    rng = np.random.default_rng(0)
    for sizes in ((4, 9), (1, 1), (20, 1)):
        a, b = (points_of(rng, size, dim) for size in sizes)
        one, other = (summed_up(x, jnp.ones(len(x)), dim) for x in (a, b))
        assert_moments(one, a, unpacked)
        assert_moments(join(one, other), np.concatenate([a, b]), unpacked)
        assert_moments(join(other, one), np.concatenate([a, b]), unpacked)


@pytest.mark.parametrize("dim", DIMS)
def test_a_point_of_weight_0_changes_nothing(dim, unpacked):
    rng = np.random.default_rng(1)
    x = points_of(rng, 6, dim)
    with_empty = np.concatenate([x[:2], np.full((3, dim), 77.0), x[2:]])
    weight = np.array([1, 1, 0, 0, 0, 1, 1, 1, 1.0])
    assert_moments(summed_up(with_empty, weight, dim), x, unpacked)
    nothing = summed_up(with_empty, np.zeros(9), dim)
    assert (
        nothing.count == 0
        and without_variance(nothing, dim)
        and np.isfinite(mean_vector(nothing)).all()
    )


@pytest.mark.parametrize("dim", DIMS)
def test_a_weight_of_2_is_the_point_twice(dim, unpacked):
    x = points_of(np.random.default_rng(2), 5, dim)
    assert_moments(
        summed_up(x, np.array([2.0, 1, 1, 1, 1]), dim), np.concatenate([x[:1], x]), unpacked
    )
    assert without_variance(summed_up(x[:1], np.array([2.0]), dim), dim)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_points_of_any_scale_are_summed_up(scale, unpacked):
    x = points_of(np.random.default_rng(8), 7)
    x = (x - x.mean(0)) * scale
    _, found, log_scale, _ = unpacked(summed_up(x, np.ones(7), 3), 3)
    want = np.cov((x / scale).T, ddof=0)
    np.testing.assert_allclose(found / scale**2, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    assert np.isfinite(log_scale).all()


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("dim", DIMS)
def test_fit_is_numpy_mean_and_covariance(dim, ddof):
    x = points_of(np.random.default_rng(3), 30, dim)
    params, info = gaussian(dim, ddof).fit(jax.random.key(0), None, summed_up(x, np.ones(30), dim))
    assert info.converged
    np.testing.assert_allclose(mean_vector(params), x.mean(0), rtol=1e-5)
    want = np.atleast_2d(np.cov(x.T, ddof=ddof))
    np.testing.assert_allclose(covariance(params), want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
    other = np.atleast_2d(np.cov(x.T, ddof=1 - ddof))
    assert not np.allclose(covariance(params), other, rtol=1e-3)
    # the divisor, where the count is known and where it is traced
    statistics = summed_up(x, np.ones(30), dim)
    known = gaussian(dim, ddof).fit(jax.random.key(0), None, statistics._replace(count=30))[0]
    np.testing.assert_allclose(covariance(known), covariance(params), rtol=1e-5, atol=1e-6)
    one, _ = gaussian(dim, ddof).fit(jax.random.key(0), None, summed_up(x[:1], np.ones(1), dim))
    assert without_variance(one, dim) and not np.any(covariance(one))
    np.testing.assert_allclose(mean_vector(one), x[0], rtol=1e-6)


@pytest.mark.parametrize(("dim", "ddof"), [(3, 0), (3, 1), (14, 1)])
def test_a_fit_adds_nothing_to_what_its_own_family_drew(dim, ddof, unpacked):
    """A constant added to scales of many digits would be rounded alike in every generation."""
    params = gaussian_params(np.zeros(dim), np.eye(dim))
    params = params._replace(log_scale=jax.tree.map(lambda s: s - 60_000, params.log_scale))

    @jax.jit
    def draws(n):
        return [gaussian(dim, ddof).draw(jax.random.key(0), params, size) for size in (50, n)]

    for statistics in draws(50):
        fitted = gaussian(dim, ddof).fit(None, params, statistics)[0]
        jax.tree.map(np.testing.assert_array_equal, fitted.log_scale, statistics.log_scale)
        assert statistics.divisor == 50 - ddof
    # real data drawn by a family of the other ddof, or merged, are fitted all the same
    wide = gaussian_params(np.zeros(dim), np.eye(dim))
    same, other = jax.jit(
        lambda: [gaussian(dim, one).draw(jax.random.key(0), wide, 50) for one in (ddof, 1 - ddof)]
    )()
    nothing = summed_up(np.zeros((1, dim)), np.zeros(1), dim)
    want = unpacked(gaussian(dim, ddof).fit(None, params, same)[0], dim)
    for statistics in (other, join(same, nothing), join(nothing, other)):
        for got, wanted in zip(
            unpacked(gaussian(dim, ddof).fit(None, params, statistics)[0], dim), want, strict=True
        ):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dim", DIMS)
def test_a_collapsed_model_stays_finite(dim):
    family = gaussian(dim)
    mean = np.arange(1.0, dim + 1)
    params = gaussian_params(mean, np.zeros((dim, dim)))
    draw = jax.jit(family.draw)
    for n in (0, 1, 50):
        statistics = draw(jax.random.key(0), params, n)
        fitted, _ = family.fit(jax.random.key(0), params, statistics)
        for model in (statistics, fitted):
            np.testing.assert_array_equal(mean_vector(model), mean)
            assert without_variance(model, dim)
    assert family.metrics["variance"](params) == 0
    assert family.metrics["log_variance"](params) == -jnp.inf
    np.testing.assert_array_equal(
        family.sample(jax.random.key(0), params, 4), np.tile(mean, (4, 1))
    )
    by_points = jax.jit(gaussian(dim, by="points").draw, static_argnums=2)(
        jax.random.key(0), params, 5
    )
    np.testing.assert_array_equal(mean_vector(by_points), mean)
    assert without_variance(by_points, dim)


@pytest.mark.parametrize("by", ["law", "points"])
@pytest.mark.parametrize("dim", DIMS)
def test_almost_collapsed_models_move_as_all_others(dim, by):
    """The log scale falls by the same amount from any scale, also beyond any float."""
    family = gaussian(dim, by=by)

    @jax.jit
    @jax.vmap
    def next_model(log_scale):
        params = gaussian_params(np.ones(dim), np.eye(dim))
        params = params._replace(log_scale=jax.tree.map(lambda s: s + log_scale, params.log_scale))
        statistics = family.draw(jax.random.key(0), params, 20)
        fitted, _ = family.fit(jax.random.key(0), params, statistics)
        return statistics, fitted, variance(fitted), log_variance(fitted)

    scales = jnp.array([0.0, -35.0, -43.0, -46.0, -52.0, -300.0, -2000.0, -jnp.inf])
    statistics, fitted, spread, log_spread = next_model(scales)
    assert all(
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(
            (statistics.mean, statistics.factor, fitted.mean, fitted.factor)
        )
    )
    np.testing.assert_allclose(
        log_spread[:-1] - log_spread[0], 2 * scales[:-1], rtol=1e-6, atol=1e-3
    )
    assert log_spread[-1] == -jnp.inf and not np.isnan(np.asarray(spread)).any()
    # terms below the smallest normal float are flushed to 0
    np.testing.assert_allclose(
        spread[:4],
        spread[0] * np.exp(2 * np.asarray(scales[:4], float)),
        rtol=1e-4,
        atol=dim * 1.2e-38,
    )
    assert 0.1 < spread[0] < 4 and (spread[5:] == 0).all()


@pytest.mark.parametrize("dim", [1, 4, 12, 13])
def test_parameters_hold_the_covariance_that_they_are_made_of(dim):
    rng = np.random.default_rng(dim)
    root = rng.normal(size=(dim, dim))
    want = root @ root.T + 0.1 * np.eye(dim)
    params = gaussian_params(rng.normal(size=dim), want)
    assert isinstance(params.factor, tuple) == (dim <= 12)
    np.testing.assert_allclose(covariance(params), want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    np.testing.assert_array_equal(np.triu(unit_factor(params)), np.eye(dim))
    rank_one = np.outer(root[:, 0], root[:, 0])
    params = gaussian_params(np.zeros(dim), rank_one)
    np.testing.assert_allclose(covariance(params), rank_one, rtol=1e-4, atol=1e-6)
    assert sum(np.isfinite(np.asarray(s)).sum() for s in jax.tree.leaves(params.log_scale)) == 1


def test_metrics_against_numpy():
    params = gaussian_params(MEAN4, COVARIANCE4)
    metrics = gaussian(4).metrics
    np.testing.assert_allclose(metrics["mean"](params), MEAN4)
    np.testing.assert_allclose(metrics["variance"](params), np.trace(COVARIANCE4) / 4, rtol=1e-5)
    np.testing.assert_allclose(
        metrics["log_variance"](params), np.linalg.slogdet(COVARIANCE4)[1] / 4, rtol=1e-4
    )
    one = gaussian_params(3.0, 4.0)
    assert gaussian(1).metrics["mean"](one).shape == ()
    assert gaussian(1).metrics["mean"](one) == 3
    np.testing.assert_allclose(gaussian(1).metrics["log_variance"](one), np.log(4), rtol=1e-6)
    many = gaussian_params(np.arange(14.0), np.diag(np.arange(1.0, 15)))
    np.testing.assert_allclose(gaussian(14).metrics["mean"](many), np.arange(14))
    np.testing.assert_allclose(gaussian(14).metrics["variance"](many), 7.5, rtol=1e-5)
    np.testing.assert_allclose(
        gaussian(14).metrics["log_variance"](many), np.log(np.arange(1, 15)).mean(), rtol=1e-5
    )


@pytest.mark.parametrize("dim", [4, 14])
def test_sample_has_the_right_moments(dim, assert_mean):
    mean, want = (MEAN4, COVARIANCE4) if dim == 4 else (np.arange(14.0), np.eye(14) + 0.5)
    x = np.asarray(
        gaussian(dim).sample(jax.random.key(0), gaussian_params(mean, want), 50_000), np.float64
    )
    assert x.shape == (50_000, dim)
    assert_mean(x, mean)
    centred = x - mean
    assert_mean(centred[:, :, None] * centred[:, None, :], want)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gaussian(0), ["dim", "0"]),
        (lambda: gaussian(2.0), ["dim", "2.0"]),
        (lambda: gaussian(True), ["dim", "True"]),
        (lambda: gaussian(2, ddof=2), ["ddof", "2"]),
        (lambda: gaussian(2, by="rows"), ["by", "'rows'", "'law'", "'points'"]),
        (lambda: gaussian_params([0.0, 0.0], [[1.0]]), ["mean", "covariance", "(2,)", "(1, 1)"]),
        (lambda: gaussian_params([[0.0]], [[1.0]]), ["mean", "(1, 1)"]),
        (lambda: gaussian_params([np.nan], [[1.0]]), ["mean", "finite"]),
        (lambda: gaussian_params([0.0], [[np.inf]]), ["covariance", "finite"]),
        (lambda: gaussian_params([0.0], [[-1.0]]), ["covariance", "-1.0"]),
        (
            lambda: gaussian_params([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]),
            ["covariance", "symmetric", "0.5"],
        ),
    ],
)
def test_bad_input_is_named(make, words):
    with pytest.raises(InputError) as error:
        make()
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)
