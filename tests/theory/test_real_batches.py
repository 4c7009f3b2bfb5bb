"""Real data in accumulation: against plain NumPy, the published numbers, and what is known."""

import numpy as np
import pytest

from collapse_jax.theory import ancestry, exponential_families, gaussian, real_batches

KNOWN, BERNOULLI = (1.0, 0.0, 0.0), (0.0, 1.0, -1.0)


def test_numbers_of_the_issue():
    """m = 20, 50 batches, fixed shares, by the recursion for v written down by hand."""
    for quadratic, mean, want in (
        (KNOWN, 0.0, (0.0441, 0.0137, 0.00491, 0.00161)),
        (BERNOULLI, 0.5, (0.0431, 0.0135, 0.00487, 0.00160)),
    ):
        for share, published in zip((0.1, 0.3, 0.5, 0.8), want, strict=True):
            v = 1 / 20
            for n in range(1, 50):
                s = 1.0 if quadratic is KNOWN else share + (1 - share) * (1 - v)
                v = ((n + 1 - share) / (n + 1)) ** 2 * v + s / (20 * (n + 1) ** 2)
            spread = quadratic[0] + quadratic[1] * mean + quadratic[2] * mean**2
            error = real_batches.expected_squared_mean_error(
                49, 20, mean, quadratic, real_share=share, random_counts=False
            )
            assert error / spread == pytest.approx(v, rel=1e-12)
            assert v == pytest.approx(published, rel=0.012)


@pytest.mark.parametrize("workflow", real_batches.WORKFLOWS)
def test_without_real_data_they_are_what_is_known(workflow):
    at = np.arange(12)
    found = real_batches.expected_squared_mean_error(
        at, 7, 0.3, BERNOULLI, real_share=0.0, workflow=workflow
    )
    want = exponential_families.expected_squared_mean_error(
        at, 7, 0.3, BERNOULLI, workflow=workflow
    )
    np.testing.assert_allclose(found, want, rtol=1e-12)
    kept = real_batches.retention(at, 7, real_share=0.0, workflow=workflow)
    np.testing.assert_allclose(kept, ancestry.retention(at, 7, workflow=workflow), rtol=1e-12)
    for ddof in (0, 1):
        variance, error = real_batches.gaussian_moments(
            at, 7, ddof=ddof, real_share=0.0, workflow=workflow, variance=2.5
        )
        case = {"ddof": ddof, "workflow": workflow, "variance": 2.5}
        np.testing.assert_allclose(variance, gaussian.expected_variance(at, 7, **case), rtol=1e-12)
        np.testing.assert_allclose(
            error, gaussian.expected_squared_mean_error(at, 7, **case), rtol=1e-12
        )


def test_real_data_alone_is_a_growing_sample():
    """Share 1: 1/(n m), and an unbiased variance."""
    at = np.arange(10)
    variance, error = real_batches.gaussian_moments(at, 5, ddof=1, real_share=1.0)
    np.testing.assert_allclose(error, 1 / (5 * (at + 1)), rtol=1e-12)
    np.testing.assert_allclose(variance, 1, rtol=1e-12)
    assert real_batches.limit(1.0) == 1


def simulated(workflow, random_counts, ddof, chains=20_000, size=6, last=4, share=0.4):
    """Variances and means [generations, chains] of Gaussians, in NumPy alone."""
    rng = np.random.default_rng(5)
    pool = rng.standard_normal((chains, size))
    variances, means = [], []
    for _ in range(last + 1):
        fitted = pool if workflow == "accumulate" else rng.permuted(pool, axis=1)[:, :size]
        mean, variance = fitted.mean(1), fitted.var(1, ddof=ddof)
        means.append(mean)
        variances.append(variance)
        made = mean[:, None] + np.sqrt(variance)[:, None] * rng.standard_normal((chains, size))
        fixed = np.arange(size) < np.round(share * size)
        real = rng.random((chains, size)) < share if random_counts else fixed
        pool = np.hstack([pool, np.where(real, rng.standard_normal((chains, size)), made)])
    return np.array(variances), np.array(means)


@pytest.mark.parametrize("workflow", real_batches.WORKFLOWS)
@pytest.mark.parametrize(("random_counts", "ddof"), [(True, 0), (False, 1)])
def test_gaussians_in_numpy(workflow, random_counts, ddof, assert_mean):
    variances, means = simulated(workflow, random_counts, ddof)
    case = {"ddof": ddof, "workflow": workflow, "random_counts": random_counts}
    variance, error = real_batches.gaussian_moments(np.arange(5), 6, real_share=0.4, **case)
    assert_mean(variances.T, variance)
    assert_mean((means**2).T, error)


def test_a_schedule_of_shares_and_sizes_in_numpy(assert_mean):
    """Bernoulli: other sizes and shares in each generation, random counts."""
    rng, sizes, shares = np.random.default_rng(8), (4, 9, 3, 6), (0.0, 0.1, 0.9, 0.5)
    ones, points, errors = rng.binomial(sizes[0], 0.3, 50_000), sizes[0], []
    for g in range(4):
        p = ones / points
        errors.append((p - 0.3) ** 2)
        if g < 3:
            real = rng.binomial(sizes[g + 1], shares[g + 1], len(ones))
            ones = ones + rng.binomial(real, 0.3) + rng.binomial(sizes[g + 1] - real, p)
            points += sizes[g + 1]
    exact = real_batches.expected_squared_mean_error(
        np.arange(4), sizes, 0.3, BERNOULLI, real_share=shares
    )
    assert_mean(np.array(errors).T, exact)


def test_slope_and_limit():
    """What differs from the power and from the limit falls as n^-|1 - 2a|."""
    at = np.array([10_000 - 1, 20_000 - 1])
    for share in (0.1, 0.9):
        v = real_batches.expected_squared_mean_error(at, 20, 0.0, KNOWN, real_share=share)
        assert np.log2(v[0] / v[1]) == pytest.approx(real_batches.rate(share), abs=1e-3)
    assert v[1] * 20_000 * 20 == pytest.approx(real_batches.limit(0.9), rel=1e-3)
    assert real_batches.limit(0.5) == np.inf


@pytest.mark.parametrize(
    "call",
    [
        lambda: real_batches.retention(3, 5, real_share=1.2),
        lambda: real_batches.retention(3, 5, real_share=[0.1, 0.2]),
        lambda: real_batches.retention(3, 5, real_share=0.1, workflow="replace"),
        lambda: real_batches.retention(1, [5, 6], real_share=0.1, workflow="accumulate_subsample"),
    ],
)
def test_bad_input(call):
    with pytest.raises(ValueError):
        call()
