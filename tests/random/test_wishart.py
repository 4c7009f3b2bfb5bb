"""The factor of a Wishart matrix: entries, matrix and determinant against the exact laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from collapse_jax.random.wishart import wishart_factor

KEYS = jax.random.split(jax.random.key(41), 200_000)


def factors(degrees, dim, traced, draws=len(KEYS)):
    sampler = jax.vmap(wishart_factor, (0, None, None))
    if traced:
        return np.asarray(
            jax.jit(sampler, static_argnums=2)(KEYS[:draws], jnp.asarray(degrees), dim)
        )
    return np.asarray(jax.jit(sampler, static_argnums=(1, 2))(KEYS[:draws], degrees, dim))


def chi_square_law(degrees):
    return lambda x: special.gammainc(degrees / 2, np.maximum(x, 0) / 2)


@pytest.mark.parametrize(
    ("degrees", "dim", "traced"),
    [(1, 1, False), (5, 3, False), (5, 3, True), (99.0, 3, True), (40, 5, False)],
)
def test_factors_have_their_law(
    degrees, dim, traced, assert_fits, fit_of_reals, fit_of_means, fit_of_covariances
):
    factor = factors(degrees, dim, traced)
    assert factor.shape == (len(KEYS), dim, dim) and np.isfinite(factor).all()
    assert not factor[:, *np.triu_indices(dim, 1)].any()
    matrix = factor @ factor.transpose(0, 2, 1)
    p_values = {"log determinant": fit_of_means(*log_determinant(matrix, degrees, dim))}
    for i in range(dim):
        p_values[f"T {i},{i}"] = fit_of_reals(factor[:, i, i] ** 2, chi_square_law(degrees - i))
        p_values[f"W {i},{i}"] = fit_of_reals(matrix[:, i, i], chi_square_law(degrees))
        p_values |= {f"T {i},{j}": fit_of_reals(factor[:, i, j], special.ndtr) for j in range(i)}
    rows, columns = np.tril_indices(dim)
    # E W_ij = n I_ij; cov(W_ij, W_kl) = n (I_ik I_jl + I_il I_jk)
    same = np.eye(dim)
    covariance = degrees * (
        same[rows][:, rows] * same[columns][:, columns]
        + same[rows][:, columns] * same[columns][:, rows]
    )
    entries = fit_of_covariances(
        matrix[:, rows, columns], degrees * same[rows, columns], covariance
    )
    assert_fits(p_values | entries)


def log_determinant(matrix, degrees, dim):
    """Samples and expectations of the logarithm of the determinant and of its square, centred."""
    shapes = (degrees - np.arange(dim)) / 2
    centred = np.linalg.slogdet(matrix.astype(np.float64))[1] - (
        dim * np.log(2) + special.digamma(shapes).sum()
    )
    return centred, 0.0


def test_biased_factors_are_found_out(assert_fits, fit_of_covariances, fit_of_means):
    wrong_order = factors(5, 3, False)[:, ::-1, ::-1].transpose(
        0, 2, 1
    )  # degrees 3, 4, 5 instead of 5, 4, 3
    matrix = wrong_order @ wrong_order.transpose(0, 2, 1)
    with pytest.raises(AssertionError):
        assert_fits(
            fit_of_covariances(matrix[:, [0, 1, 2], [0, 1, 2]], np.full(3, 5.0), 10 * np.eye(3))
        )


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("degrees", [0, 3])
def test_with_fewer_degrees_than_dimensions_it_is_singular(
    degrees, traced, assert_fits, fit_of_reals, fit_of_covariances
):
    factor = factors(degrees, 5, traced, 50_000)
    assert np.isfinite(factor).all()
    assert not factor[:, :, degrees:].any()
    matrix = factor @ factor.transpose(0, 2, 1)
    assert (
        np.linalg.matrix_rank(matrix[:100].astype(np.float64), tol=1e-4 * degrees) == degrees
    ).all()
    if degrees:
        assert_fits(
            {f"W {i},{i}": fit_of_reals(matrix[:, i, i], chi_square_law(degrees)) for i in range(5)}
        )


@pytest.mark.parametrize("degrees", [64, 200])
def test_64_dimensions(degrees, assert_fits, fit_of_reals, fit_of_means):
    draws = 2000
    factor = factors(degrees, 64, True, draws)
    matrix = factor @ factor.transpose(0, 2, 1)
    p_values = {
        f"T {i},{i}": fit_of_reals(factor[:, i, i] ** 2, chi_square_law(degrees - i))
        for i in (0, 1, 31, 62, 63)
    }
    p_values |= {
        f"W {i},{i}": fit_of_reals(matrix[:, i, i], chi_square_law(degrees)) for i in (0, 31, 63)
    }
    below = factor[:, *np.tril_indices(64, -1)]
    p_values |= {
        "below": fit_of_reals(below, special.ndtr),
        "log determinant": fit_of_means(*log_determinant(matrix, degrees, 64)),
    }
    p_values["trace"] = fit_of_reals(
        np.trace(matrix, axis1=1, axis2=2), chi_square_law(64 * degrees)
    )
    assert_fits(p_values)


@pytest.mark.parametrize("dim", [1, 4, 5])
def test_one_factor_is_one_of_many(dim):
    many = factors(40, dim, False, 20)
    np.testing.assert_allclose(wishart_factor(KEYS[3], 40, dim), many[3], rtol=1e-5, atol=1e-6)
