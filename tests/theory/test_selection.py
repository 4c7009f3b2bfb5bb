"""Takeover against neutral drift and Kimura's formula; several outcomes against two and by hand."""

import numpy as np
import pytest

from collapse_jax.theory import interventions, selection


def better(advantage):
    return lambda p: p / (p + (1 - p) * (1 - advantage))


def test_without_an_advantage_the_share_is_the_probability():
    np.testing.assert_allclose(
        selection.takeover_probability(12, lambda p: p), np.arange(13) / 12, atol=1e-13
    )
    assert selection.kimura_takeover_probability(0.3, 50, 0.0) == 0.3


def test_kimura_is_the_limit():
    size, shares = 400, np.array([1, 10, 100]) / 400
    exact = selection.takeover_probability(size, better(0.01))[[1, 10, 100]]
    np.testing.assert_allclose(
        selection.kimura_takeover_probability(shares, size, 0.01), exact, rtol=0.02
    )


def test_takeover_is_where_the_chain_ends():
    law = interventions.mapped_count_distribution(400, 6, 0.25, better(0.3))
    begun = interventions.mapped_count_distribution(0, 6, 0.25, better(0.3))
    assert law[-1] == pytest.approx(begun @ selection.takeover_probability(6, better(0.3)))


def test_the_best_of_many_by_simulation():
    law, reward = np.array([0.2, 0.5, 0.3]), np.array([1.0, -1.0, 0.0])
    drawn = np.random.default_rng(1).choice(3, (100_000, 3), p=law)
    best = reward[drawn].max(1)
    exact = selection.best_of_greatest(3, law, reward)
    for value, chance in zip(reward, exact, strict=True):
        assert np.mean(best == value) == pytest.approx(chance, abs=0.007)
    with pytest.raises(ValueError, match="rewards different"):
        selection.best_of_greatest(2, law, np.zeros(3))


def test_several_outcomes_of_which_two_are_there():
    def step(p):
        return np.array([p[0] ** 2, 1 - p[0] ** 2, 0.0])

    found = selection.mapped_expected_probabilities(np.arange(4), 7, [0.4, 0.6, 0.0], step)
    for g in range(4):
        two = interventions.mapped_count_distribution(g, 7, 0.4, lambda p: p**2)
        assert found[g, 0] == pytest.approx(two @ np.arange(8) / 7)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(found[:, 2], 0, atol=1e-15)


def test_several_outcomes_drift_without_a_mean():
    p = np.array([0.5, 0.3, 0.2])
    found = selection.mapped_expected_probabilities([0, 5], 6, p, lambda law: law)
    np.testing.assert_allclose(found, [p, p], rtol=1e-12)
