"""Tokens drawn from sorted transitions."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from collapse_jax.estimators.ngram.transitions import NGramParams, backed_off, find
from collapse_jax.random.bits import key_words, threefry2x32, uniform, whole_below

# The counter of the second variate of a token, which says whether smoothing makes it.
_SMOOTHED = 2**31


def begun(key: jax.Array, params: NGramParams, n: int) -> jax.Array:
    """Which block of the training set each of n new ones begins with, int32 [n]."""
    words = threefry2x32(*key_words(key), jnp.uint32(0), jnp.arange(n, dtype=jnp.uint32))
    return choice(words, params.blocks)


def generated(
    key: jax.Array,
    params: NGramParams,
    context: Sequence[jax.Array],
    n: int,
    length: int,
    smoothing: float,
    chosen: bool = False,
) -> jax.Array:
    """Returns tokens [n, length] that continue contexts: order - 1 arrays [n], newest first.

    The random bits of a token depend on its place. chosen: True returns the places of the chosen
    transitions instead of their tokens; for a smoothing of 0.
    """
    key0, key1 = key_words(key)
    rows = jnp.arange(n, dtype=jnp.uint32)
    tokens = params.columns[-1]
    last = tokens.size - 1

    def words(place, stream=0):
        return threefry2x32(key0, key1, place.astype(jnp.uint32) | jnp.uint32(stream), rows)

    if len(params.columns) == 1 and smoothing == 0:
        choices = jax.vmap(lambda place: choice(words(place), params.offset[-1]))
        place = jnp.minimum(choices(1 + jnp.arange(length)), last)
        return (place if chosen else tokens[place]).T

    def likeliest(span, place):
        start, count = span
        taken = jnp.minimum(start + choice(words(place), count), last)
        span = tuple(column[taken] for column in params.following)
        if len(context) == 2:
            # After a pair whose newer token was never followed: the one before the new token is not
            # the chosen transition's.
            dead, alone = count == params.offset[-1], backed_off(params, [tokens[taken]])
            span = tuple(
                jnp.where(dead, short, own) for short, own in zip(alone, span, strict=True)
            )
        return span, taken if chosen else tokens[taken]

    def smoothed(context, place):
        start, count = (jnp.broadcast_to(part, (n,)) for part in find(params, context))
        seen = tokens[jnp.minimum(start + choice(words(place), count), last)]
        size = params.offset.size - 1
        share = jnp.where(count > 0, 1 / (1 + count / jnp.float32(smoothing * size)), 1)
        decision, which = words(place, _SMOOTHED)
        token = jnp.where(
            uniform(decision) < share,
            choice((which, jnp.zeros_like(which)), jnp.int32(size)),
            seen,
        )
        return [token, *context][: len(context)], token

    step, carry = (
        (smoothed, list(context)) if smoothing > 0 else (likeliest, backed_off(params, context))
    )
    return jax.lax.scan(step, carry, 1 + jnp.arange(length))[1].T


def choice(words: tuple[jax.Array, jax.Array], count: jax.Array) -> jax.Array:
    """Uniform on 0 .. count - 1, int32."""
    return whole_below(words, count).astype(jnp.int32)
