"""The chain of laws of Gaussians against simulation, the categorical form and its limits."""

import numpy as np
import pytest

from collapse_jax.theory import ancestry, distribution_mixture, gaussian

SHARES = {"alpha": 0.6, "beta": 0.3, "gamma": 0.1}


@pytest.mark.parametrize("ddof", [0, 1])
def test_simulated_chain(ddof):
    """M = 8, 4 generations, 2 * 10^4 chains of Gaussian mixtures, kept as lists of components.

    |z| < 4 for both moments.
    """
    rng, chains, size = np.random.default_rng(121), 20_000, 8
    weights, means, scales = np.ones(1), np.zeros((chains, 1)), np.ones((chains, 1))
    for g in range(4):
        part = rng.choice(weights.size, size=(chains, size), p=weights)
        data = np.take_along_axis(means, part, 1) + np.take_along_axis(
            scales, part, 1
        ) * rng.standard_normal((chains, size))
        model = data.mean(1), data.std(1, ddof=ddof)
        weights = np.concatenate([0.3 * weights, [0.6]])
        weights[0] += 0.1
        means, scales = np.column_stack([means, model[0]]), np.column_stack([scales, model[1]])
        center = means @ weights
        mixture = (means**2 + scales**2) @ weights - center**2, center**2
        for of_model, samples in ((False, mixture), (True, (model[1] ** 2, model[0] ** 2))):
            expected = distribution_mixture.expected_moments(
                g, size, ddof=ddof, of_model=of_model, **SHARES
            )
            for seen, exact in zip(samples, expected, strict=True):
                assert abs(seen.mean() - exact) < 4 * seen.std() / np.sqrt(chains), (g, of_model)


def test_maximum_likelihood_keeps_the_categorical_share():
    generation = np.arange(60)
    for of_model in (False, True):
        kept = ancestry.mixture_of_distributions_heterozygosity(
            generation, 12, of_model=of_model, **SHARES
        )
        spread, error = distribution_mixture.expected_moments(
            generation, 12, ddof=0, of_model=of_model, variance=2.0, **SHARES
        )
        np.testing.assert_allclose(spread, 2 * kept, rtol=1e-12)
        np.testing.assert_allclose(spread + error, 2, rtol=1e-12)


def test_alpha_one_is_the_replace_chain():
    generation = np.arange(30)
    for ddof in (0, 1):
        spread, error = distribution_mixture.expected_moments(
            generation, 9, alpha=1, beta=0, gamma=0, ddof=ddof
        )
        if ddof == 0:
            np.testing.assert_allclose(
                spread, gaussian.expected_variance(generation, 9, ddof=ddof), rtol=1e-12
            )
        np.testing.assert_allclose(
            error, gaussian.expected_squared_mean_error(generation, 9, ddof=ddof), rtol=1e-12
        )


def test_limits():
    """Published heterozygosities .681, .498, .656 at M = 50, of six categories.

    Late generations follow.
    """
    start = 1 - np.sum(np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03]) ** 2)
    for (alpha, beta, gamma), published in (
        ((0.9, 0, 0.1), 0.681),
        ((0.98, 0, 0.02), 0.498),
        ((0.5, 0.48, 0.02), 0.656),
    ):
        kept = distribution_mixture.limit(50, alpha=alpha, beta=beta, gamma=gamma, ddof=0)[0]
        assert start * kept == pytest.approx(published, abs=6e-4)
    for ddof in (0, 1):
        late = [
            values[()]
            for values in distribution_mixture.expected_moments(5000, 9, ddof=ddof, **SHARES)
        ]
        np.testing.assert_allclose(
            distribution_mixture.limit(9, ddof=ddof, **SHARES), late, rtol=1e-9
        )


def test_border_of_the_second_moments():
    border = gaussian.second_moment_boundary(20)
    for factor, finite in ((0.999, False), (1.001, True)):
        limits = distribution_mixture.limit(
            20, alpha=1 - factor * border, beta=0.0, gamma=factor * border, ddof=1
        )
        assert np.all(np.isfinite(limits)) == finite
    assert distribution_mixture.limit(5, alpha=1, beta=0, gamma=0, ddof=0) == (0, 1)
    assert distribution_mixture.limit(5, alpha=1, beta=0, gamma=0, ddof=1, variance=3.0) == (
        3.0,
        np.inf,
    )
    assert distribution_mixture.limit(5, alpha=0.5, beta=0.5, gamma=0, ddof=1) == (np.inf, np.inf)
    assert distribution_mixture.limit(5, alpha=0, beta=0.5, gamma=0.5, ddof=1) == (1, 0)


def test_corners():
    spread, error = distribution_mixture.expected_moments(
        [0, 3], 1, alpha=1, beta=0, gamma=0, ddof=0
    )
    np.testing.assert_allclose(spread, 0, rtol=0, atol=1e-15)
    np.testing.assert_allclose(error, 1)
    for call in (
        lambda: distribution_mixture.expected_moments(0, 1, ddof=1, **SHARES),
        lambda: distribution_mixture.limit(5, alpha=0.5, beta=0.2, gamma=0.2, ddof=0),
        lambda: distribution_mixture.expected_moments(-1, 5, ddof=0, **SHARES),
    ):
        with pytest.raises(ValueError):
            call()
