"""Poisson distribution, fitted by the sample mean."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import PointCheck
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import real
from collapse_jax.metrics.divergence import entropy_beyond_line
from collapse_jax.numerics import averages
from collapse_jax.random import poisson as law

__all__ = ["poisson", "poisson_params"]


class PoissonParams(NamedTuple):
    """rate: [] >= 0, the mean and the variance."""

    rate: jax.Array


class PoissonAverage(NamedTuple):
    """Sufficient statistics: the number of points [] and their mean [], floats."""

    count: jax.Array
    mean: jax.Array


@named
def poisson() -> Estimator:
    """Poisson distribution, its rate fitted by maximum likelihood (the sample mean).

    Points x are int32 [n]. The sum of n draws is Poisson(n * rate), so a generation costs the same
    for every n, and n * rate may exceed every integer type. Under `replace` the sum is a critical
    branching process, which dies out: a rate of 0 is absorbing, and a positive rate is at least
    1 / n.

    Metrics: mean, variance and rate (three names of one number), log_rate (the natural parameter),
    log_variance (the same as log_rate), absorbed (1 if the rate is 0, else 0). Distances to the
    real distribution: kl_model_to_real, kl_real_to_model (inf once the model is absorbed). The
    Wasserstein distance has no closed form and is not offered.

    References:
        Derived here; the branching process as in Suresh et al. 2024 (g_{k+1} = 1 - exp(-g_k)).
    """
    return estimator(
        _fit,
        _sample,
        init=_init,
        statistics=PoissonAverage,
        summarise=_summarise,
        merge=_merge,
        draw=_draw,
        check=CHECK,
        metrics=METRICS,
        distances=DISTANCES,
        log_prob=_log_prob,
        weighed=_weighed,
        chain_axis=-1,
    )


def example() -> tuple[Estimator, PoissonParams]:
    """Returns (Estimator, params) with rate 2.5."""
    return poisson(), poisson_params(2.5)


def poisson_params(rate: ArrayLike) -> PoissonParams:
    """Returns parameters with this rate.

    Raises:
        InputError: unless the rate is finite and at least 0.
    """
    return PoissonParams(jnp.asarray(real("rate", rate, at_least=0), jnp.result_type(float)))


def _init(key, statistics):
    return PoissonParams(jnp.ones_like(statistics.mean))


def _fit(key, params, statistics):
    return PoissonParams(statistics.mean), FitInfo.exact()


def _sample(key, params, n):
    return law.poisson(key, params.rate, (n,))


def _summarise(x, weight):
    count = jnp.sum(weight)
    return PoissonAverage(count, jnp.sum(weight * x) / jnp.where(count > 0, count, 1))


def _draw(key, params, n):
    return PoissonAverage(
        jnp.asarray(n, params.rate.dtype), law.average_of_poissons(key, n, params.rate)
    )


def _weighed(statistics, w):
    return statistics._replace(count=statistics.count * w)


def _merge(a, b):
    return PoissonAverage(a.count + b.count, averages.pooled(*a, *b))


def _log_prob(params, x):
    counts = jnp.maximum(jnp.asarray(x, params.rate.dtype), 0)
    logarithm = (
        jax.scipy.special.xlogy(counts, params.rate)
        - params.rate
        - jax.scipy.special.gammaln(counts + 1)
    )
    return jnp.where(x >= 0, logarithm, -jnp.inf)


def _rate(params):
    return params.rate


def _log_rate(params):
    return jnp.log(params.rate)


METRICS = {
    "mean": _rate,
    "rate": _rate,
    "variance": _rate,
    "log_rate": _log_rate,
    "log_variance": _log_rate,
    "absorbed": lambda params: (params.rate == 0).astype(jnp.int32),
}
CHECK = PointCheck(
    "poisson", "whole numbers from 0 to 2147483647", whole=True, low=0, high=2**31 - 1
)
DISTANCES = {
    "kl_model_to_real": lambda params, real: entropy_beyond_line(params.rate, real.rate),
    "kl_real_to_model": lambda params, real: entropy_beyond_line(real.rate, params.rate),
}
FAMILY = Family(poisson, example)
