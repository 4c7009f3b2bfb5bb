"""Absorption against enumeration, simulation, published numbers and the diffusion limit."""

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import absorption, categorical, lineages

START = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])


def absorption_times(rng, chains, size, start):
    """[chains] number of samplings until one category is left."""
    law, time = np.tile(start, (chains, 1)), np.zeros(chains)
    while np.any(moving := np.max(law, axis=1) < 1):
        time += moving
        law = rng.multinomial(size, law) / size
    return time


def test_absorption_time_published_and_simulated():
    assert absorption.expected_samplings_until_absorption(100, 0.5) == pytest.approx(
        136.60, abs=0.006
    )
    assert absorption.expected_samplings_until_absorption(20, 0.5) == pytest.approx(26.2, abs=0.06)
    rng = np.random.default_rng(15)
    share, time = np.full(20_000, 0.27), np.zeros(20_000)
    while np.any(moving := (share > 0) & (share < 1)):
        time += moving
        share = rng.binomial(8, share) / 8
    z = (time.mean() - absorption.expected_samplings_until_absorption(8, 0.27)) / (
        time.std() / np.sqrt(20_000)
    )
    assert abs(z) < 4


def test_absorption_time_edges_and_diffusion():
    np.testing.assert_array_equal(
        absorption.expected_samplings_until_absorption(7, np.array([0.0, 1.0])), 0
    )
    assert absorption.expected_samplings_until_absorption(1, 0.3) == 1
    # two draws: each further sampling from 1/2 absorbs with chance 1/2, so two more; the first
    # splits with 2pq
    assert absorption.expected_samplings_until_absorption(2, 0.3) == pytest.approx(1 + 2 * 0.42)
    diffusion = -2 * 1500 * (0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    assert absorption.expected_samplings_until_absorption(1500, 0.3) == pytest.approx(
        diffusion, rel=0.003
    )


def test_fixation_time_of_many_categories():
    """Published: 167.9 +- 1.7 (M = 100), 1829 +- 20 (M = 1000, six equal); 10^4 chains of M = 8.

    Published numbers are by Monte Carlo; ours have |z| < 4.
    """
    assert abs(absorption.expected_samplings_until_fixation(100, START) - 167.9) < 4 * 1.7
    assert (
        abs(absorption.expected_samplings_until_fixation(1000, np.full(6, 1 / 6)) - 1829) < 4 * 20
    )
    time = absorption_times(np.random.default_rng(31), 10_000, 8, START)
    z = (time.mean() - absorption.expected_samplings_until_fixation(8, START)) / (
        time.std() / np.sqrt(10_000)
    )
    assert abs(z) < 4


def test_fixation_time_of_two_categories_is_the_matrix_inverse_form():
    for share in (0.01, 0.3, 0.5):
        two = absorption.expected_samplings_until_fixation(40, [share, 1 - share])
        assert two == pytest.approx(
            absorption.expected_samplings_until_absorption(40, share), rel=1e-11
        )


def test_fixation_time_is_the_sum_of_survival():
    survival = 1 - absorption.absorption_probability(np.arange(3000), 20, START)
    # before the first sampling nothing is absorbed
    assert 1 + survival.sum() == pytest.approx(
        absorption.expected_samplings_until_fixation(20, START), rel=1e-10
    )


def test_fixation_time_of_ever_rarer_categories_tends_to_the_common_ancestor():
    time = absorption.expected_samplings_until_fixation(30, np.full(10**6, 1e-6))
    assert time == pytest.approx(1 + lineages.expected_generations_until_one_ancestor(30), rel=1e-4)
    assert time < 1 + lineages.expected_generations_until_one_ancestor(30)


def test_diffusion_forms():
    """Published values 138.63, 27.7, 170.5 and 1823; K = 2 in Kimura's form.

    K -> infinity gives 2 M.
    """
    published = (
        (138.63, 100, [0.5, 0.5]),
        (27.7, 20, [0.5, 0.5]),
        (170.5, 100, START),
        (1823, 1000, np.full(6, 1 / 6)),
    )
    for value, size, start in published:
        assert absorption.diffusion_samplings_until_fixation(size, start) == pytest.approx(
            value, rel=1.2e-3
        )
    exact = absorption.expected_samplings_until_fixation(1500, START)
    assert absorption.diffusion_samplings_until_fixation(1500, START) == pytest.approx(
        exact, rel=0.002
    )
    assert absorption.diffusion_samplings_until_fixation(50, np.full(10**5, 1e-5)) == pytest.approx(
        100, rel=1e-4
    )


def test_absorption_probability_by_simulation():
    """M = 6, 12 generations, 2 * 10^4 chains.

    Share of chains with one category, and with category 1 alone; |z| < 4.
    """
    rng, law = np.random.default_rng(32), np.tile(START, (20_000, 1))
    expected = absorption.absorption_probability(np.arange(12), 6, START)
    first = absorption.fixed_probability(np.arange(12), 6, START[0])
    for g in range(12):
        law = rng.multinomial(6, law) / 6
        for seen, exact in (
            (np.mean(law.max(1) == 1), expected[g]),
            (np.mean(law[:, 0] == 1), first[g]),
        ):
            assert abs(seen - exact) < 4 * np.sqrt(exact * (1 - exact) / 20_000)


def test_corners():
    assert absorption.expected_samplings_until_fixation(7, [0.0, 1.0]) == 0
    assert absorption.expected_samplings_until_fixation(1, START) == pytest.approx(1)
    assert absorption.diffusion_samplings_until_fixation(10, [1.0]) == 0
    np.testing.assert_allclose(absorption.absorption_probability([0, 9], 1, START), 1, rtol=1e-12)
    np.testing.assert_allclose(
        absorption.absorption_probability(0, 5, START), np.sum(START**5), rtol=1e-12
    )
    np.testing.assert_allclose(
        absorption.fixed_probability(4000, 20, START),
        categorical.fixation_probability(START),
        rtol=1e-9,
    )
    assert absorption.fixed_probability(np.arange(3), 5, np.full((2, 2), 0.1)).shape == (3, 2, 2)
    np.testing.assert_allclose(
        absorption.fixed_probability(0, 5, [0.0, 1.0]), stats.binom.pmf(5, 5, [0.0, 1.0])
    )
    for call in (
        lambda: absorption.expected_samplings_until_fixation(2001, START),
        lambda: absorption.expected_samplings_until_absorption(0, 0.2),
        lambda: absorption.diffusion_samplings_until_fixation(5, [0.5]),
        lambda: absorption.fixed_probability(0, 5, 1.2),
    ):
        with pytest.raises(ValueError):
            call()
