"""Expected divergences against refit chains in 1 and 3 dimensions, and for small noise."""

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import gaussian_divergence as divergence

SCALES = np.array([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [-0.3, 0.2, 0.4]])


def refits(rng, chains, sizes, ddof, root):
    """Per generation: means [chains, d] and covariances [chains, d, d].

    The population is N(0, root root^T).
    """
    dim = len(root)
    mean, factor = np.zeros((chains, dim)), np.tile(root, (chains, 1, 1))
    for size in sizes:
        data = mean[:, None] + rng.standard_normal((chains, size, dim)) @ factor.swapaxes(1, 2)
        mean = data.mean(1)
        centred = data - mean[:, None]
        covariance = centred.swapaxes(1, 2) @ centred / (size - ddof)
        factor = np.linalg.cholesky(covariance)
        yield mean, covariance


def kl(mean, covariance, other_mean, other_covariance):
    precision = np.linalg.inv(other_covariance)
    difference = (other_mean - mean)[..., None]
    square = (difference.swapaxes(-1, -2) @ precision @ difference)[..., 0, 0]
    logarithm = np.linalg.slogdet(other_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return (
        np.trace(precision @ covariance, axis1=-2, axis2=-1) + square - mean.shape[-1] + logarithm
    ) / 2


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("dim", [1, 3])
def test_simulated_divergences(dim, ddof):
    """Sizes 25, 30, 20, 40 (large enough for finite variances), 5000 chains.

    |z| < 4 for both divergences, entropy, cross entropy.
    """
    sizes, root = np.array([25, 30, 20, 40]), SCALES[:dim, :dim]
    population, zero = root @ root.T, np.zeros(dim)
    for g, (mean, covariance) in enumerate(
        refits(np.random.default_rng(61), 5000, sizes, ddof, root)
    ):
        forward = kl(
            np.broadcast_to(zero, mean.shape),
            np.broadcast_to(population, covariance.shape),
            mean,
            covariance,
        )
        reverse = kl(mean, covariance, zero, population)
        entropy = (dim * np.log(2 * np.pi * np.e) + np.linalg.slogdet(covariance)[1]) / 2
        volume = {"dim": dim, "variance": np.linalg.det(population) ** (1 / dim)}
        cases = (
            (forward, divergence.expected_forward_kl(g, sizes, ddof=ddof, dim=dim)),
            (reverse, divergence.expected_reverse_kl(g, sizes, ddof=ddof, dim=dim)),
            (entropy, divergence.expected_entropy(g, sizes, ddof=ddof, **volume)),
            (
                reverse + entropy,
                divergence.expected_cross_entropy_under_population(g, sizes, ddof=ddof, **volume),
            ),
        )
        for samples, expected in cases:
            assert abs(samples.mean() - expected) < 4 * samples.std() / np.sqrt(5000), g


def test_cross_entropy_is_constant_for_maximum_likelihood_and_rises_otherwise():
    """Published: const + (E sigma^2 + E mu^2)/(2 sigma_0^2).

    Constant for ddof=0, rising n/(2M) for ddof=1, n = g + 1.
    """
    generation = np.arange(50)
    entropy = stats.norm(0, 2).entropy()
    for kwargs in (
        {},
        {"workflow": "accumulate"},
        {"workflow": "mix", "alpha": 0.7, "beta": 0.2, "gamma": 0.1},
    ):
        value = divergence.expected_cross_entropy_under_population(
            generation, 30, ddof=0, variance=4.0, **kwargs
        )
        np.testing.assert_allclose(value, entropy, rtol=1e-12)
    rising = divergence.expected_cross_entropy_under_population(
        generation, 30, ddof=1, variance=4.0
    )
    np.testing.assert_allclose(rising, entropy + (generation + 1) / 60, rtol=1e-12)


def test_both_divergences_start_alike():
    sizes = np.array([10**5, 2 * 10**5, 10**5])
    for dim in (1, 4):
        early = divergence.early_kl(np.arange(3), sizes, dim=dim)
        for ddof in (0, 1):
            for form in (divergence.expected_forward_kl, divergence.expected_reverse_kl):
                np.testing.assert_allclose(
                    form(np.arange(3), sizes, ddof=ddof, dim=dim), early, rtol=1e-3
                )


def test_corners():
    assert np.all(divergence.expected_forward_kl([0, 3], 3, ddof=0) == np.inf)
    assert np.isfinite(divergence.expected_forward_kl(0, 4, ddof=1))
    np.testing.assert_array_equal(
        np.isfinite(divergence.expected_forward_kl([0, 1, 2], [9, 3, 9], ddof=1)),
        [True, False, False],
    )
    assert divergence.expected_reverse_kl(0, 1, ddof=0) == np.inf
    assert divergence.expected_reverse_kl(0, 3, ddof=0, dim=3) == np.inf
    assert divergence.expected_entropy(0, 1, ddof=0) == -np.inf
    assert divergence.expected_forward_kl(10**5, 5, ddof=0) == np.inf
    assert divergence.expected_forward_kl(np.zeros((2, 2), int), 9, ddof=0).shape == (2, 2)
    for call in (
        lambda: divergence.expected_forward_kl(0, 5, ddof=2),
        lambda: divergence.expected_reverse_kl(0, 5, ddof=1, dim=0),
        lambda: divergence.expected_entropy(0, 1, ddof=1),
        lambda: divergence.early_kl(-1, 5),
    ):
        with pytest.raises(ValueError):
            call()
