"""The closed forms of one-parameter families against each other, plain simulation and algebra."""

import numpy as np
import pytest
from scipy import special, stats

from collapse_jax.theory import absorption, ancestry, categorical, known_variance, lineages
from collapse_jax.theory import exponential_families as theory

MIX = {"workflow": "mix", "alpha": 0.5, "beta": 0.3, "gamma": 0.2}
FLOWS = [
    {},
    {"workflow": "accumulate"},
    {"workflow": "accumulate_subsample"},
    MIX,
    MIX | {"random_counts": False},
]


@pytest.mark.parametrize("flow", FLOWS, ids=str)
def test_two_known_families_are_special_cases(flow):
    """The Gaussian mean by `known_variance`, and the Bernoulli's variance by shared ancestry.

    The latter was derived without moments.
    """
    generation = np.arange(9)
    error = theory.expected_squared_mean_error(
        generation, 10, 3.0, theory.QUADRATICS["gaussian_mean"], **flow
    )
    np.testing.assert_allclose(
        error, known_variance.expected_squared_mean_error(generation, 10, **flow), rtol=1e-12
    )
    variance = theory.expected_variance(generation, 10, 0.3, theory.QUADRATICS["bernoulli"], **flow)
    np.testing.assert_allclose(
        variance, 0.21 * ancestry.retention(generation, 10, **flow), rtol=1e-12
    )


def simulate(rng, flow, chains=20_000, size=10, rounds=5):
    """[rounds, chains] means of exponential models; the population has mean 1."""
    data, means = rng.exponential(size=(chains, size)), []
    for _ in range(rounds):
        fitted = (
            rng.permuted(data, axis=1)[:, :size]
            if flow.get("workflow") == "accumulate_subsample"
            else data
        )
        means.append(fitted.mean(1))
        new = means[-1][:, None] * rng.exponential(size=(chains, size))
        if flow.get("workflow") == "mix":
            origin = rng.choice(3, size=new.shape, p=[0.5, 0.3, 0.2])
            new = np.select(
                [origin == 0, origin == 1],
                [new, rng.permuted(data, axis=1)],
                rng.exponential(size=new.shape),
            )
        data = (
            np.concatenate([data, new], axis=1)
            if flow.get("workflow", "").startswith("accumulate")
            else new
        )
    return np.array(means)


@pytest.mark.parametrize("flow", FLOWS[:4], ids=str)
def test_simulated_exponential_means(flow):
    squares = (simulate(np.random.default_rng(5), flow) - 1) ** 2
    expected = theory.expected_squared_mean_error(
        np.arange(5), 10, 1.0, theory.QUADRATICS["exponential"], **flow
    )
    assert np.abs((squares.mean(1) - expected) / (squares.std(1) / 20_000**0.5)).max() < 4


def test_published_drifts():
    """exp-mle: M = 20 drifts by -.0252 (published -.02521 by simulation).

    unif-max: -1/M and M/(M + 1).
    """
    drift = np.diff(theory.exponential_expected_log_mean(np.arange(4), 20))
    np.testing.assert_allclose(drift, special.digamma(20) - np.log(20))
    assert drift[0] == pytest.approx(-0.02521, abs=1e-4)
    generation = np.arange(4)
    second = theory.exponential_second_moment(generation, 20, mean=3.0)
    np.testing.assert_allclose(second, 9 * (21 / 20) ** (generation + 1))
    error = theory.expected_squared_mean_error(
        generation, 20, 3.0, theory.QUADRATICS["exponential"]
    )
    np.testing.assert_allclose(second - 9, error)
    np.testing.assert_allclose(
        np.diff(theory.uniform_expected_log_maximum(generation, 20)), -1 / 20
    )
    np.testing.assert_allclose(
        theory.uniform_expected_power(generation, 20, maximum=2.0),
        2 * (20 / 21) ** (generation + 1),
    )
    np.testing.assert_allclose(
        theory.pareto_expected_shape(generation, 20, shape=2.0), 2 * (20 / 19) ** (generation + 1)
    )
    assert theory.pareto_expected_shape(0, 1) == np.inf


def test_laws_of_logarithms():
    x = np.array([-0.5, -0.1, 0.0, 0.3])
    np.testing.assert_allclose(
        theory.exponential_log_mean_cdf(x, 0, 7), special.gammainc(7, 7 * np.exp(x)), atol=1e-9
    )
    products = np.log(np.random.default_rng(0).gamma(7, 1 / 7, (5, 20_000))).sum(0)
    assert stats.kstest(products, lambda t: theory.exponential_log_mean_cdf(t, 4, 7)).pvalue > 1e-4
    assert products.std() == pytest.approx(theory.exponential_log_mean_std(4, 7), rel=0.03)
    np.testing.assert_allclose(
        theory.uniform_log_maximum_cdf(-(x[:2] ** 2), 0, 7), np.exp(-7 * x[:2] ** 2)
    )
    schedule = np.array([3, 7, 9])
    assert theory.exponential_expected_log_mean(2, schedule) == pytest.approx(
        np.sum(special.digamma(schedule) - np.log(schedule))
    )
    grid = np.linspace(0, 1, 11)
    np.testing.assert_allclose(
        theory.uniform_mixed_maximum_cdf(grid, 0, 7, 0.4), grid**7, atol=1e-6
    )
    np.testing.assert_allclose(
        theory.uniform_mixed_maximum_cdf(grid, 3, 7, 1.0), grid**7, atol=1e-6
    )
    only_model = theory.uniform_mixed_maximum_cdf(grid[1:], 3, 7, 0.0)
    np.testing.assert_allclose(
        only_model, theory.uniform_log_maximum_cdf(np.log(grid[1:]), 3, 7), atol=1e-3
    )


def test_poisson_extinction():
    generation = np.arange(30)
    survival = lineages.branching_survival(generation)
    np.testing.assert_allclose(
        theory.poisson_absorption_probability(generation, 10, 0.3), np.exp(-3 * survival)
    )
    law = theory.poisson_sum_distribution(5, 10, 0.3, 600)
    counts = np.arange(601)
    assert (
        law.sum() == pytest.approx(1)
        and law @ counts == pytest.approx(3)
        and law[0] == pytest.approx(np.exp(-3 * survival[5]))
    )
    error = theory.expected_squared_mean_error(5, 10, 0.3, theory.QUADRATICS["poisson"])
    assert law @ (counts / 10 - 0.3) ** 2 == pytest.approx(float(error))
    np.testing.assert_allclose(
        theory.poisson_sum_distribution(0, 10, 0.3, 60),
        stats.poisson.pmf(np.arange(61), 3),
        atol=1e-14,
    )
    # one step of a schedule by hand: P(S_1 = 0) = E exp(-S_0 M_1 / M_0)
    by_hand = np.sum(stats.poisson.pmf(counts, 3) * np.exp(-counts * 4 / 10))
    assert theory.poisson_absorption_probability(1, np.array([10, 4]), 0.3) == pytest.approx(
        by_hand
    )


def test_a_rare_bernoulli_lives_as_long_as_a_poisson():
    """The bounds of Suresh et al. 2024 hold both.

    For n p0 fixed the Bernoulli is the Poisson's branching process in the limit.
    """
    for generation in (0, 3, 9):
        kept = 1 - categorical.loss_probability(generation, 1000, 0.001)
        low, high = lineages.survival_bounds(generation, 1000, 0.001)
        limit = 1 - theory.poisson_absorption_probability(generation, 1000, 0.001)
        assert (
            low <= kept <= high
            and low == pytest.approx(limit)
            and kept == pytest.approx(limit, rel=0.01)
        )


def test_bernoulli_laws():
    law = theory.bernoulli_sum_distribution(6, 12, 0.3)
    np.testing.assert_allclose(law, categorical.count_distribution(6, 12, 0.3), atol=1e-13)
    assert law[0] + law[-1] == pytest.approx(
        float(absorption.absorption_probability(6, 12, np.array([0.3, 0.7])))
    )
    mixed = theory.bernoulli_sum_distribution(6, 12, 0.3, workflow="mix", gamma=0.2)
    shares = {"workflow": "mix", "alpha": 0.8, "gamma": 0.2}
    error = theory.expected_squared_mean_error(6, 12, 0.3, theory.QUADRATICS["bernoulli"], **shares)
    assert mixed @ (np.arange(13) / 12 - 0.3) ** 2 == pytest.approx(float(error))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError):
        theory.expected_squared_mean_error(0, 10, 1.0, (1, 0, 0), workflow="nothing")
    with pytest.raises(ValueError):
        theory.exponential_log_mean_cdf(0.0, [0, 1], 10)
    with pytest.raises(ValueError):
        theory.bernoulli_sum_distribution(0, 3000, 0.5)
    with pytest.raises(ValueError):
        theory.poisson_absorption_probability(-1, 10, 0.5)
