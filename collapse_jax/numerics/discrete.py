"""Distributions over finitely many outcomes, given by their probabilities along the first axis."""

import jax
import jax.numpy as jnp

from collapse_jax.random.derivatives import CHOICES, step_function


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


def inverted(cumulative: jax.Array, u: jax.Array) -> jax.Array:
    """Indices [n] of outcomes, by inversion of their cumulated weights.

    Args:
        cumulative: [k], ascending; the last entry need not be 1.
        u: [n], uniform on [0, 1). An outcome of weight 0 is never chosen.
    """
    total = cumulative[-1]
    below = jnp.minimum(u * total, total * (1 - jnp.finfo(u.dtype).epsneg))
    places = jnp.searchsorted(cumulative, below, side="right")
    return step_function(places, cumulative, CHOICES)
