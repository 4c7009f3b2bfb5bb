"""Sufficient statistics of a Gaussian: of points, and of pooled samples."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.numerics import factored, resolution


class Moments(NamedTuple):
    """Sufficient statistics of a Gaussian.

    count: [].
    mean: d, as in the parameters.
    log_scale, factor: the scatter over `divisor`, as in the parameters.
    divisor: [], at least 1. count - ddof where a model of that ddof draws it, count where points or
        others' statistics are summed up.
    """

    count: Any
    mean: Any
    log_scale: Any
    factor: Any
    divisor: Any


def summarise(x: jax.Array, weight: jax.Array, dim: int, general: bool = False) -> Moments:
    """`Moments` of points x [n, d] with weights [n]; a point of weight 0 does not count.

    The log scales are nan where the points differ by a few roundings only (`resolution`).
    general: whether they are in general position, as draws of a density are.
    """
    count = jnp.sum(weight)
    mean, centred, lost = resolution.centred(x, weight)
    unit = jnp.maximum(jnp.max(jnp.abs(centred)), jnp.finfo(centred.dtype).tiny)
    log_scale, factor = factored.of_points(
        centred / unit, weight, at_least_one(count), general=general
    )
    return Moments(
        count,
        factored.from_arrays(mean, dim),
        factored.shifted(log_scale, jnp.where(lost, jnp.nan, jnp.log(unit))),
        factor,
        at_least_one(count),
    )


def merge(a: Moments, b: Moments, general: bool = False) -> Moments:
    """`Moments` of the pooled sample (pairwise update of Chan, Golub and LeVeque 1979).

    general: whether all points are in general position, so that n of them span n - 1 directions.
    """
    count = a.count + b.count
    divisor = at_least_one(count)
    share_a, share_b = a.count / divisor, b.count / divisor
    if isinstance(a.mean, tuple):
        shift = tuple(theirs - ours for ours, theirs in zip(a.mean, b.mean, strict=True))
        mean = tuple(ours + share_b * by for ours, by in zip(a.mean, shift, strict=True))
    else:
        shift = b.mean - a.mean
        mean = a.mean + share_b * shift
    parts = [(part.divisor / divisor, part.log_scale, part.factor) for part in (a, b)]
    weight, dim = share_a * share_b, len(a.mean)
    log_scale, factor = factored.pooled(parts, shift, weight, dim, general=general)
    if len(a.mean) > 1:
        # As many points as dimensions, or fewer, leave no variance in the last directions.
        log_scale, factor = factored.limited(log_scale, factor, count - 1)
    return Moments(count, mean, log_scale, factor, divisor)


def at_least_one(n: Any) -> Any:
    """A number of points, or their weight, as a divisor: 1 where there are none."""
    return max(n, 1) if isinstance(n, int) else jnp.where(n <= 0, 1, n)  # nan stays
