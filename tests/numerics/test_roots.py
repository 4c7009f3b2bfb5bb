"""Covariances of nearly singular and of singular samples, against NumPy in float64.

The law of an affine family does not depend on the coordinates: chains of the same key in other
coordinates give the same numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.estimators.gaussian import gaussian, gaussian_params, merge, summarise
from collapse_jax.estimators.kde import kde
from collapse_jax.numerics import factored, roots

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(2)


def chains_of(covariance, sample_size, workflow, generations=6, chains=300, key=KEY):
    """log_scale [chains, generations + 1, d] of Gaussian chains."""
    covariance = np.array(covariance, float)
    family = gaussian(len(covariance))
    real = gaussian_params(np.zeros(len(covariance)), covariance)
    process = cj.generational_process(
        family, cj.sources.population(family, real), workflow, sample_size=sample_size
    )
    trace = cj.simulate(process, key, generations=generations, chains=chains, metrics="log_scale")
    return np.asarray(trace["log_scale"], np.float64)


def correlated(one_minus):
    rho = 1 - one_minus
    return np.array([[1, rho], [rho, 1]]), np.array([0, np.log(one_minus * (2 - one_minus)) / 2])


@pytest.mark.parametrize("workflow", [cj.workflows.accumulate(), cj.workflows.mix(0.7, 0, 0.3)])
def test_a_law_does_not_depend_on_the_coordinates(workflow):
    wanted = chains_of(np.eye(2), 50, workflow)
    for one_minus in (1e-8, 1e-10):
        covariance, scales = correlated(one_minus)
        found = chains_of(covariance, 50, workflow) - scales
        # Single numbers have the digits that their coordinates have; their mean is the law's.
        np.testing.assert_allclose(found.mean(0), wanted.mean(0), atol=1e-3)
        np.testing.assert_allclose(found, wanted, atol=2e-2)
    apart = chains_of(np.diag([1e20, 1e-36]), 50, workflow) - np.log([1e10, 1e-18])
    np.testing.assert_allclose(apart, wanted, atol=1e-4)


@pytest.mark.parametrize(("dim", "size"), [(5, 5), (5, 4), (2, 2)])
def test_as_many_points_as_dimensions_leave_one_without_variance(dim, size):
    log_scale = chains_of(np.eye(dim), size, cj.workflows.mix(0.7, 0, 0.3))
    assert (np.isfinite(log_scale).sum(-1) == size - 1).all()


def test_pooling_points_of_one_plane_leaves_it():
    log_scale = chains_of(np.eye(5), 3, cj.workflows.accumulate(), chains=1000)
    # Rounding alone gave some of these a third direction.
    assert (np.isfinite(log_scale).sum(-1) == 2).all()


def test_one_point_more_than_dimensions_leaves_variance_everywhere():
    log_scale = chains_of(np.eye(5), 6, cj.workflows.mix(0.7, 0, 0.3))
    # The last direction has one degree of freedom: its share of its coordinate's deviation is below
    # t with a probability of about 2 t, and what is below t = 2e-5 may be lost. Of 2,100 models .08
    # are expected; more than one comes up once in 300.
    assert np.count_nonzero(~np.isfinite(log_scale).all(-1)) <= 1


def lower_of(directions):
    log_scale, factor = (np.asarray(leaf, np.float64) for leaf in directions)
    return factor * np.exp(log_scale)


def exact_root(rows):
    """The lower triangular L [d, d] with L L^T = rows^T rows, in float64."""
    triangle = np.linalg.qr(np.asarray(rows, np.float64), mode="r").T
    return triangle * np.where(np.diag(triangle) < 0, -1, 1)


@pytest.mark.parametrize("dim", [2, 5, 14])
def test_columns_are_added_with_the_digits_of_roots(dim):
    rng = np.random.default_rng(dim)
    root = np.tril(rng.normal(size=(dim, dim)), -1) + np.diag(10.0 ** -np.arange(dim).clip(0, 4))
    root, columns = root.astype(np.float32), rng.normal(size=(3, dim)).astype(np.float32)
    found = jax.jit(roots.root_of_columns)(root, columns, jnp.float32(0))
    wanted = exact_root(np.concatenate([root.T, columns]))
    np.testing.assert_allclose(lower_of(found), wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dim", [2, 5])
def test_points_near_a_plane_far_from_the_origin(dim):
    rng = np.random.default_rng(dim)
    x = rng.normal(size=(40, dim)) * 2.0**-8
    x[:, -1] = x[:, 0] + 2.0**-19 * rng.normal(size=40)
    # All numbers are exact in float32.
    x = 4 + np.round(x * 2**21) / 2**21
    found = jax.jit(summarise, static_argnums=2)(jnp.asarray(x, jnp.float32), jnp.ones(40), dim)
    wanted = exact_root((x - x.mean(0)) / 40**0.5)
    log_scale = np.asarray(factored.as_vector(found.log_scale))
    np.testing.assert_allclose(log_scale, np.log(np.diag(wanted)), atol=2e-3)
    kernel, _ = jax.jit(kde(dim).fit)(KEY, None, kde(dim).summarise(jnp.float32(x), jnp.ones(40)))
    deviations = np.log(np.diag(wanted) * (40 / 39) ** 0.5)
    apart = np.asarray(factored.as_vector(kernel.log_scale)) - deviations
    np.testing.assert_allclose(apart, apart[0], atol=2e-3)


def beside_a_plane(count, dim):
    """x [count, dim + 1, dim] whose last points are some roundings off the plane of the others."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(count, dim + 1, dim))
    normal = np.linalg.svd(x[:, :dim] - x[:, :1])[2][:, -1:]
    inside = x[:, dim:] - x[:, :1]
    inside = inside - (inside * normal).sum(-1, keepdims=True) * normal
    x[:, dim:] = x[:, :1] + inside + normal * 10 ** rng.uniform(-6, -5, (count, 1, 1))
    return x.astype(np.float32)


@pytest.mark.parametrize("by", ["parts", "points"])
def test_nothing_beside_a_plane_is_dropped_of_points_in_general_position(by):
    """The deviation of what other points have none in, against float64; no other number moves."""
    x, weight = beside_a_plane(300, 3), jnp.ones(4)

    def last_of(x, general):
        if by == "points":
            return summarise(x, weight, 3, general).log_scale[-1], ()
        parts = [summarise(part, weight[: len(part)], 3, general) for part in (x[:2], x[2:])]
        return merge(*parts, general).log_scale[-1], parts

    both = jax.jit(jax.vmap(lambda x: (last_of(x, True), last_of(x, False)[0])))
    (found, parts), guessed = jax.tree.map(np.float64, both(x))
    lost = guessed == -np.inf
    assert np.isfinite(found).all() and lost.sum() > 30
    np.testing.assert_array_equal(found[~lost], guessed[~lost])
    if by == "points":
        rows = (np.float64(x) - np.float64(x).mean(1, keepdims=True)) / 2
    else:  # of what float32 has of the two parts, so that only their sum is judged
        scaled = [np.exp(np.stack(part.log_scale, -1)) * 0.5**0.5 for part in parts]
        factors = [np.zeros((300, 3, 3)) + np.eye(3) for _ in parts]
        for part, factor in zip(parts, factors, strict=True):
            for entry, (i, j) in zip(part.factor, [(1, 0), (2, 0), (2, 1)], strict=True):
                factor[:, i, j] = entry
        columns = [f * s[:, None] for f, s in zip(factors, scaled, strict=True)]
        shift = np.stack(parts[1].mean, -1) - np.stack(parts[0].mean, -1)
        rows = np.concatenate([*(c.swapaxes(1, 2) for c in columns), shift[:, None] / 2], 1)
    wanted = np.array([exact_root(one)[-1, -1] for one in rows])
    off = np.abs(np.exp(found) - wanted)[lost] / np.finfo(np.float32).eps
    assert np.median(off) < 1 and np.quantile(off, 0.95) < 8


def test_points_with_duplicates_span_what_they_span():
    rng = np.random.default_rng(0)
    few = rng.normal(size=(3, 5)).astype(np.float32)
    for x, rank in [
        (few[np.arange(20) % 3], 2),
        (np.repeat(few[:1], 9, 0), 0),
        (np.outer(rng.normal(size=30), few[0]).astype(np.float32) + 3, 1),
    ]:
        found = jax.jit(summarise, static_argnums=2)(x, jnp.ones(len(x)), 5)
        assert np.isfinite(factored.as_vector(found.log_scale)).sum() == rank
    x = np.stack([rng.normal(size=30) * 1e10, rng.normal(size=30) * 1e-20], 1)
    found = jax.jit(summarise, static_argnums=2)(jnp.float32(x), jnp.ones(30), 2)
    wanted = np.log(np.diag(exact_root((x - x.mean(0)) / 30**0.5)))
    np.testing.assert_allclose(factored.as_vector(found.log_scale), wanted, rtol=1e-4)


def test_pooled_moments_have_derivatives():
    x = np.random.default_rng(1).normal(size=(9, 2)).astype(np.float32)

    def of_scale(scale):
        parts = [summarise(part, jnp.ones(len(part)), 2) for part in (x[:4] * scale, x[4:])]
        return sum(merge(*parts).log_scale)

    difference = (of_scale(1.01) - of_scale(0.99)) / 0.02
    np.testing.assert_allclose(jax.jit(jax.grad(of_scale))(1.0), difference, rtol=2e-3)
