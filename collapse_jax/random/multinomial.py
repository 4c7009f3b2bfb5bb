"""Counts of independent draws, one by one: exact for every sample size, with integer totals."""

import jax
import jax.numpy as jnp

# Draws compared at once. A known n up to the first number takes one block; else a loop over small ones, which wastes little.
_WHOLE, _BLOCK = 1024, 64


def multinomial(key, n, probabilities) -> jax.Array:
    """Multinomial counts [K] (int32) of n draws; n may be traced. Cost O(n K).

    probabilities: [K], non-negative; they need not sum to 1. A category of probability 0 is never drawn.
    Exact but for the uniform variates: float32 ones have a grain of 2^-23, so that is the smallest probability told apart.
    Method: inversion of the cumulative sum (Devroye 1986, "Non-Uniform Random Variate Generation", III.2).
    """
    cumulative = jnp.cumsum(probabilities)

    def below(key, size, left):
        # Strictly below the last entry, because a uniform is at most 1 - 2^-23: a category of width 0 is never hit.
        u = jax.random.uniform(key, (size,), cumulative.dtype) * cumulative[-1]
        hit = (u[:, None] < cumulative) & (jnp.arange(size) < left)[:, None]
        return jnp.sum(hit, axis=0, dtype=jnp.int32)

    if isinstance(n, int) and n <= _WHOLE:
        return jnp.diff(below(key, n, n), prepend=0)

    def block(i, total):
        return total + below(jax.random.fold_in(key, i), _BLOCK, n - i * _BLOCK)

    total = jax.lax.fori_loop(0, (n + _BLOCK - 1) // _BLOCK, block, jnp.zeros(cumulative.shape, jnp.int32))
    return jnp.diff(total, prepend=0)


def multivariate_hypergeometric(key, counts, n) -> jax.Array:
    """Counts [K] (int32) of n draws without replacement from an urn with `counts` [K] (int32) of each colour; n may be traced.

    Drawn one by one, so exact; cost O(n K). The urn must hold at least n, and at most 2^31 - 1.
    """

    def draw(i, carry):
        left, taken = carry
        ends = jnp.cumsum(left)
        ball = jax.random.randint(jax.random.fold_in(key, i), (), 0, ends[-1], ends.dtype)
        colour = jnp.searchsorted(ends, ball, side="right")
        return left.at[colour].add(-1), taken.at[colour].add(1)

    return jax.lax.fori_loop(0, n, draw, (counts, jnp.zeros_like(counts)))[1]
