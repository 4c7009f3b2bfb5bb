"""Gaussian mixtures by expectation-maximisation on points."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import check_location, check_size_of_params, reals
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, numbers, one_of, real, whole
from collapse_jax.numerics import mixtures
from collapse_jax.numerics.blocks import in_blocks
from collapse_jax.numerics.cholesky import cholesky, inverse_of, lower
from collapse_jax.numerics.k_means import k_means
from collapse_jax.numerics.one_by_one import one_by_one
from collapse_jax.random.bits import fold_in, key_words, split, uniform, variate_words
from collapse_jax.random.derivatives import CHOICES, step_function
from collapse_jax.random.normal import normal_array

__all__ = ["gmm", "gmm_params"]

KINDS = ("full", "diagonal", "spherical")
STARTS = ("kmeans++", "previous")
# Draws behind the Monte Carlo divergences, the same ones for every model.
_DRAWS = 4096
# Components up to which a point's own parameters are chosen by comparisons rather than looked up.
_COMPARED = 8


class GMMParams(NamedTuple):
    """A Gaussian mixture.

    weights: [K].
    means: [K, d].
    factors: [K, d, d] lower Cholesky factors of the covariances (full), [K, d] standard deviations
        (diagonal), [K] standard deviations (spherical).
    """

    weights: jax.Array
    means: jax.Array
    factors: jax.Array


@named
def gmm(
    num_components: int,
    dim: int,
    covariance: Literal["full", "diagonal", "spherical"] = "full",
    start: Literal["kmeans++", "previous"] = "kmeans++",
    steps: int = 500,
    tolerance: float = 1e-5,
    floor: float = 1e-6,
) -> Estimator:
    """Gaussian mixture, fitted by expectation-maximisation (EM).

    Points x are [n, dim]. `FitInfo` reports whether the fit converged, the number of iterations,
    and the loss: minus the mean log-likelihood of the parameters before the last step (the negative
    of scikit-learn's lower_bound_). A component without points keeps its mean and has weight 0 and
    variance `floor`. Collapsed samples do not give nan.

    Metrics: mean ([dim]; [] for dim = 1), variance (trace / dim) and log_variance (log-determinant
    / dim) of the mixture, component_deviations [K] (the standard deviation of each component, the
    root of trace / dim, largest first), smallest_weight. Distances to the real distribution, if
    that is a mixture too: squared_l2 and log_squared_l2 of the densities, in closed form, and
    kl_model_to_real and kl_real_to_model, estimated from 4,096 draws.

    Args:
        num_components: K, at least 1.
        dim: d, at least 1.
        covariance: the form of each component's covariance.
        start: "kmeans++" starts each fit with k-means++ and Lloyd's algorithm. "previous" starts
            with the parameters of the generation before; generation 0 starts with k-means++.
        steps: the largest number of EM steps.
        tolerance: EM stops when the mean log-likelihood changes by less than this.
        floor: the number added to each variance.

    Raises:
        InputError: if an argument is out of its range.

    References:
        Dempster, Laird and Rubin 1977; start, stop and floor as scikit-learn's GaussianMixture,
        which Shumailov et al. 2024 use.
    """
    family = _Mixture(
        whole("num_components", num_components, 1),
        whole("dim", dim, 1),
        one_of("covariance", covariance, KINDS),
        one_of("start", start, STARTS),
        whole("steps", steps, 1),
        real("tolerance", tolerance, at_least=0, finite=False, must_be="at least 0"),
        real("floor", floor, above=0, must_be="a positive variance"),
    )
    return _estimator(family)


def _estimator(family):
    fitted, first = one_by_one(family.fitted), one_by_one(family.first)

    def init(key, data):
        if family.start == "previous":
            return family.packed(*first(key, *data))
        return family.standard(data.x.dtype)

    def fit(key, params, data):
        done = fitted(key, params, *data)
        info = FitInfo(done.converged, done.iterations, -done.log_likelihood)
        return family.packed(done.weights, done.means, done.factors), info

    def drawn(key, params, n):
        check_size_of_params("dimensions", params.means.shape[1], family.dim)
        return sample(key, params, n)

    return estimator(
        fit,
        drawn,
        init=init,
        check=reals("gmm", family.dim),
        metrics=METRICS,
        distances=DISTANCES,
        log_prob=log_prob,
    )


class _Mixture(NamedTuple):
    """The options, and what depends on them; `fitted` and `first` take a single chain."""

    number: int
    dim: int
    kind: str
    start: str
    steps: int
    tolerance: float
    floor: float

    def packed(self, weights, means, factors):
        """Parameters from the arrays of `mixtures`, where spherical factors are [K, d]."""
        return GMMParams(weights, means, factors[:, 0] if self.kind == "spherical" else factors)

    def standard(self, dtype):
        """Equal components at the origin."""
        factor = np.eye(self.dim) if self.kind == "full" else np.ones(self.dim)
        arrays = (
            np.full(self.number, 1 / self.number),
            np.zeros((self.number, self.dim)),
            np.stack([factor] * self.number),
        )
        return self.packed(*(jnp.asarray(value, dtype) for value in arrays))

    def by_k_means(self, key, x, weight):
        labels, means = k_means(key, x, weight, self.number)
        return mixtures.maximised(x, weight, labels, means, floor=self.floor, kind=self.kind)

    def first(self, key, x, weight):
        return self.by_k_means(key, *in_blocks(x, weight))

    def fitted(self, key, params, x, weight):
        x, weight = in_blocks(x, weight)
        begun = self.by_k_means(key, x, weight) if self.start == "kmeans++" else _unpacked(params)
        return mixtures.expectation_maximisation(
            x,
            weight,
            *begun,
            steps=self.steps,
            tolerance=self.tolerance,
            floor=self.floor,
            kind=self.kind,
        )


def _unpacked(params):
    """(weights, means, factors) as `mixtures` has them, spherical factors as [K, d]."""
    factors = params.factors
    if factors.ndim == 1:
        factors = jnp.broadcast_to(factors[:, None], params.means.shape)
    return params.weights, params.means, factors


def example() -> tuple[Estimator, GMMParams]:
    """Returns (Estimator, params) with two correlated components in two dimensions."""
    return gmm(2, 2), gmm_params(
        [0.3, 0.7],
        [[-2.0, 0.0], [1.0, 1.0]],
        [[[0.5, 0.2], [0.2, 0.4]], [[1.0, -0.3], [-0.3, 0.6]]],
    )


def gmm_params(weights: ArrayLike, means: ArrayLike, covariances: ArrayLike) -> GMMParams:
    """Returns parameters with these weights, means and covariances.

    Args:
        weights: [K], non-negative, with sum 1.
        means: [K, d].
        covariances: [K, d, d] (full), or variances [K, d] (diagonal) or [K] (spherical).

    Raises:
        InputError: unless the weights are non-negative and sum to 1, the shapes agree, and the
            covariances are positive definite.
    """
    weights = numbers("weights", weights)
    means, covariances = numbers("means", means), numbers("covariances", covariances)
    if (
        weights.ndim != 1
        or not np.isfinite(weights).all()
        or weights.min(initial=0) < 0
        or abs(weights.sum() - 1) > 1e-6
    ):
        raise InputError(f"weights {weights.tolist()} must be [K], non-negative, and sum to 1")
    number = len(weights)
    if means.ndim != 2 or len(means) != number or not np.isfinite(means).all():
        raise InputError(f"means has shape {means.shape}; it must be [{number}, d], finite")
    factors = _factors(covariances, number, means.shape[1])
    deviations = np.sqrt(np.diagonal(_matrices(covariances, means.shape[1]), axis1=1, axis2=2))
    check_location("means", means, deviations)
    arrays = (weights / weights.sum(), means, factors)
    return GMMParams(*(jnp.asarray(value, jnp.result_type(float)) for value in arrays))


def _factors(covariances, number, dim):
    """Cholesky factors of covariances, or standard deviations of variances; or `InputError`."""
    shapes = ((number, dim, dim), (number, dim), (number,))
    if covariances.shape not in shapes or not np.isfinite(covariances).all():
        raise InputError(
            f"covariances has shape {covariances.shape}; it must be {shapes[0]}, {shapes[1]} or "
            f"{shapes[2]}, finite"
        )
    if covariances.ndim < 3:
        smallest = covariances.min()
    elif np.allclose(covariances, np.swapaxes(covariances, 1, 2)):
        smallest = np.linalg.eigvalsh(covariances).min()
    else:
        smallest = -1
    if not smallest > 0:
        raise InputError(
            f"covariances {covariances.tolist()} must be symmetric and positive definite"
        )
    return np.sqrt(covariances) if covariances.ndim < 3 else np.linalg.cholesky(covariances)


def _matrices(covariances, dim):
    """Covariances [K, d, d] of variances [K, d] or [K], or as they are."""
    if covariances.ndim == 3:
        return covariances
    if covariances.ndim == 1:
        covariances = covariances[:, None]
    return covariances[:, :, None] * np.eye(dim)


def sample(key: jax.Array, params: GMMParams, n: int) -> jax.Array:
    """Returns n points [n, d], each from a component that is drawn with its weight."""
    number, dim = params.means.shape
    component_key, normal_key = split(key)
    u = uniform(*variate_words(*key_words(component_key), jnp.arange(n, dtype=jnp.uint32)))
    z = normal_array(normal_key, (n, dim))
    ends = jnp.cumsum(params.weights)
    ends = ends / ends[-1]
    component = sum((u >= ends[k]).astype(jnp.int32) for k in range(number - 1))
    component = component if number > 1 else jnp.zeros(n, jnp.int32)
    component = step_function(component, params.weights, CHOICES)
    factors = lower(params.factors, dim)

    def of_each(values):
        """values [K] at each point's component."""
        if number > _COMPARED:
            return values[component]
        chosen = jnp.broadcast_to(values[0], (n,))
        for k in range(1, number):
            chosen = jnp.where(component == k, values[k], chosen)
        return chosen

    def coordinate(i):
        columns = range(i + 1) if params.factors.ndim == 3 else (i,)
        return of_each(params.means[:, i]) + sum(
            of_each(factors[:, i, j]) * z[:, j] for j in columns
        )

    return jnp.stack([coordinate(i) for i in range(dim)], axis=1)


def log_prob(params: GMMParams, x: jax.Array) -> jax.Array:
    """Returns the log-densities [n] in nats of points x [n, d]."""
    inverse = inverse_of(lower(params.factors, params.means.shape[1]))
    return mixtures.log_sum(
        list(mixtures.log_densities(params.weights, params.means, inverse, x.T))
    )


def covariances(params: GMMParams) -> jax.Array:
    """Returns the covariances of the components [K, d, d]."""
    factors = lower(params.factors, params.means.shape[1])
    return jnp.matmul(factors, jnp.swapaxes(factors, 1, 2), precision="highest")


def mean(params: GMMParams) -> jax.Array:
    """Returns the mean of the mixture [d], or [] for d = 1."""
    centre = jnp.sum(params.weights[:, None] * params.means, axis=0)
    return centre if len(centre) > 1 else centre[0]


def covariance(params: GMMParams) -> jax.Array:
    """Returns the covariance of the mixture [d, d]."""
    centred = params.means - jnp.sum(params.weights[:, None] * params.means, axis=0)
    return jnp.sum(
        params.weights[:, None, None]
        * (covariances(params) + centred[:, :, None] * centred[:, None]),
        axis=0,
    )


def variance(params: GMMParams) -> jax.Array:
    """Returns trace / d of the covariance of the mixture."""
    return jnp.mean(jnp.diagonal(covariance(params)))


def log_variance(params: GMMParams) -> jax.Array:
    """Returns log-determinant / d of the covariance of the mixture."""
    factor = cholesky(covariance(params)[None], jnp.finfo(params.means.dtype).tiny)[0]
    return 2 * jnp.mean(jnp.log(jnp.diagonal(factor)))


def component_deviations(params: GMMParams) -> jax.Array:
    """Returns the square root of trace / d of each component's covariance [K], largest first."""
    return jnp.sort(
        jnp.sqrt(jnp.mean(jnp.diagonal(covariances(params), axis1=1, axis2=2), axis=1)),
        descending=True,
    )


def smallest_weight(params: GMMParams) -> jax.Array:
    """Returns the smallest weight of a component."""
    return jnp.min(params.weights)


def log_squared_l2(model: GMMParams, reference: GMMParams) -> jax.Array:
    """Returns the logarithm of the integral of (p - q)^2.

    It is -inf if rounding hides the difference of the densities (below about 1e-6 of their norms).

    References:
        Derived here: the integral of the product of two Gaussian densities is the density of a
        Gaussian with the sum of their covariances, at the difference of their means.
    """
    weights = jnp.concatenate([model.weights, -reference.weights])
    means = jnp.concatenate([model.means, reference.means])
    all_covariances = jnp.concatenate([covariances(model), covariances(reference)])
    number = len(means)
    first, second = np.tril_indices(number)
    summed = all_covariances[first] + all_covariances[second]
    factors = cholesky(summed, jnp.finfo(means.dtype).tiny)
    # The density of each pair's difference at 0, on the log scale: a collapsed component's is
    # beyond any float.
    logs = mixtures.log_densities_at_0(means[first] - means[second], inverse_of(factors))
    signed = weights[first] * weights[second] * np.where(first == second, 1.0, 2.0)
    largest = jnp.max(jnp.where(signed != 0, logs, -jnp.inf))
    terms = signed * jnp.exp(jnp.minimum(logs - largest, 0))
    total = jnp.sum(terms)
    return largest + jnp.log(
        jnp.where(total > 4 * jnp.finfo(total.dtype).eps * jnp.sum(jnp.abs(terms)), total, 0)
    )


def squared_l2(model: GMMParams, reference: GMMParams) -> jax.Array:
    """Returns the integral of (p - q)^2, in units of density; see `log_squared_l2`."""
    return jnp.exp(log_squared_l2(model, reference))


def kl_model_to_real(model: GMMParams, real: GMMParams) -> jax.Array:
    """Returns KL(model || real) in nats, estimated from 4,096 draws of the model with a fixed key.

    All chains and generations share that key and therefore its Monte Carlo error: an average over
    chains does not remove the error.
    """
    x = sample(fold_in(jax.random.key(0), 0), model, _DRAWS)
    return jnp.mean(log_prob(model, x) - log_prob(real, x))


def kl_real_to_model(model: GMMParams, real: GMMParams) -> jax.Array:
    """Returns KL(real || model) in nats, estimated from 4,096 draws of `real` with a fixed key."""
    return kl_model_to_real(real, model)


METRICS = {
    "mean": mean,
    "variance": variance,
    "log_variance": log_variance,
    "component_deviations": component_deviations,
    "smallest_weight": smallest_weight,
}
DISTANCES = {
    "squared_l2": squared_l2,
    "log_squared_l2": log_squared_l2,
    "kl_model_to_real": kl_model_to_real,
    "kl_real_to_model": kl_real_to_model,
}
FAMILY = Family(gmm, example)
