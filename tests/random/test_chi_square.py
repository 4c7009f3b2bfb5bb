"""Chi-square, gamma and Dirichlet variates: the inverted functions by SciPy's, and the laws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from collapse_jax.errors import InputError
from collapse_jax.random import chi_square as module
from collapse_jax.random import polynomials
from collapse_jax.random.bits import key_words
from collapse_jax.random.chi_square import (
    chi_square,
    dirichlet,
    gamma,
    log_chi,
    log_chi_square,
    log_gamma,
    log_ratios_of_normals,
)

KEY = jax.random.key(31)
DEGREES = [1, 2, 3, 7, 8, 15, 16, 31, 99, 10**4, 10**6, 10**9]
# Of the logarithm of chi^2 / degrees, before the rounding of a logarithm near log(10^9) hides its
# law.
known_ratio = jax.jit(
    lambda key, degrees, shape: module._known(
        *key_words(key), degrees_of_freedom=degrees, shape=shape
    )[0],
    static_argnums=(1, 2),
)
traced_ratio = jax.jit(lambda key, a: module._traced(*key_words(key), a)[0])


def exact_cdf(shape):
    """Of the logarithm of gamma / shape.

    SciPy's incomplete gamma function is right for any shape; its inverse only up to 10^5.
    """
    return lambda x: special.gammainc(shape, shape * np.exp(x))


def errors_of_ratio(ratio, z, shape):
    """How far `ratio` (log(gamma / shape)) is from the quantile of the standard normal z.

    In standard deviations of the logarithm.
    """
    exact = polynomials.log_gamma_ratio_quantile(z, shape) if shape < 1e5 else temme(z, shape)
    return (np.asarray(ratio, np.float64) - exact) * shape**0.5


def temme(z, shape):
    """The quantile by the uniform asymptotic inversion of Temme 1992, to the order shape^-2.

    It serves large shapes, where SciPy fails.
    """

    def bent(eta):
        """(lambda - 1) / eta, with lambda - 1 - log(lambda) = eta^2 / 2."""
        return np.polynomial.polynomial.polyval(
            eta, [1, 1 / 3, 1 / 36, -1 / 270, 1 / 4320, 1 / 17010]
        )

    first = z / shape**0.5
    eta = first - np.log(bent(first)) / first / shape
    return np.log1p(eta * bent(eta))


def test_the_oracles_agree():
    z = np.linspace(-6.3, 6.3, 2000)
    for shape in (2e4, 9e4):
        assert (
            np.abs(temme(z, shape) - polynomials.log_gamma_ratio_quantile(z, shape)).max()
            * shape**0.5
            < 1e-1 * shape**-1.5
        )
    for shape in (
        1e5,
        1e7,
        5e8,
    ):  # the incomplete gamma function itself is right up to 4.5 standard deviations
        x, z = temme(np.linspace(-4.4, 4.4, 2000), shape), np.linspace(-4.4, 4.4, 2000)
        np.testing.assert_allclose(
            special.gammainc(shape, shape * np.exp(x)), special.ndtr(z), rtol=1e-6
        )


@pytest.mark.parametrize("degrees", [8, 9, 15, 16, 31, 99, 10**4, 199_998, 200_002, 10**6, 10**9])
def test_the_polynomial_of_known_degrees(degrees):
    z = np.linspace(-6.3, 6.3, 2000).astype(np.float32)
    ratio = module.log_ratio_of_normal(jnp.asarray(z), [], degrees)
    z = z.astype(np.float64)
    assert (
        np.abs(errors_of_ratio(ratio, z, degrees / 2)).max() < 3e-6
    )  # the rounding of float32, of 6 standard deviations
    coefficients = polynomials.log_chi_square_ratio(degrees, "float32")
    assert len(coefficients) < 20
    exact = np.polynomial.polynomial.polyval(
        z / polynomials.LARGEST_NORMAL["float32"], coefficients
    )
    assert np.abs(errors_of_ratio(exact, z, degrees / 2)).max() < 1.5e-7


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (name, shape)
        for name in ("float32", "float64")
        for shape in (4.0, 5.5, 16.0, 16.5, 17.3, 33.3, 250.0, 1e4, 9e4, 1e6, 1e9)
    ],
)
def test_the_surface_of_traced_degrees(name, shape):
    shape = max(shape, polynomials.SMALLEST_SHAPE[name])
    z = np.linspace(-6.3, 6.3, 2000)
    errors = errors_of_ratio(polynomials._on_surface(shape, name, z), z, shape)
    assert np.abs(errors).max() < {"float32": 1.5e-7, "float64": 1e-10}[name]


@pytest.mark.parametrize("shape", [16.0, 49.5, 5e3, 5e5, 5e8])
def test_the_moments_of_the_logarithm(shape):
    """An oracle without an incomplete gamma function: digamma and trigamma."""
    z, weight = np.polynomial.hermite_e.hermegauss(60)
    ratio = polynomials._on_surface(shape, "float64", z)
    mean = np.average(ratio, weights=weight)
    variance = np.average((ratio - mean) ** 2, weights=weight)
    expected = (
        special.digamma(shape) - np.log(shape)
        if shape < 1e4
        else -1 / (2 * shape) - 1 / (12 * shape**2)
    )
    assert abs(mean - expected) < 1e-9 * shape**-0.5
    assert abs(variance / special.polygamma(1, shape) - 1) < 1e-9


def test_draws_have_their_law(fit_of_reals, fit_of_means, assert_fits):
    p_values = {}
    for degrees in DEGREES:
        key, cdf = jax.random.fold_in(KEY, degrees), exact_cdf(degrees / 2)
        known = np.asarray(known_ratio(key, degrees, (10**7 if degrees < 32 else 10**6,)))
        traced = np.asarray(traced_ratio(key, jnp.full(10**6, degrees / 2)))
        for name, draws in (("known", known), ("traced", traced)):
            assert np.isfinite(draws).all()
            p_values[f"{name} {degrees}"] = fit_of_reals(draws, cdf)
        if degrees >= 32:  # one normal variate makes both
            np.testing.assert_allclose(known, traced, rtol=1e-6, atol=1e-6 * np.sqrt(2 / degrees))
        mean = special.digamma(degrees / 2) - np.log(degrees / 2) if degrees < 1e6 else -1 / degrees
        p_values[f"mean log {degrees}"] = fit_of_means(
            known - np.float32(mean), mean - np.float32(mean)
        )
    assert_fits(p_values)


def test_biased_samplers_are_found_out(fit_of_reals, assert_fits):
    """Wilson and Hilferty's approximation, a normal logarithm, degrees that are slightly wrong."""
    z = np.random.default_rng(1).standard_normal(10**6)
    wrong = {
        "Wilson-Hilferty": 3 * np.log(1 - 2 / 27 + np.sqrt(2 / 27) * np.maximum(z, -3.4)),
        "normal": z * np.sqrt(special.polygamma(1, 1.5)) + special.digamma(1.5) - np.log(1.5),
        "degrees": np.asarray(traced_ratio(KEY, jnp.full(10**6, 1.51))) + np.log(1.51 / 1.5),
    }
    for ratio in wrong.values():
        with pytest.raises(AssertionError):
            assert_fits({"wrong": fit_of_reals(ratio, exact_cdf(1.5))})


def test_gamma_of_any_shape_has_its_law(fit_of_reals, assert_fits):
    shapes = np.array([1e-3, 0.03, 0.3, 0.999, 1, 2.5, 7.99, 15.9, 16.1, 1234.5])
    draws = jax.jit(lambda key, a: log_gamma(key, a[:, None], (len(shapes), 10**6)))(
        KEY, jnp.asarray(shapes, jnp.float32)
    )
    p_values = {}
    for shape, logarithms in zip(
        shapes.astype(np.float32).astype(float), np.asarray(draws), strict=True
    ):
        if (
            shape < 0.1
            # The logarithm is below that of the smallest double: P(log G < y) = exp(shape y) /
            # Gamma(1 + shape) there.
        ):
            scaled = logarithms * np.float64(shape)
            small = functools.partial(
                lambda y, a: special.gammainc(a, np.exp(np.maximum(y / a, -700))), a=shape
            )

            def cdf(y, a=shape, small=small):
                return np.where(y / a < -600, np.exp(y - special.gammaln(1 + a)), small(y))

            p_values[f"{shape}"] = fit_of_reals(scaled, cdf)
        else:
            p_values[f"{shape}"] = fit_of_reals(
                logarithms, lambda y, a=shape: special.gammainc(a, np.exp(y))
            )
    assert_fits(p_values)


def test_corners():
    for degrees in (0, 0.0):
        assert log_chi_square(KEY, degrees) == -jnp.inf and chi_square(KEY, degrees) == 0
    traced = jax.jit(lambda degrees: log_chi_square(KEY, degrees, (5,)))(
        jnp.array([-2, 0, 1, 3, 10**9])
    )
    assert np.isnan(traced[0]) and traced[1] == -jnp.inf and np.isfinite(traced[2:]).all()
    assert log_gamma(KEY, 0.0) == -jnp.inf
    assert gamma(KEY, 0.0) == 0
    assert chi_square(KEY, 5.0, (3,)).tolist() == chi_square(KEY, 5, (3,)).tolist()
    with pytest.raises(InputError):
        log_chi_square(KEY, 2.5)
    np.testing.assert_allclose(
        log_chi(KEY, 7, (4,)), 0.5 * np.log(chi_square(KEY, 7, (4,))), rtol=1e-5
    )


def test_variates_of_a_key_are_independent(assert_fits, fit_of_covariances):
    """Those of one draw, and those of the keys that follow each other."""
    keys = jax.random.split(KEY, 200_000)
    for degrees, a in ((1, None), (3, None), (None, 0.7), (None, 30.0)):
        sampler = (
            (lambda key, k=degrees: log_chi_square(key, k, (3,)))
            if a is None
            else (lambda key, a=a: log_gamma(key, a, (3,)))
        )
        draws = np.asarray(jax.jit(jax.vmap(sampler))(keys), np.float64)
        shape = degrees / 2 if a is None else float(np.float32(a))
        mean, variance = (
            special.digamma(shape) + (np.log(2) if a is None else 0),
            special.polygamma(1, shape),
        )
        columns = np.concatenate([draws, np.roll(draws, 1, 0)], 1)
        assert_fits(fit_of_covariances(columns, np.full(6, mean), variance * np.eye(6)))


def test_double_precision():
    with jax.enable_x64(True):
        for degrees in (32, 99, 1000):
            z = np.linspace(-8, 8, 1001)
            ratio = module.log_ratio_of_normal(jnp.asarray(z), [], degrees)
            exact = polynomials.log_gamma_ratio_quantile(z, degrees / 2)
            assert np.abs(np.asarray(ratio) - exact).max() < 1e-12 * np.sqrt(2 / degrees)
        for degrees in (1, 7, 40):
            known, traced = (
                log_chi_square(KEY, degrees, (1000,)),
                log_chi_square(KEY, jnp.float64(degrees), (1000,)),
            )
            assert known.dtype == traced.dtype == jnp.float64
            if degrees >= 32:
                np.testing.assert_allclose(known, traced, rtol=1e-11)


def test_dirichlet_has_its_law(assert_fits, fit_of_covariances, fit_of_reals):
    concentration = np.array([0.5, 1.0, 2.0, 7.5])
    keys = jax.random.split(KEY, 10**6)
    draws = np.asarray(
        jax.jit(jax.vmap(dirichlet, (0, None)))(keys, jnp.asarray(concentration, jnp.float32))
    )
    np.testing.assert_allclose(draws.sum(1), 1, atol=1e-6)
    total = concentration.sum()
    mean = concentration / total
    p_values = fit_of_covariances(draws, mean, (np.diag(mean) - np.outer(mean, mean)) / (total + 1))
    for k, c in enumerate(concentration):
        p_values[f"marginal {k}"] = fit_of_reals(
            np.log(draws[:, k]),
            lambda y, c=c: special.betainc(c, total - c, np.exp(np.minimum(y, 0))),
        )
    assert_fits(p_values)


@pytest.mark.parametrize("scale", [1e-2, 1e-6, 1e-30, 2e-38])
def test_dirichlet_of_tiny_concentrations(scale, assert_fits):
    """One category takes all, with a probability proportional to its concentration."""
    weights = np.array([1.0, 2.0, 0.0, 5.0])
    keys = jax.random.split(KEY, 20_000)
    draws = np.asarray(
        jax.jit(jax.vmap(dirichlet, (0, None)))(keys, jnp.asarray(scale * weights, jnp.float32))
    )
    assert np.isfinite(draws).all() and not draws[:, 2].any()
    np.testing.assert_allclose(draws.sum(1), 1, atol=1e-6)
    if 1e-37 < scale < 1e-3:
        assert_fits(
            {
                "winner": stats.chisquare(
                    np.bincount(draws.argmax(1), minlength=4)[[0, 1, 3]],
                    len(keys) / 8 * weights[[0, 1, 3]],
                ).pvalue
            }
        )


def test_normals_side_by_side_are_those_one_by_one():
    freedom, z = [12, 13, 40, 41, 990, 10**6], np.array([-4.0, -1.0, 0.0, 0.3, 2.0, 4.5])
    plus = np.log(np.divide(freedom, 10))
    found = log_ratios_of_normals(jnp.asarray(z, jnp.float32), freedom, plus)
    upper = z > 0
    exact = np.where(
        upper,
        stats.chi2.isf(stats.norm.sf(z), freedom),
        stats.chi2.ppf(stats.norm.cdf(z), freedom),
    )
    np.testing.assert_allclose(found, np.log(exact / 10), rtol=3e-7, atol=3e-7)
