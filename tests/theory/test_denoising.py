"""Affine denoisers: least squares by quadrature, samplers in matrices, exact limits."""

import numpy as np
import pytest

from collapse_jax.theory import denoising

POINTS = np.random.default_rng(3).normal(size=(7, 2)) @ [[1.5, 0.4], [0.0, 0.3]] + [0.5, -2.0]
MEAN, COVARIANCE = POINTS.mean(0), np.cov(POINTS.T, ddof=0)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(6)


def least_squares(a, b):
    """(D, E): matrices [3, 2] of the best affine functions of y = a x + b e, by quadrature."""
    pairs = [(e, f) for e in NODES for f in NODES]
    weight = np.array([u * v for u in WEIGHTS for v in WEIGHTS])
    noise = np.tile(np.array(pairs), (len(POINTS), 1))
    x, root = np.repeat(POINTS, len(pairs), 0), np.sqrt(np.tile(weight, len(POINTS)))[:, None]
    inputs = np.column_stack([a * x + b * noise, np.ones(len(x))]) * root
    return tuple(np.linalg.lstsq(inputs, wanted * root, rcond=None)[0] for wanted in (x, noise))


def run(step, signals, noises):
    """The law after steps (number, D, E of its level) -> (matrix [3, 2] of the next y, jitter)."""
    mean, covariance = np.zeros(2), np.eye(2)
    for t in range(len(signals) - 1):
        matrix, jitter = step(t, *least_squares(signals[t], noises[t]))
        mean = mean @ matrix[:2] + matrix[2]
        covariance = matrix[:2].T @ covariance @ matrix[:2] + jitter**2 * np.eye(2)
    return mean, covariance


IDENTITY = np.eye(3)[:, :2]
ANGLES = np.arccos(np.exp(-(0.1 * (u := np.linspace(1, 0, 6)) + 9.95 * u**2) / 2))


def ancestral(large):
    """Ho et al.'s algorithm 2, with the noise as what is predicted."""
    products = np.cos(ANGLES) ** 2

    def step(t, point, noise):
        alpha = products[t] / products[t + 1]
        beta = 1 - alpha
        matrix = (IDENTITY - beta / np.sqrt(1 - products[t]) * noise) / np.sqrt(alpha)
        posterior = beta * (1 - products[t + 1]) / (1 - products[t])
        last = t == len(ANGLES) - 2
        return matrix, 0.0 if last else np.sqrt(beta if large else posterior)

    return run(step, np.cos(ANGLES), np.sin(ANGLES))


def ddim():
    def step(t, point, noise):
        return np.cos(ANGLES[t + 1]) * point + np.sin(ANGLES[t + 1]) * noise, 0.0

    return run(step, np.cos(ANGLES), np.sin(ANGLES))


def heun(signals, noises, places, velocity):
    def step(t, point, noise):
        apart = places[t + 1] - places[t]
        first = velocity(t, point, noise)
        later = velocity(t + 1, *least_squares(signals[t + 1], noises[t + 1]))
        led = np.column_stack([IDENTITY + apart * first, [0, 0, 1]])
        return IDENTITY + apart * (first + led @ later) / 2, 0.0

    return run(step, signals, noises)


def flow(corrected):
    times = np.linspace(0, 1, 6)
    if corrected:
        return heun(times, 1 - times, times, lambda t, point, noise: point - noise)
    return run(lambda t, point, noise: (IDENTITY + (point - noise) / 5, 0.0), times, 1 - times)


OTHERS = {
    "ancestral": lambda: ancestral(large=False),
    "ancestral_large": lambda: ancestral(large=True),
    "ddim": ddim,
    "probability_flow": lambda: heun(
        np.cos(ANGLES),
        np.sin(ANGLES),
        ANGLES,
        lambda t, point, noise: np.cos(ANGLES[t]) * noise - np.sin(ANGLES[t]) * point,
    ),
    "euler": lambda: flow(corrected=False),
    "heun": lambda: flow(corrected=True),
}


@pytest.mark.parametrize("sampler", OTHERS)
def test_the_law_is_that_of_least_squares_by_quadrature(sampler):
    law = denoising.sampled(
        MEAN, COVARIANCE, 5, sampler=sampler, schedule="linear", standardised=False
    )
    mean, covariance = OTHERS[sampler]()
    np.testing.assert_allclose(law.mean, mean, rtol=1e-8)
    np.testing.assert_allclose(law.covariance, covariance, rtol=1e-8)


@pytest.mark.parametrize("sampler", denoising.SAMPLERS)
@pytest.mark.parametrize("standardised", [True, False])
def test_many_levels_give_the_points_law(sampler, standardised):
    law = denoising.sampled(MEAN, COVARIANCE, 1000, sampler=sampler, standardised=standardised)
    np.testing.assert_allclose(law.mean, MEAN, rtol=1.5e-2)
    np.testing.assert_allclose(law.covariance, COVARIANCE, rtol=1.5e-2, atol=1.5e-2)


def test_units_do_not_matter_to_standardised_points():
    scale = np.array([1e3, 1e-3])
    law = denoising.sampled(MEAN, COVARIANCE, 7)
    other = denoising.sampled(scale * MEAN, COVARIANCE * np.outer(scale, scale), 7)
    np.testing.assert_allclose(other.mean, scale * law.mean)
    np.testing.assert_allclose(other.covariance, law.covariance * np.outer(scale, scale))


def test_what_samplers_keep_of_a_variance():
    """DDIM by equal angles keeps cos^2 of each; the angle's own flow all; points alike are kept."""
    for levels in (1, 8, 30):
        kept = np.cos(np.pi / (2 * levels)) ** (2 * levels)
        assert denoising.kept_variance(levels, sampler="ddim") == pytest.approx(kept, abs=1e-12)
        assert denoising.kept_variance(levels, sampler="probability_flow") == pytest.approx(1)
    law = denoising.sampled([2.0, 1.0], [[0.0, 0.0], [0.0, 4.0]], 9)
    assert law.mean == pytest.approx([2, 1]) and law.covariance[0, 0] == 0


def test_expected_variance_is_that_of_a_simulation_in_numpy(assert_mean):
    """Chains of Gaussians that keep a share, under mix: 20,000 of them."""
    rng, size, fresh, kept = np.random.default_rng(5), 6, 0.3, 0.8
    chains = 20_000
    x = rng.normal(size=(chains, size)) * 2
    for generation in range(4):
        mean, variance = x.mean(1), kept * x.var(1)
        expected = denoising.expected_variance(
            generation, size, kept=kept, variance=4.0, fresh=fresh
        )
        assert_mean(variance, expected)
        made = mean[:, None] + np.sqrt(variance)[:, None] * rng.normal(size=(chains, size))
        x = np.where(rng.random((chains, size)) < fresh, 2 * rng.normal(size=x.shape), made)


def test_bad_arguments():
    for arguments in ({"sampler": "none"}, {"schedule": "none"}):
        with pytest.raises(ValueError, match="no closed form"):
            denoising.sampled([0.0], [[1.0]], 3, **arguments)
    with pytest.raises(ValueError, match="levels must be at least 1, got 0"):
        denoising.sampled([0.0], [[1.0]], 0)
    with pytest.raises(ValueError, match="generation"):
        denoising.expected_variance(-1, 3, kept=1.0)
    with pytest.raises(ValueError, match="fresh"):
        denoising.expected_variance(1, 3, kept=1.0, fresh=2.0)
