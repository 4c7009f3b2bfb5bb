"""Metrics and distances of n-gram models: of the tokens in their training sets."""

import jax
import jax.numpy as jnp

from collapse_jax.estimators.ngram.transitions import NGramParams
from collapse_jax.numerics import discrete


def _counts(params):
    """How often each token [V] is in the training set, int32."""
    size = params.offset.size - 1
    counts = jnp.zeros(size, jnp.int32)
    predicted = [(params.columns[-1], params.offset[-1])]
    for column, filled in predicted + [(column, params.blocks) for column in params.starts]:
        token = jnp.where(jnp.arange(column.size) < filled, column, size)
        counts = counts.at[token].add(1, mode="drop")
    return counts


def probabilities(params: NGramParams) -> jax.Array:
    """Shares [V] of the tokens in the training set, summing to 1."""
    counts = _counts(params)
    return counts / jnp.maximum(jnp.sum(counts), 1).astype(jnp.result_type(float))


def vocabulary(params: NGramParams) -> jax.Array:
    """Number of distinct tokens [] in the training set, int32."""
    return jnp.sum(_counts(params) > 0, dtype=jnp.int32)


def distinct_ngrams(params: NGramParams) -> jax.Array:
    """Number of distinct transitions [] in the training set, int32."""
    new = jnp.arange(params.columns[0].size) == 0
    for column in params.columns:
        new = new | (column != jnp.roll(column, 1))
    return jnp.sum(new & (jnp.arange(new.size) < params.offset[-1]), dtype=jnp.int32)


def _mean(params):
    return discrete.mean(probabilities(params), jnp.arange(params.offset.size - 1))


def _variance(params):
    return discrete.variance(probabilities(params), jnp.arange(params.offset.size - 1))


METRICS = {
    "mean": _mean,
    "variance": _variance,
    "log_variance": lambda params: jnp.log(_variance(params)),
    "probabilities": probabilities,
    "vocabulary": vocabulary,
    "distinct_ngrams": distinct_ngrams,
    "entropy": lambda params: discrete.entropy(probabilities(params)),
    "heterozygosity": lambda params: discrete.heterozygosity(probabilities(params)),
}


def surviving_vocabulary(params: NGramParams, reference: NGramParams) -> jax.Array:
    """Share [] of the distinct tokens of the reference's training set that are in the model's."""
    known = _counts(reference) > 0
    return jnp.sum(known & (_counts(params) > 0)) / jnp.maximum(jnp.sum(known), 1)


def missing_mass(params: NGramParams, reference: NGramParams) -> jax.Array:
    """Share [] of the reference's training set made of tokens that the model has lost."""
    return jnp.sum(jnp.where(_counts(params) > 0, 0, probabilities(reference)))


def total_variation(params: NGramParams, reference: NGramParams) -> jax.Array:
    """Half the sum [] of the differences of the tokens' shares."""
    return jnp.sum(jnp.maximum(probabilities(params) - probabilities(reference), 0))


DISTANCES = {
    "surviving_vocabulary": surviving_vocabulary,
    "missing_mass": missing_mass,
    "total_variation": total_variation,
}
