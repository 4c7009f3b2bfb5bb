"""Normal variates out of random bits, whose tails have the grain of the bits: in float32 up to 6.3 standard deviations, not 5.4."""

import jax
import jax.numpy as jnp

from collapse_jax.random import polynomials
from collapse_jax.random.bits import uniform


def normal(word, low=None):
    """Standard normal variates of uint32 words (float32), or of pairs of words (float64).

    The lowest bit of `word` is the sign, the others give the probability v of the two tails beyond the variate (inversion).
    """
    v = uniform(word, low)
    size = _size(v) if low is None else -jax.scipy.special.ndtri(v / 2)
    return jnp.where(word & jnp.uint32(1), size, -size)


def _size(v):
    """|z| with P(|Z| > |z|) = v, float32; relative error below 3e-7."""
    w = -jnp.log(v * (2 - v))
    body, far = polynomials.normal_quantile_halves()
    meet, largest = polynomials.MEETING_POINT, 22.5
    near = polynomials.evaluate([jnp.float32(c) for c in body], w * jnp.float32(2 / meet) - 1)
    middle, half = (meet**0.5 + largest**0.5) / 2, (largest**0.5 - meet**0.5) / 2
    beyond = polynomials.evaluate([jnp.float32(c) for c in far], (jnp.sqrt(w) - jnp.float32(middle)) * jnp.float32(1 / half))
    return jnp.where(w < meet, near, beyond) * (1 - v)
