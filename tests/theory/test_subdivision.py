"""Forms of subdivided populations against the exact recursion, and two curated readers."""

import numpy as np
import pytest

from collapse_jax.theory import interventions, islands, subdivision


def ring(models, share):
    own = np.eye(models)
    return (1 - share) * own + share * np.roll(own, 1, axis=1)


def test_the_fixation_index_sums_the_recursion():
    models, size, share = 4, 5, 0.1
    coupling = np.full((models, models), share / (models - 1))
    np.fill_diagonal(coupling, 1 - share)
    every = np.arange(1_500)
    within = islands.retention(every, size, coupling).mean(1).sum()
    between = 1 - within / islands.pooled_retention(every, size, coupling).sum()
    assert between == pytest.approx(subdivision.fixation_index(models, size, share), rel=1e-9)


def test_wright_is_the_limit():
    found = subdivision.wright_fixation_index(5, 20_000, 1e-5)
    assert found == pytest.approx(subdivision.fixation_index(5, 20_000, 1e-5), rel=1e-4)
    assert subdivision.wright_fixation_index(10**9, 50, 0.01) == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    "coupling",
    [ring(3, 0.4), np.full((3, 3), 1 / 3), [[0.5, 0.5, 0], [0.25, 0.25, 0.5], [0.25, 0.25, 0.5]]],
)
def test_total_diversity_sums_the_recursion_whatever_the_coupling(coupling):
    summed = islands.retention(np.arange(2_000), 4, coupling).mean(1).sum()
    assert summed == pytest.approx(subdivision.total_diversity(3, 4), rel=1e-9)


def test_two_models_that_read_nobody_are_two_chains():
    law = subdivision.curated_counts_distribution(
        3, 6, 0.3, np.eye(2), [lambda p: p**2, lambda p: np.sqrt(p)]
    )
    alone = [
        interventions.mapped_count_distribution(3, 6, 0.3, step)
        for step in (lambda p: p**2, lambda p: np.sqrt(p))
    ]
    np.testing.assert_allclose(law, np.outer(*alone), atol=1e-14)


def test_curated_readers_by_simulation():
    size, chains, rng = 5, 200_000, np.random.default_rng(3)
    coupling = np.array([[0.6, 0.3], [0.2, 0.8]])
    published = [lambda p: p**2, lambda p: 1 - (1 - p) ** 2]
    law = subdivision.curated_counts_distribution(2, size, 0.4, coupling, published)
    counts = rng.binomial(size, 0.4, (chains, 2))
    for _ in range(2):
        read = np.stack([one(counts[:, j] / size) for j, one in enumerate(published)], 1)
        counts = rng.binomial(size, read @ coupling.T + (1 - coupling.sum(1)) * 0.4)
    observed = np.zeros((size + 1, size + 1))
    np.add.at(observed, (counts[:, 0], counts[:, 1]), 1 / chains)
    assert law.sum() == pytest.approx(1)
    assert np.all(np.abs(observed - law) < 5 * np.sqrt(law / chains) + 1e-5)


def test_what_is_no_subdivision_is_refused():
    with pytest.raises(ValueError, match="models must be >= 2"):
        subdivision.fixation_index(1, 10, 0.1)
