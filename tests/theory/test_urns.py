"""Urns by enumeration and simulation; Ewens and Beta as limits of exact chains."""

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import genealogy, interventions, urns


def test_polya_by_its_own_chain():
    first, rounds, p = 4, 6, 0.3
    law = stats.binom.pmf(np.arange(first + 1), first, p)
    for g in range(rounds):
        size = first + g
        grown, share = np.zeros(size + 2), np.arange(size + 1) / size
        grown[:-1] += law * (1 - share)
        grown[1:] += law * share
        law = grown
    np.testing.assert_allclose(urns.polya_distribution(rounds, first, p), law, atol=1e-14)


def test_ewens_sums_the_chance_of_something_new():
    assert urns.ewens_number_of_kinds(1.0, 3) == pytest.approx(1 + 1 / 2 + 1 / 3)
    np.testing.assert_allclose(urns.ewens_number_of_kinds(2.5, [0, 1]), [0, 1])


def test_ewens_is_the_limit_of_the_exact_number():
    size, gamma = 400, 0.002
    exact = genealogy.expected_living_ancestors(3_000, size, gamma)
    assert urns.ewens_number_of_kinds(2 * size * gamma, size) == pytest.approx(exact, rel=0.03)


def test_the_beta_law_is_the_limit_of_the_exact_one():
    size, gamma, p = 400, 0.005, 0.3
    law = interventions.mapped_count_distribution(
        2_000, size, p, lambda x: (1 - gamma) * x + gamma * p
    )
    beta = stats.beta(*urns.beta_of_immigration(p, size, gamma))
    places = np.arange(0, size, 20)
    np.testing.assert_allclose(np.cumsum(law)[places], beta.cdf((places + 0.5) / size), atol=0.01)
