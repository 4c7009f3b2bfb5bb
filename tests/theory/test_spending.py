"""Errors under any spending of points against other recursions and NumPy simulations."""

import numpy as np
import pytest

from collapse_jax.theory import exponential_families, known_variance, spending, weights

SIZE, ROUNDS = 20, 7
AT = np.arange(ROUNDS + 1)
REAL, MADE = np.array([0, 3, 5, 1, 4]), np.array([6, 0, 2, 9, 1])


@pytest.mark.parametrize("v2", [-1.0, 0.0, 1.0])
def test_constant_spending_is_known(v2):
    none, all_of_it = np.zeros(ROUNDS), np.full(ROUNDS, SIZE)
    quadratic = (1.0, 0.0, v2)
    for workflow, flow in (("mix", "replace"), ("accumulate", "accumulate")):
        ours = spending.expected_squared_error(
            none, all_of_it, first=SIZE, workflow=workflow, v2=v2
        )
        known = exponential_families.expected_squared_mean_error(
            AT, SIZE, 0.0, quadratic, workflow=flow
        )
        np.testing.assert_allclose(ours, known, rtol=1e-12)
    ours = spending.expected_squared_error(none + 5, none + 15, first=SIZE, v2=v2)
    np.testing.assert_allclose(
        ours, weights.expected_squared_error(AT, 5, 15, 1.0, v2=v2), rtol=1e-12
    )


def simulated(draw, workflow, first=4, runs=20_000):
    """Squared errors [runs, generations] of means, point by point."""
    rng = np.random.default_rng(0)
    pool = draw(rng, np.zeros((runs, 1)), first)
    errors = [pool.mean(1) ** 2]
    for n, m in zip(REAL, MADE, strict=True):
        mean = pool.mean(1)[:, None]
        new = np.concatenate([draw(rng, np.zeros((runs, 1)), n), draw(rng, mean, m)], 1)
        pool = np.concatenate([pool, new], 1) if workflow == "accumulate" else new
        errors.append(pool.mean(1) ** 2)
    return np.stack(errors, 1)


def normal(rng, mean, count):
    return mean + rng.normal(size=(len(mean), count))


def signs(rng, mean, count):
    """1 or -1 with this mean: variance 1 - mean^2, v2 = -1."""
    return np.where(rng.random((len(mean), count)) < (1 + mean) / 2, 1.0, -1.0)


@pytest.mark.parametrize("workflow", spending.WORKFLOWS)
def test_points(workflow, assert_mean):
    for draw, v2 in ((normal, 0.0), (signs, -1.0)):
        exact = spending.expected_squared_error(REAL, MADE, first=4, workflow=workflow, v2=v2)
        assert_mean(simulated(draw, workflow), exact)


def test_real_points_alone_are_a_sample():
    real = np.array([5.0, 7.0])
    mixed = spending.expected_squared_error(real, [0, 0], first=3)
    np.testing.assert_allclose(mixed, [1 / 3, 1 / 5, 1 / 7])
    pooled = spending.expected_squared_error(real, [0, 0], first=3, workflow="accumulate")
    np.testing.assert_allclose(pooled, [1 / 3, 1 / 8, 1 / 15])
    with_all = known_variance.expected_squared_mean_error(0, 5)
    assert mixed[1] == pytest.approx(float(with_all))
    last = spending.last_generation_alone(3, 10, error=0.2, v2=-1.0)
    one = spending.expected_squared_error([3], [7], first=5, v2=-1.0)
    assert last == pytest.approx(one[1])


def test_many_at_once():
    several = np.stack([REAL, MADE])
    both = spending.expected_squared_error(several, several[::-1], first=4)
    one = spending.expected_squared_error(MADE, REAL, first=4)
    np.testing.assert_array_equal(both[1], one)


@pytest.mark.parametrize(
    "call",
    [
        lambda: spending.expected_squared_error([1, -1], [1, 1], first=3),
        lambda: spending.expected_squared_error([1, 0], [1, 0], first=3),
        lambda: spending.expected_squared_error([1], [1], first=3, workflow="replace"),
    ],
)
def test_bad_arguments(call):
    with pytest.raises(ValueError, match="got"):
        call()
