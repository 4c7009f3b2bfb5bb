"""The best word and a random word of each row of scores: JAX's own, in a form that suits CPUs.

`jnp.argmax` and `jax.random.categorical` compile to a loop that a CPU runs word by word, the
logarithms of the noise within it, and to random bits that pass through memory in each of their
rounds: 36 ns a word, more than a model of 5 M parameters needs for its products. The same words are
found here in 7 ns.

References:
    Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3 (Threefry).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

# Bits by which Threefry-2x32 rotates, for groups of four rounds in turn.
_TURNS = (13, 15, 26, 6), (17, 29, 16, 24)


def best_word(scores: Float[Array, "rows words"]) -> Int[Array, " rows"]:
    """`jnp.argmax` over the last axis: the first of the largest, or the first nan."""
    return jax.lax.platform_dependent(
        scores, cpu=_first_largest, default=functools.partial(jnp.argmax, axis=-1)
    )


def random_word(
    keys: Key[Array, " rows"], scores: Float[Array, "rows words"]
) -> Int[Array, " rows"]:
    """`jax.random.categorical` of each row with its own key: word w with odds exp(scores[w])."""
    return jax.lax.platform_dependent(
        keys, scores, cpu=_noisy_largest, default=jax.vmap(jax.random.categorical)
    )


def _noisy_largest(keys, scores):
    words, dtype = scores.shape[-1], scores.dtype
    if dtype == jnp.float32 and jax.random.key_impl(keys) == "threefry2x32" and _counts_words():
        # Of uniforms in [tiny, 1), as `jax.random.gumbel` makes them.
        tiny, one = jnp.finfo(dtype).tiny, jnp.uint32(0x3F800000)
        bits = threefry_bits(keys, words)
        uniform = jax.lax.bitcast_convert_type((bits >> 9) | one, dtype) - 1
        noise = -jnp.log(-jnp.log(jnp.maximum(tiny, uniform + tiny)))
    else:
        noise = jax.vmap(lambda key: jax.random.gumbel(key, (words,), dtype))(keys)
    # The barrier keeps the logarithms of the noise out of the search.
    return _first_largest(jax.lax.optimization_barrier(noise) + scores)


def _counts_words():
    """Whether JAX draws number i of an array from counter i alone, its default since 0.5."""
    config: Any = jax.config
    return config.jax_threefry_partitionable


def threefry_bits(keys: Key[Array, " rows"], count: int) -> UInt32[Array, "rows count"]:
    """`jax.random.bits(key, (count,))` of each Threefry key, all rounds in one pass.

    JAX rolls the rounds up on CPUs, so that each group of them is a pass over memory.
    """
    data = jax.random.key_data(keys)
    first, second = data[:, :1], data[:, 1:]
    schedule = first, second, first ^ second ^ jnp.uint32(0x1BD11BDA)
    x = jnp.broadcast_to(first, (len(data), count))
    y = jnp.arange(count, dtype=jnp.uint32) + second
    for i in range(5):
        for turn in _TURNS[i % 2]:
            x = x + y
            y = x ^ ((y << turn) | (y >> (32 - turn)))
        x = x + schedule[(i + 1) % 3]
        y = y + schedule[(i + 2) % 3] + jnp.uint32(i + 1)
    return x ^ y


def _first_largest(scores):
    count = scores.shape[-1]
    words, most = jnp.arange(count), scores.max(-1, keepdims=True)
    # A nan goes before all numbers; the maximum of a CPU may pass over it.
    places = jnp.where(jnp.isnan(scores), words - count, jnp.where(scores == most, words, count))
    first = places.min(-1)
    return jnp.where(first < 0, first + count, first)
