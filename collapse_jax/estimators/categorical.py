"""Categorical distribution by maximum likelihood: the empirical frequencies (Shumailov et al. 2024, "discrete distributions")."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.errors import InputError
from collapse_jax.factory import estimator
from collapse_jax.random.multinomial import multinomial, multivariate_hypergeometric
from collapse_jax.types import Estimator, FitInfo


class CategoricalParams(NamedTuple):
    """probabilities: [K], summing to 1."""

    probabilities: jax.Array


class Counts(NamedTuple):
    """Evidence of a categorical family. counts: [K], int32."""

    counts: jax.Array


def categorical(num_categories: int) -> Estimator:
    """Categories 0 .. num_categories - 1 by maximum likelihood; x is int32 [n], evidence the counts [K].

    Under `replace` this is the Wright-Fisher chain. Metrics: mean and variance of the category's index, log_variance,
    heterozygosity 1 - sum p^2, entropy in nats, support (categories with p > 0), probabilities [K].
    Raises `InputError` unless num_categories >= 1.
    """
    if isinstance(num_categories, bool) or not isinstance(num_categories, int) or num_categories < 1:
        raise InputError(f"num_categories is {num_categories!r}; it must be an integer of at least 1")

    def init(key, evidence):
        return CategoricalParams(jnp.full(num_categories, 1 / num_categories))

    def fit(key, params, evidence):
        counts = evidence.counts
        return CategoricalParams(counts / jnp.sum(counts)), FitInfo.exact()

    def sample(key, params, n):
        cumulative = jnp.cumsum(params.probabilities)
        u = jax.random.uniform(key, (n,), cumulative.dtype) * cumulative[-1]
        return jnp.searchsorted(cumulative, u, side="right").astype(jnp.int32)

    def summarise(x, weight):
        return Counts(jnp.zeros(num_categories, jnp.int32).at[x].add((weight > 0).astype(jnp.int32)))

    return estimator(
        fit,
        sample,
        init=init,
        summarise=summarise,
        draw=lambda key, params, n: Counts(multinomial(key, n, params.probabilities)),
        merge=lambda a, b: Counts(a.counts + b.counts),
        subsample=lambda key, evidence, n: Counts(multivariate_hypergeometric(key, evidence.counts, n)),
        metrics=METRICS,
        evidence=Counts,
    )


def mean(params):
    """Mean of the category's index []."""
    return jnp.sum(params.probabilities * jnp.arange(params.probabilities.shape[0]))


def variance(params):
    """Variance of the category's index []; 0 once the chain is absorbed."""
    return jnp.sum(params.probabilities * (jnp.arange(params.probabilities.shape[0]) - mean(params)) ** 2)


def heterozygosity(params):
    """1 - sum p^2 []: the probability that two independent draws differ."""
    return jnp.sum(params.probabilities * (1 - params.probabilities))


def entropy(params):
    """Shannon entropy [] in nats."""
    return -jnp.sum(jax.scipy.special.xlogy(params.probabilities, params.probabilities))


def support(params):
    """Number of categories [] that still have probability, int32."""
    return jnp.sum(params.probabilities > 0, dtype=jnp.int32)


METRICS = {
    "mean": mean,
    "variance": variance,
    "log_variance": lambda params: jnp.log(variance(params)),
    "heterozygosity": heterozygosity,
    "entropy": entropy,
    "support": support,
    "probabilities": lambda params: params.probabilities,
}
