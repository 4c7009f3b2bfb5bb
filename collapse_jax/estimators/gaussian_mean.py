"""Gaussian with a known covariance; only the mean is fitted."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import PointCheck, check_size_of_params
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, numbers
from collapse_jax.metrics.divergence import exponential_beyond_line
from collapse_jax.numerics import averages, factored
from collapse_jax.random.normal import normal_array, normal_vector, normals

__all__ = ["gaussian_mean", "gaussian_mean_params"]


class GaussianMeanParams(NamedTuple):
    """The mean, and the scale of the model relative to the known covariance.

    mean: d scalars, a tuple for up to 12 dimensions and an array [d] for more.
    log_scale: []; the model's covariance is the known one times exp(2 log_scale). It is 0 after
        every fit, and differs from 0 for a model at a temperature.
    """

    mean: Any
    log_scale: jax.Array


class SampleMean(NamedTuple):
    """Sufficient statistics: the number of points [], and their mean as in the parameters."""

    count: jax.Array
    mean: Any


@named
def gaussian_mean(covariance: ArrayLike = 1.0) -> Estimator:
    """Gaussian with a known covariance; only the mean is fitted.

    Points x are [n, d]. The mean of n draws is Normal(mean, covariance / n), so a generation costs
    the same for every n. Under `replace` the mean is a random walk with covariance
    (g + 1) covariance / M at generation g, and the variance does not change: the model moves away
    from the real distribution without losing variance.

    Metrics: mean ([d]; [] for d = 1; covariance^-1 mean is the natural parameter), variance (trace
    / d), log_variance (log-determinant / d). Distances to the real distribution, which may have
    another known covariance: wasserstein2, squared_wasserstein2, kl_model_to_real,
    kl_real_to_model.

    Args:
        covariance: the known covariance [d, d], or the variance for d = 1.

    Raises:
        InputError: unless the covariance is finite, symmetric and positive definite.

    References:
        Derived here (the mean of normal variables is normal).
    """
    known = _checked(covariance)
    lower = np.linalg.cholesky(known)
    family = _GaussianMean(len(known), float(np.trace(known)), lower, np.linalg.inv(lower))
    return estimator(
        _fit,
        family.sample,
        init=family.init,
        statistics=SampleMean,
        summarise=family.summarise,
        merge=_merge,
        draw=family.draw,
        check=PointCheck(
            f"gaussian_mean in {family.dim} dimensions",
            "real numbers",
            (family.dim,),
            keeps="differences",
            deviations=tuple(np.sqrt(np.diag(known)).tolist()),
        ),
        metrics={
            "mean": _mean,
            "variance": family.variance,
            "log_variance": family.log_variance,
        },
        distances={name: _Distance(formula, family, family) for name, formula in _FORMULAS.items()},
        log_prob=family.log_prob,
        tempered=_tempered,
        weighed=_weighed,
        chain_axis=-1 if len(known) <= factored.LARGEST_WRITTEN_OUT else 0,
    )


def example() -> tuple[Estimator, GaussianMeanParams]:
    """Returns (Estimator, params) with a correlated Gaussian in two dimensions."""
    return gaussian_mean([[2.0, 0.6], [0.6, 0.5]]), gaussian_mean_params([1.0, -2.0])


def gaussian_mean_params(mean: ArrayLike) -> GaussianMeanParams:
    """Returns parameters with this mean [d], or a number for d = 1.

    Raises:
        InputError: unless the mean is finite.
    """
    mean = np.atleast_1d(numbers("mean", mean))
    if mean.ndim != 1 or not len(mean) or not np.isfinite(mean).all():
        raise InputError(f"mean is {mean.tolist()}; it must be [d] and finite")
    dtype = jnp.result_type(float)
    return GaussianMeanParams(
        factored.from_arrays(jnp.asarray(mean, dtype), len(mean)), jnp.zeros((), dtype)
    )


class _GaussianMean(NamedTuple):
    """The functions that depend on the known covariance; lower [d, d] is its Cholesky factor."""

    dim: int
    trace: float
    lower: np.ndarray
    inverse: np.ndarray

    @property
    def log_determinant(self):
        return 2 * float(np.log(np.diag(self.lower)).sum())

    def init(self, key, statistics):
        return gaussian_mean_params(np.zeros(self.dim))

    def sample(self, key, params, n):
        check_size_of_params("dimensions", len(params.mean), self.dim)
        z = normal_vector(key, n * self.dim).reshape(n, self.dim)
        return factored.as_vector(params.mean) + jnp.exp(params.log_scale) * jnp.matmul(
            z, jnp.asarray(self.lower.T, z.dtype), precision="highest"
        )

    def summarise(self, x, weight):
        count = jnp.sum(weight)
        mean = jnp.matmul(weight, x, precision="highest") / jnp.where(count > 0, count, 1)
        return SampleMean(count, factored.from_arrays(mean, self.dim))

    def draw(self, key, params, n):
        dtype = params.log_scale.dtype
        size = jnp.asarray(n, dtype)
        scale = jnp.exp(params.log_scale) / jnp.sqrt(jnp.maximum(size, 1))
        if self.dim > factored.LARGEST_WRITTEN_OUT:
            z = normal_array(key, (self.dim,))
            shift = jnp.matmul(jnp.asarray(self.lower, dtype), z, precision="highest")
            return SampleMean(size, params.mean + scale * shift)
        z = normals(key, self.dim)
        shift = [
            sum(dtype.type(self.lower[i, j]) * z[j] for j in range(i + 1) if self.lower[i, j])
            for i in range(self.dim)
        ]
        return SampleMean(
            size, tuple(m + scale * s for m, s in zip(params.mean, shift, strict=True))
        )

    def squared_length(self, offset):
        """offset^T covariance^-1 offset of offsets [..., d]."""
        inverse = jnp.asarray(self.inverse.T, offset.dtype)
        return jnp.sum(jnp.matmul(offset, inverse, precision="highest") ** 2, axis=-1)

    def log_prob(self, params, x):
        distance = self.squared_length(x - factored.as_vector(params.mean)) * jnp.exp(
            -2 * params.log_scale
        )
        halved = -(distance + self.log_determinant + self.dim * np.log(2 * np.pi)) / 2
        return halved - self.dim * params.log_scale

    def variance(self, params):
        return self.trace / self.dim * jnp.exp(2 * params.log_scale)

    def log_variance(self, params):
        return self.log_determinant / self.dim + 2 * params.log_scale


@dataclasses.dataclass(frozen=True, eq=False)
class _Distance:
    """A distance between models whose known covariances may differ.

    formula: (one family, other family, params of one, of the other) -> [].
    """

    formula: Callable[..., Any]
    family: _GaussianMean
    real: _GaussianMean

    def __call__(self, params, reference):
        return self.formula(self.family, self.real, params, reference)

    def against(self, real: Estimator) -> "_Distance":
        """The distance to models of another family, if that has a known covariance too."""
        others = [one.family for one in real.distances.values() if isinstance(one, _Distance)]
        return dataclasses.replace(self, real=others[0]) if others else self


def _same_covariance(one, other):
    return one is other or np.array_equal(one.lower, other.lower)


def _squared_wasserstein2(one, other, params, reference):
    apart = jnp.sum(_offset(params, reference) ** 2)
    scale, its_scale = jnp.exp(params.log_scale), jnp.exp(reference.log_scale)
    if _same_covariance(one, other):
        return apart + one.trace * (scale - its_scale) ** 2
    # The roots of the eigenvalues of the product are its singular values.
    shared = float(np.linalg.svd(other.lower.T @ one.lower, compute_uv=False).sum())
    return (
        apart + one.trace * scale**2 + other.trace * its_scale**2 - 2 * shared * scale * its_scale
    )


def _kl(one, other, p, q):
    """KL(N(mean p, covariance of one) || N(mean q, covariance of other))."""
    far = other.squared_length(_offset(p, q)) * jnp.exp(-2 * q.log_scale)
    grown = 2 * (p.log_scale - q.log_scale)
    if _same_covariance(one, other):
        return (far + one.dim * exponential_beyond_line(grown)) / 2
    # x - 1 - log x of each direction's ratio of variances.
    ratios = np.linalg.svd(other.inverse @ one.lower, compute_uv=False)
    logs = jnp.asarray(2 * np.log(ratios), grown.dtype)
    return (far + jnp.sum(exponential_beyond_line(logs + grown))) / 2


_FORMULAS = {
    "squared_wasserstein2": _squared_wasserstein2,
    "wasserstein2": lambda *arguments: jnp.sqrt(_squared_wasserstein2(*arguments)),
    "kl_model_to_real": _kl,
    "kl_real_to_model": lambda one, other, params, real: _kl(other, one, real, params),
}


def _fit(key, params, statistics):
    return GaussianMeanParams(statistics.mean, jnp.zeros_like(statistics.count)), FitInfo.exact()


def _weighed(statistics, w):
    return statistics._replace(count=statistics.count * w)


def _merge(a, b):
    mean = jax.tree.map(
        lambda ours, theirs: averages.pooled(a.count, ours, b.count, theirs), a.mean, b.mean
    )
    return SampleMean(a.count + b.count, mean)


def _tempered(params, temperature):
    return params._replace(log_scale=params.log_scale + jnp.log(temperature) / 2)


def _mean(params):
    return factored.as_vector(params.mean) if len(params.mean) > 1 else params.mean[0]


def _offset(params, real):
    return factored.as_vector(params.mean) - factored.as_vector(real.mean)


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


FAMILY = Family(gaussian_mean, example)
