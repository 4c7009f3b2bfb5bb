"""The number of points that a share of n points is: drawn, or rounded."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.random.binomial import binomial, exact_product
from collapse_jax.random.derivatives import step_function


def count_of(key: jax.Array, share: Any, n: Any, *, random: bool, why: str) -> Any:
    """Returns the number of points that a share of n points is.

    Args:
        key: one typed key.
        share: in [0, 1]; a number or a traced scalar.
        n: an int, or traced.
        random: True: the count is binomial, as if each point were drawn independently. False: it is
            share * n, rounded.
        why: the text of the error if JAX differentiates with respect to the share.

    Returns:
        int32 [], or an int if nothing is traced or random.
    """
    if not isinstance(share, float | int):
        share = step_function(share, share, why)
    if random:
        return binomial(key, n, share)
    return rounded(share, n)


def rounded(share: Any, n: Any) -> Any:
    """Returns share * n rounded, halves to even, as an int or a traced int32.

    A traced share is rounded at the precision of its float type: a product that this precision
    cannot distinguish from a half is treated as a half.
    """
    if not isinstance(share, float | int):
        return _rounded_traced(share, n)
    if isinstance(n, int):
        return round(share * n)
    in_floats = jnp.round(share * n).astype(jnp.int32)
    # Above 2^20 points a float32 has no digits left for halves, and above 2^24 none for ones.
    dtype = jnp.result_type(float)
    high = float(np.asarray(share, dtype))
    whole, fraction = exact_product(n, jnp.asarray(high, dtype))
    rest = fraction + (share - high) * n
    up = jnp.where(rest == 0.5, whole % 2, jnp.floor(rest + 0.5).astype(jnp.int32))
    return jnp.where(n < 2**20, in_floats, whole + up)


def _rounded_traced(share, n):
    n = jnp.asarray(n, jnp.int32)
    share = jnp.asarray(share, jnp.result_type(float))
    whole, rest = exact_product(n, share)
    # Half a digit of the share, times n: 0.35 in float32 is just below 0.35.
    unknown = jnp.minimum(n * share * jnp.finfo(share.dtype).eps / 2, 0.01)
    is_half = jnp.abs(rest - 0.5) <= unknown
    return whole + jnp.where(is_half, whole % 2, jnp.floor(rest + 0.5).astype(jnp.int32))
