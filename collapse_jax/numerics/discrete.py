"""Distributions over finitely many outcomes, given by their probabilities along the first axis."""

import jax
import jax.numpy as jnp


def mean(shares: jax.Array, values: jax.Array) -> jax.Array:
    """Mean [...] of values [k, ...] under probabilities [k, ...]."""
    return jnp.sum(shares * values, axis=0)


def variance(shares: jax.Array, values: jax.Array) -> jax.Array:
    """Variance [...] of values [k, ...] under probabilities [k, ...]."""
    return jnp.sum(shares * (values - mean(shares, values)) ** 2, axis=0)


def heterozygosity(shares: jax.Array) -> jax.Array:
    """1 - sum p^2 [...]: the probability that two independent draws differ."""
    return jnp.sum(shares * (1 - shares), axis=0)


def entropy(shares: jax.Array) -> jax.Array:
    """Shannon entropy [...] in nats."""
    return jnp.sum(jax.scipy.special.entr(shares), axis=0)
