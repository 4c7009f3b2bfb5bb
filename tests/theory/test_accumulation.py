"""The accumulate path against simulation, SciPy integrals and product forms of the variance."""

import numpy as np
import pytest
from scipy import integrate

from collapse_jax.theory import accumulation, gaussian


def simulate(rng, chains, generations, size, ddof):
    """[generations, chains] variances of the pool of all draws so far, refitted each time."""
    data = 3.0 + 2.0 * rng.standard_normal((chains, size))
    result = []
    for _ in range(generations):
        result.append(data.var(1, ddof=ddof))
        new = data.mean(1)[:, None] + np.sqrt(result[-1])[:, None] * rng.standard_normal(
            (chains, size)
        )
        data = np.concatenate([data, new], axis=1)
    return np.array(result)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("size", [2, 6])
def test_simulated_pools(size, ddof):
    """Variance 4, 5 generations, 2 * 10^4 chains.

    |z| < 4 for log variance, its spread and the deviation.
    """
    variances = simulate(np.random.default_rng(51), 20_000, 5, size, ddof)
    generation = np.arange(5)
    mean = accumulation.expected_log_variance(generation, size, ddof=ddof, variance=4.0)
    std = accumulation.log_variance_std(generation, size, ddof=ddof)
    deviation = accumulation.expected_standard_deviation(generation, size, ddof=ddof, variance=4.0)
    logarithm = np.log(variances)
    cases = (
        (logarithm, mean),
        ((logarithm - mean[:, None]) ** 2, std**2),
        (np.sqrt(variances), deviation),
    )
    for samples, expected in cases:
        z = (samples.mean(1) - expected) / (samples.std(1) / np.sqrt(20_000))
        assert np.max(np.abs(z)) < 4


@pytest.mark.parametrize(("size", "ddof"), [(2, 1), (2, 0), (3, 1), (11, 0), (1000, 1)])
def test_against_integrals_of_the_laplace_transform(size, ddof):
    """E log X = int (e^-s - E e^-sX)/s ds for the factor of round 1, X = 1 + V/(M - ddof).

    Here V = chi^2_{M-1} + chi^2_1/2.
    """

    def integrand(s):
        transform = (
            np.exp(-s)
            * (1 + 2 * s / (size - ddof)) ** (-(size - 1) / 2)
            * (1 + s / (size - ddof)) ** -0.5
        )
        return (np.exp(-s) - transform) / s

    factor = (
        integrate.quad(integrand, 0, 1, epsabs=1e-13)[0]
        + integrate.quad(integrand, 1, np.inf, epsabs=1e-13)[0]
    )
    start, second = accumulation.expected_log_variance([0, 1], size, ddof=ddof)
    assert second - start == pytest.approx(
        factor + np.log((size - ddof) / (2 * size - ddof)), abs=2e-9
    )
    assert start == pytest.approx(gaussian.expected_log_variance(0, size, ddof=ddof), abs=1e-12)
    assert accumulation.expected_standard_deviation(0, size, ddof=ddof) == pytest.approx(
        gaussian.expected_standard_deviation(0, size, ddof=ddof), rel=1e-12
    )


def test_the_factors_have_the_mean_of_the_product_form():
    """The same quadrature must give back the exact expected variance, generation by generation."""
    generation = np.arange(40)
    for size, ddof in ((2, 1), (7, 0), (100, 1)):
        arguments = accumulation._arguments(generation, size, ddof)
        growth = accumulation._sum_over_rounds(
            *arguments, ddof, lambda logarithm, mean: np.log(mean(np.exp(logarithm)))
        )
        variance = (size - 1) * np.exp(growth) / ((generation + 1) * size - ddof)
        exact = gaussian.expected_variance(generation, size, ddof=ddof, workflow="accumulate")
        np.testing.assert_allclose(variance, exact, rtol=1e-10)


def test_the_typical_path_settles():
    """Unlike under replace the log variance tends to a finite law.

    For large samples it is near the mean's limit.
    """
    late, later = accumulation.expected_log_variance([3000, 6000], 100, ddof=0)
    assert abs(late - later) < 1e-5
    std = accumulation.log_variance_std([3000, 6000], 100, ddof=0)
    assert std[1] - std[0] < 1e-5
    # Jensen, and to second order log E S = E log S + Var/2
    limit = np.log(gaussian.accumulate_variance_limit(100, ddof=0))
    assert later < limit and later + std[1] ** 2 / 2 == pytest.approx(limit, abs=1e-3)


def test_corners():
    assert np.all(accumulation.expected_log_variance([0, 4], 1, ddof=0) == -np.inf)
    assert np.all(np.isnan(accumulation.log_variance_std([0, 4], 1, ddof=0)))
    assert np.all(accumulation.expected_standard_deviation([0, 4], 1, ddof=0) == 0)
    assert accumulation.expected_log_variance(np.zeros((2, 3), int), 5, ddof=1).shape == (2, 3)
    assert np.isfinite(accumulation.expected_log_variance(3, 10**7, ddof=0))
    for call in (
        lambda: accumulation.expected_log_variance(0, 1, ddof=1),
        lambda: accumulation.log_variance_std(0, [5, 5], ddof=0),
        lambda: accumulation.expected_standard_deviation(-1, 5, ddof=0),
    ):
        with pytest.raises(ValueError):
            call()
