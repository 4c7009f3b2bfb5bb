"""Gaussian with a known covariance, only its mean fitted, drawn through the exact law of the sample
mean.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, FitInfo
from collapse_jax.errors import InputError, numbers
from collapse_jax.metrics.divergence import exponential_beyond_line
from collapse_jax.numerics import averages, factored
from collapse_jax.random.normal import normal_array, normal_vector, normals


class GaussianMeanParams(NamedTuple):
    """mean: d scalars, as a tuple up to 12 dimensions and an array [d] above. log_scale: []; the
    known covariance times
    exp(2 log_scale) is the model's: 0 after every fit, other values at a temperature.
    """

    mean: Any
    log_scale: jax.Array


class SampleMean(NamedTuple):
    """Evidence: count [] of the sample, and its mean in the form of the parameters."""

    count: jax.Array
    mean: Any


@named
def gaussian_mean(covariance=1.0) -> Estimator:
    """Gaussian with a known covariance [d, d] (or variance), only the mean fitted; x is [n, d].

    The mean of n draws is Normal(mean, covariance / n): a generation costs the same for every n.
    Under `replace` the mean walks at
    random for ever, Var mean_g = (g + 1) covariance / M, and the variance stays what it is:
    collapse without loss of spread.
    Metrics: mean ([d]; [] for d = 1; covariance^-1 mean is the natural parameter), variance (trace
    / d), log_variance
    (log-determinant / d). Distances to the real distribution: wasserstein2, squared_wasserstein2,
    kl_model_to_real, kl_real_to_model. Raises `InputError` unless the covariance is finite,
    symmetric and positive definite.
    Source: derived here (the mean of normals is normal).
    """
    known = _checked(covariance)
    dim = len(known)
    lower = np.linalg.cholesky(known)
    inverse = np.linalg.inv(lower)
    log_determinant, trace = 2 * float(np.log(np.diag(lower)).sum()), float(np.trace(known))

    def draw(key, params, n):
        dtype = params.log_scale.dtype
        size = jnp.asarray(n, dtype)
        scale = jnp.exp(params.log_scale) / jnp.sqrt(jnp.maximum(size, 1))
        if dim > factored.LARGEST_WRITTEN_OUT:
            shift = jnp.matmul(
                jnp.asarray(lower, dtype), normal_array(key, (dim,)), precision="highest"
            )
            return SampleMean(size, params.mean + scale * shift)
        z = normals(key, dim)
        shift = [
            sum(dtype.type(lower[i, j]) * z[j] for j in range(i + 1) if lower[i, j])
            for i in range(dim)
        ]
        return SampleMean(
            size, tuple(m + scale * s for m, s in zip(params.mean, shift, strict=True))
        )

    def sample(key, params, n):
        z = normal_vector(key, n * dim).reshape(n, dim)
        return factored.as_vector(params.mean) + jnp.exp(params.log_scale) * jnp.matmul(
            z, jnp.asarray(lower.T, z.dtype), precision="highest"
        )

    def summarise(x, weight):
        count = jnp.sum(weight)
        mean = jnp.matmul(weight, x, precision="highest") / jnp.where(count > 0, count, 1)
        return SampleMean(count, factored.from_arrays(mean, dim))

    def merge(a, b):
        mean = jax.tree.map(
            lambda ours, theirs: averages.pooled(a.count, ours, b.count, theirs), a.mean, b.mean
        )
        return SampleMean(a.count + b.count, mean)

    def squared_length(offset):
        """offset^T covariance^-1 offset of offsets [..., d]."""
        white = jnp.matmul(offset, jnp.asarray(inverse.T, offset.dtype), precision="highest")
        return jnp.sum(white**2, axis=-1)

    def log_prob(params, x):
        distance = squared_length(x - factored.as_vector(params.mean)) * jnp.exp(
            -2 * params.log_scale
        )
        return -(distance + log_determinant + dim * np.log(2 * np.pi)) / 2 - dim * params.log_scale

    def offset(params, real):
        return factored.as_vector(params.mean) - factored.as_vector(real.mean)

    def squared_wasserstein2(params, real):
        return (
            jnp.sum(offset(params, real) ** 2)
            + trace * (jnp.exp(params.log_scale) - jnp.exp(real.log_scale)) ** 2
        )

    def kl(p, q):
        spread = dim * exponential_beyond_line(2 * (p.log_scale - q.log_scale))
        return (squared_length(offset(p, q)) * jnp.exp(-2 * q.log_scale) + spread) / 2

    return estimator(
        lambda key, params, statistics: (
            GaussianMeanParams(statistics.mean, jnp.zeros_like(statistics.count)),
            FitInfo.exact(),
        ),
        sample,
        init=lambda key, statistics: gaussian_mean_params(np.zeros(dim)),
        summarise=summarise,
        draw=draw,
        merge=merge,
        metrics={
            "mean": lambda params: factored.as_vector(params.mean) if dim > 1 else params.mean[0],
            "variance": lambda params: trace / dim * jnp.exp(2 * params.log_scale),
            "log_variance": lambda params: log_determinant / dim + 2 * params.log_scale,
        },
        distances={
            "squared_wasserstein2": squared_wasserstein2,
            "wasserstein2": lambda params, real: jnp.sqrt(squared_wasserstein2(params, real)),
            "kl_model_to_real": kl,
            "kl_real_to_model": lambda params, real: kl(real, params),
        },
        statistics=SampleMean,
        chain_axis=-1 if dim <= factored.LARGEST_WRITTEN_OUT else 0,
        log_prob=log_prob,
        tempered=lambda params, temperature: params._replace(
            log_scale=params.log_scale + jnp.log(temperature) / 2
        ),
    )


def example():
    """(Estimator, params) of a correlated Gaussian in two dimensions."""
    return gaussian_mean([[2.0, 0.6], [0.6, 0.5]]), gaussian_mean_params([1.0, -2.0])


def gaussian_mean_params(mean) -> GaussianMeanParams:
    """Parameters from a mean [d], or a number for d = 1. Raises `InputError` unless it is finite."""
    mean = np.atleast_1d(numbers("mean", mean))
    if mean.ndim != 1 or not len(mean) or not np.isfinite(mean).all():
        raise InputError(f"mean is {mean.tolist()}; it must be [d] and finite")
    dtype = jnp.result_type(float)
    return GaussianMeanParams(
        factored.from_arrays(jnp.asarray(mean, dtype), len(mean)), jnp.zeros((), dtype)
    )


def _checked(covariance):
    known = np.atleast_2d(numbers("covariance", covariance))
    if known.ndim != 2 or known.shape[0] != known.shape[1]:
        raise InputError(f"covariance has shape {known.shape}; it must be [d, d], or one number")
    if (
        not np.isfinite(known).all()
        or not np.allclose(known, known.T)
        or np.linalg.eigvalsh(known)[0] <= 0
    ):
        raise InputError(
            f"covariance {known.tolist()} must be finite, symmetric and positive definite"
        )
    return known
