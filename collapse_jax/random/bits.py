"""Random bits and keys: the streams of `jax.random`, bit for bit, in a form that XLA can fuse.

`jax.random` runs its hash as a loop on the CPU, which keeps it out of every fusion.
"""

import weakref

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from collapse_jax.errors import one_key

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_THREEFRY = "threefry2x32"
# The words that keys were made of, by `id` and for as long as the key lives: read from the key,
# they would be an array that XLA writes to memory, after a hash for each of the two words.
_words_of: dict[int, tuple[weakref.ref, tuple[Array, Array]]] = {}


def threefry2x32(
    key0: Array, key1: Array, count0: Array, count1: Array | np.uint32
) -> tuple[Array, Array]:
    """The Threefry-2x32 hash, 20 rounds, that `jax.random` uses.

    Args:
        key0, key1: Key words, uint32.
        count0, count1: Counters, uint32.

    Returns:
        Two uint32 arrays of the arguments' common shape.

    References:
        Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    keys = (key0, key1, key0 ^ key1 ^ jnp.uint32(0x1BD11BDA))
    x0, x1 = count0 + keys[0], count1 + keys[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << jnp.uint32(distance)) | (x1 >> jnp.uint32(32 - distance)))
        x0, x1 = x0 + keys[(group + 1) % 3], x1 + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1


def key_words(key: Array) -> tuple[Array, Array]:
    """The two uint32 words [] of a typed key []; of one that is not Threefry's, two draws."""
    made = _words_of.get(id(key))
    if made is not None and made[0]() is key:
        return made[1]
    words = jax.random.key_data(key) if is_threefry(key) else jax.random.bits(key, (2,), jnp.uint32)
    return words[0], words[1]


def fold_in(key: Array, data: ArrayLike) -> Array:
    """`jax.random.fold_in(key, data)`: the same key [], with integer `data` []."""
    if not is_threefry(key):
        return jax.random.fold_in(key, data)
    data = (
        np.uint32(data & 0xFFFFFFFF)
        if isinstance(data, int)
        else jnp.asarray(data).astype(jnp.uint32)
    )
    return _key(*threefry2x32(*key_words(key), jnp.uint32(0), data))


def split(key: Array, count: int = 2) -> list[Array]:
    """`jax.random.split(key, count)` as a list, so that an unused key costs nothing."""
    if not is_threefry(key):
        return list(jax.random.split(key, count))
    words = key_words(key)
    return [_key(*threefry2x32(*words, jnp.uint32(0), jnp.uint32(i))) for i in range(count)]


def is_threefry(key: Array) -> bool:
    """Whether a key is Threefry's, JAX's own; raises `InputError` for what is not one typed key."""
    return str(jax.random.key_impl(one_key("key", key))) == _THREEFRY


def uniform(word: Array, low: Array | None = None) -> Array:
    """Uniform variates inside (0, 1), symmetric about 1/2.

    Small values have the resolution of the bits, values near 1 that of their float type.

    Args:
        word: uint32; its lowest bit is not used. Alone it gives float32 with a resolution of 2^-31.
        low: A second uint32 word, for float64 with a resolution of 2^-63.
    """
    high = (word >> jnp.uint32(1)).astype(jnp.int32)
    if low is None:
        value = (high.astype(jnp.float32) + jnp.float32(0.5)) * jnp.float32(2**-31)
    else:
        value = (high.astype(jnp.float64) * 2.0**32 + low.astype(jnp.float64) + 0.5) * 2.0**-63
    return jnp.minimum(value, 1 - jnp.finfo(value.dtype).epsneg)


def variate_words(key0: Array, key1: Array, index: Array, stream: int = 0) -> tuple[Array, ...]:
    """The words of one variate at each counter: one for float32, two where float64 is the default.

    Args:
        key0, key1: Key words, uint32.
        index: Counters, uint32.
        stream: Variates of one key that must be independent of each other use different streams.
    """
    word, low = threefry2x32(key0, key1, jnp.uint32(stream), index)
    return (word,) if jnp.result_type(float) == jnp.float32 else (word, low)


def whole_below(words: tuple[Array, Array], count: Array) -> Array:
    """floor(u count) as uint32, u the 64 bits of two uint32 words: uniform on 0 .. count - 1.

    Each number has the right probability to 2^-64, which float32 cannot give.

    Args:
        words: Two words of one variate, uint32.
        count: Integers from 0, below 2^32.
    """
    count = count.astype(jnp.uint32)
    high, low = _product(words[0], count)
    carried = low + _product(words[1], count)[0]
    return high + (carried < low)


def _product(a, b):
    """The high and the low 32 bits of a b, all uint32."""
    half, mask = jnp.uint32(16), jnp.uint32(0xFFFF)
    a_high, a_low, b_high, b_low = a >> half, a & mask, b >> half, b & mask
    middle = a_high * b_low + (a_low * b_low >> half)  # at most (2^16 - 1) 2^16: no carry is lost
    crossed = a_low * b_high + (middle & mask)
    return a_high * b_high + (middle >> half) + (crossed >> half), a * b


def counters(shape: tuple[int, ...]) -> Array:
    """The counters [*shape, 1] (uint32) of a draw of this shape, for chains on the last axis."""
    return jnp.arange(np.prod(shape, dtype=int), dtype=jnp.uint32).reshape(*shape, 1)


def packed(key: Array) -> Array:
    """A key [] as one number [], to be carried through a loop; `unpacked` gives it back.

    XLA on the CPU computes a hash once for each array of results: the two words are the parts of
    a complex number there. On other devices, and for keys that are not Threefry's, it is the key.
    """
    if jax.default_backend() != "cpu" or not is_threefry(key):
        return key
    return jax.lax.complex(
        *(jax.lax.bitcast_convert_type(word, jnp.float32) for word in key_words(key))
    )


def unpacked(number: Array) -> Array:
    """The key [] that `packed` got."""
    if not jnp.issubdtype(number.dtype, jnp.complexfloating):
        return number
    parts = jax.lax.real(number), jax.lax.imag(number)
    return _key(*(jax.lax.bitcast_convert_type(part, jnp.uint32) for part in parts))


def _key(word0, word1):
    # Two padded words and not a stack, which XLA takes apart again.
    zero, word0 = jnp.uint32(0), jnp.broadcast_to(word0, word1.shape)
    both = jax.lax.pad(
        word0[..., None], zero, [(0, 0, 0)] * word1.ndim + [(0, 1, 0)]
    ) | jax.lax.pad(word1[..., None], zero, [(0, 0, 0)] * word1.ndim + [(1, 0, 0)])
    key = jax.random.wrap_key_data(both, impl=_THREEFRY)
    place = id(key)
    _words_of[place] = weakref.ref(key, lambda _: _words_of.pop(place, None)), (word0, word1)
    return key
