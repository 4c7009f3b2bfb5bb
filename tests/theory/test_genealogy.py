"""Laws of lineages, held against each other, simulation in NumPy and known limits."""

import numpy as np
import pytest

from collapse_jax import theory

genealogy = theory.genealogy


def test_reach_is_what_a_linear_recursion_gives():
    shares = np.array([1.0])
    for g in range(7):
        assert np.allclose(genealogy.expected_reach(g, workflow="mix", gamma=0.3), shares)
        age = shares @ np.arange(g, -1, -1)
        assert np.isclose(genealogy.expected_real_age(g, workflow="mix", gamma=0.3), age)
        shares = np.append(0.7 * shares, 0.3)
    assert genealogy.expected_reach(3, workflow="accumulate").tolist() == [1, 0, 0, 0]
    assert genealogy.expected_reach(2, workflow="mix", gamma=1.0).tolist() == [0, 0, 1]


def test_living_ancestors_with_fresh_real_data():
    at = np.arange(6)
    without = theory.lineages.expected_living_ancestors(at, 7)
    assert np.allclose(genealogy.expected_living_ancestors(at, 7), without)
    assert np.allclose(genealogy.expected_living_ancestors(at, 7, 1.0), 7)
    assert np.allclose(genealogy.expected_living_ancestors(at, 1, 0.4), 1)
    rng, chains, size, gamma = np.random.default_rng(0), 20_000, 5, 0.3
    labels, number = np.tile(np.arange(size), (chains, 1)), size
    for _ in range(4):
        parents = np.take_along_axis(labels, rng.integers(size, size=(chains, size)), axis=1)
        real = rng.random((chains, size)) < gamma
        labels = np.where(real, number + np.arange(size), parents)
        number += size
    ordered = np.sort(labels, axis=1)
    distinct = 1 + (np.diff(ordered, axis=1) != 0).sum(1)
    error = distinct.std() / np.sqrt(chains)
    assert abs(distinct.mean() - genealogy.expected_living_ancestors(4, size, gamma)) < 4 * error


def test_the_mean_age_of_the_common_ancestor_is_the_sum_of_its_tail():
    tail = 1 - genealogy.common_ancestor_probability(np.arange(2_000), 12)
    expected = theory.lineages.expected_generations_until_one_ancestor(12)
    assert np.isclose(tail.sum(), expected)
    assert genealogy.common_ancestor_probability(0, 1) == 1
    late = genealogy.common_ancestor_probability([3, 50], 4, generation=3)
    assert late[0] == late[1]


def test_kingman_is_the_limit():
    law = genealogy.kingman_ancestors_distribution([0, 30, 400], 200)
    assert np.allclose(law.sum(1), 1) and law[0, -1] == 1
    exact = theory.lineages.living_ancestors_distribution([30, 400], 200)
    number = np.arange(1, 201)
    assert np.allclose(law[1:] @ number, exact @ number, rtol=0.03)
    # Pairs: exp(-g/M), the limit of (1 - 1/M)^g.
    pairs = genealogy.kingman_ancestors_distribution([0, 40], 100, lineages=2)
    assert np.allclose(pairs[:, 1], np.exp(-np.array([0, 40]) / 100))
    # The mean age as the integral of the tail.
    at = np.arange(0, 4_000, 40)
    tail = 1 - genealogy.kingman_ancestors_distribution(at, 100, lineages=4)[:, 0]
    mean = genealogy.kingman_expected_common_ancestor_age(100, lineages=4)
    assert np.isclose(40 * (tail.sum() - 0.5), mean, rtol=1e-3)
    near = theory.lineages.expected_generations_until_one_ancestor(200)
    assert np.isclose(genealogy.kingman_expected_common_ancestor_age(200), near, rtol=0.01)


def test_the_largest_family_of_a_broken_stick():
    rng = np.random.default_rng(1)
    size, chains, g = 60, 3_000, 60
    labels = np.tile(np.arange(size), (chains, 1))
    for _ in range(g):
        labels = np.take_along_axis(labels, rng.integers(size, size=(chains, size)), axis=1)
    largest = np.array([np.bincount(row).max() for row in labels]) / size
    assert np.isclose(largest.mean(), genealogy.kingman_largest_family(g, size), rtol=0.05)


@pytest.mark.parametrize(
    "call",
    [
        lambda: genealogy.expected_reach(-1),
        lambda: genealogy.expected_reach(2, gamma=0.5),
        lambda: genealogy.expected_living_ancestors(1, 2_000),
        lambda: genealogy.expected_living_ancestors(1, 5, 1.5),
        lambda: genealogy.kingman_ancestors_distribution(1, 1_000),
    ],
)
def test_bad_arguments(call):
    with pytest.raises(ValueError):
        call()
