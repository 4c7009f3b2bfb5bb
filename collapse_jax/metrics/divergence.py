"""Pieces of Kullback-Leibler divergences, without cancellation and without nan."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def exponential_beyond_line(x: Array) -> Array:
    """exp(x) - 1 - x without cancellation; inf at both ends.

    KL divergence of exponential distributions at x = log(mean of the first / mean of the second).
    Derived.
    """
    small = jnp.clip(x, -0.5, 0.5)
    series = jnp.ones_like(x)
    for divisor in range(9, 2, -1):
        series = 1 + small / divisor * series
    return jnp.where(
        jnp.abs(x) < 0.5, small**2 / 2 * series, jnp.where(x == jnp.inf, jnp.inf, jnp.expm1(x) - x)
    )


def entropy_beyond_line(p: ArrayLike, q: ArrayLike) -> Array:
    """p log(p / q) - p + q for p, q >= 0, without cancellation if they are close.

    The value is q where p = 0, and inf where only q = 0. It is the KL divergence of Poisson
    distributions with means p and q. Summed over all outcomes, it is that of discrete
    distributions. Derived.
    """
    p, q = jnp.broadcast_arrays(
        jnp.asarray(p, jnp.result_type(float)), jnp.asarray(q, jnp.result_type(float))
    )
    some = jnp.where(p > 0, p, 1)
    near = jnp.abs(q - p) < some / 2
    ratio = jnp.where(
        near, jnp.log1p(jnp.where(near, (q - p) / some, 0)), jnp.log(q) - jnp.log(some)
    )
    # Far above p the exponential would overflow, and there is nothing to cancel.
    divergence = jnp.where(
        ratio > 1, q - p - p * ratio, p * exponential_beyond_line(jnp.minimum(ratio, 1))
    )
    return jnp.where(p > 0, divergence, q)
