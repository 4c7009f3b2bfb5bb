"""Exponential variates, and the mean of many of them, by inversion."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from collapse_jax.random.bits import key_words, uniform, variate_words
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.chi_square import log_gamma_share


def exponential_vector(key: Array, count: int) -> Array:
    """Independent standard exponential variates [count].

    Both tails have the resolution of the bits (2^-32 in float32).
    """
    return _exponential_vector(*key_words(key), count=count)[0]


def log_mean_of_exponentials(key: Array, n: ArrayLike) -> Array:
    """log of the mean [] of n independent standard exponentials, whose sum is Gamma(n).

    Exact up to float rounding (see `chi_square`), at the same cost for every n.

    Args:
        n: An int, or traced; 0 gives -inf, a negative n and nan give nan.
    """
    return log_gamma_share(key, n)


@chains_last
def _exponential_vector(key0, key1, *, count):
    words = variate_words(key0, key1, jnp.arange(count, dtype=jnp.uint32)[:, None])
    # As in `normal`: the lowest bit says which tail, the others its probability.
    tail = uniform(*words) / 2
    return [jnp.where((words[0] & jnp.uint32(1)) > 0, -jnp.log(tail), -jnp.log1p(-tail))]
