"""Gaussian, fitted by sample mean and covariance; samples are drawn as exact statistics."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.closed_forms import ClosedForms
from collapse_jax.core.data_checks import check_size_of_params, reals
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo, OutOfRange, Relative
from collapse_jax.errors import one_of, real, whole
from collapse_jax.estimators.gaussian.closed_forms import chains_for_means, means, quantiles
from collapse_jax.estimators.gaussian.measures import (
    DISTANCES,
    DISTANCES_IN_1D,
    METRICS,
)
from collapse_jax.estimators.gaussian.moments import Moments, at_least_one, merge, summarise
from collapse_jax.estimators.gaussian.params import (
    GaussianParams,
    gaussian_params,
    log_prob,
    mean_vector,
    unit_factor,
)
from collapse_jax.estimators.gaussian.sampling import relative_by_law, relative_by_points
from collapse_jax.numerics import factored
from collapse_jax.random.normal import normal_vector


@named
def gaussian(
    dim: int,
    ddof: Literal[0, 1] = 1,
    by: Literal["law", "points", "relative"] = "law",
    sampling_bias: float | jax.Array = 1.0,
) -> Estimator:
    """Gaussian, fitted by the sample mean and covariance.

    Points x are [n, dim]. The model stores logarithms of scales, so that 10^6 generations keep
    their exact distribution wherever the statistics of a sample are drawn directly (`replace`,
    `accumulate`, `mix` without beta). Under a workflow that stores points (`mix` with beta > 0,
    curation) this holds until the points differ by no more than 8 units of rounding: a variance of
    1e-13 (float64: 1e-31) of the squared mean. Then the model becomes nan and the run ends with a
    `DivergenceError`; with by="relative" it continues. A sample of one point has covariance 0.

    Metrics: mean ([dim]; [] for dim = 1), variance (trace / dim), log_variance (log-determinant /
    dim), trace, log_trace, log_determinant, entropy, log_scale [dim], effective_rank,
    condition_number, log_condition_number. Distances: wasserstein2, squared_wasserstein2,
    kl_model_to_real, kl_real_to_model, total_variation (dim = 1). See `metrics.gaussian`; all
    remain accurate on collapsed chains.

    Args:
        dim: the number of dimensions, at least 1.
        ddof: 1 for the unbiased covariance (Theorem 3.1), 0 for maximum likelihood (released code).
        by: "law" draws mean and scatter from their exact distribution (normal, and Wishart by
            Bartlett's decomposition), at one cost for every sample size. "points" draws points
            relative to the model, so that rounding of the mean does not stop the collapse.
            "relative" is "law", but a workflow stores points (beta > 0) relative to the newest
            model, so that such chains can continue.
        sampling_bias: lambda, which may be traced; samples come from N(mean, lambda * covariance),
            which adds ln lambda to the log variance in each generation. A source made from a biased
            estimator is biased too; `sources.normal` is not.

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
        distances=DISTANCES_IN_1D if dim == 1 else DISTANCES,
        log_prob=log_prob,
        tempered=_tempered,
        chain_axis=-1 if dim <= factored.LARGEST_WRITTEN_OUT else 0,
    )._replace(spanned=_spanned, out_of_range=_RANGE, **family.of_points)


def example() -> tuple[Estimator, GaussianParams]:
    """Returns (Estimator, params) with a correlated Gaussian in two dimensions."""
    return gaussian(2), gaussian_params([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]])


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

    @property
    def of_points(self):
        """How points are stored and weighted, by the names of the estimator's parts."""
        return {"relative": self.relative, "weighed": self.weighed}

    def init(self, key, statistics):
        return gaussian_params(np.zeros(self.dim), np.eye(self.dim))

    def fit(self, key, params, statistics):
        grown = factored.half_log(statistics.divisor / at_least_one(statistics.count - self.ddof))
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
        by = relative_by_points if self.by == "points" else relative_by_law
        return self._composed(params, self._widened(by(key, n, self.dim)), n)

    def _composed(self, params, relative, n):
        """The moments of n points from those that they have relative to a model."""
        # The divisor of the fit to come: a constant added there, to a scale of many digits, would
        # be rounded the same way every time.
        divisor = at_least_one(n - self.ddof)
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


def _is_out_of_range(params):
    """Which models [...] have a scale at which `factored.times_vector` cuts what it adds."""
    scales = params.log_scale
    every = np.stack(scales, -1) if isinstance(scales, tuple) else scales
    return (every > factored.largest_log_scale(every.dtype)).any(-1)


_RANGE = OutOfRange(
    _is_out_of_range,
    (
        *("log_variance", "log_scale", "log_trace", "log_determinant", "entropy"),
        *("effective_rank", "condition_number"),
    ),
    "a standard deviation above e^80 (in float64 e^639), where what a generation adds to the mean "
    "is cut off",
)


def _tempered(params, temperature):
    return params._replace(
        log_scale=factored.shifted(params.log_scale, factored.half_log(temperature))
    )


def _weighed(moments, w):
    return moments._replace(count=moments.count * w, divisor=moments.divisor * w)


def _spanned(data, points):
    """Moments of points that span no more directions than so many points do."""
    if points > len(data.mean):
        return data
    log_scale, factor = factored.limited(data.log_scale, data.factor, points - 1)
    return data._replace(log_scale=log_scale, factor=factor)


def _real(options: Mapping[str, Any]) -> tuple[Estimator, GaussianParams]:
    """The standard normal."""
    dim = options["dim"]
    return gaussian(dim), gaussian_params(np.zeros(dim), np.eye(dim))


FAMILY = Family(
    gaussian,
    example,
    label="Gaussian d={dim}, ddof={ddof}",
    metrics=("mean", "variance", "log_variance"),
    laws=ClosedForms(means, quantiles, chains_for_means, _real),
)
