"""Weighted fits against recursions of other modules, brute force and NumPy simulations."""

import numpy as np
import pytest
from scipy import constants, optimize

from collapse_jax.theory import ancestry, exponential_families, gaussian, known_variance, regression
from collapse_jax.theory import weights as theory

AT = np.arange(6)
MIX = {"workflow": "mix", "alpha": 0.7, "beta": 0.0, "gamma": 0.3}


@pytest.mark.parametrize("random_counts", [True, False])
def test_weight_1_is_the_mix_of_the_other_modules(random_counts):
    ours = {
        v2: theory.mixed_squared_error(AT, 20, 0.3, 1.0, v2=v2, random_counts=random_counts)
        for v2 in (-1.0, 0.0, 1.0)
    }
    options = MIX | {"random_counts": random_counts}
    close = {"rtol": 1e-12}
    np.testing.assert_allclose(
        ours[0.0], known_variance.expected_squared_mean_error(AT, 20, **options), **close
    )
    np.testing.assert_allclose(
        ours[-1.0], gaussian.expected_squared_mean_error(AT, 20, ddof=0, **options), **close
    )
    np.testing.assert_allclose(ours[-1.0], 1 - ancestry.retention(AT, 20, **options), **close)
    exponential = exponential_families.expected_squared_mean_error(
        AT, 20, 2.0, (0.0, 0.0, 1.0), **options
    )
    np.testing.assert_allclose(ours[1.0], exponential / 4, **close)


def simulated(n, m, weight, generations, draw, runs=20_000, seed=0):
    """Squared errors [runs, generations + 1] of weighted means, point by point."""
    rng = np.random.default_rng(seed)
    mean, errors = draw(rng, np.zeros((runs, 1)), n + m).mean(1), []
    errors.append(mean**2)
    for _ in range(generations):
        real, made = draw(rng, np.zeros((runs, 1)), n), draw(rng, mean[:, None], m)
        mean = (real.sum(1) + weight * made.sum(1)) / (n + weight * m)
        errors.append(mean**2)
    return np.stack(errors, 1)


def normal(rng, mean, count):
    return mean + rng.normal(size=(len(mean), count))


def signs(rng, mean, count):
    """1 or -1 with this mean: variance 1 - mean^2, v2 = -1."""
    return np.where(rng.random((len(mean), count)) < (1 + mean) / 2, 1.0, -1.0)


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_points(weight, assert_mean):
    for draw, v2 in ((normal, 0.0), (signs, -1.0)):
        errors = simulated(4, 7, weight, 5, draw)
        assert_mean(errors, theory.expected_squared_error(AT, 4, 7, weight, v2=v2))


def test_without_weight_only_real_points_count():
    errors = theory.expected_squared_error(AT, 4, 7, 0.0, first=5)
    np.testing.assert_allclose(errors, [1 / 5] + [1 / 4] * 5)
    # Without real points the weight of the others does not count.
    with_none = theory.expected_squared_error(AT, 0, 7, 0.2, first=7)
    np.testing.assert_allclose(with_none, (AT + 1) / 7)
    assert theory.squared_error_limit(0, 7, 0.2) == np.inf


@pytest.mark.parametrize("v2", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize(("n", "m"), [(20, 30), (50, 5), (3, 60)])
def test_the_best_weight_is_that_of_a_minimiser(n, m, v2):
    found = optimize.minimize_scalar(
        lambda w: theory.squared_error_limit(n, m, w, v2=v2),
        bounds=(0, 1.2),
        method="bounded",
        options={"xatol": 1e-9},
    ).x
    assert theory.best_weight(n, m, v2=v2) == pytest.approx(found, abs=1e-6)
    late = theory.expected_squared_error(3000, n, m, found, v2=v2)
    assert theory.squared_error_limit(n, m, found, v2=v2) == pytest.approx(late, rel=1e-10)


def test_the_published_best_weight():
    ratios = np.array([0.01, 0.5, 1.0, 9.0])
    ours = [theory.best_weight(ratio) for ratio in ratios]
    np.testing.assert_allclose(ours, (np.sqrt(ratios**2 + 4 * ratios) - ratios) / 2)
    assert theory.best_weight(1.0) == pytest.approx(1 / constants.golden)
    # It is the share of the real points too.
    w = theory.best_weight(30, 60)
    assert w == pytest.approx(30 / (30 + w * 60))


def test_least_squares_step_of_weight_1_is_that_of_regression():
    for dim in (1, 2):
        kept, added = theory.least_squares_step(20, 30, dim, 1.0)
        known = regression.real_data_contraction(50, dim, 0.4, random_counts=False)
        assert kept == pytest.approx(known, rel=1e-10)
        assert added == pytest.approx(dim / (50 - dim - 1), rel=1e-10)


@pytest.mark.parametrize(
    ("n", "m", "dim", "weight"), [(6, 9, 2, 0.3), (9, 5, 2, 1.7), (4, 6, 1, 0.4)]
)
def test_least_squares_step(n, m, dim, weight, assert_mean):
    rng = np.random.default_rng(1)
    real, made = (rng.normal(size=(20_000, count, dim)) for count in (n, m))
    grams = [np.swapaxes(x, 1, 2) @ x for x in (real, made)]
    inverse = np.linalg.inv(grams[0] + weight * grams[1])
    kept = (inverse @ (weight * grams[1])) ** 2
    added = inverse @ (grams[0] + weight**2 * grams[1]) @ inverse
    expected = theory.least_squares_step(n, m, dim, weight)
    assert_mean(kept.sum((1, 2)) / dim, expected[0])
    assert_mean(np.trace(added, axis1=1, axis2=2), expected[1])


def test_least_squares_tend_to_the_mean_of_a_known_variance():
    many = theory.expected_test_error(AT, 400, 800, 2, 0.4)
    limit = 2 * theory.expected_squared_error(AT, 400, 800, 0.4)
    np.testing.assert_allclose(many, limit, rtol=0.015)
    assert np.all(many > limit)


def test_poisson_information():
    rng = np.random.default_rng(2)
    w, x = np.array([0.5, -0.3, 0.2]), rng.normal(size=(400_000, 3))
    information = (x * np.exp(x @ w)[:, None]).T @ x / len(x)
    trace = np.trace(np.linalg.inv(information))
    assert theory.poisson_squared_error(np.linalg.norm(w), 3) == pytest.approx(trace, rel=0.01)


@pytest.mark.parametrize(
    "call",
    [
        lambda: theory.expected_squared_error(1, 4, 7, -0.1),
        lambda: theory.expected_squared_error(1, 4.5, 7, 0.1),
        lambda: theory.best_weight(0, 3),
        lambda: theory.least_squares_step(20, 30, 3, 0.5),
        lambda: theory.least_squares_step(3, 30, 2, 0.0),
        lambda: theory.poisson_squared_error(-1, 2),
    ],
)
def test_bad_arguments(call):
    with pytest.raises(ValueError, match=r"got|too few"):
        call()
