"""Polynomials fitted on the host to the quantile functions that the samplers invert.

They are accurate up to the rounding of the float type in use.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.polynomial import chebyshev

# |z| beyond these has a probability below 2^-32 (float32 variates) and 2^-64 (float64): no variate
# gets there.
LARGEST_NORMAL = {"float32": 6.45, "float64": 9.3}
_TOLERANCE = {"float32": 3e-8, "float64": 2e-14}
# Where the two-dimensional fit begins, and where SciPy's inverse of the incomplete gamma function
# stops being accurate.
SMALLEST_SHAPE, _SCIPY_FAILS = {"float32": 4.0, "float64": 16.0}, 1e5


def default_float() -> str:
    """The name of the float type in use: float32, or float64 with `jax_enable_x64`."""
    return jnp.dtype(jnp.result_type(float)).name


def evaluate(coefficients: Sequence, x: Array | float) -> Any:
    """Sum of coefficients[i] x^i, by Horner's rule.

    Args:
        coefficients: Host numbers, or arrays that broadcast against x.
        x: Any shape.
    """
    # Host integers as floats: some are beyond int32.
    first, *rest = (float(c) if isinstance(c, int) else c for c in coefficients[::-1])
    for coefficient in rest:
        first = first * x + coefficient
    return first


def fit(
    function: Callable[[np.ndarray], np.ndarray],
    low: float,
    high: float,
    tolerance: float,
    largest_degree: int = 40,
) -> tuple[float, ...]:
    """The polynomial of lowest degree that is within a tolerance of a function on [low, high].

    Returns:
        Coefficients in (x - middle) / half-width, the constant first.
    """
    nodes = np.cos(np.pi * (np.arange(256) + 0.5) / 256)
    middle, half = (low + high) / 2, (high - low) / 2
    values = function(middle + half * nodes)
    series = chebyshev.chebfit(nodes, values, largest_degree)
    # The tail of a Chebyshev series bounds what cutting it costs.
    cost = np.cumsum(np.abs(series)[::-1])[::-1]
    kept = max(int(np.argmax(cost < tolerance)) if (cost < tolerance).any() else len(series), 1)
    return tuple(float(c) for c in chebyshev.cheb2poly(series[:kept]))


@functools.cache
def log_chi_square_ratio(degrees_of_freedom: int, name: str) -> tuple[float, ...]:
    """log(chi^2 / degrees) as a polynomial in z / LARGEST_NORMAL[name].

    z is the standard normal of the same probability.

    Args:
        degrees_of_freedom: At least 2 SMALLEST_SHAPE[name]; below, the function bends too much.
        name: The float type.
    """
    largest, shape = LARGEST_NORMAL[name], degrees_of_freedom / 2
    # Of the standard deviation, which is about shape^(-1/2); 1e-15 is what the fit can reach.
    tolerance = max(_TOLERANCE[name] * shape**-0.5, 1e-15)
    exact = functools.partial(log_gamma_ratio_quantile, shape=shape)
    return fit(
        exact if shape < _SCIPY_FAILS else functools.partial(_on_surface, shape, name),
        -largest,
        largest,
        tolerance,
    )


def _on_surface(shape, name, z):
    s = shape**-0.5
    position = np.full_like(z, 2 * s * SMALLEST_SHAPE[name] ** 0.5 - 1)
    return s * z + s**2 * np.polynomial.polynomial.polyval2d(
        z / LARGEST_NORMAL[name], position, log_gamma_ratio_surface(name)
    )


@functools.cache
def log_gamma_ratio_surface(name: str) -> np.ndarray:
    """c[i, j] with log(gamma_a / a) = s z + s^2 sum c[i, j] (z / Z)^i t^j.

    For shapes a >= SMALLEST_SHAPE[name]. s = a^(-1/2); Z is LARGEST_NORMAL[name]; t = 2 s / S - 1
    in [-1, 1], S the s of the smallest shape. Errors: below 1.5e-7 (float32) and 1e-10 (float64) of
    the logarithm's standard deviation.
    """
    largest, end = LARGEST_NORMAL[name], SMALLEST_SHAPE[name] ** -0.5
    degrees = (17, 10) if name == "float32" else (22, 13)
    z = largest * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    s = end * (np.cos(np.pi * (np.arange(40) + 0.5) / 40) + 1) / 2
    s = s[s > 5e-3]  # below, the subtraction leaves no digits; the polynomial goes on smoothly
    rest = np.stack([(log_gamma_ratio_quantile(z, 1 / one**2) / one - z) / one for one in s], 1)
    weight = s[None] * np.ones_like(rest)  # of an error in standard deviations
    x, y = np.broadcast_arrays(z[:, None] / largest, 2 * s[None] / end - 1)
    basis = chebyshev.chebvander2d(x, y, degrees)
    solution = np.linalg.lstsq(
        basis.reshape(rest.size, -1) * weight.reshape(-1, 1),
        (rest * weight).reshape(-1),
        rcond=None,
    )[0]
    series = solution.reshape(degrees[0] + 1, degrees[1] + 1)
    return _in_powers(_in_powers(series).T).T


def _in_powers(series):
    """Columns of Chebyshev coefficients as coefficients of powers."""
    return np.stack(
        [
            np.pad(powers := chebyshev.cheb2poly(column), (0, len(column) - len(powers)))
            for column in series.T
        ],
        1,
    )


def log_gamma_ratio_quantile(z: np.ndarray, shape: float) -> np.ndarray:
    """log(q / shape) for the quantile q of Gamma(shape, 1) at a standard normal's probability."""
    from scipy import special

    lower = special.gammaincinv(shape, special.ndtr(np.minimum(z, 0)))
    upper = special.gammainccinv(shape, special.ndtr(-np.maximum(z, 0)))
    return np.log(np.where(z < 0, lower, upper) / shape)


# Where the two halves of the normal quantile meet: -log(v (2 - v)), v = P(|Z| > z).
MEETING_POINT = 5.0


# What `fit_normal_quantile_halves` gives, which takes longer than many a simulation.
_NORMAL_BODY = (
    2.123313467887872,
    0.8720051057053199,
    -0.03692268474397658,
    -0.02768209063738279,
    0.012057492198687805,
    -0.0006849742692482624,
    -0.001182945433995364,
    0.00040174293396427134,
    3.55779861767662e-05,
    -4.714961050256118e-05,
    5.8683887256184426e-06,
)
_NORMAL_FAR = (
    4.702476062289318,
    1.785907413155882,
    0.007426002817823324,
    -0.005876098024278942,
    0.003947718004934338,
    -0.0030971576031126355,
    0.0024334429202857214,
    -0.0015869231507841968,
    0.0007441680856530117,
    -6.301624121317568e-05,
    -0.0002922175379372109,
    0.00019596452186789728,
    1.1819808323907058e-05,
    -3.25977204289215e-05,
)


def normal_quantile_halves() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """z / (1 - v) with v = P(|Z| > z), for float32, as two polynomials in w = -log(v (2 - v)).

    Returns:
        Coefficients in w below MEETING_POINT, and in sqrt(w) above.

    References:
        Giles 2012, "Approximating the erfinv function", for the form.
    """
    return _NORMAL_BODY, _NORMAL_FAR


def fit_normal_quantile_halves() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`normal_quantile_halves`, fitted to SciPy's quantile function."""
    from scipy import special

    def ratio(w):
        v = -np.expm1(0.5 * np.log1p(-np.exp(-w)))  # the root of v (2 - v) = exp(-w)
        return np.sqrt(2) * np.where(w > 0, special.erfcinv(v) / (1 - v), np.sqrt(np.pi) / 2)

    largest = 22.5
    body = fit(lambda w: ratio(np.maximum(w, 1e-12)), 0.0, MEETING_POINT, 1e-8)
    far = fit(lambda root: ratio(root**2), MEETING_POINT**0.5, largest**0.5, 1e-8)
    return body, far
