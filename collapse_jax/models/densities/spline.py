"""Monotone maps of the line by rational-quadratic splines, the identity outside an interval."""

import jax
import jax.numpy as jnp

# Half the interval, in deviations of standardised points, and the least width, height and slope.
BOUND = 5.0
_LEAST = 1e-3


def size_of(bins: int) -> int:
    """Numbers that a spline of so many bins is given by; with all of them 0 it is the identity."""
    return 3 * bins - 1


def transformed(x: jax.Array, raw: jax.Array, *, inverse: bool) -> tuple[jax.Array, jax.Array]:
    """(the image, the log-slope at x) of points [...].

    Args:
        x: [...].
        raw: [..., 3 bins - 1], any numbers: widths, heights, and slopes between bins.
        inverse: whether the inverse map is taken, and its log-slope.

    References:
        Durkan et al. 2019, arXiv 1906.04032, equations 4 to 8.
    """
    bins = (raw.shape[-1] + 1) // 3
    across, up = _edges(raw[..., :bins], bins), _edges(raw[..., bins : 2 * bins], bins)
    slopes = _LEAST + (1 - _LEAST) * jax.nn.softplus(raw[..., 2 * bins :]) / jnp.log(2.0)
    slopes = jnp.pad(slopes, [(0, 0)] * (raw.ndim - 1) + [(1, 1)], constant_values=1)
    inside = jnp.abs(x) < BOUND
    at = jnp.where(inside, x, 0)
    known = up if inverse else across
    # Compared with all bins: looked up, their gradients would be scattered, which takes longer.
    here = (at[..., None] >= known[..., :-1]) & (at[..., None] < known[..., 1:])

    def of_bin(values, shift=0):
        return jnp.sum(jnp.where(here, values[..., shift : bins + shift], 0), axis=-1)

    left, bottom = of_bin(across), of_bin(up)
    width, height = of_bin(across, 1) - left, of_bin(up, 1) - bottom
    first, last, mean = of_bin(slopes), of_bin(slopes, 1), height / width
    bend = first + last - 2 * mean
    if inverse:
        share = _share_of((at - bottom) / height, mean, first, bend)
    else:
        share = (at - left) / width
    both = share * (1 - share)
    below = mean + bend * both
    image = left + width * share
    if not inverse:
        image = bottom + height * (mean * share**2 + first * both) / below
    slope = mean**2 * (last * share**2 + 2 * mean * both + first * (1 - share) ** 2) / below**2
    log_slope = -jnp.log(slope) if inverse else jnp.log(slope)
    return jnp.where(inside, image, x), jnp.where(inside, log_slope, 0)


def _share_of(height, mean, first, bend):
    """Where in its bin a point lies whose image lies at this share of its height."""
    a = mean - first + height * bend
    b = first - height * bend
    c = -mean * height
    # The root in [0, 1], in the form that subtracts no equal numbers.
    return 2 * c / (-b - jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, 0)))


def _edges(raw, bins):
    """Edges [..., bins + 1] of bins from -BOUND to BOUND."""
    sizes = _LEAST + (1 - bins * _LEAST) * jax.nn.softmax(raw, axis=-1)
    inner = jnp.cumsum(sizes, axis=-1)[..., :-1]
    ends = [(0, 0)] * (raw.ndim - 1)
    inner = jnp.pad(inner, [*ends, (1, 0)])
    return jnp.pad(inner, [*ends, (0, 1)], constant_values=1) * 2 * BOUND - BOUND
