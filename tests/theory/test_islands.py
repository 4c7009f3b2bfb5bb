"""Island recursions against enumerated ancestries, and against the forms of a single model."""

import numpy as np
import pytest

from collapse_jax.theory import ancestry, islands, regression

G = np.arange(8)
UNEVEN = [[0.5, 0.3, 0.0], [0.1, 0.6, 0.2], [0.9, 0.0, 0.1]]


@pytest.mark.parametrize("random_counts", [True, False])
@pytest.mark.parametrize("share", [1.0, 0.7, 0.33, 0.0])
def test_one_model_is_a_mix(share, random_counts):
    mixed = {"workflow": "mix", "alpha": share, "gamma": 1 - share, "random_counts": random_counts}
    one = islands.retention(G, 17, [[share]], random_counts=random_counts)
    np.testing.assert_allclose(one[:, 0], ancestry.retention(G, 17, **mixed), rtol=1e-13)
    pooled = islands.pooled_retention(G, 17, [[share]], random_counts=random_counts)
    np.testing.assert_allclose(pooled, one[:, 0], rtol=1e-14)


def test_models_alone_do_not_meet():
    same = islands.identity_by_descent(G, 20, np.eye(3))
    assert np.all(same[:, ~np.eye(3, dtype=bool)] == 0)
    np.testing.assert_allclose(1 - same[:, 0, 0], (1 - 1 / 20) ** (G + 1), rtol=1e-13)


def test_a_pool_that_all_read_is_one_model_with_all_points():
    """K models of M points that read each other alike lose what one of K M points does."""
    pooled = islands.pooled_retention(G, 10, np.full((4, 4), 0.25))
    np.testing.assert_allclose(pooled, ancestry.retention(G, 40), rtol=1e-13)


def ancestries(coupling, size, generations, chains, seed, counts=None):
    """[chains, generation, K, M] the real draw that each training point descends from."""
    rng, models = np.random.default_rng(seed), len(coupling)
    now = np.arange(models * size).reshape(1, models, size).repeat(chains, 0)
    fresh, out = models * size, [now]
    for _ in range(generations):
        later = np.empty_like(now)
        for k, row in enumerate(coupling):
            shares = [*row, 1 - sum(row)]
            if counts is None:
                origin = rng.choice(models + 1, (chains, size), p=shares)
            else:
                of_one = np.repeat(np.arange(models + 1), [*counts[k], size - counts[k].sum()])
                origin = np.broadcast_to(of_one, (chains, size))
            place = rng.integers(size, size=(chains, size))
            read = now[np.arange(chains)[:, None], np.minimum(origin, models - 1), place]
            real = fresh + k * size + np.arange(size)
            later[:, k] = np.where(origin == models, real, read)
        now, fresh = later, fresh + models * size
        out.append(now)
    return np.stack(out, 1)


@pytest.mark.parametrize("random_counts", [True, False])
def test_identity_by_descent_of_simulated_ancestors(random_counts):
    chains, size, last = 20_000, 5, 3
    counts = None if random_counts else islands.rounded_counts(UNEVEN, size)
    found = ancestries(UNEVEN, size, last, chains, 3, counts)[:, last]
    exact = islands.identity_by_descent(last, size, UNEVEN, random_counts=random_counts)
    for i in range(3):
        for j in range(3):
            same = (found[:, i, :, None] == found[:, j, None, :]).mean((1, 2))
            error = same.std() / chains**0.5
            assert abs(same.mean() - exact[i, j]) < 4 * error, (i, j)


def test_rounded_counts_by_hand():
    counts = islands.rounded_counts([[0.5, 0.3, 0.0], [0.25, 0.5, 0.25], [0, 0, 0]], 10)
    assert counts.tolist() == [[5, 3, 0], [2, 5, 3], [0, 0, 0]]
    with pytest.raises(ValueError, match="rows that sum to at most 1"):
        islands.rounded_counts([[0.7, 0.7], [0, 0]], 10)


def test_one_linear_model_is_that_of_the_regression_file():
    for share in (1.0, 0.8, 0.3):
        ours = islands.linear_model_errors(G, 30, 3, [[share]], noise=0.5)[:, 0, 0]
        known = regression.expected_test_error(
            G, 30, 3, noise=0.5, workflow="mix" if share < 1 else "replace", gamma=1 - share
        )
        np.testing.assert_allclose(ours, known, rtol=1e-12)
    assert np.isinf(islands.linear_model_errors(G, 4, 3, [[1.0]])).all()


def test_linear_models_by_least_squares():
    """Three models that label each other's rows, with NumPy's least squares."""
    chains, size, dim, rng = 3_000, 12, 2, np.random.default_rng(5)
    weights = np.zeros((chains, 4, dim))  # the fourth is the real one

    def fit(shares):
        x = rng.normal(size=(chains, size, dim))
        maker = rng.choice(4, (chains, size), p=shares)
        label = np.einsum("cnd,cnd->cn", x, weights[np.arange(chains)[:, None], maker])
        label += rng.normal(size=label.shape)
        return np.linalg.solve(x.mT @ x, x.mT @ label[..., None])[..., 0]

    first = [fit([0, 0, 0, 1]) for _ in range(3)]
    weights[:, :3] = np.stack(first, 1)
    for _ in range(3):
        later = [fit([*row, 1 - sum(row)]) for row in UNEVEN]
        weights[:, :3] = np.stack(later, 1)
    products = np.einsum("cid,cjd->cij", weights[:, :3], weights[:, :3])
    exact = islands.linear_model_errors(3, size, dim, UNEVEN)
    z = (products.mean(0) - exact) / (products.std(0) / chains**0.5)
    assert np.abs(z).max() < 4, z


@pytest.mark.parametrize("random_counts", [True, False])
def test_means_of_known_variance(random_counts):
    """Normal points of unit variance around means, with NumPy."""
    chains, size, rng = 20_000, 6, np.random.default_rng(6)
    counts = islands.rounded_counts(UNEVEN, size)
    means = np.concatenate([rng.normal(size=(chains, 3)) / size**0.5, np.zeros((chains, 1))], 1)
    for _ in range(3):
        later = []
        for k, row in enumerate(UNEVEN):
            if random_counts:
                from_each = rng.multinomial(size, [*row, 1 - sum(row)], chains)
            else:
                from_each = np.array([*counts[k], size - counts[k].sum()])
            later.append((from_each * means).sum(1) / size + rng.normal(size=chains) / size**0.5)
        means[:, :3] = np.stack(later, 1)
    products = means[:, :3, None] * means[:, None, :3]
    exact = islands.known_variance_covariance(3, size, UNEVEN, random_counts=random_counts)
    z = (products.mean(0) - exact) / (products.std(0) / chains**0.5)
    assert np.abs(z).max() < 4, z


@pytest.mark.parametrize("models", [1, 4])
def test_growth_of_linear_models_that_read_all_alike(models):
    errors = islands.linear_model_errors(
        np.array([200, 201]), 20, 3, np.full((models, models), 1 / models), noise=2.0
    )
    grown = errors[1, 0, 0] - errors[0, 0, 0]
    assert islands.linear_model_growth(20, 3, models, noise=2.0) == pytest.approx(grown)


def test_growth_needs_more_rows_than_features():
    with pytest.raises(ValueError, match=r"above dim \+ 1 = 4, got 4"):
        islands.linear_model_growth(4, 3, 2)
