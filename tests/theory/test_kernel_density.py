"""Kernel density chains against simulation in NumPy, limits, and what is refused."""

import numpy as np
import pytest

from collapse_jax.theory import ancestry, kernel_density
from collapse_jax.theory.kernel_density import expected_variance


def simulated(
    workflow, sample_size, generations, *, bandwidth=0.0, factor=0.0, gamma=0.0, chains=20_000
):
    """Variance of the density, [chains, generations + 1], by sampling points."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(chains, sample_size))
    found = []
    pool = x
    for _ in range(generations + 1):
        kernel = bandwidth if bandwidth else factor * x.std(1, ddof=1)[:, None]
        found.append(x.var(1) + np.broadcast_to(kernel, (chains, 1))[:, 0] ** 2)
        chosen = np.take_along_axis(x, rng.integers(x.shape[1], size=(chains, sample_size)), 1)
        new = chosen + kernel * rng.normal(size=(chains, sample_size))
        new = np.where(rng.random(new.shape) < gamma, rng.normal(size=new.shape), new)
        pool = np.concatenate([pool, new], 1)
        if workflow == "accumulate_subsample":
            new = rng.permuted(pool, axis=1)[:, :sample_size]
        x = pool if workflow == "accumulate" else new
    return np.stack(found, 1)


@pytest.mark.parametrize(
    ("workflow", "options"),
    [
        ("replace", {"bandwidth": 0.4}),
        ("replace", {"factor": 0.3}),
        ("accumulate", {"bandwidth": 0.4}),
        ("accumulate_subsample", {"bandwidth": 0.4}),
        ("accumulate_subsample", {"factor": 0.3}),
        ("mix", {"bandwidth": 0.4, "gamma": 0.3}),
        ("mix", {"factor": 0.3, "gamma": 0.3}),
    ],
)
def test_recursion_against_points(workflow, options, assert_mean):
    found = simulated(workflow, 7, 8, **options)
    assert_mean(found, expected_variance(np.arange(9), 7, workflow=workflow, **options))


def test_without_a_kernel_it_is_the_retention_of_points():
    generation = np.arange(20)
    for workflow in ("replace", "accumulate", "accumulate_subsample"):
        exact = ancestry.retention(generation, 9, workflow=workflow)
        np.testing.assert_allclose(
            expected_variance(generation, 9, workflow=workflow, variance=2.0), 2 * exact, rtol=1e-12
        )
    exact = ancestry.retention(generation, 9, workflow="mix", alpha=0.8, beta=0.0, gamma=0.2)
    np.testing.assert_allclose(
        expected_variance(generation, 9, workflow="mix", gamma=0.2), exact, rtol=1e-12
    )


def test_published_numbers():
    """Entry borji: 2.85, 12.05 after 10, 200 samplings (M = 50, h = 0.5).

    Its formula for accumulate leaves out terms of order 1 / M.
    """
    points = expected_variance(np.arange(200), 50, bandwidth=0.5) - 0.25
    np.testing.assert_allclose(points[[9, 199]], [2.85, 12.05], rtol=2e-3)
    pool = expected_variance(np.array([99]), 50, bandwidth=0.5, workflow="accumulate") - 0.25
    harmonic = np.sum(1 / np.arange(1, 101))
    np.testing.assert_allclose(pool, 0.98 + 0.25 * (harmonic - 1), rtol=1 / 50)


def test_limits():
    far = expected_variance(np.array([5000]), 50, bandwidth=0.5)
    np.testing.assert_allclose(far, 49 * 0.25 + 0.25, rtol=1e-12)
    border = kernel_density.widening_boundary(50, 0.98)
    np.testing.assert_allclose(
        expected_variance(np.arange(50), 50, bandwidth=border), 0.98 + border**2, rtol=1e-12
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (-1, 5, {}),
        (1.5, 5, {}),
        (1, 1, {}),
        (1, 5, {"bandwidth": 1, "factor": 1}),
        (1, 5, {"workflow": "accumulate", "factor": 1}),
    ],
)
def test_bad_arguments(arguments):
    generation, size, options = arguments
    with pytest.raises(ValueError, match=r"generation must|must be|no closed form"):
        expected_variance(generation, size, **options)


def test_the_limit_of_many_points_is_a_geometric_mixture_of_ages():
    """Of many points; ages by simulation; the formula of the abstract; frequencies by iteration."""
    generation = np.arange(30)
    for fresh in (0.0, 0.1, 0.5, 1.0):
        many = kernel_density.expected_variance(
            generation, 10**9, bandwidth=0.6, variance=2.9, workflow="mix", gamma=fresh
        )
        limit = kernel_density.limiting_variance(generation, 0.6, fresh, 2.9)
        np.testing.assert_allclose(limit, many, rtol=1e-6)
        ages = kernel_density.expected_ages(29, fresh)
        assert ages.sum() == pytest.approx(1) and ages.shape == (31,)
        assert 2.9 + 0.36 * (ages @ np.arange(31)) == pytest.approx(limit[-1])
    formula = 1 + 0.25 * (1 - 0.7**20) / 0.3
    assert kernel_density.limiting_variance(19, 0.5, 0.3) == pytest.approx(formula)
    frequency = np.random.default_rng(0).normal(size=(9, 3))
    kernel, real = (np.exp(-s * (frequency**2).sum(1) / 2) for s in (0.25, 1.7))
    law = real
    for _ in range(200):
        law = kernel * (0.7 * law + 0.3 * real)
    found = kernel_density.limiting_characteristic(frequency, real, 0.5, 0.3)
    np.testing.assert_allclose(found, law, rtol=1e-12)
    with pytest.raises(ValueError, match="fresh in"):
        kernel_density.expected_ages(3, 1.5)
