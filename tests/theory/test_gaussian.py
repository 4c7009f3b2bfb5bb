"""Gaussian closed forms against refit chains, SciPy laws, identities and published numbers."""

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import ancestry, gaussian

CHAINS = 30_000
MIX = {"alpha": 0.5, "beta": 0.3, "gamma": 0.2}


def z_scores(samples, expected):
    """[generations] z of the mean over chains (axis 1) of samples [generations, chains]."""
    return (samples.mean(1) - expected) / (samples.std(1, ddof=1) / np.sqrt(samples.shape[1]))


def simulate(
    rng,
    generations,
    sizes,
    ddof,
    workflow="replace",
    shares=None,
    random_counts=True,
    chains=CHAINS,
):
    """Means and variances [generations, chains] of Gaussians refitted to their own draws.

    The population is N(0, 1).
    """
    sizes = np.broadcast_to(sizes, (generations,))
    data = rng.standard_normal((chains, sizes[0]))
    means, variances = [], []
    for g in range(generations):
        fitted = (
            rng.permuted(data, axis=1)[:, : sizes[0]]
            if workflow == "accumulate_subsample"
            else data
        )
        means.append(fitted.mean(1))
        variances.append(fitted.var(1, ddof=ddof))
        if g + 1 == generations:
            break
        new = means[-1][:, None] + np.sqrt(variances[-1])[:, None] * rng.standard_normal(
            (chains, sizes[g + 1])
        )
        if workflow == "mix":
            weights = [shares[name] for name in ("alpha", "beta", "gamma")]
            if random_counts:
                origin = rng.choice(3, size=new.shape, p=weights)
            else:
                origin = np.broadcast_to(
                    np.repeat([0, 1, 2], np.round(np.array(weights) * sizes[0]).astype(int)),
                    new.shape,
                )
            new = np.select(
                [origin == 0, origin == 1],
                [new, rng.permuted(data, axis=1)],
                rng.standard_normal(new.shape),
            )
        data = np.concatenate([data, new], axis=1) if workflow.startswith("accumulate") else new
    return np.array(means), np.array(variances)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize(
    "workflow", ["replace", "accumulate", "accumulate_subsample", "mix", "mix_fixed"]
)
def test_simulated_moments(workflow, ddof):
    """M = 10, generations 0..5 (so g <= M/2 and no rare run rules the mean).

    |z| < 4 for both moments at each generation.
    """
    kwargs = {"workflow": workflow.removesuffix("_fixed")}
    if workflow.startswith("mix"):
        kwargs |= MIX | {"random_counts": workflow == "mix"}
    shares = MIX if workflow.startswith("mix") else None
    means, variances = simulate(
        np.random.default_rng(21), 6, 10, ddof, kwargs["workflow"], shares, workflow != "mix_fixed"
    )
    generation = np.arange(6)
    assert (
        np.max(
            np.abs(
                z_scores(variances, gaussian.expected_variance(generation, 10, ddof=ddof, **kwargs))
            )
        )
        < 4
    )
    assert (
        np.max(
            np.abs(
                z_scores(
                    means**2,
                    gaussian.expected_squared_mean_error(generation, 10, ddof=ddof, **kwargs),
                )
            )
        )
        < 4
    )


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("sizes", [12, np.array([5, 30, 9, 14, 21])])
def test_simulated_replace_chain(sizes, ddof):
    """Fixed size and schedule; deviation, log variance and both moments; |z| < 4."""
    means, variances = simulate(np.random.default_rng(22), 5, sizes, ddof)
    generation = np.arange(5)
    pairs = [
        (np.sqrt(variances), gaussian.expected_standard_deviation),
        (np.log(variances), gaussian.expected_log_variance),
        (variances, gaussian.expected_variance),
        (means**2, gaussian.expected_squared_mean_error),
    ]
    for samples, form in pairs:
        assert np.max(np.abs(z_scores(samples, form(generation, sizes, ddof=ddof)))) < 4, (
            form.__name__
        )
    spread = gaussian.log_variance_std(generation, sizes)
    squares = (
        np.log(variances) - gaussian.expected_log_variance(generation, sizes, ddof=ddof)[:, None]
    ) ** 2
    assert np.max(np.abs(z_scores(squares, spread**2))) < 4


@pytest.mark.parametrize("ddof", [0, 1])
def test_simulated_log_determinant(ddof):
    """d = 3, M = 9, 4 generations of full-covariance refits, 3000 chains.

    |z| < 4 for mean and variance of log det / 3.
    """
    rng, chains = np.random.default_rng(23), 3000
    root = np.tile(np.eye(3), (chains, 1, 1))
    logs = []
    for _ in range(4):
        data = rng.standard_normal((chains, 9, 3)) @ root.swapaxes(1, 2)
        data -= data.mean(1, keepdims=True)
        covariance = data.swapaxes(1, 2) @ data / (9 - ddof)
        root = np.linalg.cholesky(covariance)
        logs.append(np.linalg.slogdet(covariance)[1] / 3)
    expected = gaussian.expected_log_variance(np.arange(4), 9, ddof=ddof, dim=3)
    assert np.max(np.abs(z_scores(np.array(logs), expected))) < 4
    squares = (np.array(logs) - expected[:, None]) ** 2
    assert (
        np.max(np.abs(z_scores(squares, gaussian.log_variance_std(np.arange(4), 9, dim=3) ** 2)))
        < 4
    )


def test_published_numbers():
    assert gaussian.expected_variance(99, 100, ddof=0) == pytest.approx(0.366, abs=6e-4)
    assert gaussian.expected_variance(99, 100, ddof=0, workflow="accumulate") == pytest.approx(
        0.984, abs=6e-4
    )
    assert gaussian.expected_variance(99, 10, ddof=0) == pytest.approx(2.66e-5, rel=2e-3)
    assert gaussian.expected_variance(4, 5, ddof=1, workflow="accumulate") == pytest.approx(
        0.9022, abs=0.004
    )
    errors = [
        gaussian.expected_squared_mean_error(999, size, ddof=0) for size in (100, 500, 1000, 10_000)
    ]
    np.testing.assert_allclose(errors, [1.000, 0.865, 0.632, 0.095], rtol=0, atol=6e-4)
    assert 5 * gaussian.expected_log_variance(0, 20, ddof=1, dim=5) == pytest.approx(
        -0.8756, abs=6e-5
    )
    # the notebook's one-step means of 1000 deviations; |z| < 4
    for size, seen in ((10, 0.9206), (30, 0.9831), (100, 0.9916), (500, 0.9978)):
        assert abs(seen - gaussian.expected_standard_deviation(0, size, ddof=0)) < 4 / np.sqrt(
            2 * size * 1000
        )


def test_published_subsample_numbers_count_the_first_fit_as_one():
    """Published t is generation t - 1: .779 (exact) at M = 10, t = 5; .743 at t = 60.

    The plateaus follow.
    """
    for t, published in ((5, 0.779), (60, 0.743)):
        value = gaussian.expected_variance(t - 1, 10, ddof=0, workflow="accumulate_subsample")
        assert value == pytest.approx(published, abs=6e-4)
        assert gaussian.expected_variance(
            t, 10, ddof=0, workflow="accumulate_subsample"
        ) != pytest.approx(value, rel=1e-5)
    for size, limit in ((5, 0.5347), (10, 0.7390), (100, 0.9710)):
        assert gaussian.expected_variance(
            20_000, size, ddof=0, workflow="accumulate_subsample"
        ) == pytest.approx(limit, abs=6e-5)


def test_median_deviation_of_the_notebook_runs():
    """Published medians and 16-84% of sigma after 1000 generations with ddof=0.

    By Monte Carlo; medians within 3%.
    """
    published = {
        100: (4.3e-6, 4.1e-5, 4.0e-4),
        500: (0.050, 0.135, 0.367),
        1000: (0.181, 0.368, 0.746),
        10_000: (0.724, 0.905, 1.13),
    }
    for size, values in published.items():
        sigma = np.exp(
            gaussian.log_variance_quantile(np.array([0.16, 0.5, 0.84]), 999, size, ddof=0) / 2
        )
        np.testing.assert_allclose(sigma, values, rtol=0.03)


@pytest.mark.parametrize("degrees", [1, 2, 3, 10, 59, 60, 1000, 10**5])
def test_quantiles_against_scipy_laws(degrees):
    """One generation is a chi^2; two are (chi^2_{2k})^2 / 4 by the duplication formula.

    The two have sizes k + 1, k + 2.
    """
    probability = np.array([1e-8, 1e-4, 0.1, 0.5, 0.9, 1 - 1e-6])
    one = gaussian.log_variance_quantile(probability, 0, degrees + 1, ddof=1)
    np.testing.assert_allclose(
        stats.chi2.cdf(degrees * np.exp(one), degrees), probability, rtol=0, atol=1e-10
    )
    sizes = np.array([degrees + 1, degrees + 2])
    two = gaussian.log_variance_quantile(probability, 1, sizes, ddof=0)
    double = 2 * np.exp((two + np.sum(np.log(sizes))) / 2)
    np.testing.assert_allclose(stats.chi2.cdf(double, 2 * degrees), probability, rtol=0, atol=1e-10)
    np.testing.assert_allclose(
        gaussian.log_variance_cdf(two, 1, sizes, ddof=0), probability, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("degrees", [1, 3, 58])
def test_long_paths_obey_the_duplication_formula(degrees):
    """500 pairs of chi^2_k chi^2_{k+1} have the law of 500 factors (chi^2_{2k})^2 / 4.

    At k = 58 the two sides take other code.
    """
    probability = np.array([1e-6, 0.02, 0.5, 0.97])
    sizes = np.tile([degrees + 1, degrees + 2], 500)
    pairs = gaussian.log_variance_quantile(probability, 999, sizes, ddof=0) + np.sum(np.log(sizes))
    doubled = (pairs + 500 * np.log(4)) / 2 - 500 * np.log(2 * degrees)
    np.testing.assert_allclose(
        gaussian.log_variance_cdf(doubled, 499, 2 * degrees + 1, ddof=1),
        probability,
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize("size", [2, 4, 40])
def test_quantiles_against_simulated_paths(size):
    """30 generations, 10^5 products of chi^2: the share below each exact quantile, |z| < 4."""
    factors = np.random.default_rng(24).chisquare(size - 1, (30, 100_000)) / size
    paths = np.log(factors).sum(0) + np.log(4.0)
    probability = np.array([0.001, 0.05, 0.5, 0.95, 0.999])
    quantile = gaussian.log_variance_quantile(probability, 29, size, ddof=0, variance=4.0)
    below = np.mean(paths[:, None] < quantile, axis=0)
    assert (
        np.max(np.abs(below - probability) / np.sqrt(probability * (1 - probability) / 100_000)) < 4
    )


def test_quantiles_for_huge_samples_tend_to_the_normal_law():
    """Large sizes are where differences of log Gamma lose their digits."""
    probability = np.array([1e-6, 0.2, 0.5, 0.9])
    value = gaussian.log_variance_quantile(probability, 999, 10**9, ddof=1)
    standard = (
        value - gaussian.expected_log_variance(999, 10**9, ddof=1)
    ) / gaussian.log_variance_std(999, 10**9)
    np.testing.assert_allclose(standard, stats.norm.ppf(probability), rtol=0, atol=1e-4)


def test_workflows_agree_where_they_must():
    """Two derivations: moments against ancestry (ddof=0), special cases of the mix for both."""
    generation = np.arange(80)
    for kwargs in (
        {"workflow": "accumulate"},
        {"workflow": "accumulate_subsample"},
        {"workflow": "mix"} | MIX,
    ):
        spread = gaussian.expected_variance(generation, 7, ddof=0, **kwargs)
        offset = gaussian.expected_squared_mean_error(generation, 7, ddof=0, **kwargs)
        np.testing.assert_allclose(spread, ancestry.retention(generation, 7, **kwargs), rtol=1e-10)
        np.testing.assert_allclose(spread + offset, 1, rtol=1e-12)
    for form in (gaussian.expected_variance, gaussian.expected_squared_mean_error):
        for ddof in (0, 1):
            mixed = form(generation, 7, ddof=ddof, workflow="mix", variance=3.0)
            np.testing.assert_allclose(
                form(generation, 7, ddof=ddof, variance=3.0), mixed, rtol=1e-10
            )
            fresh = form(generation, 7, ddof=ddof, workflow="mix", alpha=0.0, gamma=1.0)
            np.testing.assert_allclose(fresh, form(0, 7, ddof=ddof), rtol=1e-12)


def test_limits():
    for size, limit in ((100, 0.98363), (10, 0.84344)):
        assert gaussian.accumulate_variance_limit(size, ddof=0) == pytest.approx(limit, abs=6e-6)
    for size in (2, 5, 100):
        for ddof in (0, 1):
            late = gaussian.expected_variance(
                10**6, size, ddof=ddof, workflow="accumulate", variance=2.0
            )
            assert gaussian.accumulate_variance_limit(
                size, ddof=ddof, variance=2.0
            ) == pytest.approx(late, rel=3e-6)
    for size, gamma, published in ((50, 0.02, 0.660), (50, 0.1, 0.903), (20, 0.05, 0.649)):
        assert gaussian.fresh_real_limit(size, gamma, ddof=0)[0] == pytest.approx(
            published, abs=6e-4
        )
    assert gaussian.fresh_real_limit(50, 0.1, ddof=1)[0] == pytest.approx(1.105, abs=6e-4)
    for ddof in (0, 1):
        kwargs = {"ddof": ddof, "workflow": "mix", "alpha": 0.9, "gamma": 0.1}
        late = (
            gaussian.expected_variance(3000, 50, **kwargs),
            gaussian.expected_squared_mean_error(3000, 50, **kwargs),
        )
        np.testing.assert_allclose(gaussian.fresh_real_limit(50, 0.1, ddof=ddof), late, rtol=1e-9)


def test_subsample_limit_and_its_growth_for_the_unbiased_variance():
    """Published plateaus .5347, .7390, .9710; about 1 - (pi^2/2 - 2)/M for large M.

    For ddof=1 growth like generation^(1/M).
    """
    for size, published in ((5, 0.5347), (10, 0.7390), (100, 0.9710)):
        assert gaussian.accumulate_subsample_variance_limit(size, ddof=0) == pytest.approx(
            published, abs=6e-5
        )
    for size in (2, 5, 100):
        late = gaussian.expected_variance(
            10**5, size, ddof=0, workflow="accumulate_subsample", variance=2.0
        )
        assert gaussian.accumulate_subsample_variance_limit(
            size, ddof=0, variance=2.0
        ) == pytest.approx(late, rel=1e-4)
    large = 1 - gaussian.accumulate_subsample_variance_limit(10**5, ddof=0)
    assert large == pytest.approx((np.pi**2 / 2 - 2) / 10**5, rel=1e-3)
    assert gaussian.accumulate_subsample_variance_limit(1, ddof=0) == 0
    assert gaussian.accumulate_subsample_variance_limit(10, ddof=1) == np.inf
    early, late = gaussian.expected_variance(
        [10**4, 10**5], 4, ddof=1, workflow="accumulate_subsample"
    )
    assert late / early == pytest.approx(10 ** (1 / 4), rel=1e-3)


def test_too_little_real_data_has_no_second_moment():
    """ddof=1: the border is M gamma (2 - gamma) = 1 - gamma."""
    size, gamma = 50, 0.005
    assert gaussian.fresh_real_limit(size, gamma, ddof=1) == (np.inf, np.inf)
    kwargs = {"ddof": 1, "workflow": "mix", "alpha": 1 - gamma, "gamma": gamma}
    assert gaussian.expected_variance(20_000, size, **kwargs) > 10 * gaussian.expected_variance(
        2000, size, **kwargs
    )
    assert np.all(np.isfinite(gaussian.fresh_real_limit(size, 0.02, ddof=1)))
    assert gaussian.fresh_real_limit(size, 0.0, ddof=1) == (1.0, np.inf)
    for sizes in (2, 50, 10**6):
        border = gaussian.second_moment_boundary(sizes)
        assert sizes * border * (2 - border) == pytest.approx(1 - border, rel=1e-9)
        assert np.isinf(gaussian.fresh_real_limit(sizes, border * 0.999, ddof=1)[0])
        assert np.isfinite(gaussian.fresh_real_limit(sizes, border * 1.001, ddof=1)[0])
    # published: g below about 1/(2M)
    assert gaussian.second_moment_boundary(np.array([1000, 10**4])) == pytest.approx(
        [1 / 2000, 1 / 20_000], rel=1e-3
    )
    np.testing.assert_allclose(
        gaussian.fresh_real_limit(size, 0.0, ddof=0), (0, 1), rtol=0, atol=1e-15
    )


def test_singular_and_single_draw_cases():
    assert gaussian.expected_log_variance(0, 5, ddof=1, dim=5) == -np.inf
    assert np.isfinite(gaussian.expected_log_variance(0, 6, ddof=1, dim=5))
    np.testing.assert_array_equal(
        np.isinf(gaussian.expected_log_variance([0, 1, 2], [9, 5, 9], ddof=0, dim=5)),
        [False, True, True],
    )
    assert np.isnan(gaussian.log_variance_std(0, 5, dim=5))
    assert gaussian.expected_log_variance(3, 1, ddof=0) == -np.inf
    for workflow in ("replace", "accumulate", "accumulate_subsample", "mix"):
        np.testing.assert_allclose(
            gaussian.expected_variance(np.arange(3), 1, ddof=0, workflow=workflow),
            0,
            rtol=0,
            atol=1e-300,
        )
        np.testing.assert_allclose(
            gaussian.expected_squared_mean_error(np.arange(3), 1, ddof=0, workflow=workflow),
            1,
            rtol=1e-12,
        )
    assert gaussian.expected_standard_deviation(0, 1, ddof=0) == 0
    assert gaussian.log_variance_quantile(np.full((2, 1), 0.5), np.arange(3), 4, ddof=1).shape == (
        3,
        2,
        1,
    )
    assert gaussian.expected_variance(np.zeros((2, 2), int), 4, ddof=1).shape == (2, 2)


def test_bad_arguments_are_refused():
    for call in (
        lambda: gaussian.expected_variance(0, 1, ddof=1),
        lambda: gaussian.expected_variance(0, 5, ddof=2),
        lambda: gaussian.expected_variance(2, [5, 5], ddof=0),
        lambda: gaussian.expected_variance(1, [5, 5], ddof=0, workflow="mix"),
        lambda: gaussian.expected_variance(1, 5, ddof=0, gamma=0.1),
        lambda: gaussian.expected_log_variance(0, 5, ddof=1, dim=0),
        lambda: gaussian.log_variance_quantile(1.0, 0, 5, ddof=1),
        lambda: gaussian.log_variance_cdf(0.0, 0, 1, ddof=0),
        lambda: gaussian.fresh_real_limit(5, 1.2, ddof=0),
        lambda: gaussian.accumulate_variance_limit(1, ddof=1),
        lambda: gaussian.accumulate_subsample_variance_limit(1, ddof=1),
        lambda: gaussian.second_moment_boundary(1),
    ):
        with pytest.raises(ValueError):
            call()
