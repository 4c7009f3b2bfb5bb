"""The fits on the host."""

import numpy as np
import pytest
from scipy import special

from collapse_jax.random import polynomials


def test_fit_is_as_close_as_it_says():
    x = np.linspace(-1, 3, 1001)
    for tolerance in (1e-3, 1e-6, 1e-11):
        coefficients = polynomials.fit(np.exp, -1, 3, tolerance)
        assert np.abs(polynomials.evaluate(coefficients, (x - 1) / 2) - np.exp(x)).max() < tolerance
    assert (
        len(polynomials.fit(np.exp, -1, 3, 1e-3)) < len(polynomials.fit(np.exp, -1, 3, 1e-11)) < 25
    )
    assert len(polynomials.fit(np.ones_like, -1, 3, 1e-3)) == 1


def test_evaluate_takes_numbers_and_arrays():
    assert polynomials.evaluate([1, 2, 3], np.array([2.0])).tolist() == [17.0]
    assert polynomials.evaluate([2**40, np.array([1.0, 2.0])], np.array([1.0, 3.0])).tolist() == [
        2**40 + 1,
        2**40 + 6,
    ]


@pytest.mark.parametrize("shape", [4.0, 16.0, 700.0, 9e4])
def test_scipys_inverses_are_right_where_they_are_used(shape):
    """Against the incomplete gamma function itself, by a step of Newton's method."""
    z = np.linspace(-8, 8, 401)
    x = polynomials.log_gamma_ratio_quantile(z, shape)
    lower, upper = (
        special.gammainc(shape, shape * np.exp(x)),
        special.gammaincc(shape, shape * np.exp(x)),
    )
    difference = np.where(z < 0, lower - special.ndtr(z), special.ndtr(-z) - upper)
    density = np.exp(
        shape * (x - np.expm1(x))
        + 0.5 * np.log(shape / (2 * np.pi))
        - (special.gammaln(shape) - _stirling(shape))
    )
    assert np.abs(difference / density).max() * np.sqrt(shape) < 1e-11


def _stirling(shape):
    return (shape - 0.5) * np.log(shape) - shape + 0.5 * np.log(2 * np.pi)


def test_default_float():
    assert polynomials.default_float() == "float32"


def test_the_kept_quantile_is_the_fitted_one():
    kept, fitted = polynomials.normal_quantile_halves(), polynomials.fit_normal_quantile_halves()
    for ours, theirs in zip(kept, fitted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
