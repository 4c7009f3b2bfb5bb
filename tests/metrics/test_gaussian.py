"""Gaussian metrics against NumPy and SciPy in float64, and their values on collapsed models."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, linalg, stats

from collapse_jax.estimators.gaussian import (
    GaussianParams,
    covariance,
    gaussian,
    gaussian_params,
    mean_vector,
    unit_factor,
)
from collapse_jax.numerics import factored

pytestmark = pytest.mark.usefixtures("quick_compile")
DIMS = [1, 2, 3, 8, 14, 64]
INF = np.inf


def compiled(function):
    """For many models at once, the chains where `simulate` puts them."""
    return jax.jit(lambda models: jax.vmap(function, in_axes=_axis(models))(models))


def _axis(models):
    return -1 if isinstance(models.mean, tuple) else 0


def stacked(models):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, _axis(models[0])), *models)


def model(mean, log_scale, factor=None):
    """Parameters from lists; factor: [d, d] unit lower triangular, by default the identity."""
    dim = len(mean)
    arrays = (
        jnp.asarray(value, jnp.float32)
        for value in (mean, log_scale, np.eye(dim) if factor is None else factor)
    )
    mean, log_scale, factor = arrays
    return GaussianParams(
        factored.from_arrays(mean, dim),
        factored.from_arrays(log_scale, dim),
        factored.from_matrix(factor, dim),
    )


@functools.cache
def metrics_of(dim):
    """model -> name -> metric, all in one program."""
    return jax.jit(
        lambda params: {name: metric(params) for name, metric in gaussian(dim).metrics.items()}
    )


@functools.cache
def distances_of(dim):
    """(one model, another) -> name -> distance, all in one program."""
    return jax.jit(
        lambda one, other: {
            name: distance(one, other) for name, distance in gaussian(dim).distances.items()
        }
    )


def random_model(rng, dim, spread=0.5):
    below = np.tril(rng.normal(size=(dim, dim)), -1) / np.sqrt(dim)
    return model(rng.normal(size=dim), spread * rng.normal(size=dim), below + np.eye(dim))


def in_float64(params):
    """(mean, covariance) of the very numbers that the float32 parameters are."""
    root = np.asarray(unit_factor(params), np.float64) * np.exp(
        np.asarray(factored.as_vector(params.log_scale), np.float64)
    )
    return np.asarray(mean_vector(params), np.float64), root @ root.T


def kl(one, other):
    (mean, cov), (mean_0, cov_0) = one, other
    offset, inverse = mean_0 - mean, np.linalg.inv(cov_0)
    logs = np.linalg.slogdet(cov_0)[1] - np.linalg.slogdet(cov)[1]
    return (np.trace(inverse @ cov) + offset @ inverse @ offset - len(mean) + logs) / 2


def squared_wasserstein2(one, other):
    (mean, cov), (mean_0, cov_0) = one, other
    values, axes = linalg.eigh(cov_0)
    root = axes * np.sqrt(np.maximum(values, 0)) @ axes.T
    return (
        np.sum((mean - mean_0) ** 2)
        + np.trace(cov + cov_0)
        - 2 * np.sum(np.sqrt(np.maximum(linalg.eigvalsh(root @ cov @ root), 0)))
    )


@pytest.mark.parametrize("dim", DIMS)
def test_metrics_against_numpy(dim):
    rng = np.random.default_rng(dim)
    family, models = gaussian(dim), [random_model(rng, dim) for _ in range(5)]
    found = compiled(
        lambda params: {name: metric(params) for name, metric in family.metrics.items()}
    )(stacked(models))
    for i, params in enumerate(models):
        mean, cov = in_float64(params)
        eigenvalues = np.linalg.eigvalsh(cov)
        log_det, shares = np.linalg.slogdet(cov)[1], eigenvalues / eigenvalues.sum()
        wanted = {
            "mean": mean if dim > 1 else mean[0],
            "log_scale": np.asarray(factored.as_vector(params.log_scale)),
            "variance": np.trace(cov) / dim,
            "log_variance": log_det / dim,
            "trace": np.trace(cov),
            "log_trace": np.log(np.trace(cov)),
            "log_determinant": log_det,
            "entropy": stats.multivariate_normal(mean, cov).entropy(),
            "effective_rank": np.exp(-np.sum(shares * np.log(shares))),
            "condition_number": eigenvalues[-1] / eigenvalues[0],
            "log_condition_number": np.log(eigenvalues[-1] / eigenvalues[0]),
        }
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            got = found[name][i]
            assert got.shape == np.shape(value), name
            np.testing.assert_allclose(
                got,
                value,
                rtol=2e-4 if name == "condition_number" else 2e-5,
                atol=2e-5,
                err_msg=name,
            )


@pytest.mark.parametrize("dim", DIMS)
def test_distances_against_scipy(dim):
    rng = np.random.default_rng(100 + dim)
    family, models, real = (
        gaussian(dim),
        [random_model(rng, dim) for _ in range(4)],
        random_model(rng, dim),
    )
    distances = {
        name: distance for name, distance in family.distances.items() if name != "total_variation"
    }
    found = compiled(
        lambda params: {name: distance(params, real) for name, distance in distances.items()}
    )(stacked([*models, real]))
    for i, params in enumerate(models):
        one, other = in_float64(params), in_float64(real)
        squared = squared_wasserstein2(one, other)
        wanted = {
            "squared_wasserstein2": squared,
            "wasserstein2": np.sqrt(squared),
            "kl_model_to_real": kl(one, other),
            "kl_real_to_model": kl(other, one),
        }
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name][i], value, rtol=1e-4, err_msg=name)
    for name, values in found.items():
        assert 0 <= values[-1] <= (1e-4 if name == "wasserstein2" else 1e-8), (
            f"{name} of a model to itself"
        )


@pytest.mark.parametrize("dim", [1, 3, 14])
def test_close_models_do_not_cancel(dim):
    """A sample of a million.

    Squared distances of 1e-6 where the traces that they are the difference of are of order 1.
    """
    rng = np.random.default_rng(dim)
    real = random_model(rng, dim)
    near = jax.tree.map(lambda leaf: leaf + 1e-3 * np.float32(rng.normal()), real)
    if dim > 12:
        near = near._replace(
            factor=real.factor + 1e-3 * np.tril(rng.normal(size=(dim, dim)), -1).astype(np.float32)
        )
    one, other = in_float64(near), in_float64(real)
    found = distances_of(dim)(near, real)
    np.testing.assert_allclose(found["kl_model_to_real"], kl(one, other), rtol=2e-3)
    np.testing.assert_allclose(found["kl_real_to_model"], kl(other, one), rtol=2e-3)
    np.testing.assert_allclose(
        found["squared_wasserstein2"], squared_wasserstein2(one, other), rtol=2e-3
    )


def total_variation_by_quadrature(one, other):
    (mean, scale), (mean_0, scale_0) = one, other
    points = sorted(m + z * s for m, s in (one, other) for z in np.linspace(-9, 9, 200))
    difference = lambda x: abs(stats.norm.pdf(x, mean, scale) - stats.norm.pdf(x, mean_0, scale_0))  # noqa: E731
    return (
        sum(integrate.fixed_quad(difference, a, b, n=12)[0] for a, b in itertools.pairwise(points))
        / 2
    )


def test_total_variation_in_one_dimension():
    real = gaussian_params(0.5, 4.0)
    cases = [
        (0.5, 2.0),
        (0.5, 1.0),
        (0.5, 5.0),
        (1.5, 2.0),
        (-3.0, 2.0),
        (1.0, 0.3),
        (0.5, 2.001),
        (0.501, 2.001),
        (9.0, 0.01),
        (500.0, 2.0),
    ]
    models = stacked([gaussian_params(mean, scale**2) for mean, scale in cases])
    found = compiled(lambda params: gaussian(1).distances["total_variation"](params, real))(models)
    wanted = [total_variation_by_quadrature(case, (0.5, 2.0)) for case in cases]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert found[0] == 0 and found[-1] == 1
    assert "total_variation" not in gaussian(2).distances


def test_total_variation_of_collapsed_chains():
    distance = compiled(
        lambda params: gaussian(1).distances["total_variation"](params, gaussian_params(0.5, 4.0))
    )
    dead = stacked([model([m], [s]) for m in (0.5, 3.0) for s in (-300.0, -1e6, -INF, 300.0)])
    np.testing.assert_allclose(distance(dead), 1, atol=1e-6)
    between_points = compiled(
        lambda params: gaussian(1).distances["total_variation"](params, model([0.5], [-INF]))
    )
    np.testing.assert_array_equal(
        between_points(stacked([model([0.5], [-INF]), model([0.6], [-INF]), model([0.5], [0.0])])),
        [0, 1, 1],
    )


def shifted(params, by):
    """The same in units e^by times smaller."""
    return params._replace(
        log_scale=jax.tree.map(lambda leaf: leaf + np.float32(by), params.log_scale)
    )


@pytest.mark.parametrize("dim", DIMS)
def test_a_scale_far_below_the_smallest_float(dim):
    """All scales e^-300 times those of before.

    Ratios as before, logarithms moved by 300, distances those of a point.
    """
    rng = np.random.default_rng(dim)
    before, real = random_model(rng, dim), random_model(rng, dim)
    before = shifted(shifted(before, -300), 300)  # as float32 holds it at -300
    near, far = metrics_of(dim)(before), metrics_of(dim)(shifted(before, -300))
    assert far["variance"] == far["trace"] == 0
    for name, change in {
        "effective_rank": 0,
        "log_condition_number": 0,
        "log_trace": -600,
        "log_variance": -600,
        "log_determinant": -600 * dim,
        "entropy": -300 * dim,
        "log_scale": -300,
        "mean": 0,
    }.items():
        np.testing.assert_allclose(
            far[name], near[name] + change, rtol=1e-5, atol=1e-5, err_msg=name
        )
    found = distances_of(dim)(shifted(before, -300), real)
    (mean, cov), (mean_0, cov_0) = in_float64(before), in_float64(real)
    point = np.sum((mean - mean_0) ** 2) + np.trace(cov_0)
    np.testing.assert_allclose(
        [found["squared_wasserstein2"], found["wasserstein2"]], [point, np.sqrt(point)], rtol=1e-5
    )
    without_trace = np.linalg.slogdet(cov_0)[1] - np.linalg.slogdet(cov)[1] + 600 * dim - dim
    wanted = (without_trace + (mean - mean_0) @ np.linalg.solve(cov_0, mean - mean_0)) / 2
    np.testing.assert_allclose(found["kl_model_to_real"], wanted, rtol=1e-5)
    assert found["kl_real_to_model"] == INF, "above the largest float"


def test_the_root_of_the_distance_outlives_its_square():
    same = model([0.0, 0.0], [-50.0, -51.0])
    found = gaussian(2).distances["wasserstein2"](same, model([0.0, 0.0], [-50.0, -INF]))
    np.testing.assert_allclose(found, np.exp(-51), rtol=1e-5)
    assert (
        gaussian(2).distances["squared_wasserstein2"](same, model([0.0, 0.0], [-50.0, -INF])) == 0
    )


GRADED = [(3, 40.0), (8, 60.0), (14, 25.0), (64, 20.0)]


@pytest.mark.parametrize(("dim", "gap"), GRADED)
def test_eigenvalues_far_apart(dim, gap):
    """Gaps of `gap` between neighbouring log scales.

    The singular values are those of the factor's QR decomposition, one by one.
    """
    rng = np.random.default_rng(dim)
    factor = (np.tril(rng.normal(size=(dim, dim)), -1) / np.sqrt(dim) + np.eye(dim)).astype(
        np.float32
    )
    log_scale = (-gap * np.arange(dim) + rng.normal(size=dim)).astype(np.float32)
    sizes = np.log(np.abs(np.diag(np.linalg.qr(factor.astype(np.float64))[1])))
    logs = log_scale + sizes
    params = model(np.zeros(dim), log_scale, factor)
    found = metrics_of(dim)(params)
    np.testing.assert_allclose(
        found["log_condition_number"], 2 * (logs.max() - logs.min()), rtol=1e-6, atol=1e-4
    )
    np.testing.assert_allclose(found["log_trace"], 2 * logs[0], rtol=1e-5)
    np.testing.assert_allclose(found["effective_rank"], 1, atol=1e-5)
    assert found["condition_number"] == INF


@pytest.mark.parametrize("order", ["rising", "falling", "mixed"])
def test_populations_of_very_different_units(order):
    """Standard deviations from 1e-8 to 1 along correlated coordinates, in any order."""
    rng = np.random.default_rng(3)
    sizes = np.logspace(-8, 0, 5)
    sizes = {"rising": sizes, "falling": sizes[::-1], "mixed": sizes[[2, 0, 4, 1, 3]]}[order]
    correlated = np.linalg.cholesky(np.eye(5) + 0.5)
    root = sizes[:, None] * correlated * (1 + 0.1 * np.tril(rng.normal(size=(5, 5))))
    params = model(np.zeros(5), np.log(np.diag(root)), root / np.diag(root))
    exact = np.asarray(unit_factor(params), np.float64) * np.exp(
        np.asarray(factored.as_vector(params.log_scale), np.float64)
    )
    # Row by row and column by column scaled matrices keep their relative accuracy in float64 well
    # enough at 1e-8.
    values = np.linalg.svd(exact, compute_uv=False)
    np.testing.assert_allclose(
        gaussian(5).metrics["log_condition_number"](params),
        2 * np.log(values[0] / values[-1]),
        rtol=1e-5,
    )


CORNERS = {
    "one direction dead": (
        [0.1, -INF, 0.3],
        {"effective_rank": (1, 2), "log_condition_number": INF, "log_variance": -INF},
    ),
    "the first dead": (
        [-INF, 0.1, 0.3],
        {"effective_rank": (1, 2), "log_condition_number": INF, "log_variance": -INF},
    ),
    "rank 1": (
        [0.1, -INF, -INF],
        {"effective_rank": (1, 1), "log_condition_number": INF, "log_variance": -INF},
    ),
    "all dead": (
        [-INF, -INF, -INF],
        {
            "effective_rank": (0, 0),
            "log_condition_number": INF,
            "log_trace": -INF,
            "variance": 0,
            "trace": 0,
        },
    ),
    "one far below": (
        [0.1, -300.0, 0.3],
        {"effective_rank": (1, 2), "condition_number": INF, "log_condition_number": (600, 610)},
    ),
}


@pytest.mark.parametrize("dim", [3, 14])
@pytest.mark.parametrize("corner", CORNERS)
def test_collapsed_corners(corner, dim):
    log_scale, wanted = CORNERS[corner]
    rng = np.random.default_rng(5)
    log_scale = np.array([*log_scale, *[-INF] * (dim - 3)])
    factor = np.tril(rng.normal(size=(dim, dim)), -1) * (log_scale > -INF) + np.eye(dim)
    params, real = model(rng.normal(size=dim), log_scale, factor), random_model(rng, dim)
    metrics = metrics_of(dim)(params)
    distances, back = distances_of(dim)(params, real), distances_of(dim)(real, params)
    assert not [
        name
        for found in (metrics, distances, back)
        for name, value in found.items()
        if np.isnan(value).any()
    ]
    if dim > 3:
        wanted = {name: INF if "condition" in name else value for name, value in wanted.items()}
    for name, value in wanted.items():
        low, high = value if isinstance(value, tuple) else (value, value)
        assert low - 1e-5 <= metrics[name] <= high + 1e-5, (name, metrics[name])
    singular = bool((log_scale == -INF).any())
    squared = squared_wasserstein2(in_float64(real), in_float64(params))
    np.testing.assert_allclose(distances["squared_wasserstein2"], squared, rtol=1e-4)
    np.testing.assert_allclose(back["squared_wasserstein2"], squared, rtol=1e-4)
    assert (
        np.isinf(distances["kl_model_to_real"]) == singular
        and np.isinf(back["kl_real_to_model"]) == singular
    )
    assert distances["kl_real_to_model"] == back["kl_model_to_real"] == INF


def test_models_on_one_subspace_have_a_finite_divergence():
    """A real distribution without variance in some direction.

    The models are on its support or beside it.
    """
    real = gaussian_params([1.0, 1.0, 5.0], [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    on_it = gaussian_params([1.3, 1.3, 5.0], [[2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    beside = gaussian_params([1.3, 1.3, 5.1], [[2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    tilted = gaussian_params([1.3, 1.3, 5.0], [[2.0, 1.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    point = gaussian_params([1.0, 1.0, 5.0], np.zeros((3, 3)))
    for name, wanted in {
        "kl_model_to_real": (2 + 0.09 - 1 - np.log(2)) / 2,
        "kl_real_to_model": (0.5 + 0.045 - 1 + np.log(2)) / 2,
    }.items():
        distance = jax.jit(gaussian(3).distances[name])
        np.testing.assert_allclose(distance(on_it, real), wanted, rtol=1e-5)
        assert distance(beside, real) == distance(tilted, real) == distance(point, real) == INF
        assert distance(real, real) == distance(point, point) == 0
    np.testing.assert_allclose(
        gaussian(3).distances["wasserstein2"](point, real), np.sqrt(2), rtol=1e-6
    )


def test_covariance_and_metrics_agree_on_the_example():
    params = gaussian_params([1.0, 2.0], [[2.0, 1.0], [1.0, 3.0]])
    np.testing.assert_allclose(
        np.trace(covariance(params)), gaussian(2).metrics["trace"](params), rtol=1e-6
    )
