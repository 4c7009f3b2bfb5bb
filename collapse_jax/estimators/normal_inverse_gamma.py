"""Gaussian with a conjugate prior: a draw of mean and covariance, or the posterior mean or mode.

The prior is normal-inverse-gamma, and normal-inverse-Wishart in several dimensions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.closed_forms import ClosedForms, Setting
from collapse_jax.core.factory import named
from collapse_jax.core.tracing import real_or_traced
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, numbers, one_of, whole
from collapse_jax.estimators.gaussian import GaussianParams, Moments, gaussian, gaussian_params
from collapse_jax.numerics import factored
from collapse_jax.random.bits import split
from collapse_jax.random.chi_square import log_gamma
from collapse_jax.random.normal import normal_array, normals

__all__ = ["normal_inverse_gamma"]

ESTIMATES = ("sample", "mean", "mode", "maximum_likelihood")
# shape, with strength and scale 0, of the prior whose posterior has M - 1 degrees of freedom.
_REFERENCE = -0.5


@named
def normal_inverse_gamma(
    dim: int = 1,
    mean: float | Sequence[float] | ArrayLike | jax.Array = 0.0,
    strength: float | jax.Array = 0.0,
    shape: float | jax.Array = _REFERENCE,
    scale: float | jax.Array = 0.0,
    estimate: Literal["sample", "mean", "mode", "maximum_likelihood"] = "sample",
    by: Literal["law", "points"] = "law",
) -> Estimator:
    """Gaussian with a conjugate prior; by default mean and variance are drawn from the posterior.

    Points x are [n, dim]. The prior of the variance is inverse gamma (shape, scale). In several
    dimensions it is inverse Wishart with 2 * shape degrees of freedom and matrix 2 * scale * I. The
    prior of the mean, given the covariance, is Normal(`mean`, covariance / strength). A posterior
    draw costs the same for every sample size.

    Under `replace` a proper prior is the stationary distribution of the chain, which forgets the
    real distribution. The default is the reference prior 1 / variance (Jeffreys's independence
    prior in several dimensions). With it the log-variance is a symmetric random walk without drift,
    with twice the noise of maximum likelihood.

    Parameters, metrics and distances are those of `gaussian`, and the same sources can be used. If
    the posterior is improper (M + 2 * shape <= dim - 1), the model is nan and the run ends with a
    `DivergenceError`. If scale is 0 and all points are equal (one point, for example), the model
    has variance 0 instead, as under `gaussian`.

    Args:
        dim: the number of dimensions, at least 1.
        mean: the prior's expectation of the mean, a number or [dim].
        strength: the number of points that `mean` counts as, at least 0.
        shape: of the inverse gamma; a proper prior has shape > (dim - 1) / 2 and scale > 0.
        scale: of the inverse gamma, at least 0, in squared units of the data.
        estimate: how the model is chosen from the posterior: "sample" draws from it, "mean" and
            "mode" are those of its joint density in mean and covariance. "maximum_likelihood" is
            `gaussian` with ddof=0 and takes no prior.
        by: how the statistics of the next sample are drawn, as in `gaussian`.

    Raises:
        InputError: if an argument is out of its range, or part of a prior is given that would be
            ignored.

    References:
        Gelman et al. 2013, "Bayesian Data Analysis", sections 3.2, 3.3 and 3.6; the chain is
        derived (`theory.bayesian`).
    """
    dim = whole("dim", dim, 1)
    one_of("by", by, ("law", "points"))
    base = gaussian(dim, ddof=0, by=by)
    if one_of("estimate", estimate, ESTIMATES) == "maximum_likelihood":
        _check_unused(mean, strength, shape, scale)
        return base
    prior = _Prior(
        dim,
        _checked_mean(mean, dim, strength),
        real_or_traced("strength", strength, at_least=0, must_be="a finite number of at least 0"),
        real_or_traced("shape", shape, must_be="a finite number"),
        real_or_traced("scale", scale, at_least=0, must_be="a finite number of at least 0"),
        estimate,
    )
    return base._replace(fit=prior.fit)


def example() -> tuple[Estimator, GaussianParams]:
    """Returns (Estimator, params) in one dimension, with a prior that counts as two points."""
    family = normal_inverse_gamma(mean=1.0, strength=2.0, shape=2.0, scale=2.0)
    return family, gaussian_params(1.0, 2.0)


class _Prior(NamedTuple):
    """The prior, and what of the posterior is the model."""

    dim: int
    mean: Any
    strength: Any
    shape: Any
    scale: Any
    estimate: str

    def fit(self, key: jax.Array, params: Any, statistics: Moments):
        points = statistics.count + self.strength
        centre = self._centre(statistics, points)
        log_scale, factor = self._scatter(statistics)
        freedom = 2 * self.shape + statistics.count
        if self.estimate != "sample":
            divisor = freedom + (-self.dim - 1 if self.estimate == "mean" else self.dim + 2)
            grown = -jnp.log(jnp.where(divisor > 0, divisor, jnp.nan)) / 2
            model = GaussianParams(centre, _where_alive(log_scale, grown), factor)
            return model, FitInfo.exact()
        wishart_key, mean_key = split(key)
        log_diagonal, below = inverse_wishart_factor(wishart_key, freedom, self.dim)
        scales, product = factored.times_triangle(log_scale, factor, log_diagonal, below)
        # A posterior scatter of 0 leaves no variance, whatever the degrees of freedom.
        scales = jax.tree.map(lambda s, before: jnp.where(before > -jnp.inf, s, before),
                              scales, log_scale)  # fmt: skip
        z = _normals(mean_key, self.dim)
        root = 1 / jnp.sqrt(jnp.where(points > 0, points, jnp.nan))
        shift = factored.times_vector(scales, product, z)
        centre = jax.tree.map(lambda m, s: m + s * root, centre, shift)
        return GaussianParams(centre, scales, product), FitInfo.exact()

    def _centre(self, statistics, points):
        """The posterior's mean, d as in the parameters."""
        if isinstance(self.strength, float) and self.strength == 0:
            return statistics.mean
        share = self.strength / jnp.where(points > 0, points, 1)
        return jax.tree.map(lambda m, m0: m + (m0 - m) * share, statistics.mean, self._prior_mean())

    def _prior_mean(self):
        vector = jnp.broadcast_to(jnp.asarray(self.mean, jnp.result_type(float)), (self.dim,))
        return factored.from_arrays(vector, self.dim)

    def _scatter(self, statistics):
        """(log_scale, factor) of the posterior's scale matrix."""
        own = factored.half_log(statistics.divisor)
        known = isinstance(self.strength, float) and isinstance(self.scale, float)
        if known and self.strength == 0 and self.scale == 0:
            return factored.shifted(statistics.log_scale, own), statistics.factor
        strength = jnp.asarray(self.strength, jnp.result_type(float))
        count = statistics.count
        both = strength + count
        apart = jax.tree.map(lambda m, m0: m - m0, statistics.mean, self._prior_mean())
        half = factored.half_log(2 * jnp.asarray(self.scale, strength.dtype))
        ball = factored.from_arrays(jnp.broadcast_to(half, (self.dim,)), self.dim)
        eye = factored.from_matrix(jnp.eye(self.dim, dtype=strength.dtype), self.dim)
        parts = [
            (statistics.divisor, statistics.log_scale, statistics.factor),
            (jnp.ones_like(strength), ball, eye),
        ]
        weight = strength * count / jnp.where(both > 0, both, 1)
        return factored.pooled(parts, apart, weight, self.dim)


def inverse_wishart_factor(key: jax.Array, degrees_of_freedom: jax.Array, dim: int):
    """Returns (log_diagonal, below) of a triangle T with T T^T ~ inverse Wishart(degrees, I).

    T is lower triangular, in the form of `factored.times_triangle`: below[k, j] T[j, j] is T[k, j].
    The result is nan unless degrees_of_freedom > dim - 1. Derived: T is the inverse of the lower
    triangle R of a Wishart matrix R^T R. The diagonal of R has chi variables with degrees - dim +
    1, ..., degrees degrees of freedom; its entries below the diagonal are standard normal.

    References:
        Bartlett 1933.
    """
    chi_key, normal_key = split(key)
    freedom = jnp.asarray(degrees_of_freedom, jnp.result_type(float))
    freedom = freedom - (dim - 1) + jnp.arange(dim, dtype=freedom.dtype)
    freedom = jnp.where(freedom > 0, freedom, jnp.nan)
    log_chi = (log_gamma(chi_key, freedom / 2, (dim,)) + jnp.log(2.0)) / 2
    if dim > factored.LARGEST_WRITTEN_OUT:
        diagonal = jnp.exp(log_chi)
        lower = jnp.tril(normal_array(normal_key, (dim, dim)), -1) / diagonal[:, None]
        unit = jax.scipy.linalg.solve_triangular(
            lower, jnp.eye(dim, dtype=diagonal.dtype), lower=True, unit_diagonal=True
        )
        return -log_chi, jnp.tril(unit, -1)
    logs = factored.from_arrays(log_chi, dim)
    z = normals(normal_key, dim * (dim - 1) // 2) if dim > 1 else []
    ratio = {}
    for j in range(dim):
        ratio[j, j] = 1.0
        for k in range(j + 1, dim):
            terms = sum(z[factored.place(k, i)] * ratio[i, j] for i in range(j, k))
            ratio[k, j] = -terms * jnp.exp(-logs[k])
    below = tuple(ratio[k, j] for k in range(dim) for j in range(k))
    return tuple(-one for one in logs), below


def _normals(key, dim):
    """d standard normals, in the form of a model's mean."""
    if dim > factored.LARGEST_WRITTEN_OUT:
        return normal_array(key, (dim,))
    return tuple(normals(key, dim))


def _where_alive(log_scale, by):
    """log_scale + by; where it is -inf it stays so, whatever `by` is."""
    return jax.tree.map(lambda s: jnp.where(s > -jnp.inf, s + by, s), log_scale)


def _check_unused(mean, strength, shape, scale):
    """Raises `InputError` for part of a prior that maximum likelihood would ignore."""
    defaults = {"mean": 0.0, "strength": 0.0, "shape": _REFERENCE, "scale": 0.0}
    given = {"mean": mean, "strength": strength, "shape": shape, "scale": scale}
    for name, value in given.items():
        if np.ndim(value) or isinstance(value, jax.core.Tracer) or value != defaults[name]:
            raise InputError(
                f"{name} is {value!r:.60} with estimate 'maximum_likelihood', which ignores it; "
                "give estimate='sample', 'mean' or 'mode'"
            )


def _checked_mean(mean, dim, strength):
    """The prior's mean as a number or an array [dim], traced or not."""
    if np.ndim(mean) == 0:
        mean = real_or_traced("mean", mean, must_be="a finite number")
    elif np.shape(mean) != (dim,):
        raise InputError(f"mean has shape {list(np.shape(mean))}; it must be one number or [{dim}]")
    elif isinstance(mean, jax.core.Tracer):
        return jnp.where(jnp.isfinite(mean), mean, jnp.nan)
    else:
        values = numbers("mean", mean)
        if not np.isfinite(values).all():
            raise InputError(f"mean is {values.tolist()}; it must be finite")
        mean = values
    unused = not isinstance(strength, jax.Array) and strength == 0
    if unused and not isinstance(mean, jax.core.Tracer) and np.any(np.asarray(mean) != 0):
        raise InputError(
            f"mean is {mean!r:.60} with strength 0, which ignores it; give a strength above 0"
        )
    return mean


def _real(options: Mapping[str, Any]) -> tuple[Estimator, GaussianParams]:
    """The standard normal."""
    dim = options["dim"]
    return normal_inverse_gamma(**options), gaussian_params(np.zeros(dim), np.eye(dim))


def _means(setting: Setting, generation: ArrayLike) -> dict[str, np.ndarray]:
    from collapse_jax.theory import bayesian as theory  # here: theory imports scipy.stats

    options = setting.options
    if setting.workflow["workflow"] != "replace" or options["dim"] != 1:
        return {}
    prior = {name: options[name] for name in ("strength", "shape", "scale")}
    prior["mean"] = float(np.ravel(options["mean"])[0])
    moments = theory.gaussian_moments(
        generation, setting.sample_size, estimate=options["estimate"], **prior
    )
    return {"variance": moments[0]} if np.isfinite(moments[0]).all() else {}


FAMILY = Family(
    normal_inverse_gamma,
    example,
    label="Gaussian d={dim}, prior ({mean}, {strength}, {shape}, {scale}), {estimate}",
    metrics=("mean", "variance", "log_variance"),
    laws=ClosedForms(_means, real=_real),
)
