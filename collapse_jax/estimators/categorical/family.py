"""Categorical distribution, fitted by maximum likelihood (the empirical frequencies)."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.closed_forms import ClosedForms
from collapse_jax.core.data_checks import PointCheck, check_size_of_params, labels, starts_at_one
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.tracing import real_or_traced
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import one_of, whole
from collapse_jax.estimators.categorical.closed_forms import equal_probabilities, means
from collapse_jax.estimators.categorical.compaction import COMPACTION
from collapse_jax.estimators.categorical.distances import DISTANCES
from collapse_jax.estimators.categorical.metrics import METRICS
from collapse_jax.estimators.categorical.params import CategoricalParams, categorical_params
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

# The key of what a drawn category is a copy of: a number that no draw counts up to.
_PARENT = np.uint32(2**32 - 3)


class Counts(NamedTuple):
    """Sufficient statistics: counts [k] int32 of the categories [k] that are listed."""

    counts: jax.Array
    categories: jax.Array


@named
def categorical(
    num_categories: int,
    method: Literal["auto", "binomials", "individuals"] = "auto",
    smoothing: float | jax.Array = 0.0,
) -> Estimator:
    """Categorical distribution, fitted by maximum likelihood (the empirical frequencies).

    Points x are int32 [n], categories 0 .. num_categories - 1. Under `replace` the chain is the
    Wright-Fisher chain.

    Metrics: mean and variance of the category's index, log_variance, heterozygosity (1 - sum p^2),
    entropy in nats, support (number of categories with p > 0), absorbed (1 if one category has
    probability 1, else 0), probabilities [K]. Distances to the real distribution: missing_mass (the
    real probability of the categories that the model has lost), tail_lost (the share that the model
    has lost of the tail, the least probable categories with at most 10% of the real probability),
    total_variation, squared_distance (sum (p - q)^2), kl_model_to_real, kl_real_to_model (inf once
    a category is lost), wasserstein2 and squared_wasserstein2 (of the category's index).

    Args:
        num_categories: K, at least 1.
        method: how counts are drawn (see `random.multinomial`). "binomials" has a relative error of
            about 1e-6; "individuals" does not, and is slower.
        smoothing: kappa >= 0, added to every count: p = (count + kappa) / (M + K kappa). With kappa
            above 0 no category is ever lost, and the chain forgets the real distribution.

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
        compaction=None if is_smoothed else COMPACTION,
        chain_axis=-1,
        weighed="counts its points in whole numbers",
    )._replace(mixtures=_mixtures)


def example() -> tuple[Estimator, CategoricalParams]:
    """Returns (Estimator, params) with six categories of unequal probability."""
    return categorical(6), categorical_params([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])


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
        """[K], including the categories that are not listed."""
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


def _real(options: Mapping[str, Any]) -> tuple[Estimator, CategoricalParams]:
    """Categories of equal probability."""
    probabilities = equal_probabilities(options)
    params = categorical_params(probabilities / probabilities.sum())
    return categorical(len(probabilities)), params


FAMILY = Family(
    categorical,
    example,
    label="{num_categories} categories",
    metrics=("heterozygosity", "entropy", "support"),
    laws=ClosedForms(means, real=_real),
)
