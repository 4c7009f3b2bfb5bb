"""A verifier that drifts, held against simulation in NumPy, limits and brute force."""

import numpy as np
import pytest
from scipy import stats

from collapse_jax import theory

drifting = theory.drifting_verifier


def simulated(size, width, refresh, bias, gamma, last, every=1, chains=40_000):
    """(m, c) [2, chains] of the last generation, point by point and by rejection."""
    rng = np.random.default_rng(3)
    mean = rng.normal(0, 1 / np.sqrt(size), chains)
    centre = mean.copy() if bias is None else np.full(chains, bias)
    for generation in range(1, last + 1):
        x = np.full((chains, size), np.nan)
        while np.isnan(x).any():
            candidate = mean[:, None] + rng.normal(size=x.shape)
            chance = np.exp(-((candidate - centre[:, None]) ** 2) / (2 * width**2))
            x = np.where(np.isnan(x) & (rng.random(x.shape) < chance), candidate, x)
        x = np.where(rng.random(x.shape) < gamma, rng.normal(size=x.shape), x)
        mean = x.mean(1)
        rate = refresh if generation % every == 0 else 0
        centre = (1 - rate) * centre + rate * mean
    return np.stack([mean, centre])


@pytest.mark.parametrize(
    ("refresh", "bias", "gamma", "every"),
    [(0.3, 0.5, 0.0, 1), (1.0, None, 0.2, 1), (0.6, 0.5, 0.1, 2)],
)
def test_both_moments_are_those_of_a_simulation(refresh, bias, gamma, every):
    found = simulated(5, 1.2, refresh, bias, gamma, 4, every)
    first, second = drifting.centre_moments(4, 5, 1.2, refresh, bias=bias, gamma=gamma, every=every)
    error = found.std(1) / np.sqrt(found.shape[1])
    assert (np.abs(found.mean(1) - first) < 4 * error).all()
    products = found[:, None] * found[None]
    error = products.std(2) / np.sqrt(found.shape[1])
    assert (np.abs(products.mean(2) - second) < 4 * error).all()


def test_limits():
    at = np.array([0, 1, 7, 50])
    # No verifier: a random walk.
    assert np.allclose(drifting.expected_squared_error(at, 8, np.inf, 0.3, bias=0.4), (at + 1) / 8)
    # A fixed one: an autoregression to its centre.
    a = 1 / (1 + 1 / 2.0**2)
    first, second = drifting.centre_moments(at, 8, 2.0, 0.0, bias=0.4)
    assert np.allclose(first[:, 0], 0.4 * (1 - a**at)) and np.allclose(first[:, 1], 0.4)
    spread = a ** (2 * at) / 8 + a / 8 * (1 - a ** (2 * at)) / (1 - a**2)
    assert np.allclose(second[:, 0, 0], first[:, 0] ** 2 + spread)
    # All real: nothing of the verifier is left.
    real = drifting.expected_squared_error(at, 8, 1.0, 0.5, bias=3.0, gamma=1.0)
    assert np.allclose(real, 1 / 8)
    # One that is refitted as a whole, from the truth on: its noise is that of what passes.
    walk = drifting.expected_squared_error(at, 8, 2.0, 1.0, bias=None)
    assert np.allclose(walk, (1 + at * a) / 8)


def test_the_long_run():
    for refresh in (0.05, 0.4, 1.0):
        at = np.array([4_000, 4_001])
        first, second = drifting.centre_moments(at, 20, 1.3, refresh, bias=0.5)
        step = second[1, 0, 0] - second[0, 0, 0]
        assert np.isclose(step, drifting.diffusion_rate(20, 1.3, refresh), rtol=1e-6)
        assert np.isclose(first[0, 0], drifting.settled_bias(1.3, refresh, 0.5))
    assert drifting.diffusion_rate(20, np.inf, 0.3) == 1 / 20
    assert drifting.diffusion_rate(20, 1.0, 0.0) == 0
    assert drifting.settled_bias(np.inf, 0.0, 1.0) == 0
    helps = drifting.last_helpful_generation(20, 1.0, 0.1, bias=0.5, most=500)
    error = drifting.expected_squared_error(np.arange(501), 20, 1.0, 0.1, bias=0.5)
    better = np.nonzero(error < (np.arange(501) + 1) / 20)[0]
    assert helps == (better[0], better[-1])
    assert drifting.last_helpful_generation(20, np.inf, 0.1, most=5) == (0, 0)


def test_a_width_that_is_refitted_shrinks_by_one_share():
    at, width, size = np.arange(4), 1.5, 7
    rng = np.random.default_rng(2)
    share = width**2 / (1 + width**2)
    variance, logs = np.ones(200_000), []
    for _ in at:
        variance = variance * rng.chisquare(size - 1, len(variance)) / (size - 1)
        logs.append(np.log(variance))
        variance = variance * share
    found = np.array(logs)
    expected = drifting.refitted_width_log_variance(at, size, width)
    error = found.std(1) / np.sqrt(found.shape[1])
    assert (np.abs(found.mean(1) - expected) < 4 * error).all()
    assert np.allclose(
        drifting.refitted_width_log_variance(at, size, np.inf),
        theory.gaussian.expected_log_variance(at, size, ddof=1),
    )


def test_the_detector_by_all_that_it_may_see():
    size, p = 2, 0.3
    first = stats.binom.pmf(range(3), size, p)
    expected = np.zeros(3)
    for ones, of_ones in enumerate(first):
        for real, of_real in enumerate(first):
            for made, of_made in enumerate(stats.binom.pmf(range(3), size, ones / size)):
                one = real / (real + made) if real + made else 0.5
                zero = (2 - real) / (4 - real - made) if real + made < 4 else 0.5
                law = np.array([1 - ones / size, ones / size])
                kept = law * [zero, one]
                # 100 draws, and then what is there.
                left = (1 - kept.sum()) ** 100
                passed = kept / kept.sum() if kept.sum() else law * 0
                failed = law - kept
                failed = failed / failed.sum() if failed.sum() else law * 0
                share = ((1 - left) * passed + left * failed)[1]
                weight = of_ones * of_real * of_made
                expected += weight * stats.binom.pmf(range(3), size, share)
    found = drifting.detected_count_distribution(1, size, p)
    assert np.allclose(found, expected) and np.isclose(found.sum(), 1)
    assert np.allclose(drifting.detected_count_distribution(0, size, p), first)
    assert np.allclose(drifting.detected_count_distribution(3, 4, 0.0), np.eye(5)[0])
    assert np.allclose(drifting.detected_count_distribution(3, 4, 1.0), np.eye(5)[4])


@pytest.mark.parametrize(
    "call",
    [
        lambda: drifting.centre_moments(1, 5, 0.0, 0.5),
        lambda: drifting.centre_moments(1, 5, 1.0, 1.5),
        lambda: drifting.centre_moments(1, 5, 1.0, 0.5, gamma=-0.1),
        lambda: drifting.refitted_width_log_variance(1, 1, 1.0),
    ],
)
def test_bad_arguments(call):
    with pytest.raises(ValueError):
        call()
