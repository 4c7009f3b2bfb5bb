"""Chi-square, chi and gamma variates, on the log scale, by inversion.

A variate is a smooth function of the standard normal variate of the same probability. For known
degrees of freedom that function is a polynomial fitted once on the host; for traced ones, a
polynomial surface in the normal and the inverse root of the shape. Below the shapes for which these
are accurate, log gamma_a = log gamma_(a+k) + sum over i < k of log(U_i) / (a + i).

Errors: below 1.5e-7 of the logarithm's standard deviation in float32, which is below rounding, and
1e-10 in float64.

References:
    Stuart 1962; Devroye 1986, "Non-Uniform Random Variate Generation", IX.3.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from collapse_jax.errors import InputError
from collapse_jax.random import polynomials
from collapse_jax.random.bits import counters, key_words, uniform, variate_words
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.normal import normal

# Streams of a key: the normals of a draw are its stream 0, its boosts are the streams from here on.
BOOSTS = 1 << 16


def chi_square(key: Array, degrees_of_freedom: ArrayLike, shape: tuple[int, ...] = ()) -> Array:
    """Chi-square variates [shape], exact up to float rounding; see `log_chi_square`."""
    return jnp.exp(log_chi_square(key, degrees_of_freedom, shape))


def log_chi(key: Array, degrees_of_freedom: ArrayLike, shape: tuple[int, ...] = ()) -> Array:
    """Logarithms [shape] of chi variates; arguments and errors as in `log_chi_square`."""
    return log_chi_square(key, degrees_of_freedom, shape) / 2


def log_chi_square(key: Array, degrees_of_freedom: ArrayLike, shape: tuple[int, ...] = ()) -> Array:
    """Logarithms of chi-square variates; -inf for 0 degrees of freedom.

    Args:
        degrees_of_freedom: An int, which is cheapest, or a traced array (integers or reals) that
            broadcasts to `shape`.

    Returns:
        Log variates [shape]; nan for negative degrees of freedom and nan, as `jax.random`.

    Raises:
        InputError: If a known value is not an integer.
    """
    words = key_words(key)
    if isinstance(degrees_of_freedom, float):
        if math.isnan(degrees_of_freedom):
            return jnp.full(shape, jnp.nan)
        if not degrees_of_freedom.is_integer():
            raise InputError(
                f"degrees_of_freedom is {degrees_of_freedom}; it must be a whole number, "
                "or a traced array"
            )
        degrees_of_freedom = int(degrees_of_freedom)
    if isinstance(degrees_of_freedom, int):
        if degrees_of_freedom < 0:
            return jnp.full(shape, jnp.nan)
        ratio = _known(*words, degrees_of_freedom=degrees_of_freedom, shape=tuple(shape))[0]
        return ratio + math.log(degrees_of_freedom) if degrees_of_freedom > 0 else ratio
    return log_gamma(key, jnp.asarray(degrees_of_freedom) / 2, shape) + math.log(2)


def gamma(key: Array, a: ArrayLike, shape: tuple[int, ...] = ()) -> Array:
    """Gamma(a, 1) variates [shape]; a >= 0 broadcasts to `shape` and may be traced, 0 gives 0.

    A negative a and nan give nan.
    """
    return jnp.exp(log_gamma(key, a, shape))


def log_gamma(key: Array, a: ArrayLike, shape: tuple[int, ...] = ()) -> Array:
    """Logarithms [shape] of Gamma(a, 1) variates.

    Args:
        a: Shape parameters; broadcasts to `shape` and may be traced. 0 gives -inf, a negative a and
            nan give nan (as `jax.random.loggamma`).
    """
    a = jnp.broadcast_to(jnp.asarray(a, jnp.result_type(float)), shape)
    logarithm = _traced(*key_words(key), a)[0] + jnp.log(jnp.maximum(a, 0))
    return jnp.where(a >= 0, logarithm, jnp.nan)


def log_gamma_share(key: Array, a: ArrayLike) -> Array:
    """log(g / a) [] for g ~ Gamma(a, 1), without the rounding of log(a).

    Args:
        a: An int, which is cheapest, or a traced number []. 0 gives -inf, a negative a and nan
            give nan.
    """
    if isinstance(a, int):
        if a < 0:
            return jnp.full((), jnp.nan)
        return _known(*key_words(key), degrees_of_freedom=2 * a, shape=())[0]
    a = jnp.asarray(a, jnp.result_type(float))
    return jnp.where(a >= 0, _traced(*key_words(key), a)[0], jnp.nan)


def dirichlet(key: Array, concentration: Array) -> Array:
    """A Dirichlet vector [K].

    Normalised gamma variates, on the log scale, so that small concentrations do not underflow to
    0/0.

    Args:
        concentration: [K], at least 0 and not all 0. A category of concentration 0 has probability
            0. All entries are nan if one is negative, infinite or nan, or if all are 0.

    References:
        Devroye 1986, "Non-Uniform Random Variate Generation", XI.4.
    """
    logarithm = log_gamma(key, concentration, jnp.shape(concentration))
    return jax.nn.softmax(logarithm)


def log_ratio_of_normal(
    z: Array, word_pairs: Sequence[tuple[Array, ...]], degrees_of_freedom: int
) -> Array:
    """log(chi^2 / degrees) from a standard normal.

    Args:
        z: Standard normals, any shape.
        word_pairs: The words of as many uniforms as `boosts` asks for (below 8 degrees of freedom).
        degrees_of_freedom: At least 1.
    """
    extra = boosts(degrees_of_freedom)
    start = degrees_of_freedom + 2 * extra
    name = polynomials.default_float()
    coefficients = polynomials.log_chi_square_ratio(start, name)
    dtype = jnp.result_type(float)
    result = polynomials.evaluate(
        [dtype.type(c) for c in coefficients], z * dtype.type(1 / polynomials.LARGEST_NORMAL[name])
    )
    for i, words in enumerate(word_pairs):
        result = result + jnp.log(uniform(*words)) * dtype.type(2 / (degrees_of_freedom + 2 * i))
    return result + dtype.type(math.log(start / degrees_of_freedom)) if extra else result


def log_ratios_of_normals(
    z: Array, degrees_of_freedom: Sequence[int], plus: Sequence[float]
) -> Array:
    """log(chi^2 / degrees) + plus of each of z [d], none of them with boosts.

    The bits of `log_ratio_of_normal` and a sum, as XLA compiles them, by polynomials side by side:
    much less to compile than d of them.
    """
    name, dtype = polynomials.default_float(), jnp.result_type(float)
    scale = dtype.type(1 / polynomials.LARGEST_NORMAL[name])
    rows = [polynomials.log_chi_square_ratio(one, name) for one in degrees_of_freedom]
    table = np.zeros((max(map(len, rows)), len(rows)), dtype)  # [degree + 1, d]
    # XLA computes c (z scale) as (c scale) z where c is a number, and (.. + c) + plus as .. + (c +
    # plus).
    begins = np.zeros_like(table)
    for column, row in enumerate(rows):
        table[: len(row), column] = row
        table[len(row) - 1, column] = 0
        begins[len(row) - 2, column] = dtype.type(row[-1]) * scale
    table[0] += np.asarray(plus, dtype)
    result, x = jnp.zeros_like(z), z * scale
    for coefficients, begin in zip(table[::-1], begins[::-1], strict=True):
        result = result * x + (z * begin + coefficients if begin.any() else coefficients)
    return result


def boosts(degrees_of_freedom: int) -> int:
    """How many extra uniforms a draw of so many known degrees of freedom takes."""
    return max(0, math.ceil(_smallest_shape() - degrees_of_freedom / 2))


def _smallest_shape():
    return polynomials.SMALLEST_SHAPE[polynomials.default_float()]


@chains_last
def _known(key0, key1, *, degrees_of_freedom, shape):
    index = counters(shape)
    if degrees_of_freedom <= 0:
        return [jnp.full((*shape, 1), -jnp.inf)]
    extra = [
        variate_words(key0, key1, index, BOOSTS + i) for i in range(boosts(degrees_of_freedom))
    ]
    return [
        log_ratio_of_normal(normal(*variate_words(key0, key1, index)), extra, degrees_of_freedom)
    ]


@chains_last
def _traced(key0, key1, a):
    index = counters(a.shape[:-1])
    return [log_gamma_ratio(key0, key1, index, a, normal(*variate_words(key0, key1, index)))]


def log_gamma_ratio(key0: Array, key1: Array, index: Array, a: Array, z: Array) -> Array:
    """log(gamma_a / a) for traced shapes from standard normals; -inf where a <= 0.

    Args:
        key0, key1: Key words [chains].
        index: Counters, broadcasting against a, of the uniforms that shapes below 4 (16 in float64)
            need besides.
        a: Shapes of the law [..., chains].
        z: Standard normals [..., chains].
    """
    dtype, name = a.dtype, polynomials.default_float()
    smallest = _smallest_shape()
    steps = jnp.ceil(jnp.maximum(smallest - a, 0))
    start = a + steps
    s = 1 / jnp.sqrt(start)
    scaled_z, position = (
        z * dtype.type(1 / polynomials.LARGEST_NORMAL[name]),
        s * dtype.type(2 * smallest**0.5) - 1,
    )
    rows = [
        polynomials.evaluate([dtype.type(c) for c in row], position)
        for row in polynomials.log_gamma_ratio_surface(name)
    ]
    ratio = s * z + s**2 * polynomials.evaluate(rows, scaled_z)

    def boosted(ratio):
        positive = jnp.maximum(a, 32 * jnp.finfo(dtype).tiny)  # so that log(u) / positive is finite
        result = ratio + jnp.log(start / positive)
        for i in range(int(smallest)):
            u = uniform(*variate_words(key0, key1, index, BOOSTS + i))
            result = result + jnp.where(i < steps, jnp.log(u) / (positive + i), 0)
        return jnp.where(a > 0, jnp.where(steps > 0, result, ratio), -jnp.inf)

    return jax.lax.cond(jnp.any(steps > 0), boosted, lambda ratio: ratio, ratio)
