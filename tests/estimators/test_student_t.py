"""Student t: EM by a plain NumPy one and by SciPy, densities and samples by SciPy's laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, stats

from collapse_jax.core.types import Dataset
from collapse_jax.errors import InputError
from collapse_jax.estimators.student_t import (
    DISTANCES,
    METRICS,
    StudentParams,
    _tempered,
    log_prob,
    sample,
    student_t,
    student_t_params,
)
from collapse_jax.numerics import student

pytestmark = pytest.mark.usefixtures("quick_compile")
LOCATION, SCALE = np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 0.5]])
SIZE, EMPTY = 60, 4


def points(df, dim=2, seed=0):
    law = stats.multivariate_t(LOCATION[:dim], SCALE[:dim, :dim], df=df)
    return law.rvs(SIZE, random_state=seed).reshape(SIZE, dim).astype(np.float32)


def plain_em(x, df, steps=500, weight=None):
    """(location, scale matrix) by the textbook's steps."""
    weight = np.ones(len(x)) if weight is None else weight
    x, dim, total = x.astype(float), x.shape[1], weight.sum()
    location = weight @ x / total
    scale = ((x - location) * weight[:, None]).T @ (x - location) / total
    for _ in range(steps):
        squared = np.einsum("ni,ij,nj->n", x - location, np.linalg.inv(scale), x - location)
        pull = weight * (df + dim) / (df + squared)
        location = pull @ x / pull.sum()
        scale = ((x - location) * pull[:, None]).T @ (x - location) / total
    return location, scale


def scale_of(params):
    columns = np.asarray(params.factor, float) * np.exp(np.asarray(params.log_scale, float))
    return columns @ columns.T


@pytest.fixture(scope="module")
def fitted():
    """(points, df or None) -> (params, info); one program for known degrees, one for estimates."""

    def known(df, x, weight):
        return student_t(2, df).fit(None, None, Dataset(x, weight))

    def estimated(x, weight):
        return student_t(2).fit(None, None, Dataset(x, weight))

    programs = jax.jit(known), jax.jit(estimated)

    def fit(x, df=None, weight=None):
        weight = np.ones(len(x)) if weight is None else weight
        x = np.concatenate([x, np.full((EMPTY, 2), np.nan)]).astype(np.float32)
        arrays = jnp.asarray(x), jnp.asarray(np.r_[weight, np.zeros(EMPTY)], jnp.float32)
        return programs[1](*arrays) if df is None else programs[0](jnp.float32(df), *arrays)

    return fit


@pytest.mark.parametrize("df", [0.8, 3.0, 1e7])
def test_known_degrees_are_a_plain_em(df, fitted):
    x, weight = points(3), np.random.default_rng(1).exponential(size=SIZE)
    for one in (None, weight):
        params, info = fitted(x, df, one)
        location, scale = plain_em(x, df, weight=one)
        np.testing.assert_allclose(params.location, location, rtol=0, atol=3e-5)
        np.testing.assert_allclose(scale_of(params), scale, rtol=2e-4, atol=1e-5)
        assert info.converged
    assert float(params.inverse_df) == pytest.approx(1 / df)
    # Units and places do not matter.
    moved, _ = fitted(x * 2.0**40, df)
    np.testing.assert_allclose(scale_of(moved) / 2.0**80, plain_em(x, df)[1], rtol=2e-4, atol=1e-5)


def test_estimated_degrees_are_most_likely(fitted):
    x = points(3)

    def unlikely(inverse):
        location, scale = plain_em(x, 1 / inverse, 60)
        return -np.mean(stats.multivariate_t(location, scale, df=1 / inverse).logpdf(x))

    best = optimize.minimize_scalar(unlikely, bounds=(0.02, 1.9), method="bounded")
    params, info = fitted(x)
    assert info.converged and float(info.loss) == pytest.approx(best.fun, abs=2e-6)
    assert float(params.inverse_df) == pytest.approx(best.x, abs=2e-3)
    # Tails lighter than a Gaussian's: the Gaussian, by maximum likelihood.
    x = np.random.default_rng(0).uniform(-1, 1, (SIZE, 2)).astype(np.float32)
    params, info = fitted(x)
    assert float(params.inverse_df) == 0 and info.converged
    np.testing.assert_allclose(scale_of(params), np.cov(x.T, ddof=0), rtol=1e-4)
    assert np.isinf(METRICS["df"](params))


@pytest.mark.slow
def test_one_dimension_is_scipys_fit():
    x = points(3, dim=1)
    params, _ = jax.jit(student_t(1).fit)(None, None, Dataset(jnp.asarray(x), jnp.ones(SIZE)))
    df, location, scale = stats.t.fit(x[:, 0].astype(float))
    ours = 1 / params.inverse_df, params.location[0], METRICS["scale"](params)
    np.testing.assert_allclose(ours, (df, location, scale), rtol=5e-3)


def test_collapsed_points(fitted):
    """One point, equal points, points on a line, and points that differ by a rounding."""
    weight = np.zeros(SIZE)
    weight[0] = 1
    for x in (np.tile([[3.0, -1.0]], (SIZE, 1)), points(3)):
        params, _ = fitted(x, weight=weight)
        assert (np.asarray(params.log_scale) == -np.inf).all()
        np.testing.assert_allclose(params.location, x[0], rtol=1e-6)
        assert float(METRICS["variance"](params)) == 0
        drawn = sample(jax.random.key(0), params, 5)
        np.testing.assert_array_equal(drawn, np.tile(params.location, (5, 1)))
    line = np.random.default_rng(0).normal(size=SIZE)
    params, _ = fitted(np.stack([line, np.ones(SIZE)], 1), 3.0)
    assert np.isfinite(params.log_scale[0]) and params.log_scale[1] == -np.inf
    few = np.float32(1) + np.arange(SIZE)[:, None] % 2 * np.finfo(np.float32).eps * np.ones((1, 2))
    assert np.isnan(fitted(few)[0].log_scale).all()


@pytest.mark.parametrize("df", [0.5, 2.5, 14.0, 17.0, 1e4, np.inf])
def test_densities_are_scipys(df):
    x = points(1.0)
    params = student_t_params(LOCATION, SCALE, df)
    law = stats.multivariate_t(LOCATION, SCALE, df=df)
    density = jax.jit(log_prob)
    np.testing.assert_allclose(density(params, x), law.logpdf(x), rtol=3e-6, atol=3e-6)
    one = student_t_params(0.5, 2.0, df)
    law = stats.t(df, loc=0.5, scale=2.0) if np.isfinite(df) else stats.norm(0.5, 2.0)
    np.testing.assert_allclose(density(one, x[:, :1]), law.logpdf(x[:, 0]), rtol=3e-6, atol=3e-6)
    variance = float(METRICS["variance"](one))
    assert variance == pytest.approx(law.var() if df > 2 else np.inf, rel=1e-4)


def test_slopes_keep_their_digits():
    """The derivative by 1 / df of a mean log-density, down to the Gaussian, beside differences."""
    squared = np.random.default_rng(0).chisquare(3, 50)

    def exact(t):
        law = stats.multivariate_t(np.zeros(3), np.eye(3), df=1 / t)
        x = np.sqrt(squared)[:, None] * [1.0, 0, 0]
        return np.mean(law.logpdf(x))

    slope = jax.jit(jax.grad(student.mean_log_density), static_argnums=3)
    for t in (1e-3, 0.02, 0.07, 0.5):
        ours = float(slope(t, jnp.asarray(squared), jnp.full(50, 0.02), 3))
        step = 1e-3 * t
        theirs = (exact(t + step) - exact(t - step)) / (2 * step)
        assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-4)
    near = float(slope(1e-8, jnp.asarray(squared), jnp.full(50, 0.02), 3))
    assert near == pytest.approx(float(slope(0.0, jnp.asarray(squared), jnp.full(50, 0.02), 3)))


def test_samples_have_the_law():
    drawn = jax.jit(sample, static_argnums=2)
    for df in (0.7, 5.0, np.inf):
        params = student_t_params([0.5, 0.0], [[4.0, 1.0], [1.0, 1.0]], df)
        x = np.asarray(drawn(jax.random.key(3), params, 20_000), float)
        law = stats.t(df) if np.isfinite(df) else stats.norm()
        assert stats.kstest((x[:, 0] - 0.5) / 2, law.cdf).pvalue > 1e-4
        # The scatter's other direction, which shares the chi-square variate.
        root = np.linalg.inv(np.linalg.cholesky(scale_of(params)))
        z = (x - [0.5, 0.0]) @ root.T
        assert stats.kstest(np.sum(z**2, 1) / 2, stats.f(2, min(df, 1e8)).cdf).pvalue > 1e-4


def _power(x, law, exponent):
    return law.pdf(x) ** exponent


def test_tempered_is_a_power_of_the_density():
    params = student_t_params(0.5, 2.0, 4.0)
    grid = jnp.linspace(-6, 8, 9)[:, None]
    for temperature in (0.5, 1.5):
        model = jax.jit(_tempered)(params, temperature)
        law = stats.t(4, loc=0.5, scale=2.0)
        power, _ = integrate.quad(_power, -np.inf, np.inf, (law, 1 / temperature))
        exact = law.logpdf(grid[:, 0]) / temperature - np.log(power)
        np.testing.assert_allclose(jax.jit(log_prob)(model, grid), exact, rtol=1e-5)
    assert np.isnan(_tempered(params, 6.0).inverse_df)  # (df + 1) / 6 < 1: no integral


@pytest.mark.slow
def test_divergence_is_that_of_quadrature():
    model, real = student_t_params(0.0, 1.0, 5.0), student_t_params(0.5, 1.5, 8.0)
    p, q = stats.t(5), stats.t(8, loc=0.5, scale=1.5)
    exact, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -60, 60)
    ratios = p.logpdf(z := p.rvs(4096, random_state=0)) - q.logpdf(z)
    ours = float(jax.jit(DISTANCES["kl_model_to_real"])(model, real))
    assert abs(ours - exact) < 4 * ratios.std() / 64


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: student_t(0), "dim is 0"),
        (lambda: student_t(1, 0), "df is 0; it must be a finite number above 0, or None"),
        (lambda: student_t(1, 3, smallest_df=1), "smallest_df is 1 with a known df"),
        (lambda: student_t(1, smallest_df=0), "smallest_df is 0"),
        (lambda: student_t(1, steps=0), "steps is 0"),
        (lambda: student_t(1, tolerance=-1), "tolerance is -1"),
        (lambda: student_t_params([0, 0], 1, 3), "they must be"),
        (lambda: student_t_params([0, 0], [[1, 2], [2, 1]], 3), "positive definite"),
        (lambda: student_t_params(0, 1, -3), "df is -3"),
    ],
)
def test_what_means_nothing_is_refused(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_traced_degrees_out_of_range_are_nan():
    start = jax.vmap(lambda df: student_t(1, df).init(None, Dataset(jnp.zeros((1, 1)), None)))
    found = start(jnp.array([-1.0, 2.0]))
    assert isinstance(found, StudentParams)
    np.testing.assert_array_equal(found.inverse_df, [np.nan, 0.5])
