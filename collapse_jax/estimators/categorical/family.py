"""Categorical distribution by maximum likelihood: the empirical frequencies."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.closed_forms import ClosedForms, Setting
from collapse_jax.core.data_checks import PointCheck, check_size_of_params, labels, starts_at_one
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.tracing import real_or_traced
from collapse_jax.core.types import Compaction, Estimator, Family, FitInfo
from collapse_jax.errors import InputError, numbers, one_of, whole
from collapse_jax.numerics import discrete
from collapse_jax.numerics.choices import one_of_equals
from collapse_jax.random.bits import fold_in, key_words
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.derivatives import CUT, step_function
from collapse_jax.random.multinomial import (
    DRAWS_AMONG_FLOATS,
    METHODS,
    categories_of_draws,
    multinomial,
    multinomial_of_categories,
    multivariate_hypergeometric,
)

__all__ = ["categorical", "categorical_params"]


# The share of the real distribution that is its tail, and what its sum in float32 may exceed it by.
_TAIL, _ROUNDING = 0.1, 1e-6
# The key of what a drawn category is a copy of: a number that no draw counts up to.
_PARENT = np.uint32(2**32 - 3)
_FAR_SMALLER = 2.0**-12


class CategoricalParams(NamedTuple):
    """The weights of categories.

    All K categories are listed, but for chains under `replace` in `simulate`, where those that no
    chain has any more may be left out.

    weights: [k], proportional to the probabilities: the counts of the sample (int32) or floats.
    categories: [k] int32, ascending.
    """

    weights: jax.Array
    categories: jax.Array

    @property
    def probabilities(self) -> jax.Array:
        """[k], of the listed categories, summing to 1."""
        return _shares(self.weights)


class Counts(NamedTuple):
    """Sufficient statistics: counts [k] int32 of the listed categories [k]."""

    counts: jax.Array
    categories: jax.Array


@named
def categorical(
    num_categories: int,
    method: Literal["auto", "binomials", "individuals"] = "auto",
    smoothing: float | jax.Array = 0.0,
) -> Estimator:
    """Categories 0 .. num_categories - 1 by maximum likelihood; x is int32 [n].

    Under `replace` this is the Wright-Fisher chain.

    Metrics: mean and variance of the category's index, log_variance, heterozygosity 1 - sum p^2,
    entropy in nats, support (categories with p > 0), absorbed (1 where one category has everything,
    else 0), probabilities [K]. Distances to the real distribution: missing_mass (real probability
    of the categories that the model has lost), tail_lost (of the least probable categories, which
    together hold at most 10% of the real one, the share of that which the model lacks),
    total_variation, squared_distance (sum (p - q)^2), kl_model_to_real, kl_real_to_model (inf once
    a category is lost), wasserstein2 and squared_wasserstein2 (of the category's index).

    Args:
        num_categories: K, at least 1.
        method: how counts are drawn (see `random.multinomial`). "individuals" is free of the last
            1e-6 of error that "binomials" has, and slower.
        smoothing: kappa >= 0, added to every count before it is divided: (count + kappa) / (M + K
            kappa). Above 0 no category is ever lost, and the chain forgets the real distribution
            instead of collapsing to a point.

    Raises:
        InputError: if an argument is out of its range.

    References:
        Shumailov et al. 2024, "Discrete distributions with exact approximation"; the smoothing is
        Laplace's (Lidstone's) rule.
    """
    family = _Categorical(
        whole("num_categories", num_categories, 1),
        one_of("method", method, METHODS),
        real_or_traced("smoothing", smoothing, at_least=0, must_be="a finite number of at least 0"),
    )
    is_smoothed = isinstance(smoothing, jax.Array) or smoothing > 0
    return estimator(
        family.fit,
        family.sample,
        init=_init,
        statistics=Counts,
        summarise=family.summarise,
        merge=_merge,
        draw=family.draw,
        subsample=_subsample,
        check=_check(family.num_categories),
        metrics=METRICS | {"probabilities": family.probabilities},
        distances={name: family.distance(kernel) for name, kernel in DISTANCES.items()},
        log_prob=family.log_prob,
        # A smoothed category may come back, and is then nobody's copy.
        copied=None if smoothing else family.copied,
        tempered=_tempered,
        nucleus=_nucleus,
        # A smoothed category that nobody has comes back: none may be left out.
        compaction=None if is_smoothed else Compaction(_num_in_use, _to_size),
        chain_axis=-1,
        weighed="counts its points in whole numbers",
    )._replace(mixtures=_mixtures)


def example() -> tuple[Estimator, CategoricalParams]:
    """(Estimator, params) of six categories of unequal probability."""
    return categorical(6), categorical_params([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])


def categorical_params(probabilities: ArrayLike) -> CategoricalParams:
    """Parameters of all K categories from probabilities [K].

    Raises:
        InputError: unless they are finite, not negative, and not all 0.
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
    weights = jnp.asarray(probabilities, jnp.result_type(float))
    return CategoricalParams(weights, jnp.arange(len(weights), dtype=jnp.int32))


class _Categorical(NamedTuple):
    """What depends on the options."""

    num_categories: int
    method: str
    smoothing: float | jax.Array

    def fit(self, key, params, statistics):
        weights = statistics.counts
        if isinstance(self.smoothing, jax.Array) or self.smoothing > 0:
            weights = weights + jnp.asarray(self.smoothing, jnp.result_type(float))
        return CategoricalParams(weights, statistics.categories), FitInfo.exact()

    def sample(self, key, params, n):
        # Chains under `replace` may list fewer.
        check_size_of_params("categories", len(params.weights), self.num_categories, at_most=True)
        return _sample(key, params, n)

    def summarise(self, x, weight):
        counts = jnp.zeros(self.num_categories, jnp.int32)
        return Counts(
            counts.at[x].add((weight > 0).astype(jnp.int32)),
            jnp.arange(self.num_categories, dtype=jnp.int32),
        )

    def draw(self, key, params, n):
        # Integer weights are counts: every later generation draws from them category by category,
        # whichever are listed.
        counted = jnp.issubdtype(params.weights.dtype, jnp.integer)
        if self.method == "individuals" or not counted:
            counts = multinomial(key, n, params.weights, method=self.method)
        else:
            counts = multinomial_of_categories(key, n, params.weights, params.categories)
        return Counts(counts, params.categories)

    def copied(self, key, params, data, n):
        """The slots [n] of training points of the categories drawn, each chosen uniformly."""
        category = self.sample(key, params, n)
        return one_of_equals(fold_in(key, _PARENT), data.x, data.weight, category)

    def probabilities(self, params):
        """[K], those of categories that are not listed included."""
        return jnp.zeros(self.num_categories).at[params.categories].add(params.probabilities)

    def distance(self, kernel):
        return lambda params, reference: kernel(*params, self.probabilities(reference))[0]

    def log_prob(self, params, x):
        return jnp.log(self.probabilities(params))[x]


def _check(count):
    return PointCheck(
        f"categorical({count})",
        labels(count),
        whole=True,
        low=0,
        high=count - 1,
        hint=starts_at_one(count),
    )


def _init(key, statistics):
    return CategoricalParams(jnp.ones_like(statistics.counts), statistics.categories)


def _sample(key, params, n):
    weights = params.probabilities if n <= DRAWS_AMONG_FLOATS else params.weights
    return params.categories[categories_of_draws(*key_words(key), weights, n)]


def _merge(a, b):
    return Counts(a.counts + b.counts, a.categories)


def _subsample(key, statistics, n):
    return Counts(multivariate_hypergeometric(key, statistics.counts, n), statistics.categories)


def _tempered(params, tau):
    """The model with weights w^(1 / tau), the largest of them 1."""
    shares = params.weights / jnp.max(params.weights).astype(jnp.result_type(float))
    return params._replace(weights=jnp.where(shares > 0, shares ** (1 / tau), 0))


def _nucleus(params, p):
    """The fewest most probable categories that hold probability p; of equal ones the first."""
    shares = params.probabilities
    order = jnp.argsort(-shares, stable=True)
    before = jnp.cumsum(shares[order]) - shares[order]
    kept = jnp.zeros(len(shares), bool).at[order].set(step_function(before < p, p, CUT))
    return params._replace(weights=jnp.where(kept, shares, 0))


def _mixtures(params, weights):
    """Models [G] that are mixtures of K models of all categories with weights [G, K]."""
    (mixed,) = _mixed(params.weights, weights)
    return CategoricalParams(mixed, jnp.broadcast_to(params.categories[0], mixed.shape))


@chains_last
def _mixed(of_models, weights):
    """[G, k, chains] of weights of models [K, k, chains] and of mixtures [G, K, chains]."""
    shares = of_models / jnp.sum(of_models, axis=1, keepdims=True).astype(jnp.result_type(float))
    return [sum(weights[:, j, None] * shares[j] for j in range(len(shares)))]


def _num_in_use(params):
    return jnp.sum(params.weights > 0, dtype=jnp.int32)


def _to_size(params, size):
    """The same model with only `size` categories listed, those with weight first, in order."""
    return CategoricalParams(*_moved_to_front(*params, size=size))


@chains_last
def _moved_to_front(weights, categories, *, size):
    """Weights and categories [size, chains] of weights [k, chains], those above 0 first."""
    rows, chains = weights.shape
    in_use = weights > 0
    # A loop over rows: a cumulative sum costs XLA on the CPU ten times as much.
    count, before = jax.lax.scan(
        lambda total, row: (total + row, total),
        jnp.zeros(chains, jnp.int32),
        in_use.astype(jnp.int32),
    )
    place = jnp.where(in_use, before, size) * chains + jnp.arange(chains)
    # One scatter of where to find them, and in bounds: each costs as much as four gathers.
    source = jnp.zeros((size + 1) * chains, jnp.int32)
    source = source.at[place.ravel()].set(
        jnp.arange(rows * chains, dtype=jnp.int32), mode="promise_in_bounds"
    )
    source = source[: size * chains].reshape(size, chains)
    taken = jnp.arange(size)[:, None] < count
    leaves = (jnp.broadcast_to(leaf, weights.shape).ravel() for leaf in (weights, categories))
    return [jnp.where(taken, leaf.at[source].get(mode="promise_in_bounds"), 0) for leaf in leaves]


def mean(params: CategoricalParams) -> jax.Array:
    """Mean of the category's index []."""
    return _mean(*params)[0]


def variance(params: CategoricalParams) -> jax.Array:
    """Variance of the category's index []; 0 once the chain is absorbed."""
    return _variance(*params)[0]


def heterozygosity(params: CategoricalParams) -> jax.Array:
    """1 - sum p^2 []: the probability that two independent draws differ."""
    return _heterozygosity(params.weights)[0]


def entropy(params: CategoricalParams) -> jax.Array:
    """Shannon entropy [] in nats."""
    return _entropy(params.weights)[0]


def support(params: CategoricalParams) -> jax.Array:
    """Number of categories [] that still have probability, int32."""
    return _num_in_use(params)


def absorbed(params: CategoricalParams) -> jax.Array:
    """1 where a single category has all the probability, else 0 [], int32."""
    return (support(params) == 1).astype(jnp.int32)


def _shares(weights):
    return weights / jnp.sum(weights, axis=0).astype(jnp.result_type(float))


@chains_last
def _mean(weights, categories):
    return [discrete.mean(_shares(weights), categories)]


@chains_last
def _variance(weights, categories):
    return [discrete.variance(_shares(weights), categories)]


@chains_last
def _heterozygosity(weights):
    return [discrete.heterozygosity(_shares(weights))]


@chains_last
def _entropy(weights):
    return [discrete.entropy(_shares(weights))]


METRICS = {
    "mean": mean,
    "variance": variance,
    "log_variance": lambda params: jnp.log(variance(params)),
    "heterozygosity": heterozygosity,
    "entropy": entropy,
    "support": support,
    "absorbed": absorbed,
}


def _of_listed(categories, real):
    """(real probabilities [k, chains] of listed categories, whether each place is in use).

    categories: [k, chains]; places at the end of a list that are not in use repeat an earlier one.
    real: [K, chains], or [K, 1].
    """
    chains = jnp.broadcast_shapes(categories.shape[-1:], real.shape[-1:])
    categories, real = (
        jnp.broadcast_to(array, (len(array), *chains)) for array in (categories, real)
    )
    used = jnp.concatenate([jnp.ones_like(categories[:1], bool), categories[1:] > categories[:-1]])
    return jnp.where(used, jnp.take_along_axis(real, categories, axis=0), 0), used


def _divergence(p, q):
    """p log(p / q) - p + q >= 0: its sum is the KL divergence, without cancellation."""
    some = jnp.where(p > 0, p, 1)
    beyond = (q - p) / some
    # 1 + beyond has no digits of a far smaller q left.
    apart = jnp.where(q < _FAR_SMALLER * p, jnp.log(q / some), jnp.log1p(beyond))
    return jnp.where(p > 0, p * (beyond - apart), q)


def _with_unlisted(of_listed, listed, used, real):
    """Sum over listed categories, plus what `real` [K, chains] has in those that are not listed.

    listed: [k, chains], what `real` has in the listed ones.
    """
    unlisted = jnp.maximum(jnp.sum(real, axis=0) - jnp.sum(listed, axis=0), 0)
    return jnp.sum(of_listed, axis=0) + jnp.where(jnp.sum(used, axis=0) < len(real), unlisted, 0)


@chains_last
def _missing_mass(weights, categories, real):
    listed, used = _of_listed(categories, real)
    return [_with_unlisted(jnp.where(weights > 0, 0, listed), listed, used, real)]


@chains_last
def _tail_lost(weights, categories, real):
    order = jnp.argsort(real, axis=0, stable=True)
    held = jnp.cumsum(jnp.take_along_axis(real, order, axis=0), axis=0)
    is_tail = (held <= (_TAIL + _ROUNDING) * held[-1]).astype(real.dtype)
    is_tail = jnp.take_along_axis(is_tail, jnp.argsort(order, axis=0), axis=0)
    theirs = jnp.sum(is_tail * real, axis=0)
    listed, _ = _of_listed(categories, is_tail)
    ours = jnp.sum(listed * _shares(weights), axis=0)
    return [jnp.where(theirs > 0, (theirs - ours) / jnp.where(theirs > 0, theirs, 1), 0)]


@chains_last
def _total_variation(weights, categories, real):
    listed, _ = _of_listed(categories, real)
    return [jnp.sum(jnp.maximum(_shares(weights) - listed, 0), axis=0)]


@chains_last
def _squared_distance(weights, categories, real):
    listed, used = _of_listed(categories, real)
    return [_with_unlisted((_shares(weights) - listed) ** 2, listed**2, used, real**2)]


@chains_last
def _kl_model_to_real(weights, categories, real):
    listed, used = _of_listed(categories, real)
    return [_with_unlisted(_divergence(_shares(weights), listed), listed, used, real)]


@chains_last
def _kl_real_to_model(weights, categories, real):
    shares, (listed, _) = _shares(weights), _of_listed(categories, real)
    kept = jnp.sum((listed > 0) & (weights > 0), axis=0)
    near = jnp.sum(jnp.where(weights > 0, _divergence(listed, shares), 0), axis=0)
    return [jnp.where(kept < jnp.sum(real > 0, axis=0), jnp.inf, near)]


@chains_last
def _squared_wasserstein2(weights, categories, real):
    listed, _ = _of_listed(categories, real)
    weights, categories, real = (
        jnp.broadcast_to(array, (len(array), listed.shape[-1])).T
        for array in (weights, categories, real)
    )
    return [jax.vmap(_squared_wasserstein2_of_one)(weights, categories, real)]


def _squared_wasserstein2_of_one(weights, categories, real):
    """Of indices: equal quantiles are paired, piece by piece between the steps of both laws."""
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
    return [
        jnp.sqrt(squared) for squared in _squared_wasserstein2.kernel(weights, categories, real)
    ]


DISTANCES = {
    "missing_mass": _missing_mass,
    "tail_lost": _tail_lost,
    "total_variation": _total_variation,
    "squared_distance": _squared_distance,
    "kl_model_to_real": _kl_model_to_real,
    "kl_real_to_model": _kl_real_to_model,
    "squared_wasserstein2": _squared_wasserstein2,
    "wasserstein2": _wasserstein2,
}


def _real(options: Mapping[str, Any]) -> tuple[Estimator, CategoricalParams]:
    """Categories of equal probability."""
    probabilities = _uniform(options)
    params = categorical_params(probabilities / probabilities.sum())
    return categorical(len(probabilities)), params


def _uniform(options):
    return np.full(options["num_categories"], 1 / options["num_categories"])


def _means(setting: Setting, generation: ArrayLike) -> dict[str, np.ndarray]:
    # Here, so that who asks for no law does not wait for scipy.stats.
    from scipy import special

    from collapse_jax.theory import ancestry, real_batches
    from collapse_jax.theory import categorical as theory

    size, probabilities = setting.sample_size, _uniform(setting.options)
    if setting.options["smoothing"]:
        return {}
    initial = 1 - 1 / len(probabilities)
    if "real_share" in setting.workflow:
        return {
            "heterozygosity": initial * real_batches.retention(generation, size, **setting.workflow)
        }
    means = {"heterozygosity": initial * ancestry.retention(generation, size, **setting.workflow)}
    workflow = setting.workflow["workflow"]
    if workflow == "replace" and size <= theory.LARGEST_MATRIX_SAMPLE_SIZE:
        means["support"] = theory.expected_support(generation, size, probabilities)
        # All categories are alike, so the first stands for all.
        of_first = theory.expectation_over_counts(
            lambda count: special.entr(count / size), generation, size, probabilities[:1]
        )
        means["entropy"] = len(probabilities) * of_first[..., 0]
    if workflow == "accumulate":
        distinct = theory.expected_distinct_in_sample(size, probabilities)
        means["support"] = np.full(np.shape(generation), float(distinct))
    return means


FAMILY = Family(
    categorical,
    example,
    label="{num_categories} categories",
    metrics=("heterozygosity", "entropy", "support"),
    laws=ClosedForms(_means, real=_real),
)
