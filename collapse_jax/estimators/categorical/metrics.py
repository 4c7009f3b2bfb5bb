"""Metrics of categorical models, for batches whose chains are the last axis."""

import jax
import jax.numpy as jnp

from collapse_jax.estimators.categorical.compaction import COMPACTION
from collapse_jax.estimators.categorical.params import CategoricalParams, shares
from collapse_jax.numerics import discrete
from collapse_jax.random.chains_last import chains_last


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
    return COMPACTION.num_in_use(params)


def absorbed(params: CategoricalParams) -> jax.Array:
    """1 where a single category has all the probability, else 0 [], int32."""
    return (support(params) == 1).astype(jnp.int32)


@chains_last
def _mean(weights, categories):
    return [discrete.mean(shares(weights), categories)]


@chains_last
def _variance(weights, categories):
    return [discrete.variance(shares(weights), categories)]


@chains_last
def _heterozygosity(weights):
    return [discrete.heterozygosity(shares(weights))]


@chains_last
def _entropy(weights):
    return [discrete.entropy(shares(weights))]


METRICS = {
    "mean": mean,
    "variance": variance,
    "log_variance": lambda params: jnp.log(variance(params)),
    "heterozygosity": heterozygosity,
    "entropy": entropy,
    "support": support,
    "absorbed": absorbed,
}
