"""Gaussian mixtures by expectation-maximisation on points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, FitInfo
from collapse_jax.errors import InputError, numbers
from collapse_jax.numerics import mixtures
from collapse_jax.random.bits import fold_in, key_words, split, uniform, variate_words
from collapse_jax.random.normal import normal_array

KINDS = ("full", "diagonal", "spherical")
STARTS = ("kmeans++", "previous")
# Draws behind the Monte Carlo divergences, the same ones for every model.
_DRAWS = 4096
# Components up to which a point's own parameters are chosen by comparisons rather than looked up.
_COMPARED = 8


class GMMParams(NamedTuple):
    """A mixture. weights: [K]. means: [K, d].

    factors: [K, d, d] lower Cholesky factors of the covariances (full), [K, d] deviations
    (diagonal), [K] deviations (spherical).
    """

    weights: jax.Array
    means: jax.Array
    factors: jax.Array


@named
def gmm(
    num_components: int,
    dim: int,
    covariance: str = "full",
    start: str = "kmeans++",
    steps: int = 500,
    tolerance: float = 1e-5,
    floor: float = 1e-6,
) -> Estimator:
    """Gaussian mixture of `num_components` components in `dim` dimensions by
    expectation-maximisation; x is [n, dim].

    covariance: "full", "diagonal" or "spherical". start: "kmeans++" (k-means++, then Lloyd's steps,
    anew in each fit), or "previous"
    (the parameters of the generation before; generation 0 starts with k-means). At most `steps`
    steps of EM, which end when the mean log-likelihood changes by less than `tolerance`; `FitInfo`
    holds converged, iterations, and as the loss minus the mean
    log-likelihood (of the parameters before the last step, as scikit-learn's lower_bound_). floor:
    added to each variance.
    A component that no point belongs to keeps its mean with weight 0 and variance `floor`. Nothing
    becomes nan on collapsed samples. Metrics: mean ([dim]; [] for dim = 1), variance (trace / dim)
    and log_variance (log-determinant / dim) of the mixture, component_deviations [K] (root of trace
    / dim, largest first), smallest_weight. Distances to the real distribution, where that is a
    mixture too: squared_l2 and log_squared_l2 of the densities, in closed form, and
    kl_model_to_real and kl_real_to_model from 4,096 draws. Raises `InputError` for sizes below 1,
    an unknown covariance or start, a negative tolerance, or a floor that is not positive.
    Source: Dempster, Laird and Rubin 1977; start, stop and floor as scikit-learn's GaussianMixture,
    which Shumailov et al. 2024 use.
    """
    for name, value in {"num_components": num_components, "dim": dim, "steps": steps}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; it must be an integer of at least 1")
    for name, value, known in (("covariance", covariance, KINDS), ("start", start, STARTS)):
        if value not in known:
            raise InputError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not tolerance >= 0:
        raise InputError(f"tolerance is {tolerance!r}; it must be at least 0")
    if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 < floor < np.inf:
        raise InputError(f"floor is {floor!r}; it must be a positive variance")

    def packed(weights, means, factors):
        return GMMParams(weights, means, factors[:, 0] if covariance == "spherical" else factors)

    def by_k_means(key, x, weight):
        labels, means = mixtures.k_means(key, x, weight, num_components)
        return mixtures.maximised(x, weight, labels, means, floor=floor, kind=covariance)

    def unpacked(params):
        factors = params.factors
        return (
            params.weights,
            params.means,
            jnp.broadcast_to(factors[:, None], params.means.shape)
            if factors.ndim == 1
            else factors,
        )

    @mixtures.one_by_one
    def fitted(key, params, x, weight):
        x, weight = mixtures.in_blocks(x, weight)
        begun = by_k_means(key, x, weight) if start == "kmeans++" else unpacked(params)
        return mixtures.expectation_maximisation(
            x, weight, *begun, steps=steps, tolerance=tolerance, floor=floor, kind=covariance
        )

    @mixtures.one_by_one
    def first(key, x, weight):
        return by_k_means(key, *mixtures.in_blocks(x, weight))

    def init(key, data):
        if start == "previous":
            return packed(*first(key, *data))
        one = np.eye(dim) if covariance == "full" else np.ones(dim)
        arrays = (
            np.full(num_components, 1 / num_components),
            np.zeros((num_components, dim)),
            np.stack([one] * num_components),
        )
        return packed(*(jnp.asarray(value, data.x.dtype) for value in arrays))

    def fit(key, params, data):
        done = fitted(key, params, *data)
        return packed(done.weights, done.means, done.factors), FitInfo(
            done.converged, done.iterations, -done.log_likelihood
        )

    return estimator(
        fit, sample, init=init, log_prob=log_prob, metrics=METRICS, distances=DISTANCES
    )


def example():
    """(Estimator, params) of two correlated components in two dimensions."""
    return gmm(2, 2), gmm_params(
        [0.3, 0.7],
        [[-2.0, 0.0], [1.0, 1.0]],
        [[[0.5, 0.2], [0.2, 0.4]], [[1.0, -0.3], [-0.3, 0.6]]],
    )


def gmm_params(weights, means, covariances) -> GMMParams:
    """Parameters from weights [K], means [K, d], and covariances [K, d, d] (full), variances [K, d]
    (diagonal) or [K] (spherical).

    Raises `InputError` unless the weights are non-negative and sum to 1, the shapes agree, and the
    covariances are positive definite.
    """
    given = {"weights": weights, "means": means, "covariances": covariances}
    weights, means, covariances = (numbers(name, value) for name, value in given.items())
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
    dim = means.shape[1]
    if (
        covariances.shape not in ((number, dim, dim), (number, dim), (number,))
        or not np.isfinite(covariances).all()
    ):
        raise InputError(
            f"covariances has shape {covariances.shape}; it must be {(number, dim, dim)}, "
            f"{(number, dim)} or {(number,)}, finite"
        )
    if covariances.ndim < 3:
        smallest, factors = covariances.min(), np.sqrt(np.maximum(covariances, 0))
    else:
        smallest = (
            np.linalg.eigvalsh(covariances).min()
            if np.allclose(covariances, np.swapaxes(covariances, 1, 2))
            else -1
        )
        factors = np.linalg.cholesky(covariances) if smallest > 0 else None
    if not smallest > 0:
        raise InputError(
            f"covariances {covariances.tolist()} must be symmetric and positive definite"
        )
    return GMMParams(
        *(
            jnp.asarray(value, jnp.result_type(float))
            for value in (weights / weights.sum(), means, factors)
        )
    )


def sample(key, params: GMMParams, n: int):
    """n points [n, d]: each draws its component, then a normal point of that.

    Source: derived here (inversion).
    """
    number, dim = params.means.shape
    component_key, normal_key = split(key)
    u = uniform(*variate_words(*key_words(component_key), jnp.arange(n, dtype=jnp.uint32)))
    z = normal_array(normal_key, (n, dim))
    ends = jnp.cumsum(params.weights)
    ends = ends / ends[-1]
    component = (
        sum((u >= ends[k]).astype(jnp.int32) for k in range(number - 1))
        if number > 1
        else jnp.zeros(n, jnp.int32)
    )
    factors = mixtures.lower(params.factors, dim)

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


def log_prob(params: GMMParams, x):
    """Log-density [n] in nats of points x [n, d]. Source: derived here."""
    factors = mixtures.lower(params.factors, params.means.shape[1])
    return mixtures.log_sum(
        list(
            mixtures.log_densities(params.weights, params.means, mixtures.inverse_of(factors), x.T)
        )
    )


def covariances(params: GMMParams):
    """The covariances of the components [K, d, d]."""
    factors = mixtures.lower(params.factors, params.means.shape[1])
    return jnp.matmul(factors, jnp.swapaxes(factors, 1, 2), precision="highest")


def mean(params: GMMParams):
    """The mean of the mixture [d], [] for d = 1."""
    whole = jnp.sum(params.weights[:, None] * params.means, axis=0)
    return whole if len(whole) > 1 else whole[0]


def covariance(params: GMMParams):
    """The covariance of the mixture [d, d]."""
    centred = params.means - jnp.sum(params.weights[:, None] * params.means, axis=0)
    return jnp.sum(
        params.weights[:, None, None]
        * (covariances(params) + centred[:, :, None] * centred[:, None]),
        axis=0,
    )


def variance(params: GMMParams):
    """Trace / d of the covariance of the mixture."""
    return jnp.mean(jnp.diagonal(covariance(params)))


def log_variance(params: GMMParams):
    """Log-determinant / d of the covariance of the mixture."""
    factor = mixtures.cholesky(covariance(params)[None], jnp.finfo(params.means.dtype).tiny)[0]
    return 2 * jnp.mean(jnp.log(jnp.diagonal(factor)))


def component_deviations(params: GMMParams):
    """Root of trace / d of each component's covariance [K], largest first."""
    return jnp.sort(
        jnp.sqrt(jnp.mean(jnp.diagonal(covariances(params), axis1=1, axis2=2), axis=1)),
        descending=True,
    )


def smallest_weight(params: GMMParams):
    """The weight of the smallest component."""
    return jnp.min(params.weights)


def log_squared_l2(model: GMMParams, reference: GMMParams):
    """Log of the integral of (p - q)^2; -inf where rounding cannot tell the two apart (below about
    1e-6 of the densities' own norms).

    Source: derived here: the integral of the product of two Gaussians is one's density at the
    other's mean with both covariances.
    """
    weights = jnp.concatenate([model.weights, -reference.weights])
    means = jnp.concatenate([model.means, reference.means])
    all_covariances = jnp.concatenate([covariances(model), covariances(reference)])
    number = len(means)
    first, second = np.tril_indices(number)
    summed = all_covariances[first] + all_covariances[second]
    factors = mixtures.cholesky(summed, jnp.finfo(means.dtype).tiny)
    # The density of each pair's difference at 0, on the log scale: a collapsed component's is
    # beyond any float.
    logs = mixtures.log_densities_at_0(means[first] - means[second], mixtures.inverse_of(factors))
    signed = weights[first] * weights[second] * np.where(first == second, 1.0, 2.0)
    largest = jnp.max(jnp.where(signed != 0, logs, -jnp.inf))
    terms = signed * jnp.exp(jnp.minimum(logs - largest, 0))
    total = jnp.sum(terms)
    return largest + jnp.log(
        jnp.where(total > 4 * jnp.finfo(total.dtype).eps * jnp.sum(jnp.abs(terms)), total, 0)
    )


def squared_l2(model: GMMParams, reference: GMMParams):
    """The integral of (p - q)^2, in units of density. Source: see `log_squared_l2`."""
    return jnp.exp(log_squared_l2(model, reference))


def kl_model_to_real(model: GMMParams, real: GMMParams):
    """KL(model || real) in nats, the mean over 4,096 draws of the model with a fixed key."""
    x = sample(fold_in(jax.random.key(0), 0), model, _DRAWS)
    return jnp.mean(log_prob(model, x) - log_prob(real, x))


def kl_real_to_model(model: GMMParams, real: GMMParams):
    """KL(real || model) in nats, the mean over 4,096 draws of the real distribution with a fixed
    key.
    """
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
