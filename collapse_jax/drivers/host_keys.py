"""Keys of many chains by NumPy, where compiling a program for them takes longer."""

import jax
import jax.numpy as jnp
import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def folded_on_host(key: jax.Array, *numbers: np.ndarray) -> jax.Array:
    """Keys [chains]: each of the numbers folded into the key in turn, as `jax.random.fold_in` does.

    Args:
        key: one typed key of Threefry.
        numbers: uint32 [chains] each.
    """
    words = np.asarray(jax.random.key_data(key))
    pair = (words[0], words[1])
    for one in numbers:
        pair = _threefry2x32(*pair, one)
    stacked = jnp.asarray(np.stack(pair, -1))
    return jax.random.wrap_key_data(stacked, impl=jax.random.key_impl(key))


def _threefry2x32(key0, key1, count):
    """The hash of `random.bits.threefry2x32` with the counters (0, count)."""
    keys = (key0, key1, key0 ^ key1 ^ np.uint32(0x1BD11BDA))
    with np.errstate(over="ignore"):  # sums are modulo 2^32
        x0, x1 = np.broadcast_to(keys[0], count.shape), count + keys[1]
        for group in range(5):
            for distance in _ROTATIONS[group % 2]:
                x0 = x0 + x1
                x1 = x0 ^ ((x1 << np.uint32(distance)) | (x1 >> np.uint32(32 - distance)))
            x0, x1 = x0 + keys[(group + 1) % 3], x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1
