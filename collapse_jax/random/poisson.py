"""Poisson counts by inversion of one uniform variate."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from collapse_jax.random.binomial import (
    SUMMED,
    TERMS,
    count_at_tail,
    either,
    offset_of_normal,
)
from collapse_jax.random.bits import counters, key_words, uniform, variate_words
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.derivatives import COUNTS, step_function
from collapse_jax.random.normal import normal

# Up to here the count itself, above it the mean's own digits and the count's distance from it, say
# more in float32.
_COUNTED = 2.0**22


def poisson(key: Array, mean: ArrayLike, shape: tuple[int, ...] = ()) -> Array:
    """Poisson counts.

    Inversion, as `binomial`: up to a mean of 12 the distribution function is summed; above, its
    inverse is the Cornish-Fisher series to the sixth order for a lattice. Derived here, as the
    limit of the binomial's series for p -> 0.

    The total variation distance from the exact distribution, measured over all words in float32, is
    4e-7 up to the mean 12, 4e-6 just above it, and 5e-7 at 20. For larger means it is about 3e-8
    standard deviations, since the probability of single counts approaches the resolution of 32
    random bits; the distribution function is accurate to 1e-7. An outcome rarer than 2^-33 is never
    drawn.

    Args:
        mean: 0 .. 2.1e9; broadcasts to `shape` and may be traced. 0 gives 0, and a mean beyond the
            range of int32 gives 2^31 - 1.

    Returns:
        Counts [shape], int32; -1 where the mean is negative or nan, as `jax.random.poisson`.

    References:
        Hill and Davis 1968, with Sheppard's corrections.
    """
    mean = jnp.broadcast_to(jnp.asarray(mean, jnp.result_type(float)), shape)
    return _poisson(*key_words(key), mean)[0]


def average_of_poissons(key: Array, n: ArrayLike, rate: ArrayLike) -> Array:
    """The mean of n Poisson counts as a float [], from their sum, which is Poisson(n rate).

    The sum may be far beyond the range of an integer type. The numbers of the key are those of
    `poisson(key, n * rate)`.

    Args:
        n: Counts; an int, or traced. 0 gives 0.
        rate: Mean [] of each count. 0 gives 0.

    Returns:
        The mean; nan where n or the rate is negative or nan.
    """
    rate = jnp.asarray(rate, jnp.result_type(float))
    return _average(*key_words(key), jnp.asarray(n, rate.dtype), rate)[0]


@chains_last
def _poisson(key0, key1, mean):
    index = counters(mean.shape[:-1])
    whole, offset = poisson_of_words(variate_words(key0, key1, index), mean)
    largest = jnp.iinfo(jnp.int32).max
    # Below 2^30 both parts and their sum are integers of the type; above, the sum is watched in
    # floats, where it is coarse.
    fits = whole + offset < 2.0**31 - 256
    count = jnp.where(
        fits,
        jnp.where(fits, whole, 0).astype(jnp.int32) + jnp.where(fits, offset, 0).astype(jnp.int32),
        largest,
    )
    return [jnp.where(mean >= 0, count, -1)]


@chains_last
def _average(key0, key1, n, rate):
    mean = n * rate
    whole, offset = poisson_of_words(variate_words(key0, key1, jnp.uint32(0)), mean)
    divisor = jnp.maximum(n, 1)
    # `mean` is a whole number there, or half of one, so that nothing is lost between it and
    # `whole`.
    average = jnp.where(
        mean < _COUNTED, (whole + offset) / divisor, rate + (offset - (mean - whole)) / divisor
    )
    return [jnp.where((n >= 0) & (rate >= 0), average, jnp.nan)]


def poisson_of_words(words: tuple[Array, ...], mean: Array) -> tuple[Array, ...]:
    """The counts at the quantiles that random words stand for, in two parts; the arrays broadcast.

    Args:
        words: Those of one variate, as `variate_words` gives them.
        mean: Mean of the distribution, a float array.

    Returns:
        (whole, offset): their sum is the count. Both are whole numbers as floats of the mean's
        type. `whole` is the mean's whole part, or 0 where the distribution function is summed.
    """
    shape = jnp.broadcast_shapes(words[0].shape, mean.shape)
    # Flat, so that vectors do not end where an axis does.
    mean, *flat = (jnp.broadcast_to(array, shape).reshape(-1) for array in (mean, *words))

    def few():
        # As in `normal`: the lowest bit says which tail, the others its probability.
        count = count_at_tail(uniform(*flat) / 2, (flat[0] & jnp.uint32(1)) > 0, _terms(mean))
        return jnp.zeros_like(mean), count.astype(mean.dtype)

    def many():
        whole = jnp.floor(mean)
        offset = offset_of_normal(normal(*flat), jnp.maximum(mean, 1), 1.0)
        return whole, jnp.floor((mean - whole) + offset + 0.5)

    parts = tuple(part.reshape(shape) for part in either(mean <= SUMMED, few, many))
    mean = mean.reshape(shape)
    return step_function(parts, mean, COUNTS)


def _terms(mean):
    """The probabilities of 0 .. TERMS; for means up to SUMMED."""
    terms = [jnp.exp(-jnp.minimum(mean, SUMMED))]
    for k in range(1, TERMS + 1):
        terms.append(terms[-1] * (mean * mean.dtype.type(1 / k)))
    return terms
