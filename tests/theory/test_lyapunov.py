"""Log scales against refit chains, the log determinant, SciPy's chi law, published drift.

The chains fit full covariances.
"""

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import gaussian, lyapunov


def conditional_scales(rng, chains, generations, size, dim, ddof):
    """[generations, chains, d] log diagonal of the Cholesky factor of refitted covariances.

    The population is N(0, I).
    """
    factor, result = np.tile(np.eye(dim), (chains, 1, 1)), []
    for _ in range(generations):
        data = rng.standard_normal((chains, size, dim)) @ factor.swapaxes(1, 2)
        data -= data.mean(1, keepdims=True)
        factor = np.linalg.cholesky(data.swapaxes(1, 2) @ data / (size - ddof))
        result.append(np.log(np.diagonal(factor, axis1=1, axis2=2)))
    return np.array(result)


@pytest.mark.parametrize("ddof", [0, 1])
def test_simulated_scales(ddof):
    """d = 3, M = 6, 4 generations of full-covariance refits, 10^4 chains.

    |z| < 4 for mean, variance, independence and the law.
    """
    chains = 10_000
    scales = conditional_scales(np.random.default_rng(71), chains, 4, 6, 3, ddof)
    generation = np.arange(4)
    mean = lyapunov.expected_log_scales(generation, 6, 3, ddof=ddof)
    std = lyapunov.log_scales_std(generation, 6, 3)
    for samples, expected in ((scales, mean), ((scales - mean[:, None]) ** 2, std**2)):
        z = (samples.mean(1) - expected) / (samples.std(1) / np.sqrt(chains))
        assert np.max(np.abs(z)) < 4
    standard = (scales[-1] - mean[-1]) / std[-1]
    correlation = (standard.T @ standard / chains)[np.triu_indices(3, 1)]
    assert np.max(np.abs(correlation)) < 4 / np.sqrt(chains)
    for direction in (1, 2, 3):
        uniform = lyapunov.log_scale_cdf(scales[-1][:, direction - 1], 3, 6, direction, ddof=ddof)
        assert stats.kstest(uniform, "uniform").pvalue > 1e-4


def test_sum_of_exponents_is_the_drift_of_the_log_determinant():
    for ddof in (0, 1):
        drift = 5 * gaussian.expected_log_variance(0, 20, ddof=ddof, dim=5)
        assert 2 * np.sum(lyapunov.lyapunov_exponents(20, 5, ddof=ddof)) == pytest.approx(
            drift, rel=1e-12
        )
    # published: -.8756 per generation
    assert 2 * np.sum(lyapunov.lyapunov_exponents(20, 5, ddof=1)) == pytest.approx(
        -0.8756, abs=6e-5
    )
    spread = np.sum(lyapunov.log_scales_std([0, 7], 20, 5) ** 2, axis=-1)
    np.testing.assert_allclose(
        2 * np.sqrt(spread) / 5, gaussian.log_variance_std([0, 7], 20, dim=5), rtol=1e-12
    )


def test_one_direction_is_the_one_dimensional_chain():
    sizes = np.array([5, 9, 7])
    probability = np.array([0.01, 0.5, 0.9])
    scale = lyapunov.log_scale_quantile(probability, [0, 2], sizes, 1, ddof=1)
    np.testing.assert_allclose(
        2 * scale,
        gaussian.log_variance_quantile(probability, [0, 2], sizes, ddof=1),
        rtol=0,
        atol=1e-9,
    )
    np.testing.assert_allclose(
        lyapunov.log_scale_cdf(scale[1], 2, sizes, 1, ddof=1), probability, rtol=0, atol=1e-9
    )


def test_first_generation_is_a_chi_law():
    value = np.log(np.array([0.2, 0.8, 1.3]))
    for direction in (1, 3, 5):
        expected = stats.chi(9 - direction).cdf(np.exp(value) * 3)
        np.testing.assert_allclose(
            lyapunov.log_scale_cdf(value, 0, 9, direction, ddof=0), expected, rtol=0, atol=1e-9
        )


def test_long_run_log_condition_number():
    """d = 2, M = 6: after 400 generations log cond / g is near the rate in 200 chains.

    They are carried by QR; |z| < 4 + start-up.
    """
    rng, chains, size, generations = np.random.default_rng(72), 200, 6, 400
    log_ratio, shear = np.zeros(chains), np.zeros(chains)
    for _ in range(generations):
        # L <- L T with L = [[a, 0], [b, c]]; kept as c/a and b/a
        first, second = (
            np.sqrt(rng.chisquare(size - 1, chains)),
            np.sqrt(rng.chisquare(size - 2, chains)),
        )
        below = rng.standard_normal(chains)
        shear = shear + np.exp(log_ratio) * below / first
        log_ratio = log_ratio + np.log(second / first)
    # for c << a the singular values are sqrt(a^2 + b^2) and a c / sqrt(a^2 + b^2)
    log_condition = 2 * (np.log1p(shear**2) - log_ratio)
    rate = log_condition / generations
    expected = lyapunov.log_condition_rate(size, 2)
    assert (
        abs(rate.mean() - expected)
        < 4 * rate.std() / np.sqrt(chains) + 2 * np.mean(np.log1p(shear**2)) / generations
    )
    exponents = lyapunov.lyapunov_exponents(size, 2, ddof=0)
    assert expected == pytest.approx(2 * (exponents[0] - exponents[1]), rel=1e-12)
    assert lyapunov.log_condition_rate(10**5, 11) == pytest.approx(10 / 10**5, rel=1e-3)


def test_corners():
    exponents = lyapunov.lyapunov_exponents(3, 4, ddof=1)
    np.testing.assert_array_equal(np.isinf(exponents), [False, False, True, True])
    assert np.all(np.diff(lyapunov.lyapunov_exponents(30, 10, ddof=0)) < 0)
    assert np.all(lyapunov.expected_log_scales([0, 2], 1, 2, ddof=0) == -np.inf)
    assert np.all(np.isnan(lyapunov.log_scales_std(0, 1, 2)))
    assert lyapunov.log_condition_rate(5, 1) == 0
    assert lyapunov.expected_log_scales(np.zeros((2, 3), int), [9, 9], 4, ddof=1).shape == (2, 3, 4)
    for call in (
        lambda: lyapunov.log_condition_rate(3, 3),
        lambda: lyapunov.log_scale_cdf(0.0, 0, 3, 3, ddof=0),
        lambda: lyapunov.log_scale_quantile(1.0, 0, 9, 1, ddof=0),
        lambda: lyapunov.lyapunov_exponents(1, 1, ddof=1),
        lambda: lyapunov.expected_log_scales(0, 9, 0, ddof=0),
    ):
        with pytest.raises(ValueError):
            call()
