"""Student's t in its inverse degrees of freedom t = 1 / df, smooth down to t = 0, the Gaussian.

With q the squared distance of a point in units of the scale matrix, the log-density in d dimensions
is `log_constant(t, d)` - `half_distance(t, q, d)`, less the logarithm of the scale matrix's root
determinant. Nothing cancels for small t, and so neither do derivatives. Derived here; Stirling's
series as in Abramowitz and Stegun 1964, 6.1.40.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from collapse_jax.numerics import factored

# Below these arguments, series; above, the functions themselves lose no more digits than these do.
_SMALL, _SERIES_OF_GAMMA = 0.03, 1 / 16
_TERMS = 9
# Coefficients of Stirling's series, in 1 / a, 1 / a^3, ...
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680)
# How far the inverse degrees of freedom may go in one step of Newton, of themselves and besides.
_TRUST, _BESIDES = 0.5, 0.05


class Fitted(NamedTuple):
    """A fitted Student t.

    location: [d].
    log_scale, factor: [d] and [d, d] of its scale matrix U diag(exp(2 log_scale)) U^T.
    inverse_df: [].
    converged, iterations: [].
    """

    location: Array
    log_scale: Array
    factor: Array
    inverse_df: Array
    converged: Array
    iterations: Array


def log_constant(inverse_df: Array, dim: int) -> Array:
    """log of Gamma((df + d) / 2) / (Gamma(df / 2) (pi df)^(d / 2)), the density's height []."""
    half, t = dim / 2, inverse_df
    near = jnp.minimum(t, _SERIES_OF_GAMMA)
    # lgamma(a + d/2) - lgamma(a) - d/2 log a at a = 1 / (2 t), by Stirling's series.
    series = near * dim**2 / 2 * _beyond_line(dim * near) + (half - 0.5) * jnp.log1p(dim * near)
    for i, coefficient in enumerate(_STIRLING):
        power = 2 * i + 1
        inverse = 2 * near
        series = series + coefficient * ((inverse / (1 + dim * near)) ** power - inverse**power)
    a = 1 / (2 * jnp.maximum(t, _SERIES_OF_GAMMA))
    gammaln = jax.scipy.special.gammaln
    direct = gammaln(a + half) - gammaln(a) - half * jnp.log(a)
    return jnp.where(t < _SERIES_OF_GAMMA, series, direct) - half * math.log(2 * math.pi)


def half_distance(inverse_df: Array, squared: Array, dim: int) -> Array:
    """(df + d) / 2 log(1 + q / df) of squared distances q; q / 2 for t = 0."""
    return (1 + dim * inverse_df) * squared * _log1p_share(inverse_df * squared) / 2


def mean_log_density(inverse_df: Array, squared: Array, share: Array, dim: int) -> Array:
    """Mean [] over points of shares [n] and squared distances [n], but for the scale's part."""
    kernel = jnp.sum(share * half_distance(inverse_df, squared, dim))
    return log_constant(inverse_df, dim) - kernel


def expectation_maximisation(
    x: Array,
    weight: Array,
    inverse_df: Array,
    *,
    estimated: bool,
    largest: float,
    steps: int,
    tolerance: float,
) -> Fitted:
    """Maximum likelihood by EM, from the points' mean and covariance.

    The scale's step divides by the sum of the weights of the E-step rather than by the number of
    points, which has the same fixed point and comes there sooner. Degrees of freedom take a step of
    Newton on the likelihood itself. It ends where location (in deviations), scale matrix (in
    products of deviations) and inverse degrees of freedom all change by less than the tolerance.

    Args:
        x: [n, d], centred and in units of their size.
        weight: [n], 0 for an empty slot.
        inverse_df: where it starts, or what it is [].
        estimated: whether it is fitted, from 0 to `largest`.
        largest: see `estimated`.
        steps: at most so many.
        tolerance: see above.

    References:
        Dempster, Laird and Rubin 1980 (weights); Kent, Tyler and Vardi 1994 (divisor); Liu and
        Rubin 1995 (likelihood itself for the degrees of freedom).
    """
    total = jnp.sum(weight)
    share = weight / jnp.where(total > 0, total, 1)
    sample = _Sample(x, share, jnp.sum(weight > 0) - 1, estimated, largest)
    location = jnp.matmul(share, x, precision="highest")
    covariance = sample.covariance(x - location, share)
    start = (
        *(location, covariance, inverse_df),
        *(jnp.asarray(jnp.inf, x.dtype), jnp.asarray(0, jnp.int32)),
    )
    location, covariance, t, moved, taken = jax.lax.while_loop(
        lambda carry: (carry[3] > tolerance) & (carry[4] < steps), sample.step, start
    )
    fitted = _decomposed(covariance, sample.rank)
    return Fitted(location, *fitted, t, moved <= tolerance, taken)


class _Sample(NamedTuple):
    """Points [n, d] with shares [n], in no more than `rank` directions; and what is fitted."""

    x: Array
    share: Array
    rank: Array
    estimated: bool
    largest: float

    def covariance(self, apart, pull):
        """[d, d] of points apart from their location, of weights that sum to 1."""
        return jnp.matmul((apart * pull[:, None]).T, apart, precision="highest")

    def step(self, carry):
        """(location, scale matrix, inverse degrees, how far they moved, steps taken)."""
        (location, covariance, t, _, taken), dim = carry, self.x.shape[1]
        squared = squared_distances(self.x - location, *_decomposed(covariance, self.rank))
        pull = self.share * (1 + dim * t) / (1 + t * squared)
        pull = pull / jnp.maximum(jnp.sum(pull), jnp.finfo(self.x.dtype).tiny)
        new_location = jnp.matmul(pull, self.x, precision="highest")
        apart = self.x - new_location
        new, new_t = self.covariance(apart, pull), t
        if self.estimated:
            after = squared_distances(apart, *_decomposed(new, self.rank))
            new_t = _improved(t, after, self.share, dim, self.largest)
        deviation = jnp.sqrt(jnp.diagonal(new))
        deviation = jnp.where(deviation > 0, deviation, 1)
        moved = [
            jnp.max(jnp.abs(new_location - location) / deviation),
            jnp.max(jnp.abs(new - covariance) / jnp.outer(deviation, deviation)),
            jnp.abs(new_t - t),
        ]
        return new_location, new, new_t, jnp.max(jnp.stack(moved)), taken + 1


def squared_distances(apart: Array, log_scale: Array, factor: Array) -> Array:
    """q [n] of points apart [n, d] from the location; a direction without scale counts nothing."""
    alive = log_scale > -jnp.inf
    z = factored.solved(factor, apart) * jnp.where(alive, jnp.exp(-log_scale), 0)
    return jnp.sum(jnp.where(alive, z, 0) ** 2, axis=1)


def _decomposed(covariance, rank):
    """(log_scale [d], U [d, d]) of a covariance, of no more than `rank` directions."""
    dim = covariance.shape[0]
    log_scale, factor = factored.limited(*factored.decomposed(covariance, dim), rank)
    return factored.as_vector(log_scale), factored.as_matrix(factor, dim)


def _improved(t, squared, share, dim, largest):
    """One step of Newton towards the most likely inverse degrees of freedom."""

    def slope(t):
        return jax.grad(mean_log_density)(t, squared, share, dim)

    first, second = jax.jvp(slope, (t,), (jnp.ones_like(t),))
    most = _TRUST * t + _BESIDES
    uphill = jnp.sign(first) * most
    newton = first / jnp.where(second < 0, -second, 1)
    move = jnp.where(second < 0, jnp.clip(newton, -most, most), uphill)
    return jnp.clip(t + move, 0, largest)


def _log1p_share(u):
    """log(1 + u) / u, 1 at 0."""
    series = sum((-1) ** k / (k + 1) * jnp.minimum(u, _SMALL) ** k for k in range(1, _TERMS))
    safe = jnp.maximum(u, _SMALL)
    return jnp.where(u < _SMALL, 1 + series, jnp.log1p(safe) / safe)


def _beyond_line(u):
    """(log(1 + u) - u) / u^2, -1/2 at 0."""
    series = sum((-1) ** (k + 1) / (k + 2) * jnp.minimum(u, _SMALL) ** k for k in range(_TERMS))
    safe = jnp.maximum(u, _SMALL)
    return jnp.where(u < _SMALL, series, (jnp.log1p(safe) - safe) / safe**2)
