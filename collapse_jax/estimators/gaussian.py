"""Gaussian by its sample mean and covariance (Shumailov et al. 2024, Theorem 3.1), drawn through its exact evidence."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import InputError
from collapse_jax.factory import estimator
from collapse_jax.types import Estimator, FitInfo


class GaussianParams(NamedTuple):
    """mean: [d]. factor: [d, d] lower triangular, covariance = factor factor^T; zero columns where the chain has collapsed."""

    mean: jax.Array
    factor: jax.Array


class Moments(NamedTuple):
    """Evidence of a Gaussian family. count: []. mean: [d]. scatter: [d, d], the sum of (x - mean)(x - mean)^T."""

    count: jax.Array
    mean: jax.Array
    scatter: jax.Array


def gaussian(dim: int, ddof: int = 1) -> Estimator:
    """Gaussian in `dim` dimensions; x is [n, dim].

    ddof: 1 for the unbiased covariance (the theorem's), 0 for maximum likelihood (the released code's). A sample of one point has
    covariance 0. The evidence is drawn from its law: mean ~ Normal, scatter ~ Wishart, so a generation costs the same for every
    sample size. In float32 a variance below 1e-38 becomes 0 and its log -inf; `jax_enable_x64` moves that to 1e-308.
    A direction whose variance, given those before it, is below eps * dim of its own (4e-7 in float32 at dim = 3) counts as collapsed.
    Metrics: mean ([dim]; [] for dim = 1), variance (trace / dim), log_variance (log-determinant / dim).
    Raises `InputError` unless dim >= 1 and ddof is 0 or 1.
    """
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise InputError(f"dim is {dim!r}; it must be an integer of at least 1")
    if ddof not in (0, 1):
        raise InputError(f"ddof is {ddof!r}; it must be 0 (maximum likelihood) or 1 (unbiased)")

    def init(key, evidence):
        return GaussianParams(jnp.zeros(dim), jnp.eye(dim))

    def fit(key, params, evidence):
        freedom = jnp.maximum(evidence.count - ddof, 1)
        return GaussianParams(evidence.mean, semidefinite_factor(evidence.scatter / freedom)), FitInfo.exact()

    def sample(key, params, n):
        return params.mean + jax.random.normal(key, (n, dim)) @ params.factor.T

    def draw(key, params, n):
        mean_key, scatter_key = jax.random.split(key)
        mean = params.mean + params.factor @ jax.random.normal(mean_key, (dim,)) / jnp.sqrt(jnp.maximum(n, 1))
        root = params.factor @ wishart_factor(scatter_key, n - 1, dim)
        return Moments(jnp.asarray(n, mean.dtype), mean, root @ root.T)

    return estimator(
        fit,
        sample,
        init=init,
        summarise=summarise,
        draw=draw,
        merge=merge,
        metrics={"mean": _mean, "variance": variance, "log_variance": log_variance},
        evidence=Moments,
    )


def gaussian_params(mean, covariance) -> GaussianParams:
    """Parameters from a mean [d] and a covariance [d, d], or two numbers for d = 1.

    Raises `InputError` unless the covariance is finite, symmetric and has no negative eigenvalue.
    """
    mean = np.atleast_1d(np.asarray(mean, float))
    covariance = np.atleast_2d(np.asarray(covariance, float))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise InputError(f"mean has shape {mean.shape} and covariance {covariance.shape}; they must be [d] and [d, d]")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError("mean and covariance must be finite")
    if not np.allclose(covariance, covariance.T) or np.linalg.eigvalsh(covariance)[0] < -1e-6 * max(1.0, np.abs(covariance).max()):
        raise InputError(f"covariance {covariance.tolist()} must be symmetric without negative eigenvalues")
    return GaussianParams(jnp.asarray(mean, jnp.result_type(float)), semidefinite_factor(jnp.asarray(covariance, jnp.result_type(float))))


def summarise(x, weight) -> Moments:
    """`Moments` of points x [n, d] with weights [n]; a point of weight 0 does not count."""
    count = jnp.sum(weight)
    mean = weight @ x / jnp.maximum(count, 1)
    centred = x - mean
    return Moments(count, mean, (centred * weight[:, None]).T @ centred)


def merge(a: Moments, b: Moments) -> Moments:
    """`Moments` of the pooled sample (pairwise update of Chan, Golub and LeVeque 1979)."""
    count = a.count + b.count
    total = jnp.maximum(count, 1)
    shift = b.mean - a.mean
    scatter = a.scatter + b.scatter + jnp.outer(shift, shift) * (a.count * (b.count / total))
    return Moments(count, a.mean + shift * (b.count / total), scatter)


def wishart_factor(key, degrees_of_freedom, dim: int):
    """Lower-triangular T [dim, dim] with T T^T ~ Wishart(degrees_of_freedom, I), by Bartlett's decomposition.

    degrees_of_freedom: an integer of at least 0, traced or not; below dim the law is singular and the last columns are 0.
    """
    normal_key, chi_key = jax.random.split(key)
    column = jnp.arange(dim)
    left = degrees_of_freedom - column
    chi_square = 2 * jax.random.gamma(chi_key, jnp.maximum(left, 1) / 2)
    normals = jnp.tril(jax.random.normal(normal_key, (dim, dim)), -1)
    return jnp.where(left > 0, normals + jnp.diag(jnp.sqrt(chi_square)), 0)


def semidefinite_factor(covariance):
    """Lower-triangular L [d, d] with L L^T = covariance [d, d]; a direction without variance gives a zero column, never nan."""
    dim = covariance.shape[0]
    row = jnp.arange(dim)
    floor = jnp.finfo(covariance.dtype).eps * dim * jnp.diag(covariance)

    def column(j, carry):
        left, factor = carry
        pivot = left[j, j]
        alive = pivot > floor[j]
        entries = jnp.where(alive & (row >= j), left[:, j] / jnp.sqrt(jnp.where(alive, pivot, 1)), 0)
        return left - jnp.outer(entries, entries), factor.at[:, j].set(entries)

    return jax.lax.fori_loop(0, dim, column, (covariance, jnp.zeros_like(covariance)))[1]


def _mean(params):
    return params.mean if params.mean.shape[0] > 1 else params.mean[0]


def variance(params):
    """Trace of the covariance / d []."""
    return jnp.sum(params.factor**2) / params.mean.shape[0]


def log_variance(params):
    """Log-determinant of the covariance / d []; -inf once a direction has no variance left."""
    return 2 * jnp.mean(jnp.log(jnp.diag(params.factor)))
