"""Lineages against the matrix of counts, enumeration, simulation and published numbers.

The matrix is another derivation.
"""

import itertools

import numpy as np
import pytest

from collapse_jax.theory import categorical, lineages, zipf


def test_occupancy_by_enumeration():
    matrix = lineages.occupancy_matrix(4)
    for draws in range(1, 5):
        distinct = [len(set(points)) for points in itertools.product(range(4), repeat=draws)]
        np.testing.assert_allclose(
            matrix[draws - 1], np.bincount(distinct, minlength=5)[1:] / 4**draws, rtol=1e-12
        )
    np.testing.assert_allclose(lineages.occupancy_matrix(300).sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(
        lineages.occupancy_matrix(300, 40), lineages.occupancy_matrix(300)[:40, :40], rtol=1e-12
    )


def test_distinct_points_of_any_number_of_draws():
    matrix = lineages.occupancy_matrix(50)
    for draws in (1, 7, 50):
        np.testing.assert_allclose(
            lineages.distinct_distribution(draws, 50), matrix[draws - 1], rtol=1e-10, atol=1e-300
        )
    for draws in range(1, 8):
        distinct = [len(set(points)) for points in itertools.product(range(3), repeat=draws)]
        np.testing.assert_allclose(
            lineages.distinct_distribution(draws, 3),
            np.bincount(distinct, minlength=4)[1:] / 3**draws,
            rtol=1e-12,
        )
    np.testing.assert_allclose(lineages.distinct_distribution(100_000, 50)[-1], 1, rtol=1e-12)
    with pytest.raises(ValueError):
        lineages.distinct_distribution(0, 5)


def test_simulated_living_ancestors():
    """M = 12, 10 generations, 2 * 10^4 chains; |z| < 4 for the mean and for each likely number."""
    rng, chains, size = np.random.default_rng(81), 20_000, 12
    law = lineages.living_ancestors_distribution(np.arange(10), size)
    mean = lineages.expected_living_ancestors(np.arange(10), size)
    np.testing.assert_allclose(law @ np.arange(1, size + 1), mean, rtol=1e-12)
    ancestor = np.tile(np.arange(size), (chains, 1))
    for g in range(10):
        ordered = np.sort(ancestor, axis=1)
        alive = 1 + np.count_nonzero(np.diff(ordered, axis=1), axis=1)
        assert g == 0 or abs(alive.mean() - mean[g]) < 4 * alive.std() / np.sqrt(chains)
        seen = np.bincount(alive, minlength=size + 1)[1:] / chains
        likely = law[g] * chains > 25
        assert (
            np.max(
                np.abs(seen - law[g])[likely]
                / np.sqrt(law[g] * (1 - law[g]) / chains + 1e-12)[likely]
            )
            < 4.5
        )
        ancestor = np.take_along_axis(ancestor, rng.integers(size, size=ancestor.shape), axis=1)


@pytest.mark.parametrize("size", [1, 2, 30, 400])
def test_loss_equals_the_count_matrix(size):
    share = np.array([0.0, 1e-4, 0.03, 0.5, 1.0])
    generation = np.array([0, 1, 4, 30, 200])
    expected = categorical.loss_probability(generation, size, share)
    np.testing.assert_allclose(
        lineages.loss_probability(generation, size, share), expected, rtol=0, atol=1e-12
    )


@pytest.mark.slow
def test_large_sizes_against_the_count_matrix():
    """M = 2000 is above the exact chain of lineages but within the exact matrix of counts."""
    generation = np.array([0, 1, 3, 10, 40, 150])
    share = np.array([0.0, 1e-5, 3e-4, 1e-3, 0.01, 0.1, 0.9, 1.0])
    difference = lineages.loss_probability(generation, 2000, share) - categorical.loss_probability(
        generation, 2000, share
    )
    assert np.max(np.abs(difference)) < 1e-6
    start = zipf.probabilities(3000, 1.2)
    np.testing.assert_allclose(
        lineages.expected_support(generation, 2000, start),
        categorical.expected_support(generation, 2000, start),
        rtol=1e-6,
    )
    # ever rarer categories count the living ancestors; 10^8 of them share an ancestor's draw in
    # 1e-5 of the pairs
    rare = 1e8 * (1 - categorical.loss_probability(generation, 2000, 1e-8))
    np.testing.assert_allclose(
        lineages.expected_living_ancestors(generation, 2000), rare, rtol=2e-5
    )


def test_living_ancestors_of_very_large_samples_branch():
    """For generation << M the share of living draws is that of a Poisson(1) branching process.

    Later it is about 2 M/g.
    """
    size = 10**7
    share = lineages.expected_living_ancestors(np.arange(30), size) / size
    np.testing.assert_allclose(share, lineages.branching_survival(np.arange(30)), rtol=1e-5)
    assert lineages.expected_living_ancestors(1000, 10**5) == pytest.approx(200, rel=0.02)
    # 20 times the common ancestor's age: exp(-20) of the chains may have a second one
    assert lineages.expected_living_ancestors(40_000, 2000) == pytest.approx(1, abs=1e-8)


def test_branching_recursion():
    np.testing.assert_allclose(
        lineages.branching_survival([0, 1, 2]),
        [1, 1 - np.exp(-1), 1 - np.exp(-(1 - np.exp(-1)))],
        rtol=1e-12,
    )
    assert lineages.branching_survival(10**5) * 10**5 == pytest.approx(2, rel=1e-3)


def test_time_to_one_ancestor():
    """Two draws coalesce with 1/M; 10^4 chains of M = 8.

    Kingman's 2 M (1 - 1/M) within 1% at M = 1000.
    """
    assert lineages.expected_generations_until_one_ancestor(1) == 0
    assert lineages.expected_generations_until_one_ancestor(2) == pytest.approx(2)
    assert lineages.expected_generations_until_one_ancestor(1000) == pytest.approx(1998, rel=0.01)
    rng = np.random.default_rng(82)
    ancestor, time = np.tile(np.arange(8), (10_000, 1)), np.zeros(10_000)
    while np.any(moving := np.ptp(ancestor, axis=1) > 0):
        time += moving
        ancestor = np.take_along_axis(ancestor, rng.integers(8, size=ancestor.shape), axis=1)
    assert (
        abs(time.mean() - lineages.expected_generations_until_one_ancestor(8))
        < 4 * time.std() / 100
    )


def test_survival_bounds_hold():
    """Published at n = 100, p = .01, k = 10: .1614 in [.158, .436]; and on a grid."""
    lower, upper = lineages.survival_bounds(9, 100, 0.01)
    assert lower == pytest.approx(0.158, abs=6e-4) and upper == pytest.approx(0.436, abs=6e-4)
    assert 1 - categorical.loss_probability(9, 100, 0.01) == pytest.approx(0.1614, abs=6e-5)
    generation, share = np.arange(40)[:, None], np.array([1e-4, 0.003, 0.02, 0.2])
    lower, upper = lineages.survival_bounds(generation, 50, share)
    kept = 1 - categorical.loss_probability(np.arange(40), 50, share)
    assert np.all(lower <= kept) and np.all(kept <= upper)


def test_corners():
    np.testing.assert_array_equal(lineages.living_ancestors_distribution([0, 5], 1), [[1.0], [1.0]])
    assert lineages.expected_support([0, 7], 1, [0.5, 0.5]) == pytest.approx([1, 1])
    assert lineages.expected_support(3, 10**6, [1.0]) == pytest.approx(1)
    assert lineages.expected_living_ancestors(0, 10**9) == pytest.approx(1e9)
    assert lineages.loss_probability(np.zeros((2, 3), int), 2000, np.full((4, 1), 0.1)).shape == (
        2,
        3,
        4,
        1,
    )
    np.testing.assert_allclose(
        lineages.loss_probability(0, 10**6, 1e-6), (1 - 1e-6) ** 10**6, rtol=1e-9
    )
    for call in (
        lambda: lineages.occupancy_matrix(5, 6),
        lambda: lineages.living_ancestors_distribution(0, 1001),
        lambda: lineages.expected_generations_until_one_ancestor(1001),
        lambda: lineages.loss_probability(0, 5, 1.5),
        lambda: lineages.branching_survival(-1),
        lambda: lineages.survival_bounds(0, 0, 0.1),
    ):
        with pytest.raises(ValueError):
            call()
