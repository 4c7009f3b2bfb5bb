"""Gaussian by its sample mean and covariance, drawn through its exact statistics."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.closed_forms import ClosedForms, Setting
from collapse_jax.core.data_checks import check_location, check_size_of_params, reals
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Beyond, Estimator, Family, FitInfo, Relative
from collapse_jax.errors import InputError, numbers, one_of, real, whole
from collapse_jax.metrics import gaussian as formulas
from collapse_jax.numerics import factored, resolution
from collapse_jax.random.bits import key_words, variate_words
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.chi_square import (
    BOOSTS,
    boosts,
    log_gamma_ratio,
    log_ratio_of_normal,
    log_ratios_of_normals,
)
from collapse_jax.random.normal import normal_array, normal_vector, normals

__all__ = ["gaussian", "gaussian_params"]


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


class Moments(NamedTuple):
    """Sufficient statistics of a Gaussian.

    count: [].
    mean: d, as in the parameters.
    log_scale, factor: the scatter over `divisor`, as in the parameters.
    divisor: [], at least 1. count - ddof where a model of that ddof draws it, count where points or
        others' statistics are summed up.
    """

    count: Any
    mean: Any
    log_scale: Any
    factor: Any
    divisor: Any


@named
def gaussian(
    dim: int,
    ddof: Literal[0, 1] = 1,
    by: Literal["law", "points", "relative"] = "law",
    sampling_bias: float | jax.Array = 1.0,
) -> Estimator:
    """Gaussian by its sample mean and covariance; x is [n, dim].

    Scales are kept as logarithms: 10^6 generations keep to their law where samples are drawn by it
    (`replace`, `accumulate`, `mix` without beta). Where points are held (beta > 0, curation), they
    do until points differ by 8 roundings: a variance of 1e-13 (float64: 1e-31) of the squared mean.
    There the model is nan, a `DivergenceError`; by="relative" goes on. One point has covariance 0.

    Metrics: mean ([dim]; [] for dim = 1), variance (trace / dim), log_variance (log-determinant /
    dim), trace, log_trace, log_determinant, entropy, log_scale [dim], effective_rank,
    condition_number, log_condition_number. Distances to the real distribution: wasserstein2,
    squared_wasserstein2, kl_model_to_real, kl_real_to_model, total_variation (dim = 1). See
    `metrics.gaussian`; all are right on collapsed chains.

    Args:
        dim: dimensions, at least 1.
        ddof: 1 for the unbiased covariance (the theorem's), 0 for maximum likelihood (the released
            code's).
        by: "law" draws mean and scatter from their law (Normal, and Wishart by Bartlett's
            decomposition), at the same cost for every sample size. "points" draws the points,
            relative to their mean and scale, so that no rounding of the mean stops the collapse.
            "relative" is "law", and points that a workflow keeps (beta > 0) are held relative to
            the newest model, so that such chains go on; a workflow of one's own sees them so.
        sampling_bias: lambda; the model is sampled from N(mean, lambda covariance), by `draw` and
            `sample` alike, which adds ln lambda to the log variance each time. A number, or traced.
            A source made of an estimator with a bias is biased too; `sources.normal` has none.

    Raises:
        InputError: if an argument is out of its range.

    References:
        Shumailov et al. 2024, Theorem 3.1; the bias: Alemohammad et al. 2023 (arXiv 2307.01850).
    """
    family = _Gaussian(
        whole("dim", dim, 1),
        whole("ddof", ddof, 0, 1, must_be="0 (maximum likelihood) or 1 (unbiased)"),
        one_of("by", by, ("law", "points", "relative"), must_be="'law', 'points' or 'relative'"),
        _log_widening(sampling_bias),
    )
    total_variation = {"total_variation": _distance(formulas.total_variation)} if dim == 1 else {}
    return estimator(
        family.fit,
        family.sample,
        init=family.init,
        statistics=Moments,
        summarise=family.summarise,
        merge=merge,
        draw=family.draw,
        check=reals("gaussian", family.dim),
        metrics=METRICS,
        distances=DISTANCES | total_variation,
        log_prob=log_prob,
        tempered=_tempered,
        chain_axis=-1 if dim <= factored.LARGEST_WRITTEN_OUT else 0,
    )._replace(spanned=_spanned, relative=family.relative, weighed=family.weighed, beyond=_BEYOND)


def example() -> tuple[Estimator, GaussianParams]:
    """(Estimator, params) of a correlated Gaussian in two dimensions."""
    return gaussian(2), gaussian_params([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]])


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


class _Gaussian(NamedTuple):
    """What depends on the options; log_widening: half the logarithm of the sampling bias."""

    dim: int
    ddof: int
    by: str
    log_widening: Any

    @property
    def relative(self):
        """How earlier points are held relative to the newest model; None for where they are."""
        if self.by != "relative":
            return None
        return Relative(self.standard, self.placed, self.summarise_relative, self.moved)

    @property
    def weighed(self):
        """How its moments are weighted. In several dimensions they do not tell their rank then."""
        if self.ddof == 1:
            return "has no unbiased covariance of weighted points: take ddof=0"
        return _weighed if self.dim == 1 else None

    def init(self, key, statistics):
        return gaussian_params(np.zeros(self.dim), np.eye(self.dim))

    def fit(self, key, params, statistics):
        grown = factored.half_log(statistics.divisor / _at_least_one(statistics.count - self.ddof))
        return GaussianParams(
            statistics.mean, factored.shifted(statistics.log_scale, grown), statistics.factor
        ), FitInfo.exact()

    def sample(self, key, params, n):
        check_size_of_params("dimensions", len(params.mean), self.dim)
        z = normal_vector(key, n * self.dim).reshape(n, self.dim)
        log_scale = factored.as_vector(factored.shifted(params.log_scale, self.log_widening))
        scaled = z * jnp.exp(log_scale)
        return mean_vector(params) + jnp.matmul(scaled, unit_factor(params).T, precision="highest")

    def summarise(self, x, weight, general=False):
        return summarise(x, weight, self.dim, general)

    def draw(self, key, params, n):
        by = _relative_by_points if self.by == "points" else _relative_by_law
        return self._composed(params, self._widened(by(key, n, self.dim)), n)

    def _composed(self, params, relative, n):
        """The moments of n points from those that they have relative to a model."""
        # The divisor of the fit to come: a constant added there, to a scale of many digits, would
        # be rounded the same way every time.
        divisor = _at_least_one(n - self.ddof)
        relative_scale = factored.shifted(
            relative.log_scale, factored.half_log(relative.divisor / divisor)
        )
        shift = factored.times_vector(params.log_scale, params.factor, relative.mean)
        mean = (
            tuple(m + s for m, s in zip(params.mean, shift, strict=True))
            if isinstance(shift, tuple)
            else params.mean + shift
        )
        log_scale, factor = factored.times_triangle(
            params.log_scale, params.factor, relative_scale, relative.factor
        )
        # Counts as floats: what many generations pool may be more than 32 bits hold.
        count, divisor = (jnp.asarray(number, jnp.result_type(float)) for number in (n, divisor))
        return Moments(count, mean, log_scale, factor, divisor)

    def standard(self, key, n):
        """Points of any model of the family relative to it."""
        z = normal_vector(key, n * self.dim).reshape(n, self.dim)
        return z * jnp.exp(jnp.asarray(self.log_widening, z.dtype))

    def placed(self, params, x):
        """Points relative to a model; a direction in which it has no variance is 0."""
        apart = factored.solved(unit_factor(params), x - mean_vector(params))
        return _over(apart, factored.as_vector(params.log_scale))

    def summarise_relative(self, params, z, weight):
        """`Moments` of points that are given relative to a model."""
        relative = summarise(z, weight, self.dim)
        return self._composed(params, relative, relative.count)

    def moved(self, fitted, data):
        """Points relative to the model that is fitted to `fitted`."""
        own = summarise(fitted.x, fitted.weight, self.dim)
        model, _ = self.fit(None, None, own)
        z = self.placed(model, data.x)
        return data._replace(x=jnp.where(data.weight[:, None] > 0, z, 0))

    def _widened(self, relative):
        """Moments of standard normal points under the sampling bias."""
        if isinstance(self.log_widening, float) and self.log_widening == 0:
            return relative
        widening = jnp.exp(jnp.asarray(self.log_widening, jnp.result_type(float)))
        return relative._replace(
            mean=jax.tree.map(lambda entry: entry * widening, relative.mean),
            log_scale=factored.shifted(relative.log_scale, self.log_widening),
        )


def _over(rows, log_scale):
    """rows [n, d] / exp(log_scale [d]), 0 where that is 0."""
    alive = log_scale > -jnp.inf
    return jnp.where(alive, rows * jnp.exp(-jnp.where(alive, log_scale, 0)), 0)


def _log_widening(sampling_bias):
    """Half the logarithm of the bias; the float 0.0, which programs leave out, for no bias."""
    if not isinstance(sampling_bias, jax.Array):
        real("sampling_bias", sampling_bias, above=0, must_be="a finite number above 0")
        if isinstance(sampling_bias, int | float) and sampling_bias == 1:
            return 0.0
    return factored.half_log(sampling_bias)


def _is_beyond(params):
    """Which models [...] have a scale at which `factored.times_vector` cuts what it adds."""
    scales = params.log_scale
    every = np.stack(scales, -1) if isinstance(scales, tuple) else scales
    return (every > factored.largest_log_scale(every.dtype)).any(-1)


_BEYOND = Beyond(
    _is_beyond,
    (
        *("log_variance", "log_scale", "log_trace", "log_determinant", "entropy"),
        *("effective_rank", "condition_number"),
    ),
    "a deviation above e^80 (in float64 e^639), where what a generation adds to the mean is cut",
)


def _tempered(params, temperature):
    return params._replace(
        log_scale=factored.shifted(params.log_scale, factored.half_log(temperature))
    )


def summarise(x: jax.Array, weight: jax.Array, dim: int, general: bool = False) -> Moments:
    """`Moments` of points x [n, d] with weights [n]; a point of weight 0 does not count.

    The log scales are nan where the points differ by a few roundings only (`resolution`).
    general: whether they are in general position, as draws of a density are.
    """
    count = jnp.sum(weight)
    mean, centred, lost = resolution.centred(x, weight)
    unit = jnp.maximum(jnp.max(jnp.abs(centred)), jnp.finfo(centred.dtype).tiny)
    log_scale, factor = factored.of_points(
        centred / unit, weight, _at_least_one(count), general=general
    )
    return Moments(
        count,
        factored.from_arrays(mean, dim),
        factored.shifted(log_scale, jnp.where(lost, jnp.nan, jnp.log(unit))),
        factor,
        _at_least_one(count),
    )


def merge(a: Moments, b: Moments, general: bool = False) -> Moments:
    """`Moments` of the pooled sample (pairwise update of Chan, Golub and LeVeque 1979).

    general: whether all points are in general position, so that n of them span n - 1 directions.
    """
    count = a.count + b.count
    divisor = _at_least_one(count)
    share_a, share_b = a.count / divisor, b.count / divisor
    if isinstance(a.mean, tuple):
        shift = tuple(theirs - ours for ours, theirs in zip(a.mean, b.mean, strict=True))
        mean = tuple(ours + share_b * by for ours, by in zip(a.mean, shift, strict=True))
    else:
        shift = b.mean - a.mean
        mean = a.mean + share_b * shift
    parts = [(part.divisor / divisor, part.log_scale, part.factor) for part in (a, b)]
    weight, dim = share_a * share_b, len(a.mean)
    log_scale, factor = factored.pooled(parts, shift, weight, dim, general=general)
    if len(a.mean) > 1:
        # As many points as dimensions, or fewer, leave no variance in the last directions.
        log_scale, factor = factored.limited(log_scale, factor, count - 1)
    return Moments(count, mean, log_scale, factor, divisor)


def _weighed(moments, w):
    return moments._replace(count=moments.count * w, divisor=moments.divisor * w)


def _spanned(data, points):
    """Moments of points that span no more directions than so many points do."""
    if points > len(data.mean):
        return data
    log_scale, factor = factored.limited(data.log_scale, data.factor, points - 1)
    return data._replace(log_scale=log_scale, factor=factor)


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


def _relative_by_law(key, n, dim) -> Moments:
    """The moments of n standard normal points, by their Bartlett factor.

    factor: its entries below the diagonal over those on it.
    """
    root = 1 / jnp.sqrt(jnp.asarray(_at_least_one(n), jnp.result_type(float)))
    if dim > factored.LARGEST_WRITTEN_OUT:
        z, log_diagonal, inverse = _by_vectors(key, n, dim, root)
        below = factored.strictly_lower(
            lambda i, size: normal_array(key, (size, size), 2 * dim + i * size * size), dim
        )
        return Moments(n, z * root, log_diagonal, below * inverse, _at_least_one(n))
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


def _by_vectors(key, n, dim, root):
    """(the normals of the mean, the log diagonal, root over the diagonal), each [d]."""
    if not isinstance(n, int) or n <= dim or boosts(n - dim):
        # Where n is traced; and those of few degrees of freedom take uniforms besides, or are none.
        z = normal_array(key, (2 * dim,))
        log_diagonal = jnp.stack(_half_log_chi_square_shares(key, list(z[dim:]), n))
        inverse = jnp.where(log_diagonal > -jnp.inf, jnp.exp(-log_diagonal) * root, 0)
        return z[:dim], log_diagonal, inverse
    freedom = n - 1 - np.arange(dim)

    def row(i):
        z = normal_array(key, (dim,), jnp.minimum(i, 1) * dim)
        log_diagonal = log_ratios_of_normals(z, freedom.tolist(), np.log(freedom / n)) / 2
        return jax.lax.select_n(i, z, log_diagonal, jnp.exp(-log_diagonal) * root)

    # A loop, because XLA on the CPU computes fused vectors anew for each entry of a matrix.
    return tuple(jax.lax.map(row, jnp.arange(3, dtype=jnp.int32)))


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
    for j, normal in enumerate(z):
        left = n - 1 - j
        if left <= 0:
            shares.append(jnp.full_like(normal, -jnp.inf))
            continue
        words = key_words(key)
        extra = [variate_words(*words, jnp.uint32(j), BOOSTS + i) for i in range(boosts(left))]
        shares.append((log_ratio_of_normal(normal, extra, left) + np.log(left / n)) / 2)
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
    """A number of points, or their weight, as a divisor: 1 where there are none."""
    return max(n, 1) if isinstance(n, int) else jnp.where(n <= 0, 1, n)  # nan stays


def _arrays(leaves, dim):
    """(mean [d, chains], log_scale [d, chains], factor [d, d, chains]) of parameters' leaves."""
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


def _real(options: Mapping[str, Any]) -> tuple[Estimator, GaussianParams]:
    """The standard normal."""
    dim = options["dim"]
    return gaussian(dim), gaussian_params(np.zeros(dim), np.eye(dim))


def _is_unbiased(setting):
    bias = setting.options["sampling_bias"]
    return isinstance(bias, int | float) and bias == 1


def _means(setting: Setting, generation: ArrayLike) -> dict[str, np.ndarray]:
    from collapse_jax.theory import accumulation, real_batches  # here: theory imports scipy.stats
    from collapse_jax.theory import gaussian as theory

    (options, size, workflow), dim = setting, setting.options["dim"]
    ddof = options["ddof"]
    if (size == 1 and ddof == 1) or not _is_unbiased(setting):
        return {}
    if "real_share" in workflow:
        variance, _ = real_batches.gaussian_moments(generation, size, ddof=ddof, **workflow)
        return {"variance": variance}
    means = {"variance": theory.expected_variance(generation, size, ddof=ddof, **workflow)}
    if workflow["workflow"] == "replace" and size > dim:
        means["log_variance"] = theory.expected_log_variance(generation, size, ddof=ddof, dim=dim)
    if workflow["workflow"] == "accumulate" and dim == 1:
        means["log_variance"] = accumulation.expected_log_variance(generation, size, ddof=ddof)
    return means


def _known_in_law(setting):
    """Whether more than means is known: under `replace`, from two points on."""
    replaced = setting.workflow["workflow"] == "replace"
    return replaced and setting.sample_size >= 2 and _is_unbiased(setting)


def _quantiles(
    setting: Setting, generation: ArrayLike, probabilities: Sequence[float]
) -> dict[str, np.ndarray]:
    from collapse_jax.theory import gaussian as theory

    options, size, _ = setting
    if options["dim"] != 1 or not _known_in_law(setting):
        return {}
    curves = [
        theory.log_variance_quantile(p, generation, size, ddof=options["ddof"])
        for p in probabilities
    ]
    return {"log_variance": np.array(curves), "variance": np.exp(curves)}


def _chains_for_means(
    setting: Setting, generation: ArrayLike, relative_error: float
) -> dict[str, np.ndarray]:
    from collapse_jax.theory import gaussian as theory
    from collapse_jax.theory import monte_carlo

    (options, size, _), dim = setting, setting.options["dim"]
    if not _known_in_law(setting):
        return {}
    with np.errstate(all="ignore"):
        if dim == 1:
            needed = monte_carlo.runs_for_expected_variance(generation, size, relative_error)
            return {"variance": needed}
        ddof = options["ddof"]
        square = monte_carlo.expected_squared_traces(generation, size, np.ones(dim), ddof=ddof)[1]
        mean = dim * theory.expected_variance(generation, size, ddof=ddof)
        needed = (square / mean**2 - 1) / relative_error**2
    return {"variance": np.where(np.isfinite(needed), needed, np.inf)}


FAMILY = Family(
    gaussian,
    example,
    label="Gaussian d={dim}, ddof={ddof}",
    metrics=("mean", "variance", "log_variance"),
    laws=ClosedForms(_means, _quantiles, _chains_for_means, _real),
)
