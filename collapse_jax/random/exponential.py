"""Exponential variates, and the mean of many of them, by inversion."""

import jax.numpy as jnp

from collapse_jax.random.bits import key_words, uniform, variate_words
from collapse_jax.random.chi_square import log_gamma_share
from collapse_jax.random.lanes import lanes


def exponential_vector(key, count: int):
    """Independent standard exponential variates [count]: both tails have the grain of the bits
    (2^-32 in float32).
    """
    return _exponential_vector(*key_words(key), count=count)[0]


def log_mean_of_exponentials(key, n):
    """log of the mean [] of n independent standard exponentials: their sum is Gamma(n). -inf for n
    = 0; n may be traced.

    Exact to the rounding of the float type (see `chi_square`), and as cheap for every n.
    """
    return log_gamma_share(key, n)


@lanes
def _exponential_vector(key0, key1, *, count):
    words = variate_words(key0, key1, jnp.arange(count, dtype=jnp.uint32)[:, None])
    # As in `normal`: the lowest bit says which tail, the others its probability.
    tail = uniform(*words) / 2
    return [jnp.where((words[0] & jnp.uint32(1)) > 0, -jnp.log(tail), -jnp.log1p(-tail))]
