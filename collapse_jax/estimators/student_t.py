"""Student's t, fitted by maximum likelihood with expectation-maximisation on points."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import check_location, check_size_of_params, reals
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.tracing import real_or_traced
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, numbers, real, whole
from collapse_jax.numerics import factored, resolution, student
from collapse_jax.numerics.one_by_one import one_by_one
from collapse_jax.random.bits import fold_in, split
from collapse_jax.random.chi_square import log_gamma
from collapse_jax.random.normal import normal_vector

__all__ = ["student_t", "student_t_params"]

# Draws behind the Monte Carlo divergences, the same ones for every model.
_DRAWS = 4096
# Below this inverse, a Student t is a Gaussian to the last digit of float32.
_GAUSSIAN = 1e-8
# Where an estimate of the inverse degrees of freedom starts.
_START = 0.1


class StudentParams(NamedTuple):
    """A Student t with scale matrix U diag(exp(2 log_scale)) U^T.

    location: [d].
    log_scale: [d], -inf in directions without scale.
    factor: [d, d], U, unit lower triangular.
    inverse_df: [], 1 / degrees of freedom; 0 is the Gaussian.
    """

    location: jax.Array
    log_scale: jax.Array
    factor: jax.Array
    inverse_df: jax.Array


@named
def student_t(
    dim: int = 1,
    df: float | jax.Array | None = None,
    smallest_df: float = 0.5,
    steps: int = 500,
    tolerance: float = 1e-5,
) -> Estimator:
    """Student's t, fitted by maximum likelihood with expectation-maximisation (EM).

    Points x are [n, dim]. The model stores 1 / df (df: degrees of freedom), because data determines
    1 / df well even if it cannot distinguish large values of df. 1 / df = 0 is the Gaussian; it is
    the estimate for data with lighter tails. Directions in which all points are equal have scale 0.
    `FitInfo` reports whether the fit converged, the number of iterations, and the loss, which is
    minus the mean log-likelihood. When the points of a chain differ by no more than 8 units of
    rounding, the model becomes nan and the run ends with a `DivergenceError`.

    Metrics: mean (the location, [dim]; [] for dim = 1), variance (trace / dim; inf for df <= 2),
    log_variance (log-determinant / dim), scale (geometric mean of the square roots of the scale
    matrix's eigenvalues), log_scale, inverse_df, df. Distances to the real distribution, if that is
    a Student t too: kl_model_to_real and kl_real_to_model, estimated from 4,096 draws.

    Args:
        dim: the number of dimensions, at least 1.
        df: known degrees of freedom above 0; None estimates them.
        smallest_df: the smallest estimate of df. For df < dim / (n - 1) the likelihood is
            unbounded: it grows as the scale shrinks around a single point.
        steps: the largest number of EM steps.
        tolerance: EM stops when location and scale (in standard deviations) and 1 / df change less.

    Raises:
        InputError: if an argument is out of its range, or `smallest_df` is given with a known df.

    References:
        Dempster, Laird and Rubin 1980; Liu and Rubin 1995.
    """
    family = _Student(
        whole("dim", dim, 1),
        _inverse(df, smallest_df),
        df is None,
        1 / real("smallest_df", smallest_df, above=0, must_be="a number above 0"),
        whole("steps", steps, 1),
        real("tolerance", tolerance, at_least=0, must_be="a finite number of at least 0"),
    )
    fitted = one_by_one(family.fitted)

    def fit(key, params, data):
        there = data.weight[:, None] > 0
        data = data._replace(x=jnp.where(there, data.x, 0))
        return family.placed(data, *fitted(family.start(data.x.dtype), *data))

    return estimator(
        fit,
        family.sample,
        init=family.init,
        check=reals("student_t", dim),
        metrics=METRICS,
        distances=DISTANCES,
        log_prob=log_prob,
        tempered=_tempered,
    )


class _Student(NamedTuple):
    """The options, and what depends on them; `fitted` takes a single chain."""

    dim: int
    inverse_df: Any
    estimated: bool
    largest: float
    steps: int
    tolerance: float

    def start(self, dtype):
        """The inverse degrees of freedom that a fit starts from, or has."""
        start = min(_START, self.largest) if self.estimated else self.inverse_df
        return jnp.asarray(start, dtype)

    def init(self, key, data):
        return StudentParams(
            jnp.zeros(self.dim, data.x.dtype),
            jnp.zeros(self.dim, data.x.dtype),
            jnp.eye(self.dim, dtype=data.x.dtype),
            self.start(data.x.dtype),
        )

    def fitted(self, inverse_df, x, weight):
        """(`student.Fitted` in units, mean [d], unit [], whether digits are lost [])."""
        mean, centred, lost = resolution.centred(x, weight)
        count = jnp.sum(weight)
        unit = jnp.sum(jnp.abs(centred) * weight[:, None]) / jnp.where(count > 0, count, 1)
        unit = jnp.where(unit > 0, unit, 1)
        done = student.expectation_maximisation(
            centred / unit,
            weight.astype(x.dtype),
            inverse_df,
            estimated=self.estimated,
            largest=self.largest,
            steps=self.steps,
            tolerance=self.tolerance,
        )
        return done, mean, unit, lost

    def placed(self, data, done, mean, unit, lost):
        """(params, info) of what was fitted in units about the mean."""
        log_scale = done.log_scale + jnp.where(lost, jnp.nan, jnp.log(unit))
        location = mean + unit * done.location
        params = StudentParams(location, log_scale, done.factor, done.inverse_df)
        total = jnp.sum(data.weight)
        share = data.weight / jnp.where(total > 0, total, 1)
        squared = student.squared_distances(data.x - location, log_scale, done.factor)
        likely = student.mean_log_density(done.inverse_df, squared, share, self.dim)
        loss = jnp.sum(log_scale) - likely
        return params, FitInfo(done.converged, done.iterations, loss)

    def sample(self, key, params, n):
        check_size_of_params("dimensions", params.location.shape[0], self.dim)
        return sample(key, params, n)


def example() -> tuple[Estimator, StudentParams]:
    """Returns (Estimator, params) with 4 degrees of freedom in two correlated dimensions."""
    return student_t(2), student_t_params([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]], 4.0)


def student_t_params(location: ArrayLike, scale: ArrayLike, df: float) -> StudentParams:
    """Returns parameters with this location [d], scale matrix [d, d] and degrees of freedom.

    Args:
        location: [d], or a number for d = 1.
        scale: the scale matrix [d, d] as SciPy's `multivariate_t` has it, in squared units of the
            data; a number for d = 1 is the scale itself, as in `scipy.stats.t`.
        df: degrees of freedom above 0; inf is the Gaussian.

    Raises:
        InputError: unless location and scale are finite, the scale matrix is symmetric and positive
            definite, and the scale is large enough to be resolved by floats near the location.
    """
    location = numbers("location", location)
    scale = numbers("scale", scale)
    if location.ndim == 0 and scale.ndim == 0:
        scale = np.asarray(real("scale", float(scale), above=0)) ** 2
    location, scale = np.atleast_1d(location), np.atleast_2d(scale)
    if location.ndim != 1 or not len(location) or scale.shape != (len(location),) * 2:
        raise InputError(
            f"location has shape {location.shape} and scale {scale.shape}; they must be [d] and "
            "[d, d]"
        )
    if not (np.isfinite(location).all() and np.isfinite(scale).all()):
        raise InputError("location and scale must be finite")
    if not np.allclose(scale, scale.T) or np.linalg.eigvalsh(scale)[0] <= 0:
        raise InputError(f"scale {scale.tolist()} must be symmetric and positive definite")
    check_location("location", location, np.sqrt(np.diag(scale)))
    df = real("df", df, above=0, finite=False, must_be="above 0")
    lower = np.linalg.cholesky(scale)
    diagonal = np.diag(lower)
    arrays = (location, np.log(diagonal), lower / diagonal, 1 / df)
    return StudentParams(*(jnp.asarray(value, jnp.result_type(float)) for value in arrays))


def sample(key: jax.Array, params: StudentParams, n: int) -> jax.Array:
    """Returns n points [n, d]: location + a normal vector / sqrt(chi-square variate / df)."""
    normal_key, chi_key = split(key)
    dim = params.location.shape[0]
    z = normal_vector(normal_key, n * dim).reshape(n, dim)
    shape = 0.5 / jnp.maximum(params.inverse_df, _GAUSSIAN)
    log_share = log_gamma(chi_key, shape, (n,)) - jnp.log(shape)
    log_share = jnp.where(params.inverse_df > _GAUSSIAN, log_share, 0)
    columns = params.factor * jnp.exp(params.log_scale)
    scaled = jnp.matmul(z, columns.T, precision="highest")
    return params.location + scaled * jnp.exp(-log_share / 2)[:, None]


def log_prob(params: StudentParams, x: jax.Array) -> jax.Array:
    """Returns the log-densities [n] in nats of points x [n, d].

    If a direction has scale 0, they are inf on the model's subspace and -inf off it.
    """
    dim = x.shape[1]
    apart = factored.solved(params.factor, x - params.location)
    dead = params.log_scale == -jnp.inf
    off = jnp.any(dead & (apart != 0), axis=1)
    z = jnp.where(dead, 0, apart * jnp.exp(jnp.where(dead, 0, -params.log_scale)))
    kernel = student.half_distance(params.inverse_df, jnp.sum(z**2, axis=1), dim)
    height = student.log_constant(params.inverse_df, dim) - jnp.sum(params.log_scale)
    return jnp.where(off, -jnp.inf, height - kernel)


def _inverse(df, smallest_df):
    """1 / df if df is known, else None."""
    if df is None:
        return None
    if smallest_df != 0.5:
        raise InputError(
            f"smallest_df is {smallest_df} with a known df, which would ignore it; give one of them"
        )
    return 1 / real_or_traced("df", df, above=0, must_be="a finite number above 0, or None")


def _tempered(params, temperature):
    """The density's power 1 / temperature is a Student t again; nan where it has no integral."""
    dim = params.location.shape[0]
    spread = 1 + dim * params.inverse_df * (1 - temperature)
    ratio = temperature / jnp.where(spread > 0, spread, jnp.nan)
    return params._replace(
        log_scale=params.log_scale + jnp.log(ratio) / 2, inverse_df=params.inverse_df * ratio
    )


def _mean(params):
    return params.location if params.location.shape[0] > 1 else params.location[0]


def _inflation(params):
    """The variance over the squared scale: df / (df - 2), inf for df <= 2."""
    left = 1 - 2 * params.inverse_df
    return jnp.where(left > 0, 1 / jnp.where(left > 0, left, 1), jnp.inf)


def _variance(params):
    columns = params.factor * jnp.exp(params.log_scale)
    squares = jnp.sum(columns**2) / params.location.shape[0]
    return jnp.where(squares > 0, squares * _inflation(params), 0)


def _log_variance(params):
    mean = jnp.mean(params.log_scale)
    return jnp.where(mean > -jnp.inf, 2 * mean + jnp.log(_inflation(params)), -jnp.inf)


def _kl_model_to_real(model, real):
    x = sample(fold_in(jax.random.key(0), 0), model, _DRAWS)
    return jnp.mean(log_prob(model, x) - log_prob(real, x))


METRICS = {
    "mean": _mean,
    "variance": _variance,
    "log_variance": _log_variance,
    "scale": lambda params: jnp.exp(jnp.mean(params.log_scale)),
    "log_scale": lambda params: jnp.mean(params.log_scale),
    "inverse_df": lambda params: params.inverse_df,
    "df": lambda params: 1 / params.inverse_df,
}
DISTANCES = {
    "kl_model_to_real": _kl_model_to_real,
    "kl_real_to_model": lambda model, real: _kl_model_to_real(real, model),
}
FAMILY = Family(
    student_t,
    example,
    label="Student t d={dim}, df={df}",
    metrics=("mean", "log_scale", "inverse_df"),
)
