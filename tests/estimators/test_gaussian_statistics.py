"""The laws of the Gaussian's statistics, drawn by law and by points: |z| < 4, p > 1e-4."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from collapse_jax.errors import InputError
from collapse_jax.estimators.gaussian import gaussian, gaussian_params, merge, summarise

pytestmark = pytest.mark.usefixtures("quick_compile")
MEAN4 = np.array([1.0, -2.0, 0.5, 3.0])
ROOT4 = np.array([[2.0, 0, 0, 0], [0.5, 1, 0, 0], [-0.3, 0.2, 0.5, 0], [1, 0, 0.4, 1.5]])
COVARIANCE4 = ROOT4 @ ROOT4.T
COVARIANCE14 = np.diag(np.linspace(0.5, 2, 14)) + 0.3
PARAMS = {
    1: gaussian_params(3.0, 4.0),
    4: gaussian_params(MEAN4, COVARIANCE4),
    14: gaussian_params(np.zeros(14), COVARIANCE14),
    64: gaussian_params(np.zeros(64), np.diag(np.linspace(0.5, 2, 64))),
}


@functools.cache
def program(dim, n, by):
    """Evidence of many keys; n is traced where it is None here."""
    draw = gaussian(dim, by=by).draw
    if n is None:
        return jax.jit(lambda keys, n: jax.vmap(lambda key: draw(key, PARAMS[dim], n))(keys))
    return jax.jit(jax.vmap(lambda key: draw(key, PARAMS[dim], n)))


@functools.cache
def drawn(dim, n, chains, by="law", traced=False):
    keys = jax.random.split(jax.random.key(2), chains)
    return jax.tree.map(
        np.asarray, program(dim, None, by)(keys, n) if traced else program(dim, n, by)(keys)
    )


@pytest.fixture
def moments(unpacked):
    """(mean [chains, d], scatter [chains, d, d], log det of the scatter) of drawn statistics."""

    def of(dim, n, chains, **how):
        statistics = drawn(dim, n, chains, **how)
        assert (np.asarray(statistics.count) == n).all()
        divisor = np.asarray(statistics.divisor)
        assert (divisor == max(n - 1, 1)).all(), "the divisor of the fit of the family that draws"
        mean, covariance, log_scale, _ = unpacked(statistics, dim)
        return (
            mean,
            divisor[:, None, None] * covariance,
            2 * log_scale.sum(-1) + dim * np.log(divisor),
        )

    return of


@pytest.mark.parametrize(
    "how", [{}, {"traced": True}, {"by": "points"}], ids=["known", "traced", "points"]
)
@pytest.mark.parametrize("n", [2, 5, 30])
def test_statistics_in_one_dimension_is_normal_and_chi_square(n, how, moments):
    mean, scatter, _ = moments(1, n, 20_000, **how)
    mean, scatter = mean[:, 0], scatter[:, 0, 0]
    assert stats.kstest(mean, stats.norm(3, 2 / np.sqrt(n)).cdf).pvalue > 1e-4
    assert stats.kstest(scatter / 4, stats.chi2(n - 1).cdf).pvalue > 1e-4
    assert stats.spearmanr(np.abs(mean - 3), scatter).pvalue > 1e-4
    # the test of fit has power: one degree of freedom more is found
    assert stats.kstest(scatter / 4, stats.chi2(n).cdf).pvalue < 1e-4


def expected_log_det(dim, n):
    return special.digamma((n - np.arange(1, dim + 1)) / 2).sum() + dim * np.log(2)


@pytest.mark.parametrize("how", [{}, {"traced": True}], ids=["known", "traced"])
@pytest.mark.parametrize("n", [5, 12])
def test_statistics_in_four_dimensions_is_wishart(n, how, moments, assert_mean):
    mean, scatter, log_det = moments(4, n, 10_000, **how)
    assert_mean(scatter, (n - 1) * COVARIANCE4)
    assert_mean(log_det, expected_log_det(4, n) + np.linalg.slogdet(COVARIANCE4)[1])
    np.testing.assert_allclose(log_det, np.linalg.slogdet(scatter)[1], atol=1e-6)
    centred = mean - MEAN4
    assert_mean(centred[:, :, None] * centred[:, None, :], COVARIANCE4 / n)
    # one entry's whole law: x^T scatter x / x^T covariance x is chi-square for every direction x
    direction = np.array([0.3, -1, 2, 0.7])
    scaled = direction @ scatter @ direction / (direction @ COVARIANCE4 @ direction)
    assert stats.kstest(scaled, stats.chi2(n - 1).cdf).pvalue > 1e-4


def assert_wishart_means(moments, assert_mean, dim, n, chains, covariance, **how):
    """Trace, log-determinant and a direction's whole law, for matrices kept as arrays."""
    mean, scatter, log_det = moments(dim, n, chains, **how)
    assert_mean(np.trace(scatter, axis1=1, axis2=2), (n - 1) * np.trace(covariance))
    assert_mean(log_det, expected_log_det(dim, n) + np.linalg.slogdet(covariance)[1])
    spread = special.polygamma(1, (n - np.arange(1, dim + 1)) / 2).sum()
    assert abs(log_det.var(ddof=1) / spread - 1) < 4 * np.sqrt(2 / chains)
    direction = np.cos(np.arange(dim))
    variance = direction @ covariance @ direction
    assert (
        stats.kstest(direction @ scatter @ direction / variance, stats.chi2(n - 1).cdf).pvalue
        > 1e-4
    )
    assert stats.kstest(mean @ direction, stats.norm(0, np.sqrt(variance / n)).cdf).pvalue > 1e-4


def test_statistics_in_14_dimensions(moments, assert_mean):
    assert_wishart_means(moments, assert_mean, 14, 20, 4000, COVARIANCE14)
    scatter = moments(14, 20, 4000)[1]
    assert_mean(scatter, 19 * COVARIANCE14, sigmas=4.5)  # 105 entries at once


@pytest.mark.slow
def test_statistics_in_64_dimensions(moments, assert_mean):
    assert_wishart_means(
        moments, assert_mean, 64, 100, 400, np.diag(np.linspace(0.5, 2, 64)), traced=True
    )


STATISTICS = {
    "trace": lambda mean, scatter, log_det: np.trace(scatter, axis1=1, axis2=2),
    "log_det": lambda mean, scatter, log_det: log_det,
    "entry": lambda mean, scatter, log_det: scatter[:, 3, 1],
    "mean": lambda mean, scatter, log_det: mean @ np.arange(mean.shape[1]),
    "both": lambda mean, scatter, log_det: mean[:, 0] * scatter[:, 0, 0],
}


def assert_same_law(one, other):
    for name, statistic in STATISTICS.items():
        assert stats.ks_2samp(statistic(*one), statistic(*other)).pvalue > 1e-4, name


def test_statistics_from_its_law_and_from_points_agree(moments, unpacked):
    def from_points(key):
        return summarise(gaussian(4).sample(key, PARAMS[4], 5), jnp.ones(5), 4)

    points = jax.jit(jax.vmap(from_points))(jax.random.split(jax.random.key(3), 10_000))
    mean, covariance, log_scale, _ = unpacked(points, 4)
    law = moments(4, 5, 10_000)
    assert_same_law(law, (mean, 5 * covariance, 2 * log_scale.sum(1) + 4 * np.log(5)))
    assert stats.ks_2samp(law[2], moments(4, 6, 10_000)[2]).pvalue < 1e-4, "one point more is found"


@pytest.mark.parametrize(("dim", "n", "chains"), [(4, 5, 10_000), (14, 20, 3000)])
@pytest.mark.slow
def test_by_points_has_the_law_of_by_law(dim, n, chains, moments):
    assert_same_law(moments(dim, n, chains), moments(dim, n, chains, by="points"))


def test_a_traced_size_gives_the_same_numbers():
    """Both invert the same variate without points, and from 32 degrees of freedom on.

    Below, the laws are the same.
    """
    for dim, n in ((4, 0), (4, 36), (14, 46)):
        traced, known = drawn(dim, n, 2, traced=True), drawn(dim, n, 2)
        assert jax.tree.structure(traced) == jax.tree.structure(known)
        for a, b in zip(jax.tree.leaves(traced), jax.tree.leaves(known), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


def test_sizes_up_to_the_dimension(moments, unpacked, assert_mean):
    for n in (1, 2, 3, 4):
        mean, scatter, log_det = moments(4, n, 10_000, traced=True)
        assert np.isfinite(mean).all() and np.isfinite(scatter).all() and (log_det == -np.inf).all()
        _, _, log_scale, factor = unpacked(drawn(4, n, 10_000, traced=True), 4)
        assert np.isfinite(log_scale[:, : n - 1]).all() and (log_scale[:, n - 1 :] == -np.inf).all()
        assert (np.tril(factor, -1)[:, :, n - 1 :] == 0).all(), (
            "a direction without variance has nothing below its one"
        )
        eigenvalues = np.linalg.eigvalsh(scatter)
        assert (eigenvalues[:, : 5 - n] < 1e-4 * eigenvalues[:, -1:] + 1e-30).all()
        if n > 1:
            assert np.mean(eigenvalues[:, 5 - n] > 1e-4 * eigenvalues[:, -1]) > 0.95
        assert_mean(scatter, (n - 1) * COVARIANCE4)
    assert not moments(4, 1, 10_000, traced=True)[1].any()


@pytest.mark.parametrize("by", ["law", "points"])
@pytest.mark.parametrize(("dim", "n"), [(4, 3), (14, 6)])
def test_fewer_known_points_than_dimensions(dim, n, by, moments, unpacked, assert_mean):
    mean, scatter, log_det = moments(dim, n, 2000, by=by)
    _, _, log_scale, factor = unpacked(drawn(dim, n, 2000, by=by), dim)
    assert np.isfinite(mean).all() and np.isfinite(factor).all() and not np.isnan(log_scale).any()
    # by points, rounding could leave variance in directions that have none
    assert (np.isfinite(log_scale).sum(1) == n - 1).all() and (log_det == -np.inf).all()
    rank = np.linalg.matrix_rank(scatter, tol=1e-4 * np.linalg.norm(scatter, axis=(1, 2)))
    assert (rank <= n - 1).all() and np.mean(rank == n - 1) > 0.95
    assert_mean(
        np.trace(scatter, axis1=1, axis2=2),
        (n - 1) * np.trace(COVARIANCE4 if dim == 4 else COVARIANCE14),
    )


def test_no_draws_are_the_neutral_element(unpacked):
    for dim in (4, 14):
        x = np.random.default_rng(6).normal(size=(20, dim)) @ np.diag(np.arange(1.0, dim + 1)) + 5
        some = jax.jit(summarise, static_argnums=2)(x, jnp.ones(20), dim)
        empty = jax.tree.map(lambda leaf: leaf[0], drawn(dim, 0, 2, traced=True))
        assert (
            empty.count == 0
            and np.isfinite(unpacked(empty, dim)[0]).all()
            and (unpacked(empty, dim)[2] == -np.inf).all()
        )
        join = jax.jit(merge)
        for merged in (join(some, empty), join(empty, some)):
            assert merged.count == 20
            for got, want in zip(unpacked(merged, dim), unpacked(some, dim), strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)
        both = join(empty, empty)
        assert (
            both.count == 0
            and np.isfinite(unpacked(both, dim)[0]).all()
            and (unpacked(both, dim)[2] == -np.inf).all()
        )


@pytest.mark.parametrize("dim", [1, 4, 14])
def test_no_draws_from_far_away_leave_a_collapsed_model_alone(dim, unpacked):
    """Under `mix` there are often no real draws, and the model may be narrower than any float."""
    here, empty = (
        jax.tree.map(lambda leaf: leaf[0], drawn(dim, n, 2, traced=True)) for n in (46, 0)
    )
    here = here._replace(
        mean=jax.tree.map(jnp.zeros_like, here.mean),
        log_scale=jax.tree.map(lambda s: s - 150, here.log_scale),
    )
    empty = empty._replace(mean=jax.tree.map(lambda m: m + 7, empty.mean))
    join = jax.jit(merge)
    fitted = [
        unpacked(gaussian(dim).fit(None, None, one)[0], dim)
        for one in (here, join(here, empty), join(empty, here))
    ]
    for merged in fitted[1:]:
        for got, want in zip(merged[2:], fitted[0][2:], strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=2e-4)


@pytest.mark.parametrize("by", ["points", "law"])
def test_only_by_law_takes_a_traced_size(by):
    family = gaussian(2, by=by)
    params = gaussian_params(np.zeros(2), np.eye(2))
    call = jax.jit(lambda n: family.draw(jax.random.key(0), params, n).count)
    if by == "law":
        assert call(7) == 7
    else:
        with pytest.raises(InputError, match=r"by='points' needs a sample size.*by='law'"):
            call(7)
