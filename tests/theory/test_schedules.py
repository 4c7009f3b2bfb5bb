"""Mixtures that change: against what is known of those that do not, and plain NumPy."""

import numpy as np
import pytest

from collapse_jax.theory import ancestry, exponential_families, schedules

BERNOULLI, EXPONENTIAL = (0.0, 1.0, -1.0), (0.0, 0.0, 1.0)


@pytest.mark.parametrize("random_counts", [True, False])
@pytest.mark.parametrize("quadratic", [BERNOULLI, EXPONENTIAL])
def test_constant_shares_are_what_is_known(quadratic, random_counts):
    at, mixture = np.arange(15), {"random_counts": random_counts}
    found = schedules.expected_squared_mean_error(
        at, 10, 0.4, quadratic, beta=0.3, gamma=0.2, **mixture
    )
    mixture |= {"workflow": "mix", "alpha": 0.5, "beta": 0.3, "gamma": 0.2}
    want = exponential_families.expected_squared_mean_error(at, 10, 0.4, quadratic, **mixture)
    np.testing.assert_allclose(found, want, rtol=1e-12)


def test_replace_with_a_schedule_of_sizes():
    sizes = np.array([5, 12, 8, 20])
    found = schedules.retention(np.arange(4), sizes)
    np.testing.assert_allclose(found, ancestry.retention(np.arange(4), sizes), rtol=1e-12)


def test_contamination_by_the_newest_model_is_more_of_it():
    at = np.arange(8)
    found = schedules.retention(at, 9, gamma=0.4, contamination=0.25)
    np.testing.assert_allclose(found, schedules.retention(at, 9, gamma=0.3), rtol=1e-12)


def simulated(last, sizes, gammas, share, lag, random_counts):
    """(p - .3)^2 [chains, generations] of Bernoulli models, in NumPy alone."""
    rng, chains = np.random.default_rng(11), 50_000
    models = [rng.binomial(sizes[0], 0.3, chains) / sizes[0]]
    for g in range(1, last + 1):
        n, gamma, c = sizes[g], gammas[g], share if g >= lag else 0.0
        if random_counts:
            real = rng.binomial(n, gamma, chains)
            made = rng.binomial(real, c)
        else:
            real = np.full(chains, n - round((1 - gamma) * n))
            made = np.full(chains, round(c * real[0]))
        old = models[g - lag] if g >= lag else models[0]
        ones = rng.binomial(n - real, models[-1]) + rng.binomial(made, old)
        models.append((ones + rng.binomial(real - made, 0.3)) / n)
    return (np.array(models).T - 0.3) ** 2


@pytest.mark.parametrize(("lag", "random_counts"), [(1, True), (3, True), (3, False)])
def test_schedules_and_contamination_in_numpy(lag, random_counts, assert_mean):
    sizes, gammas = [6, 9, 5, 12, 8, 10, 7], [0.0, 0.9, 0.1, 0.5, 0.8, 0.6, 0.7]
    errors = simulated(6, sizes, gammas, 0.5, lag, random_counts)
    exact = schedules.expected_squared_mean_error(
        np.arange(7), sizes, 0.3, BERNOULLI, gamma=gammas, contamination=0.5, lag=lag,
        random_counts=random_counts,
    )  # fmt: skip
    assert_mean(errors, exact)


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_what_is_missing_halves_in_a_half_life(beta):
    """After 40 generations of replace, gamma = .1: the distance to the plateau falls by A."""
    gamma = np.where(np.arange(400) < 40, 0.0, 0.1)
    kept = schedules.retention(np.arange(400), 20, gamma=gamma, beta=np.where(gamma > 0, beta, 0.0))
    plateau = 1 - schedules.plateau(20, 0.1, beta=beta)
    assert kept[399] == pytest.approx(plateau, rel=1e-9)
    missing = plateau - kept
    factor = schedules.relaxation_factor(20, 0.1, beta=beta)
    start = 60 if beta else 39  # with beta a second, quicker mode goes first
    np.testing.assert_allclose(missing[start + 1 : 90] / missing[start:89], factor, rtol=1e-4)
    if not beta:
        assert factor == pytest.approx(0.9**2 * (1 - 1 / 20))
        half = schedules.half_life(20, 0.1)
        assert factor**half == pytest.approx(0.5)
        fixed = schedules.relaxation_factor(20, 0.1, random_counts=False)
        assert fixed == pytest.approx(18 * 17 / 400)


@pytest.mark.parametrize(
    "call",
    [
        lambda: schedules.retention(3, 5, gamma=-0.1),
        lambda: schedules.retention(3, 5, gamma=[0.1, 0.2]),
        lambda: schedules.retention(3, 5, gamma=0.6, beta=0.6),
        lambda: schedules.retention(1, [5, 6], beta=0.5),
        lambda: schedules.retention(3, 5, gamma=0.5, beta=0.1, contamination=0.5),
        lambda: schedules.retention(3, 5, gamma=0.5, contamination=0.5, lag=0),
        lambda: schedules.plateau(5, 0.0),
    ],
)
def test_bad_input(call):
    with pytest.raises(ValueError):
        call()
