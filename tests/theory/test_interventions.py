"""Interventions against simulation, direct iteration and published borders."""

import itertools

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import categorical, gaussian, interventions


@pytest.mark.parametrize("ddof", [0, 1])
def test_simulated_sampling_bias(ddof):
    """M = 12, lambda = .8, variance 2, 5 generations, 2 * 10^4 chains.

    |z| < 4 for log variance, variance and squared error.
    """
    rng, chains, bias = np.random.default_rng(131), 20_000, 0.8
    mean, scale = np.zeros(chains), np.full(chains, np.sqrt(2.0))
    generation = np.arange(5)
    spread, error = interventions.biased_expected_moments(
        generation, 12, bias, ddof=ddof, variance=2.0
    )
    logarithm = interventions.biased_expected_log_variance(
        generation, 12, bias, ddof=ddof, variance=2.0
    )
    for g in range(5):
        data = mean[:, None] + (np.sqrt(bias) if g else 1) * scale[:, None] * rng.standard_normal(
            (chains, 12)
        )
        mean, scale = data.mean(1), data.std(1, ddof=ddof)
        for samples, expected in (
            (2 * np.log(scale), logarithm[g]),
            (scale**2, spread[g]),
            (mean**2, error[g]),
        ):
            assert abs(samples.mean() - expected) < 4 * samples.std() / np.sqrt(chains), g


def test_no_bias_is_the_plain_chain():
    sizes = np.array([5, 9, 7])
    for ddof in (0, 1):
        spread, error = interventions.biased_expected_moments(np.arange(3), sizes, 1.0, ddof=ddof)
        np.testing.assert_allclose(
            spread, gaussian.expected_variance(np.arange(3), sizes, ddof=ddof), rtol=1e-12
        )
        np.testing.assert_allclose(
            error, gaussian.expected_squared_mean_error(np.arange(3), sizes, ddof=ddof), rtol=1e-12
        )


def test_neutral_bias():
    for ddof, dim in ((0, 1), (1, 1), (0, 4), (1, 4)):
        bias = interventions.neutral_sampling_bias(40, ddof=ddof, dim=dim)
        path = interventions.biased_expected_log_variance(
            np.arange(50), 40, bias, ddof=ddof, dim=dim
        )
        np.testing.assert_allclose(path, path[0], rtol=1e-10)
        large = interventions.neutral_sampling_bias(10**5, ddof=ddof, dim=dim) - 1
        assert large == pytest.approx((dim + 3 - 2 * ddof) / 2 / 10**5, rel=1e-3)
    assert interventions.neutral_sampling_bias(4, ddof=0, dim=4) == np.inf


def test_curation_by_iteration():
    """Weights p e^r applied again and again on a fine grid and on a categorical."""
    grid = np.linspace(-12, 12, 4001)
    density = np.exp(-((grid - 0.5) ** 2) / (2 * 1.5))
    probabilities, reward = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.0, 1.0, 1.0, 9.0])
    law = probabilities.copy()
    for rounds in range(1, 5):
        density *= np.exp(0.3 * grid - grid**2 / (2 * 2.0**2))
        weight = density / density.sum()
        mean, variance = interventions.curated_gaussian(
            rounds, mean=0.5, variance=1.5, slope=0.3, width=2.0
        )
        assert mean == pytest.approx(weight @ grid, rel=1e-9)
        assert variance == pytest.approx(weight @ (grid - mean) ** 2, rel=1e-9)
        law = law * np.exp(reward) / np.sum(law * np.exp(reward))
        np.testing.assert_allclose(
            interventions.curated_probabilities(rounds, probabilities, reward), law, rtol=1e-12
        )
    np.testing.assert_allclose(
        interventions.curated_probabilities(5000, probabilities, reward),
        [0, 0.6, 0.4, 0],
        rtol=0,
        atol=1e-12,
    )
    # published: a linear reward moves the mean by slope * variance; slope 0 adds t/s^2 to the
    # precision
    assert interventions.curated_gaussian(7, variance=2.0, slope=0.1) == (
        pytest.approx(1.4),
        pytest.approx(2.0),
    )
    assert 1 / interventions.curated_gaussian(7, variance=2.0, width=3.0)[1] == pytest.approx(
        0.5 + 7 / 9
    )


def test_mean_contraction_by_iteration():
    """Mean of a mixture of one real and lambda corrected synthetic points.

    For infinite samples.
    """
    for ratio, correction in ((0.5, 0.0), (4.0, 0.0), (4.0, 1.5)):
        model = 1.0
        for _ in range(3):
            model = (0.0 + ratio * model / (1 + correction)) / (1 + ratio)
        assert interventions.mean_contraction(ratio, correction=correction) ** 3 == pytest.approx(
            model, rel=1e-12
        )
    assert interventions.mean_contraction(np.inf) == 1
    assert interventions.mean_contraction(0.0) == 0


def test_detector():
    """10^5 points with a known origin through a noisy detector; |z| < 4."""
    rng = np.random.default_rng(132)
    real = rng.random(100_000) < 0.2
    passed = rng.random(100_000) > np.where(real, 0.1, 0.7)
    share = interventions.real_share_after_detection(0.2, 0.7, 0.1)
    assert abs(np.mean(real[passed]) - share) < 4 * np.sqrt(share * (1 - share) / passed.sum())
    assert interventions.real_share_after_detection(0.2, 0.5, 0.5) == pytest.approx(0.2)
    assert interventions.real_share_after_detection(0.2, 1.0, 0.0) == 1
    assert np.isnan(interventions.real_share_after_detection(0.0, 1.0, 0.0))


@pytest.mark.parametrize("categories", [2, 10])
@pytest.mark.parametrize("temperature", [0.7, 0.9])
def test_temperature_border(categories, temperature):
    """Published: alpha_c = 1 - tau to within .005, from a small perturbation of the uniform law."""
    border = interventions.temperature_real_share_boundary(temperature)
    for offset, stable in ((-0.005, False), (0.005, True)):
        law = np.full(categories, 1 / categories) + 1e-6 * (np.arange(categories) == 0)
        law /= law.sum()
        start = np.ptp(law)
        for _ in range(400):
            sharp = law ** (1 / temperature)
            law = (border + offset) / categories + (1 - border - offset) * sharp / sharp.sum()
        assert (np.ptp(law) < start) == stable


def test_corners():
    assert interventions.temperature_real_share_boundary(1.3) == 0
    assert interventions.biased_expected_log_variance(2, 1, 0.5, ddof=0) == -np.inf
    assert interventions.curated_probabilities(
        np.zeros((2, 3), int), [0.5, 0.5], [0.0, 1.0]
    ).shape == (2, 3, 2)
    for call in (
        lambda: interventions.biased_expected_log_variance(0, 5, 0.0, ddof=0),
        lambda: interventions.biased_expected_moments(0, 1, 0.5, ddof=1),
        lambda: interventions.curated_gaussian(1, width=0.0),
        lambda: interventions.curated_probabilities(1, [0.5, 0.5], [1.0]),
        lambda: interventions.mean_contraction(-1.0),
        lambda: interventions.real_share_after_detection(0.5, 1.5, 0.0),
        lambda: interventions.temperature_real_share_boundary(0.0),
    ):
        with pytest.raises(ValueError):
            call()


def test_best_of_by_enumeration():
    probabilities, weights = np.array([0.5, 0.3, 0.2]), np.exp([0.0, 1.0, -0.5])
    for k in (1, 2, 4):
        law = np.zeros(3)
        for candidates in itertools.product(range(3), repeat=k):
            for one in candidates:
                law[one] += (
                    np.prod(probabilities[list(candidates)])
                    * weights[one]
                    / weights[list(candidates)].sum()
                )
        np.testing.assert_allclose(
            interventions.best_of_probabilities(k, probabilities, np.log(weights)), law, rtol=1e-12
        )
    many = interventions.best_of_probabilities(150, probabilities, np.log(weights))
    np.testing.assert_allclose(
        many, interventions.curated_probabilities(1, probabilities, np.log(weights)), atol=4e-3
    )


@pytest.mark.parametrize("slope", [0.5, -1.2, 3.0])
def test_best_of_normal_candidates(slope):
    """K = 2 by Gauss quadrature: half the difference d of two times tanh(slope d/2).

    Many candidates tilt; K = 5 simulated, |z| < 4.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    d, weights = np.sqrt(2) * nodes, weights / weights.sum()
    mean, variance = interventions.best_of_normal(2, slope)
    assert mean == pytest.approx(weights @ (d / 2 * np.tanh(slope * d / 2)), abs=1e-7)
    # The candidates' mean is independent of d: E x^2 = 1/2 + d^2/4.
    assert variance == pytest.approx(1 - mean**2, abs=1e-7)
    x = np.random.default_rng(133).standard_normal((100_000, 5))
    chosen = np.exp(slope * x) / np.exp(slope * x).sum(1, keepdims=True)
    mean, variance = interventions.best_of_normal(5, slope)
    for power, expected in ((1, mean), (2, variance + mean**2)):
        samples = (chosen * x**power).sum(1)
        assert abs(samples.mean() - expected) < 4 * samples.std() / np.sqrt(len(samples))
    assert interventions.best_of_normal(1, slope) == (pytest.approx(0, abs=1e-10), pytest.approx(1))
    if abs(slope) < 1:
        assert interventions.best_of_normal(10**5, slope) == (
            pytest.approx(slope, abs=1e-4),
            pytest.approx(1, abs=1e-4),
        )


def test_precision_under_curation():
    """M = 9, s = 1.5, 2 * 10^5 chains of 4 generations by the law of the variance; |z| < 4.

    Many points: `curated_gaussian`.
    """
    rng, variance = np.random.default_rng(134), np.full(200_000, 2.0)
    expected = interventions.curated_expected_precision(np.arange(4), 9, 1.5, variance=2.0)
    for g in range(4):
        variance = variance * rng.chisquare(8, len(variance)) / 8
        assert abs(np.mean(1 / variance) - expected[g]) < 4 * np.std(1 / variance) / np.sqrt(
            len(variance)
        )
        variance = 1 / (1 / variance + 1 / 1.5**2)
    far = interventions.curated_expected_precision(np.arange(6), 10**7, 1.5, variance=2.0)
    np.testing.assert_allclose(
        far, 1 / interventions.curated_gaussian(np.arange(6), variance=2.0, width=1.5)[1], rtol=1e-5
    )


def test_law_of_two_categories_under_a_map():
    """The identity is Wright-Fisher, a constant forgets.

    Selection with M = 6 by enumeration of two steps.
    """
    for g in (0, 3):
        found = interventions.mapped_count_distribution(g, 12, 0.3, lambda p: p)
        np.testing.assert_allclose(found, categorical.count_distribution(g, 12, 0.3), atol=1e-13)
    constant = interventions.mapped_count_distribution(5, 12, 0.3, lambda p: np.full(13, 0.8))
    np.testing.assert_allclose(constant, stats.binom.pmf(np.arange(13), 12, 0.8), rtol=1e-12)
    law = sum(
        stats.binom.pmf(i, 6, 0.3) * stats.binom.pmf(np.arange(7), 6, (i / 6) ** 2)
        for i in range(7)
    )
    np.testing.assert_allclose(
        interventions.mapped_count_distribution(1, 6, 0.3, np.square), law, rtol=1e-12
    )


def test_tempered_and_nucleus_laws():
    laws = interventions.tempered_probabilities(
        [0.6, 0.4], 0.5, real_shares=[0.2, 1.0], real=[0.1, 0.9]
    )
    np.testing.assert_allclose(
        laws[1], 0.2 * np.array([0.1, 0.9]) + 0.8 * np.array([0.36, 0.16]) / 0.52
    )
    np.testing.assert_allclose(laws[2], [0.1, 0.9])
    assert interventions.tempered_probabilities([0.6, 0.4], 0.5).shape == (2, 2)
    for p, kept in (
        (0.5, [1, 0, 0, 0]),
        (0.6, [1, 0, 1, 0]),
        (0.81, [1, 1, 1, 0]),
        (1.0, [1, 1, 1, 1]),
    ):
        law = np.array([0.5, 0.15, 0.3, 0.05])
        np.testing.assert_allclose(
            interventions.nucleus_probabilities(law, p), law * kept / np.sum(law * kept)
        )
    np.testing.assert_allclose(interventions.nucleus_probabilities([0.5, 0.5], 0.4), [1, 0])
    for call in (
        lambda: interventions.nucleus_probabilities([0.5, 0.5], 0.0),
        lambda: interventions.tempered_probabilities([0.5, 0.5], 0.0),
        lambda: interventions.tempered_probabilities([0.5, 0.5], 0.5, real_shares=[1.2]),
        lambda: interventions.best_of_probabilities(0, [0.5, 0.5], [0.0, 1.0]),
        lambda: interventions.best_of_normal(0, 1.0),
        lambda: interventions.curated_expected_precision(1, 3, 1.0),
        lambda: interventions.mapped_count_distribution(1, 5, 0.5, lambda p: 2 * p),
    ):
        with pytest.raises(ValueError):
            call()
