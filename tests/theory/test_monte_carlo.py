"""Numbers of runs against published values and simulation."""

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import gaussian, monte_carlo


def test_published_numbers_of_runs():
    """M = 100, 5% relative error: 2.6e3, 8.8e6, 2e11 runs after 100, 500, 1000 samplings."""
    runs = monte_carlo.runs_for_expected_variance(np.array([99, 499, 999]), 100, 0.05)
    np.testing.assert_allclose(runs, [2.6e3, 8.8e6, 2e11], rtol=0.04)


def test_simulated_variance_of_the_variance():
    """Sizes 9, 30, 14, 4 * 10^4 chi^2 products; |z| < 4 for the relative variance."""
    sizes = np.array([9, 30, 14])
    paths = np.cumprod(
        np.random.default_rng(111).chisquare(sizes - 1, (40_000, 3)) / (sizes - 1), axis=1
    )
    squares = (paths - 1) ** 2
    z = (squares.mean(0) - monte_carlo.relative_variance_of_variance(np.arange(3), sizes)) / (
        squares.std(0) / 200
    )
    assert np.max(np.abs(z)) < 4


@pytest.mark.parametrize("ddof", [0, 1])
def test_simulated_squared_traces(ddof):
    """d = 3, M = 12, 3 generations, 2 * 10^4 chains; |z| < 4."""
    rng, eigenvalues = np.random.default_rng(112), np.array([2.0, 1.0, 0.3])
    factor = np.tile(np.diag(np.sqrt(eigenvalues)), (20_000, 1, 1))
    expected = monte_carlo.expected_squared_traces(np.arange(3), 12, eigenvalues, ddof=ddof)
    for g in range(3):
        data = rng.standard_normal((20_000, 12, 3)) @ factor.swapaxes(1, 2)
        data -= data.mean(1, keepdims=True)
        covariance = data.swapaxes(1, 2) @ data / (12 - ddof)
        factor = np.linalg.cholesky(covariance)
        for samples, form in zip(
            (np.sum(covariance**2, axis=(1, 2)), np.trace(covariance, axis1=1, axis2=2) ** 2),
            expected,
            strict=True,
        ):
            assert abs(samples.mean() - form[g]) < 4 * samples.std() / np.sqrt(20_000)


def test_one_dimension_agrees():
    generation = np.arange(6)
    first, second = monte_carlo.expected_squared_traces(generation, 9, [2.0], ddof=0)
    np.testing.assert_allclose(first, second, rtol=1e-12)
    mean = gaussian.expected_variance(generation, 9, ddof=0, variance=2.0)
    np.testing.assert_allclose(
        first / mean**2 - 1, monte_carlo.relative_variance_of_variance(generation, 9), rtol=1e-10
    )


def test_simulated_share_that_carries_the_mean():
    """Sizes 9, 30, 14, and M = 20 after 20 samplings, 4 * 10^5 products.

    Those above the share's quantile hold that part; |z| < 4.
    """
    for sizes in (np.array([9, 30, 14]), np.full(20, 20)):
        variance = np.prod(
            np.random.default_rng(113).chisquare(sizes - 1, (400_000, len(sizes))) / (sizes - 1),
            axis=1,
        )
        for part in (0.5, 0.1):
            share = monte_carlo.share_that_carries_the_mean(len(sizes) - 1, sizes, part)
            border = np.exp(
                gaussian.log_variance_quantile(1 - share, len(sizes) - 1, sizes, ddof=1)
            )
            held = variance * (variance > border)
            assert abs(held.mean() - part) < 4 * held.std() / np.sqrt(held.size)


def test_share_of_one_fit_by_the_law_itself():
    """chi^2_4, weighed by size chi^2_6; a fixed size and a schedule of it are the same."""
    border = stats.chi2.isf(0.3, 6)
    assert monte_carlo.share_that_carries_the_mean(0, 5, 0.3) == pytest.approx(
        stats.chi2.sf(border, 4), abs=1e-9
    )
    many = monte_carlo.share_that_carries_the_mean([3, 50], 8)
    np.testing.assert_allclose(
        many, monte_carlo.share_that_carries_the_mean([3, 50], np.full(51, 8)), atol=1e-9
    )
    lognormal = stats.norm.cdf(-np.sqrt(2 * 201 / 1000))
    assert monte_carlo.share_that_carries_the_mean(200, 1000) == pytest.approx(lognormal, rel=0.01)


def test_tail_bound():
    """Published at M = 10, threshold .1: .082 <= .82 (k = 100) and .0040 <= .067 (k = 200)."""
    generation = np.array([99, 199])
    bound = monte_carlo.standard_deviation_tail_bound(0.1, generation, 10)
    np.testing.assert_allclose(bound, [0.82, 0.067], rtol=0.01)
    exact = 1 - gaussian.log_variance_cdf(2 * np.log(0.1), generation, 10, ddof=1)
    np.testing.assert_allclose(exact, [0.082, 0.0040], rtol=0.02)
    for size in (2, 10, 100):
        tail = 1 - gaussian.log_variance_cdf(
            2 * np.log(0.3), np.arange(0, 200, 40), size, ddof=1, variance=4.0
        )
        assert np.all(
            tail
            <= monte_carlo.standard_deviation_tail_bound(
                0.3, np.arange(0, 200, 40), size, standard_deviation=2.0
            )
        )


def test_corners():
    assert monte_carlo.relative_variance_of_variance(0, 2) == pytest.approx(2)
    assert monte_carlo.standard_deviation_tail_bound(0.1, 0, 10) == 1
    first, second = monte_carlo.expected_squared_traces([0, 3], 1, [1.0, 2.0], ddof=0)
    assert np.all(first == 0) and np.all(second == 0)
    for call in (
        lambda: monte_carlo.relative_variance_of_variance(0, 1),
        lambda: monte_carlo.runs_for_expected_variance(0, 5, 0.0),
        lambda: monte_carlo.share_that_carries_the_mean(0, 1),
        lambda: monte_carlo.share_that_carries_the_mean(0, 5, 1.0),
        lambda: monte_carlo.expected_squared_traces(0, 5, [-1.0], ddof=0),
        lambda: monte_carlo.standard_deviation_tail_bound(0.0, 0, 5),
    ):
        with pytest.raises(ValueError):
            call()
