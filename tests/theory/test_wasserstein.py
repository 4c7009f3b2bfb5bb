"""Wasserstein distances against refit chains, a matrix root and published numbers."""

import numpy as np
import pytest
from scipy import integrate

from collapse_jax.theory import wasserstein

EIGENVALUES = np.array([3.0, 1.0, 0.2])


def z_scores(samples, expected):
    """[generations] z of the mean over chains (axis 1) of samples [generations, chains]."""
    return (samples.mean(1) - expected) / (samples.std(1, ddof=1) / np.sqrt(samples.shape[1]))


def psd_root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def refit_path(rng, chains, generations, size, ddof, eigenvalues, accumulate=False):
    """[generations, chains] of |mean|^2, trace and W2^2 of refitted d-dimensional Gaussians.

    The population has mean 0.
    """
    dim = len(eigenvalues)
    data = rng.standard_normal((chains, size, dim)) * np.sqrt(eigenvalues)
    parts = []
    for _ in range(generations):
        mean = data.mean(1)
        centred = data - mean[:, None]
        covariance = centred.swapaxes(1, 2) @ centred / (data.shape[1] - ddof)
        half = np.sqrt(eigenvalues)
        cross = np.trace(psd_root(half[:, None] * covariance * half), axis1=1, axis2=2)
        trace, square = np.trace(covariance, axis1=1, axis2=2), np.sum(mean**2, axis=1)
        parts.append((square, trace, square + trace + np.sum(eigenvalues) - 2 * cross))
        new = mean[:, None] + rng.standard_normal((chains, size, dim)) @ psd_root(covariance)
        data = np.concatenate([data, new], axis=1) if accumulate else new
    return np.array(parts).swapaxes(0, 1)


def test_published_numbers():
    """Exact values .759, .737, 2.79 of E[W2^2] after n generations (n samplings)."""
    cases = ((10, 5, 0.759), (100, 50, 0.737), (100, 200, 2.79))
    for size, n, published in cases:
        assert wasserstein.expected_squared_wasserstein2(n - 1, size, ddof=1) == pytest.approx(
            published, rel=2e-3
        )


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
def test_simulated_one_dimension(workflow, ddof):
    """Variance 2.5, M = 8, 4 generations, 20000 chains; |z| < 4."""
    path = refit_path(
        np.random.default_rng(41), 20_000, 4, 8, ddof, np.array([2.5]), workflow == "accumulate"
    )[2]
    expected = wasserstein.expected_squared_wasserstein2(
        np.arange(4), 8, ddof=ddof, workflow=workflow, variance=2.5
    )
    assert np.max(np.abs(z_scores(path, expected))) < 4


def test_simulated_schedule():
    """Sizes 5, 30, 9 with the fits' own chi laws, 40000 chains; |z| < 4."""
    rng, sizes = np.random.default_rng(42), np.array([5, 30, 9])
    mean, deviation, samples = np.zeros(40_000), np.ones(40_000), []
    for size in sizes:
        mean = mean + deviation / np.sqrt(size) * rng.standard_normal(40_000)
        deviation = deviation * np.sqrt(rng.chisquare(size - 1, 40_000) / size)
        samples.append(mean**2 + (deviation - 1) ** 2)
    expected = wasserstein.expected_squared_wasserstein2(np.arange(3), sizes, ddof=0)
    assert np.max(np.abs(z_scores(np.array(samples), expected))) < 4


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("accumulate", [False, True])
def test_simulated_three_dimensions(accumulate, ddof):
    """d = 3, M = 9, 3 generations, 4000 chains: exact parts with |z| < 4.

    The distance is between its bounds.
    """
    square, trace, distance = refit_path(
        np.random.default_rng(43), 4000, 3, 9, ddof, EIGENVALUES, accumulate
    )
    kwargs = {"ddof": ddof, "workflow": "accumulate" if accumulate else "replace"}
    assert (
        np.max(
            np.abs(
                z_scores(
                    square,
                    wasserstein.expected_squared_mean_distance(
                        np.arange(3), 9, EIGENVALUES, **kwargs
                    ),
                )
            )
        )
        < 4
    )
    assert (
        np.max(
            np.abs(
                z_scores(trace, wasserstein.expected_trace(np.arange(3), 9, EIGENVALUES, **kwargs))
            )
        )
        < 4
    )
    assert np.all(
        distance.mean(1)
        > wasserstein.squared_wasserstein2_lower_bound(np.arange(3), 9, EIGENVALUES, **kwargs)
    )
    if not accumulate:
        assert np.all(
            distance.mean(1)
            < wasserstein.squared_wasserstein2_upper_bound(np.arange(3), 9, EIGENVALUES, ddof=ddof)
        )


def test_early_form_by_simulation():
    """d = 3, M = 300: first order in 1/M, so within 4 standard errors + 2%.

    Of 4000 simulated chains.
    """
    distance = refit_path(np.random.default_rng(44), 4000, 1, 300, 1, EIGENVALUES)[2][0]
    early = wasserstein.early_squared_wasserstein2(0, 300, EIGENVALUES)
    assert abs(distance.mean() - early) < 4 * distance.std() / np.sqrt(4000) + 0.02 * early


def test_bounds_meet_in_one_dimension():
    generation = np.array([0, 3, 50])
    for ddof in (0, 1):
        exact = wasserstein.expected_squared_wasserstein2(generation, 7, ddof=ddof, variance=2.0)
        np.testing.assert_allclose(
            wasserstein.squared_wasserstein2_upper_bound(generation, 7, [2.0], ddof=ddof),
            exact,
            rtol=1e-10,
        )
        np.testing.assert_allclose(
            wasserstein.squared_wasserstein2_lower_bound(generation, 7, [2.0], ddof=ddof),
            exact,
            rtol=1e-12,
        )


def test_wasserstein_stays_bounded_only_for_maximum_likelihood():
    assert wasserstein.expected_squared_wasserstein2(10**6, 10, ddof=0, variance=3.0) <= 6.0
    assert wasserstein.expected_squared_wasserstein2(10**6, 10, ddof=1) == pytest.approx(
        1e5, rel=1e-4
    )
    # early collapse: 3/2 variance * sum of 1/M_i
    sizes = np.array([10_000, 20_000, 40_000])
    early = wasserstein.expected_squared_wasserstein2(2, sizes, ddof=1, variance=4.0)
    assert early == pytest.approx(6 * np.sum(1 / sizes), rel=1e-3)
    assert wasserstein.early_squared_wasserstein2(2, sizes, 4.0) == pytest.approx(
        6 * np.sum(1 / sizes), rel=1e-12
    )


@pytest.mark.parametrize("ddof", [0, 1])
def test_simulated_settled_distance(ddof):
    """M = 50, 1,000 generations, 10^4 chains: so many of them below each quantile, |z| < 4.

    Of the variance e^-20 is left.
    """
    rng, chains, levels = np.random.default_rng(45), 10_000, np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    mean, variance = np.zeros(chains), np.ones(chains)
    for _ in range(1_000):
        mean = mean + np.sqrt(variance / 50) * rng.standard_normal(chains)
        variance = variance * rng.chisquare(49, chains) / (50 - ddof)
    settled = mean**2 + 1  # the deviation is gone
    below = np.mean(
        settled[:, None] < wasserstein.settled_squared_wasserstein2_quantile(levels, ddof=ddof),
        axis=0,
    )
    assert np.max(np.abs(below - levels) / np.sqrt(levels * (1 - levels) / chains)) < 4


def test_settled_distance_by_hand():
    """Student's t with 2 degrees of freedom: P(|t| < x) = x / sqrt(2 + x^2).

    With ddof=0 the mean is the limit of the exact one.
    """
    levels = np.array([0.05, 0.5, 0.95])
    by_hand = 3.0 * (1 + 2 * levels**2 / (1 - levels**2))
    np.testing.assert_allclose(
        wasserstein.settled_squared_wasserstein2_quantile(levels, ddof=1, variance=3.0),
        by_hand,
        rtol=1e-10,
    )
    assert wasserstein.settled_squared_wasserstein2_quantile(0.5, ddof=1) == pytest.approx(5 / 3)
    mean = integrate.quad(
        lambda p: wasserstein.settled_squared_wasserstein2_quantile(p, ddof=0), 0, 1
    )[0]
    assert mean == pytest.approx(
        wasserstein.expected_squared_wasserstein2(10**6, 100, ddof=0), rel=1e-4
    )


def test_corners():
    assert wasserstein.expected_squared_wasserstein2(0, 1, ddof=0) == pytest.approx(2)
    assert wasserstein.expected_squared_wasserstein2(
        5, 1, ddof=0, workflow="accumulate"
    ) == pytest.approx(2)
    # fewer draws than dimensions: the singular directions add nothing to the overlap
    assert wasserstein.squared_wasserstein2_upper_bound(0, 1, [1.0, 1.0], ddof=0) == pytest.approx(
        4
    )
    assert wasserstein.early_squared_wasserstein2(0, 5, [0.0, 0.0]) == 0
    assert wasserstein.squared_wasserstein2_upper_bound(
        np.zeros((2, 3), int), 9, EIGENVALUES, ddof=1
    ).shape == (2, 3)
    for call in (
        lambda: wasserstein.expected_squared_wasserstein2(0, 5, ddof=0, workflow="mix"),
        lambda: wasserstein.expected_trace(0, 5, [-1.0], ddof=0),
        lambda: wasserstein.squared_wasserstein2_upper_bound(0, 1, [1.0], ddof=1),
        lambda: wasserstein.early_squared_wasserstein2(0, 0, [1.0]),
        lambda: wasserstein.settled_squared_wasserstein2_quantile(0.0, ddof=1),
        lambda: wasserstein.settled_squared_wasserstein2_quantile(0.5, ddof=2),
    ):
        with pytest.raises(ValueError):
            call()
