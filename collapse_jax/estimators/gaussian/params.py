"""Parameters of a Gaussian: mean and factored covariance, with scales on the log scale."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import check_location
from collapse_jax.errors import InputError, numbers
from collapse_jax.numerics import factored


class GaussianParams(NamedTuple):
    """covariance = U diag(exp(2 log_scale)) U^T, U unit lower triangular.

    Tuples of scalars up to 12 dimensions (see `factored`), arrays [d], [d], [d, d] above;
    `mean_vector` and `covariance` give arrays either way.

    mean: d scalars.
    log_scale: d scalars, -inf where the chain has no variance left.
    factor: the entries of U below the diagonal, row by row.
    """

    mean: Any
    log_scale: Any
    factor: Any


def gaussian_params(mean: ArrayLike, covariance: ArrayLike) -> GaussianParams:
    """Parameters from a mean [d] and a covariance [d, d], or two numbers for d = 1.

    Raises:
        InputError: unless both are finite, the covariance is symmetric without negative
            eigenvalues, and floats around the mean are near enough to hold the deviations.
    """
    mean, covariance = _checked(mean, covariance)
    dim, dtype = len(mean), jnp.result_type(float)
    pivots, factor = _unit_cholesky(covariance)
    with np.errstate(divide="ignore"):
        log_scale = np.log(pivots) / 2
    return GaussianParams(
        factored.from_arrays(jnp.asarray(mean, dtype), dim),
        factored.from_arrays(jnp.asarray(log_scale, dtype), dim),
        factored.from_matrix(jnp.asarray(factor, dtype), dim),
    )


def _checked(mean, covariance):
    """(mean [d], covariance [d, d]) as float64 arrays, or `InputError`."""
    mean = np.atleast_1d(numbers("mean", mean))
    covariance = np.atleast_2d(numbers("covariance", covariance))
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise InputError(
            f"mean has shape {mean.shape} and covariance {covariance.shape}; they must be "
            "[d] and [d, d]"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError("mean and covariance must be finite")
    check_location("mean", mean, np.sqrt(np.maximum(np.diag(covariance), 0)))
    if not np.allclose(covariance, covariance.T) or np.linalg.eigvalsh(covariance)[0] < -1e-6 * max(
        1.0, np.abs(covariance).max()
    ):
        raise InputError(
            f"covariance {covariance.tolist()} must be symmetric without negative eigenvalues"
        )
    return mean, covariance


def _unit_cholesky(covariance):
    """(pivots [d], U [d, d]) with covariance = U diag(pivots) U^T; pivots within rounding are 0."""
    dim = len(covariance)
    pivots, factor = np.zeros(dim), np.eye(dim)
    for j in range(dim):
        pivot = covariance[j, j] - (factor[j, :j] ** 2) @ pivots[:j]
        if pivot > 1e-14 * dim * covariance[j, j]:
            pivots[j] = pivot
            explained = (factor[j + 1 :, :j] * factor[j, :j]) @ pivots[:j]
            factor[j + 1 :, j] = (covariance[j + 1 :, j] - explained) / pivot
    return pivots, factor


def mean_vector(params: GaussianParams) -> jax.Array:
    """The mean as an array [d]."""
    return factored.as_vector(params.mean)


def unit_factor(params: GaussianParams) -> jax.Array:
    """U as an array [d, d]."""
    return factored.as_matrix(params.factor, len(params.mean))


def covariance(params: GaussianParams) -> jax.Array:
    """The covariance as an array [d, d]; entries below the smallest float are 0."""
    columns = unit_factor(params) * jnp.exp(factored.as_vector(params.log_scale))
    return jnp.matmul(columns, columns.T, precision="highest")


def log_prob(params: GaussianParams, x: jax.Array) -> jax.Array:
    """Log-densities [n] in nats of points x [n, d].

    Where no variance is left, inf on the model and -inf off it.
    """
    log_scale = factored.as_vector(params.log_scale)
    centred = x - mean_vector(params)
    z = factored.solved(unit_factor(params), centred)
    scaled = jnp.where(z == 0, 0, z * jnp.exp(-log_scale))
    density = -jnp.sum(log_scale) - x.shape[1] / 2 * jnp.log(2 * jnp.pi)
    return jnp.where(
        jnp.any(jnp.isinf(scaled), axis=1), -jnp.inf, density - jnp.sum(scaled**2, axis=1) / 2
    )
