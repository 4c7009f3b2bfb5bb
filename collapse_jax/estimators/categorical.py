"""Categorical distribution by maximum likelihood: the empirical frequencies (Shumailov et al. 2024,
"discrete distributions").
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Compaction, Estimator, FitInfo
from collapse_jax.errors import InputError, numbers
from collapse_jax.random.bits import key_words, uniform, variate_words
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.multinomial import (
    METHODS,
    multinomial,
    multinomial_of_categories,
    multivariate_hypergeometric,
)


class CategoricalParams(NamedTuple):
    """weights: [k], proportional to the probabilities: the counts of the sample (int32) or floats.
    categories: [k] int32, ascending.

    All K categories are listed, but for chains under `replace` in `simulate`, where those that no
    chain has any more may be left out.
    """

    weights: jax.Array
    categories: jax.Array

    @property
    def probabilities(self) -> jax.Array:
        """[k], of the listed categories, summing to 1."""
        return _shares(self.weights)


class Counts(NamedTuple):
    """Evidence of a categorical family. counts: [k] int32, of the listed categories [k]."""

    counts: jax.Array
    categories: jax.Array


@named
def categorical(num_categories: int, method: str = "auto", smoothing: float = 0.0) -> Estimator:
    """Categories 0 .. num_categories - 1 by maximum likelihood; x is int32 [n], statistics the
    counts [K].

    Under `replace` this is the Wright-Fisher chain. method: how counts are drawn (see
    `random.multinomial`); "individuals" is free of the last 1e-6 of error that "binomials" has, and
    slower.
    Metrics: mean and variance of the category's index, log_variance, heterozygosity 1 - sum p^2,
    entropy in nats,
    support (categories with p > 0), absorbed (1 where one category has everything, else 0),
    probabilities [K]. Distances to the real distribution: missing_mass (real probability of the
    categories that the model has lost), total_variation, squared_distance
    (sum (p - q)^2), kl_model_to_real, kl_real_to_model (inf once a category is lost), wasserstein2
    and squared_wasserstein2 (of the category's index).
    smoothing: kappa >= 0 is added to every count before it is divided: (count + kappa) / (M + K
    kappa). Above 0 no category is ever lost, and the chain forgets the real distribution instead of
    collapsing to a point.
    Raises `InputError` unless num_categories >= 1, the method is one of "auto", "binomials",
    "individuals", and the smoothing is a
    finite number of at least 0.
    Source: Shumailov et al. 2024, "Discrete distributions with exact approximation"; the smoothing
    is Laplace's (Lidstone's) rule.
    """
    if (
        isinstance(num_categories, bool)
        or not isinstance(num_categories, int)
        or num_categories < 1
    ):
        raise InputError(
            f"num_categories is {num_categories!r}; it must be an integer of at least 1"
        )
    if method not in METHODS:
        raise InputError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    if (
        isinstance(smoothing, bool)
        or not isinstance(smoothing, int | float)
        or not 0 <= smoothing < math.inf
    ):
        raise InputError(f"smoothing is {smoothing!r}; it must be a finite number of at least 0")

    def everything():
        return jnp.arange(num_categories, dtype=jnp.int32)

    def init(key, statistics):
        return CategoricalParams(jnp.ones_like(statistics.counts), statistics.categories)

    def fit(key, params, statistics):
        weights = (
            statistics.counts + jnp.asarray(smoothing, jnp.result_type(float))
            if smoothing
            else statistics.counts
        )
        return CategoricalParams(weights, statistics.categories), FitInfo.exact()

    def sample(key, params, n):
        probabilities = params.probabilities
        # The sum of a tree rounds differently in each entry: a category of probability 0 ends where
        # the one before it does.
        cumulative = jax.lax.cummax(jnp.where(probabilities > 0, jnp.cumsum(probabilities), 0))
        u = uniform(*variate_words(*key_words(key), jnp.arange(n, dtype=jnp.uint32)))
        below = jnp.minimum(u * cumulative[-1], cumulative[-1] * (1 - jnp.finfo(u.dtype).epsneg))
        return params.categories[jnp.searchsorted(cumulative, below, side="right")]

    def summarise(x, weight):
        return Counts(
            jnp.zeros(num_categories, jnp.int32).at[x].add((weight > 0).astype(jnp.int32)),
            everything(),
        )

    def draw(key, params, n):
        # Integer weights are counts: every later generation draws from them category by category,
        # whichever are listed.
        counted = jnp.issubdtype(params.weights.dtype, jnp.integer)
        if method == "individuals" or not counted:
            return Counts(multinomial(key, n, params.weights, method=method), params.categories)
        return Counts(
            multinomial_of_categories(key, n, params.weights, params.categories), params.categories
        )

    def probabilities(params):
        return jnp.zeros(num_categories).at[params.categories].add(params.probabilities)

    def distance_to_model(kernel):
        return lambda params, reference: kernel(*params, probabilities(reference))[0]

    return estimator(
        fit,
        sample,
        init=init,
        summarise=summarise,
        draw=draw,
        merge=lambda a, b: Counts(a.counts + b.counts, a.categories),
        subsample=lambda key, statistics, n: Counts(
            multivariate_hypergeometric(key, statistics.counts, n), statistics.categories
        ),
        metrics=METRICS | {"probabilities": probabilities},
        distances={name: distance_to_model(kernel) for name, kernel in DISTANCES.items()},
        statistics=Counts,
        # A smoothed category that nobody has comes back: none may be left out.
        compaction=None if smoothing else Compaction(_num_in_use, _to_size),
        chain_axis=-1,
        log_prob=lambda params, x: jnp.log(probabilities(params))[x],
        tempered=_tempered,
        nucleus=_nucleus,
    )


def example():
    """(Estimator, params) of six categories of unequal probability."""
    return categorical(6), categorical_params([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])


def categorical_params(probabilities) -> CategoricalParams:
    """Parameters of all K categories from probabilities [K].

    Raises `InputError` unless they are finite, not negative, and not all 0.
    """
    if not isinstance(probabilities, jax.core.Tracer):
        values = numbers("probabilities", probabilities)
        if (
            values.ndim != 1
            or not np.isfinite(values).all()
            or values.min(initial=0) < 0
            or not values.sum() > 0
        ):
            raise InputError(
                f"probabilities {values.tolist()} must be [K], finite, not negative, and not all 0"
            )
    probabilities = jnp.asarray(probabilities, jnp.result_type(float))
    return CategoricalParams(probabilities, jnp.arange(len(probabilities), dtype=jnp.int32))


def _tempered(params, tau):
    """The model with weights w^(1 / tau), the largest of them 1."""
    shares = params.weights / jnp.max(params.weights).astype(jnp.result_type(float))
    return params._replace(weights=jnp.where(shares > 0, shares ** (1 / tau), 0))


def _nucleus(params, p):
    """The fewest most probable categories that hold probability p; of equal ones the first."""
    shares = params.probabilities
    order = jnp.argsort(-shares, stable=True)
    before = jnp.cumsum(shares[order]) - shares[order]
    kept = jnp.zeros(len(shares), bool).at[order].set(before < p)
    return params._replace(weights=jnp.where(kept, shares, 0))


def _num_in_use(params):
    return jnp.sum(params.weights > 0, dtype=jnp.int32)


def _to_size(params, size):
    """The same model listing only `size` categories, those alive first, in their order."""
    return CategoricalParams(*_moved_to_front(*params, size=size))


@chains_last
def _moved_to_front(weights, categories, *, size):
    rows, chains = weights.shape
    alive = weights > 0
    # A loop over rows: a cumulative sum costs XLA on the CPU ten times as much.
    count, before = jax.lax.scan(
        lambda total, row: (total + row, total),
        jnp.zeros(chains, jnp.int32),
        alive.astype(jnp.int32),
    )
    place = jnp.where(alive, before, size) * chains + jnp.arange(chains)
    # One scatter of where to find them, and in bounds: each costs as much as four gathers.
    source = jnp.zeros((size + 1) * chains, jnp.int32)
    source = source.at[place.ravel()].set(
        jnp.arange(rows * chains, dtype=jnp.int32), mode="promise_in_bounds"
    )
    source = source[: size * chains].reshape(size, chains)
    taken = jnp.arange(size)[:, None] < count
    leaves = (jnp.broadcast_to(leaf, weights.shape).ravel() for leaf in (weights, categories))
    return [jnp.where(taken, leaf.at[source].get(mode="promise_in_bounds"), 0) for leaf in leaves]


def mean(params):
    """Mean of the category's index []."""
    return _mean(*params)[0]


def variance(params):
    """Variance of the category's index []; 0 once the chain is absorbed."""
    return _variance(*params)[0]


def heterozygosity(params):
    """1 - sum p^2 []: the probability that two independent draws differ."""
    return _heterozygosity(params.weights)[0]


def entropy(params):
    """Shannon entropy [] in nats."""
    return _entropy(params.weights)[0]


def support(params):
    """Number of categories [] that still have probability, int32."""
    return _num_in_use(params)


def absorbed(params):
    """1 where a single category has all the probability, else 0 [], int32."""
    return (support(params) == 1).astype(jnp.int32)


def _shares(weights):
    return weights / jnp.sum(weights, axis=0).astype(jnp.result_type(float))


@chains_last
def _mean(weights, categories):
    return [jnp.sum(_shares(weights) * categories, axis=0)]


@chains_last
def _variance(weights, categories):
    shares = _shares(weights)
    return [jnp.sum(shares * (categories - jnp.sum(shares * categories, axis=0)) ** 2, axis=0)]


@chains_last
def _heterozygosity(weights):
    shares = _shares(weights)
    return [jnp.sum(shares * (1 - shares), axis=0)]


@chains_last
def _entropy(weights):
    shares = _shares(weights)
    return [jnp.sum(jax.scipy.special.entr(shares), axis=0)]


METRICS = {
    "mean": mean,
    "variance": variance,
    "log_variance": lambda params: jnp.log(variance(params)),
    "heterozygosity": heterozygosity,
    "entropy": entropy,
    "support": support,
    "absorbed": absorbed,
}


def _beside(categories, real):
    """Of the categories [k, chains] that a model lists: their real probabilities, and whether each
    is one that is really meant.

    Empty places at the end of a list repeat an earlier category. real: [K, chains], or [K, 1].
    """
    chains = jnp.broadcast_shapes(categories.shape[-1:], real.shape[-1:])
    categories, real = (
        jnp.broadcast_to(array, (len(array), *chains)) for array in (categories, real)
    )
    meant = jnp.concatenate([jnp.ones_like(categories[:1], bool), categories[1:] > categories[:-1]])
    return jnp.where(meant, jnp.take_along_axis(real, categories, axis=0), 0), meant


def _divergence(p, q):
    """p log(p / q) - p + q >= 0: summed over everything, the KL divergence, without the
    cancellation of near distributions.
    """
    beyond = (q - p) / jnp.where(p > 0, p, 1)
    return jnp.where(p > 0, p * (beyond - jnp.log1p(beyond)), q)


def _with_unlisted(of_listed, beside, meant, real):
    """Sum over listed categories, plus what the real distribution has in those that are not listed,
    given what it has beside each.
    """
    unlisted = jnp.maximum(jnp.sum(real, axis=0) - jnp.sum(beside, axis=0), 0)
    return jnp.sum(of_listed, axis=0) + jnp.where(jnp.sum(meant, axis=0) < len(real), unlisted, 0)


@chains_last
def _missing_mass(weights, categories, real):
    beside, meant = _beside(categories, real)
    return [_with_unlisted(jnp.where(weights > 0, 0, beside), beside, meant, real)]


@chains_last
def _total_variation(weights, categories, real):
    beside, _ = _beside(categories, real)
    return [jnp.sum(jnp.maximum(_shares(weights) - beside, 0), axis=0)]


@chains_last
def _squared_distance(weights, categories, real):
    beside, meant = _beside(categories, real)
    return [_with_unlisted((_shares(weights) - beside) ** 2, beside**2, meant, real**2)]


@chains_last
def _kl_model_to_real(weights, categories, real):
    beside, meant = _beside(categories, real)
    return [_with_unlisted(_divergence(_shares(weights), beside), beside, meant, real)]


@chains_last
def _kl_real_to_model(weights, categories, real):
    shares, (beside, _) = _shares(weights), _beside(categories, real)
    kept = jnp.sum((beside > 0) & (weights > 0), axis=0)
    near = jnp.sum(jnp.where(weights > 0, _divergence(beside, shares), 0), axis=0)
    return [jnp.where(kept < jnp.sum(real > 0, axis=0), jnp.inf, near)]


@chains_last
def _squared_wasserstein2(weights, categories, real):
    beside, _ = _beside(categories, real)
    weights, categories, real = (
        jnp.broadcast_to(array, (len(array), beside.shape[-1])).T
        for array in (weights, categories, real)
    )
    return [jax.vmap(_squared_wasserstein2_of_one)(weights, categories, real)]


def _squared_wasserstein2_of_one(weights, categories, real):
    """Of indices: equal quantiles are paired, piece by piece of those between the steps of either
    distribution function.
    """
    below, below_real = (
        cumulative / cumulative[-1] for cumulative in (jnp.cumsum(weights), jnp.cumsum(real))
    )
    steps = jnp.sort(jnp.concatenate([below, below_real]))
    middle = (steps + jnp.pad(steps, (1, 0))[:-1]) / 2
    ours = categories[jnp.searchsorted(below, middle)]
    return jnp.sum(
        jnp.diff(steps, prepend=0)
        * (ours - jnp.searchsorted(below_real, middle)).astype(real.dtype) ** 2
    )


@chains_last
def _wasserstein2(weights, categories, real):
    return [jnp.sqrt(one) for one in _squared_wasserstein2.kernel(weights, categories, real)]


DISTANCES = {
    "missing_mass": _missing_mass,
    "total_variation": _total_variation,
    "squared_distance": _squared_distance,
    "kl_model_to_real": _kl_model_to_real,
    "kl_real_to_model": _kl_real_to_model,
    "squared_wasserstein2": _squared_wasserstein2,
    "wasserstein2": _wasserstein2,
}
