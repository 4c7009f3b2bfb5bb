"""Gaussian by its sample mean and covariance (Shumailov et al. 2024, Theorem 3.1), drawn through
its exact statistics.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, FitInfo
from collapse_jax.errors import InputError, number, numbers
from collapse_jax.metrics import gaussian as formulas
from collapse_jax.numerics import factored
from collapse_jax.random.bits import key_words, variate_words
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.chi_square import BOOSTS, boosts, log_gamma_ratio, log_ratio_of_normal
from collapse_jax.random.normal import normal_array, normal_vector, normals


class GaussianParams(NamedTuple):
    """covariance = U diag(exp(2 log_scale)) U^T, U unit lower triangular; log_scale -inf where the
    chain has no variance left.

    mean, log_scale: d scalars each; factor: the entries of U below the diagonal, row by row. Tuples
    of scalars up to 12 dimensions
    (see `factored`), arrays [d], [d], [d, d] above. `mean_vector` and `covariance` give arrays
    either way.
    """

    mean: Any
    log_scale: Any
    factor: Any


class Moments(NamedTuple):
    """Evidence of a Gaussian family. count: []. mean: d. log_scale, factor: the scatter over
    `divisor` [], as in the parameters.

    divisor: count - ddof where a model of that ddof draws it, count where points or others'
    statistics are summed up; at least 1.
    """

    count: Any
    mean: Any
    log_scale: Any
    factor: Any
    divisor: Any


@named
def gaussian(dim: int, ddof: int = 1, by: str = "law", sampling_bias=1.0) -> Estimator:
    """Gaussian in `dim` dimensions; x is [n, dim].

    ddof: 1 for the unbiased covariance (the theorem's), 0 for maximum likelihood (the released
    code's). A sample of one point has covariance 0. by: "law" draws mean and scatter from their law
    (Normal, and Wishart by Bartlett's decomposition), so a generation
    costs the same for every sample size; "points" draws the points, relative to the mean and scale
    that they come from, so that no rounding of the mean stops the collapse. Scales are kept as
    logarithms: 10^6 generations keep to their law.
    Metrics: mean ([dim]; [] for dim = 1), variance (trace / dim), log_variance (log-determinant /
    dim), trace, log_trace, log_determinant, entropy, log_scale [dim], effective_rank,
    condition_number, log_condition_number. Distances to the real
    distribution: wasserstein2, squared_wasserstein2, kl_model_to_real, kl_real_to_model,
    total_variation (dim = 1). See `metrics.gaussian`; all are right on collapsed chains.
    sampling_bias: lambda; the model is sampled from N(mean, lambda covariance), by `draw` and
    `sample` alike, and each such sampling
    adds ln lambda to the log variance: below 1 quality is bought with diversity. A number, or
    traced. A source made of an estimator
    with a bias is biased too; `sources.normal` has none.
    Raises `InputError` unless dim >= 1, ddof is 0 or 1, by is one of the two, and the sampling bias
    is above 0.
    Source: Shumailov et al. 2024, Theorem 3.1; the sampling bias: Alemohammad et al. 2023 (arXiv
    2307.01850).
    """
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise InputError(f"dim is {dim!r}; it must be an integer of at least 1")
    if ddof not in (0, 1):
        raise InputError(f"ddof is {ddof!r}; it must be 0 (maximum likelihood) or 1 (unbiased)")
    if by not in ("law", "points"):
        raise InputError(f"by is {by!r}; it must be 'law' or 'points'")
    if (
        not isinstance(sampling_bias, jax.Array)
        and not 0 < number("sampling_bias", sampling_bias) < np.inf
    ):
        raise InputError(f"sampling_bias is {sampling_bias}; it must be a finite number above 0")
    unbiased = isinstance(sampling_bias, int | float) and sampling_bias == 1
    log_spread = 0.0 if unbiased else factored.half_log(sampling_bias)

    def init(key, statistics):
        return gaussian_params(np.zeros(dim), np.eye(dim))

    def fit(key, params, statistics):
        grown = factored.half_log(statistics.divisor / _at_least_one(statistics.count - ddof))
        return GaussianParams(
            statistics.mean, factored.shifted(statistics.log_scale, grown), statistics.factor
        ), FitInfo.exact()

    def sample(key, params, n):
        z = normal_vector(key, n * dim).reshape(n, dim)
        scaled = z * jnp.exp(factored.as_vector(factored.shifted(params.log_scale, log_spread)))
        return mean_vector(params) + jnp.matmul(scaled, unit_factor(params).T, precision="highest")

    def draw(key, params, n):
        relative = (
            _relative_by_law(key, n, dim) if by == "law" else _relative_by_points(key, n, dim)
        )
        if not unbiased:
            spread = jnp.exp(jnp.asarray(log_spread, jnp.result_type(float)))
            wider = jax.tree.map(lambda one: one * spread, relative.mean)
            relative = relative._replace(
                mean=wider, log_scale=factored.shifted(relative.log_scale, log_spread)
            )
        # The divisor of the fit to come: a constant added there, to a scale of many digits, would
        # be rounded the same way every time.
        divisor = _at_least_one(n - ddof)
        relative_scale = factored.shifted(
            relative.log_scale, factored.half_log(relative.divisor / divisor)
        )
        shift = factored.times_vector(params.log_scale, params.factor, relative.mean)
        mean = (
            tuple(m + s for m, s in zip(params.mean, shift, strict=True))
            if isinstance(shift, tuple)
            else params.mean + shift
        )
        # Counts as floats: what many generations pool may be more than 32 bits hold.
        count, divisor = (jnp.asarray(number, jnp.result_type(float)) for number in (n, divisor))
        return Moments(
            count,
            mean,
            *factored.times_triangle(
                params.log_scale, params.factor, relative_scale, relative.factor
            ),
            divisor,
        )

    return estimator(
        fit,
        sample,
        init=init,
        summarise=lambda x, weight: summarise(x, weight, dim),
        draw=draw,
        merge=merge,
        metrics=METRICS,
        distances=DISTANCES
        | ({"total_variation": _distance(formulas.total_variation)} if dim == 1 else {}),
        statistics=Moments,
        chain_axis=-1 if dim <= factored.LARGEST_WRITTEN_OUT else 0,
        log_prob=log_prob,
        tempered=lambda params, tau: params._replace(
            log_scale=factored.shifted(params.log_scale, factored.half_log(tau))
        ),
    )


def example():
    """(Estimator, params) of a correlated Gaussian in two dimensions."""
    return gaussian(2), gaussian_params([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]])


def gaussian_params(mean, covariance) -> GaussianParams:
    """Parameters from a mean [d] and a covariance [d, d], or two numbers for d = 1.

    Raises `InputError` unless the covariance is finite, symmetric and has no negative eigenvalue.
    """
    mean = np.atleast_1d(numbers("mean", mean))
    covariance = np.atleast_2d(numbers("covariance", covariance))
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise InputError(
            f"mean has shape {mean.shape} and covariance {covariance.shape}; they must be "
            "[d] and [d, d]"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError("mean and covariance must be finite")
    if not np.allclose(covariance, covariance.T) or np.linalg.eigvalsh(covariance)[0] < -1e-6 * max(
        1.0, np.abs(covariance).max()
    ):
        raise InputError(
            f"covariance {covariance.tolist()} must be symmetric without negative eigenvalues"
        )
    dim, dtype = len(mean), jnp.result_type(float)
    pivots, factor = np.zeros(dim), np.eye(dim)
    for j in range(dim):
        pivot = covariance[j, j] - (factor[j, :j] ** 2) @ pivots[:j]
        if pivot > 1e-14 * dim * covariance[j, j]:
            pivots[j] = pivot
            factor[j + 1 :, j] = (
                covariance[j + 1 :, j] - (factor[j + 1 :, :j] * factor[j, :j]) @ pivots[:j]
            ) / pivot
    with np.errstate(divide="ignore"):
        log_scale = np.log(pivots) / 2
    arrays = (jnp.asarray(value, dtype) for value in (mean, log_scale, factor))
    mean, log_scale, factor = arrays
    return GaussianParams(
        factored.from_arrays(mean, dim),
        factored.from_arrays(log_scale, dim),
        factored.from_matrix(factor, dim),
    )


def summarise(x, weight, dim: int) -> Moments:
    """`Moments` of points x [n, d] with weights [n]; a point of weight 0 does not count."""
    count = jnp.sum(weight)
    mean = jnp.matmul(weight, x, precision="highest") / _at_least_one(count)
    centred = jnp.where(weight[:, None] > 0, x - mean, 0)
    unit = jnp.maximum(jnp.max(jnp.abs(centred)), jnp.finfo(centred.dtype).tiny)
    scaled = centred / unit
    scatter = jnp.matmul((scaled * weight[:, None]).T, scaled, precision="highest") / _at_least_one(
        count
    )
    log_scale, factor = factored.limited(
        *factored.decomposed(scatter, dim), jnp.sum(weight > 0) - 1
    )
    return Moments(
        count,
        factored.from_arrays(mean, dim),
        factored.shifted(log_scale, jnp.log(unit)),
        factor,
        _at_least_one(count),
    )


def merge(a: Moments, b: Moments) -> Moments:
    """`Moments` of the pooled sample (pairwise update of Chan, Golub and LeVeque 1979)."""
    count = a.count + b.count
    divisor = _at_least_one(count)
    share_a, share_b = a.count / divisor, b.count / divisor
    if isinstance(a.mean, tuple):
        shift = tuple(theirs - ours for ours, theirs in zip(a.mean, b.mean, strict=True))
        mean = tuple(ours + share_b * by for ours, by in zip(a.mean, shift, strict=True))
    else:
        shift = b.mean - a.mean
        mean = a.mean + share_b * shift
    parts = [(one.divisor / divisor, one.log_scale, one.factor) for one in (a, b)]
    return Moments(
        count, mean, *factored.pooled(parts, shift, share_a * share_b, len(a.mean)), divisor
    )


def mean_vector(params: GaussianParams):
    """The mean as an array [d]."""
    return factored.as_vector(params.mean)


def unit_factor(params: GaussianParams):
    """U as an array [d, d]."""
    return factored.as_matrix(params.factor, len(params.mean))


def covariance(params: GaussianParams):
    """The covariance as an array [d, d]; entries below the smallest float are 0."""
    columns = unit_factor(params) * jnp.exp(factored.as_vector(params.log_scale))
    return jnp.matmul(columns, columns.T, precision="highest")


def log_prob(params: GaussianParams, x):
    """Log-densities [n] in nats of points x [n, d]; where no variance is left, inf on the model and
    -inf off it.
    """
    log_scale = factored.as_vector(params.log_scale)
    centred = x - mean_vector(params)
    z = factored.solved(unit_factor(params), centred)
    scaled = jnp.where(z == 0, 0, z * jnp.exp(-log_scale))
    density = -jnp.sum(log_scale) - x.shape[1] / 2 * jnp.log(2 * jnp.pi)
    return jnp.where(
        jnp.any(jnp.isinf(scaled), axis=1), -jnp.inf, density - jnp.sum(scaled**2, axis=1) / 2
    )


def _relative_by_law(key, n, dim) -> Moments:
    """The moments of n standard normal points; factor: the entries below the diagonal over those on
    it, of their Bartlett factor.
    """
    root = 1 / jnp.sqrt(jnp.asarray(_at_least_one(n), jnp.result_type(float)))
    if dim > factored.LARGEST_WRITTEN_OUT:
        z = normal_array(key, (2 * dim,))
        log_diagonal = jnp.stack(_half_log_chi_square_shares(key, list(z[dim:]), n))
        inverse = jnp.where(log_diagonal > -jnp.inf, jnp.exp(-log_diagonal) * root, 0)
        below = factored.strictly_lower(
            lambda i, size: normal_array(key, (size, size), 2 * dim + i * size * size), dim
        )
        return Moments(n, z[:dim] * root, log_diagonal, below * inverse, _at_least_one(n))
    z = normals(key, 2 * dim + dim * (dim - 1) // 2)
    log_diagonal = _half_log_chi_square_shares(key, z[dim : 2 * dim], n)
    # What stands below a diagonal entry t_j is standard normal; over t_j = exp(log_diagonal_j)
    # sqrt(n).
    inverse = [jnp.where(t > -jnp.inf, jnp.exp(-t) * root, 0) for t in log_diagonal]
    below = [z[2 * dim + factored.place(i, j)] * inverse[j] for i in range(dim) for j in range(i)]
    return Moments(
        n,
        tuple(z[i] * root for i in range(dim)),
        tuple(log_diagonal),
        tuple(below),
        _at_least_one(n),
    )


def _relative_by_points(key, n, dim) -> Moments:
    if not isinstance(n, int):
        raise InputError(
            "by='points' needs a sample size that is known before the run; use by='law'"
        )
    return summarise(normal_vector(key, n * dim).reshape(n, dim), jnp.ones(n), dim)


def _half_log_chi_square_shares(key, z, n):
    """log(chi^2 / n) / 2 with n - 1 - j degrees of freedom, from the standard normals z[j]."""
    if not isinstance(n, int):
        return _traced_shares(*key_words(key), jnp.asarray(n, z[0].dtype), *z)
    shares = []
    for j, one in enumerate(z):
        left = n - 1 - j
        extra = (
            [variate_words(*key_words(key), jnp.uint32(j), BOOSTS + i) for i in range(boosts(left))]
            if left > 0
            else []
        )
        shares.append(
            (log_ratio_of_normal(one, extra, left) + np.log(left / n)) / 2
            if left > 0
            else jnp.full_like(one, -jnp.inf)
        )
    return shares


@chains_last
def _traced_shares(key0, key1, n, *z):
    index = jnp.arange(len(z), dtype=jnp.uint32)[:, None]
    left = n - 1 - index.astype(n.dtype)
    shape = jnp.broadcast_to(left / 2, (len(z), *jnp.broadcast_shapes(n.shape, z[0].shape)))
    ratio = log_gamma_ratio(key0, key1, index, shape, jnp.stack(z))
    share = (ratio + jnp.log(jnp.maximum(left, 0) / jnp.maximum(n, 1))) / 2
    return [share[j] for j in range(len(z))]


def _at_least_one(n):
    return max(n, 1) if isinstance(n, int) else jnp.maximum(n, 1)


def _arrays(leaves, dim):
    """(mean [d, chains], log_scale [d, chains], factor [d, d, chains]) from the leaves of
    parameters, chains last.
    """
    if len(leaves) == 3 and dim > 1:
        return tuple(leaves)
    chains = jnp.broadcast_shapes(*(leaf.shape for leaf in leaves))
    leaves = [jnp.broadcast_to(leaf, chains) for leaf in leaves]
    factor = (
        factored.as_matrix(tuple(leaves[2 * dim :]), dim)
        if dim > 1
        else jnp.ones((1, 1, *chains), leaves[0].dtype)
    )
    return jnp.stack(leaves[:dim]), jnp.stack(leaves[dim : 2 * dim]), factor


@chains_last
def _measured(*leaves, formula, dim):
    return [formula(*_arrays(leaves, dim))]


@chains_last
def _compared(*leaves, formula, dim):
    half = len(leaves) // 2
    return [formula(_arrays(leaves[:half], dim), _arrays(leaves[half:], dim))]


def _metric(formula):
    def metric(params):
        return _measured(*jax.tree.leaves(params), formula=formula, dim=len(params.mean))[0]

    return metric


def _distance(formula):
    def distance(params, reference):
        return _compared(
            *jax.tree.leaves((params, reference)), formula=formula, dim=len(params.mean)
        )[0]

    return distance


_NAMES = (
    "mean",
    "log_scale",
    "variance",
    "log_variance",
    "trace",
    "log_trace",
    "log_determinant",
    "entropy",
)
_SPECTRAL = ("effective_rank", "condition_number", "log_condition_number")
METRICS = {name: _metric(getattr(formulas, name)) for name in (*_NAMES, *_SPECTRAL)}
_DISTANCES = ("squared_wasserstein2", "wasserstein2", "kl_model_to_real", "kl_real_to_model")
DISTANCES = {name: _distance(getattr(formulas, name)) for name in _DISTANCES}
variance, log_variance = METRICS["variance"], METRICS["log_variance"]
