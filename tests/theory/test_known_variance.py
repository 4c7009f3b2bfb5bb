"""The chain of means against plain simulation and algebra."""

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import gaussian, known_variance

MIX = {"alpha": 0.5, "beta": 0.3, "gamma": 0.2}


def simulate(rng, chains, generations, size, workflow, random_counts=True):
    """[generations, chains] means of models of variance 1.

    The population has mean 0 and variance 1 as well.
    """
    data, means = rng.standard_normal((chains, size)), []
    for _ in range(generations):
        fitted = (
            rng.permuted(data, axis=1)[:, :size] if workflow == "accumulate_subsample" else data
        )
        means.append(fitted.mean(1))
        new = means[-1][:, None] + rng.standard_normal((chains, size))
        if workflow == "mix":
            fixed = np.broadcast_to(np.repeat([0, 1, 2], [5, 3, 2]), new.shape)
            origin = rng.choice(3, size=new.shape, p=list(MIX.values())) if random_counts else fixed
            new = np.select(
                [origin == 0, origin == 1],
                [new, rng.permuted(data, axis=1)],
                rng.standard_normal(new.shape),
            )
        data = np.concatenate([data, new], axis=1) if workflow.startswith("accumulate") else new
    return np.array(means)


@pytest.mark.parametrize(
    "workflow", ["replace", "accumulate", "accumulate_subsample", "mix", "mix_fixed"]
)
def test_simulated_means(workflow):
    """M = 10, 6 generations, 2 * 10^4 chains; |z| < 4 for the squared error."""
    kwargs = {"workflow": workflow.removesuffix("_fixed")}
    squares = (
        simulate(np.random.default_rng(101), 20_000, 6, 10, kwargs["workflow"], workflow == "mix")
        ** 2
    )
    if workflow.startswith("mix"):
        kwargs |= MIX | {"random_counts": workflow == "mix"}
    expected = known_variance.expected_squared_mean_error(np.arange(6), 10, **kwargs)
    z = (squares.mean(1) - expected) / (squares.std(1) / np.sqrt(20_000))
    assert np.max(np.abs(z)) < 4


def test_published_forms():
    """Var mu_n = n sigma^2/M; accumulate tends to pi^2/6 times the first error.

    Schedules add up.
    """
    generation = np.arange(20)
    replace = known_variance.expected_squared_mean_error(generation, 50, variance=3.0)
    np.testing.assert_allclose(replace, 3.0 * (generation + 1) / 50, rtol=1e-12)
    pool = known_variance.expected_squared_mean_error([0, 10**6], 50, workflow="accumulate")
    assert pool[1] / pool[0] == pytest.approx(np.pi**2 / 6, rel=1e-5)
    schedule = known_variance.expected_squared_mean_error(2, np.array([2, 4, 8]))
    assert schedule == pytest.approx(7 / 8)


def test_first_generation_is_the_unbiased_gaussian_chain():
    for kwargs in ({}, {"workflow": "accumulate_subsample"}, {"workflow": "mix"} | MIX):
        known = known_variance.expected_squared_mean_error(0, 10, **kwargs)
        assert known == pytest.approx(gaussian.expected_squared_mean_error(0, 10, ddof=1, **kwargs))
    replace = known_variance.expected_squared_mean_error(np.arange(9), 10)
    mixed = known_variance.expected_squared_mean_error(np.arange(9), 10, workflow="mix", alpha=1.0)
    np.testing.assert_allclose(mixed, replace, rtol=1e-12)


def test_limit_with_fresh_real_data():
    for size, gamma in ((1, 0.3), (10, 0.05), (50, 1.0)):
        late = known_variance.expected_squared_mean_error(
            5000, size, workflow="mix", alpha=1 - gamma, gamma=gamma, variance=2.0
        )
        assert known_variance.fresh_real_limit(size, gamma, variance=2.0) == pytest.approx(
            late, rel=1e-9
        )
    assert known_variance.fresh_real_limit(10, 0.0) == np.inf
    assert known_variance.fresh_real_limit(10**6, 1e-3) == pytest.approx(
        1 / (2 * 10**6 * 1e-3), rel=2e-3
    )


def test_corners():
    for workflow in ("replace", "accumulate", "accumulate_subsample", "mix"):
        assert known_variance.expected_squared_mean_error(0, 1, workflow=workflow) == pytest.approx(
            1
        )
    assert known_variance.expected_squared_mean_error(np.zeros((2, 3), int), 5).shape == (2, 3)
    for call in (
        lambda: known_variance.expected_squared_mean_error(0, 0),
        lambda: known_variance.expected_squared_mean_error(1, [5, 5], workflow="accumulate"),
        lambda: known_variance.expected_squared_mean_error(0, 5, gamma=0.2),
        lambda: known_variance.fresh_real_limit(5, 1.5),
    ):
        with pytest.raises(ValueError):
            call()


def test_simulated_means_beside_real_points_that_are_all_kept():
    """4 real and 9 synthetic points, 6 generations, 2 * 10^4 chains.

    |z| < 4 for the squared error and the total variation.
    """
    rng, chains, generation = np.random.default_rng(103), 20_000, np.arange(6)
    real = 1.5 * rng.standard_normal((chains, 4))
    means = [real.mean(1)]
    for _ in range(5):
        made = means[-1][:, None] + 1.5 * rng.standard_normal((chains, 9))
        means.append(np.concatenate([real, made], axis=1).mean(1))
    error = known_variance.kept_real_squared_mean_error(generation, 4, 9, variance=2.25)
    variation = known_variance.expected_total_variation(error, variance=2.25)
    for samples, expected in (
        (np.array(means) ** 2, error),
        (2 * stats.norm.cdf(np.abs(means) / 3) - 1, variation),
    ):
        z = (samples.mean(1) - expected) / (samples.std(1) / np.sqrt(chains))
        assert np.max(np.abs(z)) < 4
    assert known_variance.kept_real_squared_mean_error(10**6, 4, 10**4) == pytest.approx(
        1.5 / 4, rel=1e-3
    )
    assert known_variance.kept_real_squared_mean_error(3, 4, 0) == 0.25
    for call in (
        lambda: known_variance.kept_real_squared_mean_error(1, 4, -1),
        lambda: known_variance.kept_real_squared_mean_error(1, 0, 1),
        lambda: known_variance.expected_total_variation(-1.0),
    ):
        with pytest.raises(ValueError):
            call()
