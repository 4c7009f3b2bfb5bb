"""Kernel density estimate: a Gaussian kernel on every training point."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import check_size_of_params, reals
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.tracing import real_or_traced
from collapse_jax.core.types import Dataset, Estimator, Family, FitInfo
from collapse_jax.errors import InputError, whole
from collapse_jax.numerics import factored, resolution
from collapse_jax.random.bits import key_words, split, uniform, variate_words
from collapse_jax.random.multinomial import inverted
from collapse_jax.random.normal import normal_vector

__all__ = ["kde"]

RULES = ("scott", "silverman")


class KernelParams(NamedTuple):
    """A Gaussian kernel on every training point.

    data: the training points and their weights.
    log_scale, factor: the kernel's covariance U diag(exp(2 log_scale)) U^T, as in `factored`.
    """

    data: Dataset
    log_scale: Any
    factor: Any


@named
def kde(
    dim: int,
    bandwidth: float | str | jax.Array = "scott",
    scaled: bool = True,
    held_out: ArrayLike | None = None,
) -> Estimator:
    """Kernel density estimate with a Gaussian kernel.

    Points x are [n, dim]. Sampling is exact: a draw is a training point, chosen with a probability
    proportional to its weight, plus a draw of the kernel. The density at m points takes time
    proportional to m times the number of training points. A kernel that is scaled by the data's
    covariance makes a chain under `replace` widen geometrically.

    Metrics: mean ([dim]; [] for dim = 1), variance (trace / dim), log_variance (log-determinant /
    dim), bandwidth (geometric mean of the kernel's standard deviations).

    Args:
        dim: d, the number of dimensions, at least 1.
        bandwidth: "scott" and "silverman" multiply the standard deviations of the data (ddof = 1)
            by n^(-1/(d+4)) or (n (d+2)/4)^(-1/(d+4)), as SciPy does. A number is the standard
            deviation of the kernel in every direction, in the units of the data.
        scaled: with False, the factor of the rule is itself the standard deviation, as in
            scikit-learn.
        held_out: points [m, dim] for the metric `held_out_log_likelihood`, the mean log-density []
            in nats.

    Raises:
        InputError: if an argument is out of its range, or held_out is not [m, dim].

    References:
        Silverman 1986, "Density estimation"; used in generational chains by Kazdan et al. 2024,
        arXiv 2410.16713.
    """
    dim = whole("dim", dim, 1)
    if not (isinstance(bandwidth, str) and bandwidth in RULES):
        must_be = "a positive number, 'scott' or 'silverman'"
        bandwidth = real_or_traced("bandwidth", bandwidth, above=0, must_be=must_be)
    family = _Kernel(dim, bandwidth, scaled)
    return estimator(
        family.fit,
        family.sample,
        init=family.init,
        check=reals("kde", dim),
        metrics=METRICS | _held_out_metric(held_out, dim),
        log_prob=log_prob,
        copied=_copied,
    )


def _held_out_metric(held_out, dim):
    if held_out is None:
        return {}
    if np.ndim(held_out) != 2 or np.shape(held_out)[1] != dim or not np.shape(held_out)[0]:
        raise InputError(f"held_out has shape {np.shape(held_out)}; it must be [m, {dim}]")
    points = jnp.asarray(held_out, jnp.result_type(float))
    return {"held_out_log_likelihood": lambda params: jnp.mean(log_prob(params, points))}


class _Kernel(NamedTuple):
    """The options, and what depends on them."""

    dim: int
    bandwidth: float | str | jax.Array
    scaled: bool

    def init(self, key, data):
        return KernelParams(data, *_isotropic(jnp.zeros(()), self.dim))

    def sample(self, key, params, n):
        check_size_of_params("dimensions", params.data.x.shape[1], self.dim)
        return _sample(key, params, n)

    def fit(self, key, params, data):
        return KernelParams(data, *self._kernel(data)), FitInfo.exact()

    def _kernel(self, data):
        """(log_scale, factor) of the kernel on weighted points."""
        dim, count, spread = self.dim, *_effective_counts(data.weight)
        if not isinstance(self.bandwidth, str):
            return _isotropic(jnp.log(jnp.asarray(self.bandwidth, float)), dim)
        points = count if self.bandwidth == "scott" else count * (dim + 2) / 4
        log_factor = -jnp.log(jnp.maximum(points, 1)) / (dim + 4)
        if not self.scaled:
            return _isotropic(log_factor, dim)
        unit, scaled, lost = _centred(data)
        log_scale, factor = factored.of_points(scaled, data.weight, spread)
        log_scale = factored.shifted(log_scale, jnp.log(unit) + log_factor)
        # Points that differ by a few roundings say nothing of a bandwidth.
        return factored.shifted(log_scale, jnp.where(lost, jnp.nan, 0)), factor


def _effective_counts(weight):
    """(Kish's effective number of points, the divisor of the covariance), as in SciPy.

    These are n = (sum w)^2 / sum w^2, and sum w (1 - 1 / n). For n weights of 1 they are n, n - 1.
    """
    total, squares = jnp.sum(weight), jnp.sum(weight**2)
    ratio = total * (total / jnp.where(squares > 0, squares, 1))
    # Without weights it is their number to the last digit.
    count = jnp.where(squares == total, total, ratio)
    spread = total - total / jnp.where(count > 0, count, 1)
    return count, jnp.where(spread > 0, spread, 1)


def _copied(key, params, data, n):
    """The slots [n] of the training points whose kernels are drawn from."""
    which, _ = split(key)
    u = uniform(*variate_words(*key_words(which), jnp.arange(n, dtype=jnp.uint32)))
    return inverted(jnp.cumsum(params.data.weight), u)


def _sample(key, params, n):
    _, shift = split(key)
    place = _copied(key, params, params.data, n)
    dim = params.data.x.shape[1]
    z = normal_vector(shift, n * dim).reshape(n, dim)
    return params.data.x[place] + jnp.matmul(z, _columns(params).T, precision="highest")


def example() -> tuple[Estimator, KernelParams]:
    """Returns (Estimator, params): four points in two dimensions, kernel standard deviation 0.5."""
    x = jnp.array([[0.0, 0.0], [2.0, 1.0], [-1.0, 3.0], [4.0, -2.0]])
    return kde(2, 0.5), KernelParams(Dataset(x, jnp.ones(4)), *_isotropic(jnp.log(0.5), 2))


def log_prob(params: KernelParams, x: jax.Array) -> jax.Array:
    """Returns the log-densities [n] in nats at points x [n, d].

    If the kernel has width 0, they are inf at a training point and -inf elsewhere.
    """
    log_scale = factored.as_vector(params.log_scale)
    factor = factored.as_matrix(params.factor, x.shape[1])
    centre = jnp.average(params.data.x, axis=0, weights=params.data.weight)

    def whitened(points):
        return factored.solved(factor, points - centre)

    # [n, points, d]
    difference = whitened(x)[:, None, :] - whitened(params.data.x)[None, :, :]
    scaled = jnp.where(difference == 0, 0, difference * jnp.exp(-log_scale))
    weight = params.data.weight
    total = jax.scipy.special.logsumexp(
        -jnp.sum(scaled**2, axis=2) / 2, axis=1, b=weight
    ) - jnp.log(jnp.sum(weight))
    constant = -x.shape[1] / 2 * jnp.log(2 * jnp.pi) - jnp.sum(log_scale)
    return jnp.where(total > -jnp.inf, total + constant, -jnp.inf)


def mean(params: KernelParams) -> jax.Array:
    """Returns the mean of the density, [d]; [] for d = 1."""
    centre = jnp.average(params.data.x, axis=0, weights=params.data.weight)
    return centre if centre.shape[0] > 1 else centre[0]


def covariance(params: KernelParams) -> jax.Array:
    """Returns the covariance [d, d] of the density: the points' (ddof = 0) plus the kernel's."""
    unit, scatter = _scatter(params.data)
    columns = _columns(params)
    return scatter / jnp.sum(params.data.weight) * unit**2 + jnp.matmul(
        columns, columns.T, precision="highest"
    )


def variance(params: KernelParams) -> jax.Array:
    """Returns trace / d [] of the covariance."""
    return jnp.mean(jnp.diag(covariance(params)))


def log_variance(params: KernelParams) -> jax.Array:
    """Returns log-determinant / d [] of the covariance; -inf if a direction has no variance."""
    dim = params.data.x.shape[1]
    return jnp.mean(2 * factored.as_vector(factored.decomposed(covariance(params), dim)[0]))


def bandwidth_of(params: KernelParams) -> jax.Array:
    """Returns the geometric mean [] of the kernel's standard deviations, in units of the data."""
    return jnp.exp(jnp.mean(factored.as_vector(params.log_scale)))


METRICS = {
    "mean": mean,
    "variance": variance,
    "log_variance": log_variance,
    "bandwidth": bandwidth_of,
}


def _isotropic(log_deviation, dim):
    log_scale = jnp.full(dim, log_deviation, jnp.result_type(float))
    return factored.from_arrays(log_scale, dim), factored.from_matrix(jnp.eye(dim), dim)


def _columns(params):
    """The matrix [d, d] that makes the kernel of standard normals."""
    log_scale = factored.as_vector(params.log_scale)
    return factored.as_matrix(params.factor, log_scale.shape[0]) * jnp.exp(log_scale)


def _centred(data):
    """(unit [], (x - mean) / unit [n, d], whether digits are lost []); 0 in empty slots."""
    _, centred, lost = resolution.centred(data.x, data.weight)
    unit = jnp.maximum(jnp.max(jnp.abs(centred)), jnp.finfo(centred.dtype).tiny)
    return unit, centred / unit, lost


def _scatter(data):
    """(unit [], sum of weight (x - mean)(x - mean)^T / unit^2 [d, d]); nothing overflows."""
    unit, scaled, _ = _centred(data)
    return unit, jnp.matmul((scaled * data.weight[:, None]).T, scaled, precision="highest")


FAMILY = Family(kde, example)
