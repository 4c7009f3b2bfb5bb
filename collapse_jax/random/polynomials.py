"""Polynomials fitted on the host to the quantile functions that the samplers invert, to the
rounding of the float type in use.
"""

import functools

import jax.numpy as jnp
import numpy as np
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


def evaluate(coefficients, x):
    """Sum of coefficients[i] x^i (host numbers, or arrays that broadcast against x), by Horner's
    rule.
    """
    # Host integers as floats: some are beyond int32.
    first, *rest = (float(c) if isinstance(c, int) else c for c in coefficients[::-1])
    for coefficient in rest:
        first = first * x + coefficient
    return first


def fit(
    function, low: float, high: float, tolerance: float, largest_degree: int = 40
) -> tuple[float, ...]:
    """Coefficients, in (x - middle) / half-width, of the lowest polynomial within `tolerance` of
    function(x) on [low, high].
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
    """log(chi^2 / degrees) as a polynomial in z / LARGEST_NORMAL[name], z the standard normal of
    the same probability.

    degrees_of_freedom: at least 2 SMALLEST_SHAPE[name] (below, the function bends too much). name:
    the float type.
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
    """c[i, j] with log(gamma_a / a) = s z + s^2 sum c[i, j] (z / Z)^i t^j for shapes a >=
    SMALLEST_SHAPE[name].

    s = a^(-1/2); Z is LARGEST_NORMAL[name]; t = 2 s / S - 1 in [-1, 1], S the s of the smallest
    shape.
    Errors: below 1.5e-7 (float32) and 1e-10 (float64) of the logarithm's standard deviation.
    """
    largest, end = LARGEST_NORMAL[name], SMALLEST_SHAPE[name] ** -0.5
    degrees = (17, 10) if name == "float32" else (22, 13)
    z = largest * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    s = end * (np.cos(np.pi * (np.arange(40) + 0.5) / 40) + 1) / 2
    s = s[s > 5e-3]  # below, the subtraction leaves no digits; the polynomial goes on smoothly
    rest = np.stack([(log_gamma_ratio_quantile(z, 1 / one**2) / one - z) / one for one in s], 1)
    weight = s[None] * np.ones_like(rest)  # of an error in standard deviations
    basis = chebyshev.chebvander2d(
        *np.broadcast_arrays(z[:, None] / largest, 2 * s[None] / end - 1), degrees
    )
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


def log_gamma_ratio_quantile(z, shape):
    """log(q / shape) for the quantile q of Gamma(shape, 1) at the probability of the standard
    normal z; NumPy arrays.
    """
    from scipy import special

    lower = special.gammaincinv(shape, special.ndtr(np.minimum(z, 0)))
    upper = special.gammainccinv(shape, special.ndtr(-np.maximum(z, 0)))
    return np.log(np.where(z < 0, lower, upper) / shape)


# Where the two halves of the normal quantile meet: -log(v (2 - v)), v = P(|Z| > z).
MEETING_POINT = 5.0


@functools.cache
def normal_quantile_halves() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """z / (1 - v) with v = P(|Z| > z), for float32: polynomials in w = -log(v (2 - v)) below 5, in
    sqrt(w) above.

    Source of the form: Giles 2012, "Approximating the erfinv function"; the coefficients are fitted
    here.
    """
    from scipy import special

    def ratio(w):
        v = -np.expm1(0.5 * np.log1p(-np.exp(-w)))  # the root of v (2 - v) = exp(-w)
        return np.sqrt(2) * np.where(w > 0, special.erfcinv(v) / (1 - v), np.sqrt(np.pi) / 2)

    largest = 22.5
    body = fit(lambda w: ratio(np.maximum(w, 1e-12)), 0.0, MEETING_POINT, 1e-8)
    far = fit(lambda root: ratio(root**2), MEETING_POINT**0.5, largest**0.5, 1e-8)
    return body, far
