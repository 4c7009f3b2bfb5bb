"""Distinct integers in random order: draws without replacement in O(n) memory."""

import jax
import jax.numpy as jnp
from jax import Array

from collapse_jax.random.bits import key_words, threefry2x32

# Numbers up to which each is compared with all before it, which costs less than to sort them.
_COMPARED = 64


def distinct(key: Array, n: int, size: int) -> Array:
    """n distinct integers [n] (int32) from 0 .. size - 1, in random order.

    Every ordered choice has the same probability, to 2^-32: all n are drawn at once, and any that
    equals an earlier one is drawn again, until all are distinct. No step prefers one integer to
    another, so that all ordered choices are equally likely by symmetry. The first m of n integers
    equal those of a call with n = m. Memory is O(n), whatever the size; a round takes O(n log n),
    and there are about log(n) of them while n is at most size / 4.

    Args:
        key: typed key.
        n: number of integers, at most `size`; fast up to size / 4.
        size: number of possible integers, at most 2^31 - 1.

    References:
        Derived here (rejection of repetitions, one by one).
    """
    words = key_words(key)
    place = jnp.arange(n, dtype=jnp.uint32)

    def drawn(round_number):
        high, low = threefry2x32(*words, place, jnp.broadcast_to(round_number, place.shape))
        return _scaled(high, low, size)

    def again(carry):
        numbers, repeated, round_number = carry
        numbers = jnp.where(repeated, drawn(round_number), numbers)
        return numbers, _repeats(numbers), round_number + 1

    first = drawn(jnp.uint32(0))
    start = (first, _repeats(first), jnp.uint32(1))
    return jax.lax.while_loop(lambda carry: jnp.any(carry[1]), again, start)[0]


def _scaled(high, low, size):
    """floor(u size) as int32, u the 64 bits of two words."""
    half, mask, count = jnp.uint32(16), jnp.uint32(0xFFFF), jnp.uint32(size)

    def product(word):
        """The high and the low 32 bits of word * count."""
        word_high, word_low = word >> half, word & mask
        count_high, count_low = count >> half, count & mask
        # At most (2^16 - 1) 2^16: no carry is lost.
        middle = word_high * count_low + (word_low * count_low >> half)
        crossed = word_low * count_high + (middle & mask)
        return word_high * count_high + (middle >> half) + (crossed >> half), word * count

    whole, rest = product(high)
    carried = rest + product(low)[0]
    return (whole + (carried < rest)).astype(jnp.int32)


def _repeats(numbers):
    """Whether each of the numbers [n] equals one before it."""
    n = len(numbers)
    if n <= _COMPARED:
        earlier = jnp.arange(n)[:, None] > jnp.arange(n)
        return jnp.any((numbers[:, None] == numbers) & earlier, axis=1)
    # Of equal numbers the first place comes first, and is the one that stays.
    ordered, place = jax.lax.sort((numbers, jnp.arange(n)), num_keys=2, is_stable=False)
    same = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] == ordered[:-1]])
    return jnp.zeros(n, bool).at[place].set(same, unique_indices=True)
