"""Covariances as U diag(exp(2 s)) U^T: U unit lower triangular, s on the log scale.

No number of generations underflows. Up to `LARGEST_WRITTEN_OUT` dimensions vectors are tuples of
scalars and U is the tuple of its entries below the diagonal, row by row: under `vmap` each is one
vector over chains, which is what makes small matrices fast. Larger ones are arrays [d] and [d, d].
A direction without variance has s = -inf and a column of zeros below its one.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from collapse_jax.numerics import roots

# A vector is a tuple of scalars [], or an array [d]; U a tuple of its entries below the diagonal,
# or an array [d, d]. Any, because all arguments of a call have the same one of the two forms.
Entries = Any

LARGEST_WRITTEN_OUT = 12
_LARGEST_EXPONENT = 80.0


def as_vector(entries: Entries) -> Array:
    """A tuple of scalars, or an array, as an array [d]."""
    return jnp.stack(entries) if isinstance(entries, tuple) else entries


def as_matrix(factor: Entries, dim: int) -> Array:
    """U as an array [d, d]."""
    if not isinstance(factor, tuple):
        return factor
    rows = [
        [
            factor[place(i, j)] if j < i else jnp.full_like(_like(factor), float(i == j))
            for j in range(dim)
        ]
        for i in range(dim)
    ]
    return jnp.stack([jnp.stack(row) for row in rows])


def from_arrays(vector: Array, dim: int) -> Entries:
    """An array [d] in the form that `dim` asks for."""
    return tuple(vector[i] for i in range(dim)) if dim <= LARGEST_WRITTEN_OUT else vector


def from_matrix(matrix: Array, dim: int) -> Entries:
    """A unit lower-triangular array [d, d] in the form that `dim` asks for."""
    return (
        tuple(matrix[i, j] for i in range(dim) for j in range(i))
        if dim <= LARGEST_WRITTEN_OUT
        else matrix
    )


def place(row: int, column: int) -> int:
    """Where the entry below the diagonal is in the tuple."""
    return row * (row - 1) // 2 + column


def shifted(log_scale: Entries, by: ArrayLike) -> Entries:
    """log_scale + by, a number for all directions; a `by` known to be 0.0 costs nothing."""
    if isinstance(by, float) and by == 0:
        return log_scale
    return tuple(s + by for s in log_scale) if isinstance(log_scale, tuple) else log_scale + by


def largest_log_scale(dtype: Any) -> float:
    """The logarithm of the scale that all larger ones count as in `times_vector`."""
    return 0.9 * math.log(jnp.finfo(dtype).max)


def times_vector(log_scale: Entries, factor: Entries, z: Entries) -> Entries:
    """U diag(exp(s)) z, in the form of its arguments.

    Scales near the largest float are replaced by it, so that sums never become nan.
    """

    def scale(s):
        return jnp.exp(jnp.minimum(s, largest_log_scale(s.dtype)))

    if not isinstance(z, tuple):
        return jnp.matmul(factor, scale(log_scale) * z, precision="highest")
    scaled = [scale(s) * value for s, value in zip(log_scale, z, strict=True)]
    return tuple(
        sum((factor[place(i, k)] * scaled[k] for k in range(i)), scaled[i]) for i in range(len(z))
    )


def solved(factor: Array, x: Array) -> Array:
    """U^-1 of every row of x [n, d], with U unit lower triangular [d, d].

    Forward substitution, without LAPACK.
    """

    def row(i, z):
        return z.at[:, i].add(
            -jnp.matmul(z * (jnp.arange(z.shape[1]) < i), factor[i], precision="highest")
        )

    return jax.lax.fori_loop(
        1, x.shape[1], row, x, unroll=x.shape[1] <= LARGEST_WRITTEN_OUT and x.shape[1] > 1
    )


def times_triangle(
    log_scale: Entries, factor: Entries, log_diagonal: Entries, below: Entries
) -> tuple[Entries, Entries]:
    """(s, U) of U diag(exp(s)) T for a lower-triangular T.

    No factorisation: the product of two lower-triangular matrices is one.

    Args:
        log_scale: s.
        factor: U.
        log_diagonal: Of T; -inf for a column of zeros.
        below: below[k, j] T[j, j] are the entries T[k, j].
    """
    if not isinstance(log_scale, tuple):
        scales = log_scale + log_diagonal
        alive = jnp.isfinite(scales)
        grown = jnp.tril(_ratio(log_scale[:, None], log_scale[None, :]) * below, -1)
        product = factor + jnp.matmul(factor, grown, precision="highest")
        return scales, jnp.where(alive | jnp.eye(len(alive), dtype=bool), product, 0)
    dim = len(log_scale)
    grown = {
        (k, j): _ratio(log_scale[k], log_scale[j]) * below[place(k, j)]
        for k in range(dim)
        for j in range(k)
    }
    scales = tuple(s + t for s, t in zip(log_scale, log_diagonal, strict=True))
    entries = []
    for i in range(dim):
        for j in range(i):
            entry = factor[place(i, j)] + grown[i, j]
            for k in range(j + 1, i):
                entry = entry + factor[place(i, k)] * grown[k, j]
            entries.append(jnp.where(jnp.isfinite(scales[j]), entry, 0))
    return scales, tuple(entries)


def strictly_lower(draw: Callable[[Array, int], Array], dim: int) -> Array:
    """A strictly lower-triangular array [d, d] of drawn numbers, half those of a whole square.

    Args:
        draw: draw(i, size) gives an array [size, size] of its numbers, for i = 0 and 1. The first
            is the square block, the second's two halves are the triangles beside it.
        dim: d.
    """
    half = dim // 2
    rest = dim - half
    # A loop, because XLA on the CPU computes a fused sampler anew for each of its consumers.
    block, halves = jax.lax.map(lambda i: draw(i, rest), jnp.arange(2, dtype=jnp.uint32))
    upper = jnp.pad(halves[:half, :half], ((0, rest), (0, rest)))
    lower = jnp.pad(jnp.concatenate([block[:, :half], halves.T], axis=1), ((half, 0), (0, 0)))
    return jnp.tril(upper + lower, -1)


def pooled(
    parts: Sequence[tuple[Array, Entries, Entries]],
    shift: Entries,
    shift_weight: Array,
    dim: int,
    *,
    general: bool = False,
) -> tuple[Entries, Entries]:
    """(s, U) of sum of weight * covariance over parts, plus shift_weight * shift shift^T.

    It is computed as a covariance in units of its largest scale, and from the roots of its parts if
    that leaves too few digits (`roots`). A direction has no variance if no part has any, up to
    rounding, or if its scale is below 1e-38 of the largest.

    Args:
        parts: (weight, log_scale, factor) of each covariance.
        shift: A vector [d].
        shift_weight: A number [].
        dim: d.
        general: whether the points of all parts together are in general position.
    """
    scales = [
        jnp.where(weight > 0, _largest(log_scale), -jnp.inf) for weight, log_scale, _ in parts
    ]
    scales.append(jnp.where(shift_weight > 0, jnp.log(_largest(_absolute(shift))), -jnp.inf))
    unit = jnp.maximum(_largest_of(scales), jnp.finfo(jnp.result_type(float)).min)
    # In two steps, since exp(-unit) overflows before a shift underflows.
    root = jnp.where(shift_weight > 0, jnp.exp(jnp.minimum(-unit / 2, _LARGEST_EXPONENT)), 0)
    if dim <= LARGEST_WRITTEN_OUT:
        cells = {}
        for i in range(dim):
            for j in range(i + 1):
                scaled_shift = [shift[index] * root * root for index in (i, j)]
                cells[i, j] = shift_weight * scaled_shift[0] * scaled_shift[1]
        for weight, log_scale, factor in parts:
            columns = [
                jnp.where(weight > 0, jnp.exp(2 * (s - unit)), 0) * weight for s in log_scale
            ]
            for i in range(dim):
                for j in range(i + 1):
                    terms = (
                        _entry(factor, i, k) * _entry(factor, j, k) * columns[k]
                        for k in range(j + 1)
                    )
                    cells[i, j] = sum(terms, cells[i, j])
        pivots, factor = _decomposed_cells(cells, dim)
        plain = tuple(jnp.log(pivot) / 2 + unit for pivot in pivots), factor
        diagonal = tuple(cells[j, j] for j in range(dim))
        return _looked_closer(plain, pivots, diagonal, parts, shift_weight, shift, unit, general)
    scaled_shift = shift * root * root
    covariance = shift_weight * jnp.outer(scaled_shift, scaled_shift)
    for weight, log_scale, factor in parts:
        columns = factor * jnp.where(weight > 0, jnp.exp(log_scale - unit) * jnp.sqrt(weight), 0)
        covariance = covariance + jnp.matmul(columns, columns.T, precision="highest")
    pivots, factor = _decomposed_matrix(covariance)
    plain = jnp.log(pivots) / 2 + unit, factor
    diagonal = jnp.diagonal(covariance)
    return _looked_closer(plain, pivots, diagonal, parts, shift_weight, shift, unit, general)


def _looked_closer(plain, pivots, diagonal, parts, shift_weight, shift, unit, general):
    """What `pooled` found, or what the roots of the parts give where a pivot has lost digits.

    pivots, diagonal: tuples of numbers, or arrays.
    """
    if len(diagonal) == 1:
        return plain
    # A scale so small beside the largest that its square is 0 in the covariance.
    some = [
        jnp.where(weight > 0, _largest(log_scale), -jnp.inf) > -jnp.inf
        for weight, log_scale, _ in parts
    ]
    ill = roots.ill_conditioned(pivots, diagonal, functools.reduce(jnp.logical_or, some))

    def by_roots(parts, shift_weight, shift, unit):
        dim = len(shift)
        columns = []
        for weight, log_scale, factor in parts:
            scale = jnp.exp(as_vector(log_scale) - unit) * jnp.sqrt(weight)
            columns.append(as_matrix(factor, dim) * jnp.where(weight > 0, scale, 0))
        half = jnp.where(shift_weight > 0, jnp.exp(jnp.minimum(-unit / 2, _LARGEST_EXPONENT)), 0)
        apart = as_vector(shift) * half * half * jnp.sqrt(shift_weight)
        others = jnp.concatenate([*(c.T for c in columns[1:]), apart[None]])
        log_scale, factor = roots.root_of_columns(columns[0], others, unit, general=general)
        return from_arrays(log_scale, dim), from_matrix(factor, dim)

    return roots.where_ill(by_roots, ill, plain, (parts, shift_weight, shift, unit))


def of_points(
    centred: Array, weight: Array, divisor: ArrayLike, *, general: bool = False
) -> tuple[Entries, Entries]:
    """(s, U) of sum of weight c c^T / divisor, with no more directions than points less one.

    Args:
        centred: Points [n, d] about their mean.
        weight: [n], 0 for an empty slot.
        divisor: A number [].
        general: whether the points are in general position.
    """
    dim = centred.shape[1]
    squares = jnp.matmul((centred * weight[:, None]).T, centred, precision="highest") / divisor
    if dim > LARGEST_WRITTEN_OUT:
        pivots, factor = _decomposed_matrix(squares)
        log_scale = jnp.log(pivots) / 2
    else:
        pivots, factor = _decomposed_cells(_cells(squares, dim), dim)
        log_scale = tuple(jnp.log(pivot) / 2 for pivot in pivots)
    if dim > 1:

        def by_roots(centred, weight, divisor):
            log_scale, factor = roots.root_of_points(centred, weight, divisor, general=general)
            return from_arrays(log_scale, dim), from_matrix(factor, dim)

        ill = roots.ill_conditioned(
            pivots, from_arrays(jnp.diagonal(squares), dim), jnp.any(centred != 0)
        )
        log_scale, factor = roots.where_ill(
            by_roots,
            ill,
            (log_scale, factor),
            (centred, weight, jnp.asarray(divisor, centred.dtype)),
        )
    return limited(log_scale, factor, jnp.sum(weight > 0) - 1)


def _cells(covariance, dim):
    """The entries on and below the diagonal, by (row, column)."""
    return {(i, j): covariance[i, j] for i in range(dim) for j in range(i + 1)}


def decomposed(covariance: Array, dim: int) -> tuple[Entries, Entries]:
    """(s, U) of a covariance [d, d] in the form that `dim` asks for.

    A direction without variance gives -inf, never nan.
    """
    if dim > LARGEST_WRITTEN_OUT:
        pivots, factor = _decomposed_matrix(covariance)
        return jnp.log(pivots) / 2, factor
    pivots, factor = _decomposed_cells(_cells(covariance, dim), dim)
    return tuple(jnp.log(pivot) / 2 for pivot in pivots), factor


def limited(log_scale: Entries, factor: Entries, rank: ArrayLike) -> tuple[Entries, Entries]:
    """(s, U) restricted to the first `rank` of its directions with variance.

    Beyond the true rank it is rounding.
    """
    if not isinstance(log_scale, tuple):
        alive = log_scale > -jnp.inf
        alive = alive & (jnp.cumsum(alive) <= rank)
        return jnp.where(alive, log_scale, -jnp.inf), jnp.where(
            alive | jnp.eye(len(alive), dtype=bool), factor, 0
        )
    alive, seen = [], 0
    for s in log_scale:
        seen = seen + (s > -jnp.inf).astype(jnp.int32)
        alive.append((s > -jnp.inf) & (seen <= rank))
    kept = tuple(jnp.where(here, s, -jnp.inf) for here, s in zip(alive, log_scale, strict=True))
    return kept, tuple(
        jnp.where(alive[j], factor[place(i, j)], 0) for i in range(len(alive)) for j in range(i)
    )


def _decomposed_cells(cells, dim):
    """(pivots, factor) by Cholesky without roots, L D L^T, entry by entry."""
    pivots, factor = [], {}
    for j in range(dim):
        pivot = cells[j, j]
        for k in range(j):
            pivot = pivot - factor[j, k] ** 2 * pivots[k]
        alive = pivot > _floor(cells[j, j], dim)
        pivots.append(jnp.where(alive, pivot, 0))
        for i in range(j + 1, dim):
            entry = cells[i, j]
            for k in range(j):
                entry = entry - factor[i, k] * factor[j, k] * pivots[k]
            factor[i, j] = jnp.where(alive, entry / jnp.where(alive, pivot, 1), 0)
    return tuple(pivots), tuple(factor[i, j] for i in range(dim) for j in range(i))


def _decomposed_matrix(covariance):
    dim = covariance.shape[0]
    row = jnp.arange(dim)
    floor = _floor(jnp.diag(covariance), dim)

    def column(j, carry):
        left, factor, pivots = carry
        pivot = left[j, j]
        alive = pivot > floor[j]
        entries = jnp.where(alive & (row > j), left[:, j] / jnp.where(alive, pivot, 1), 0)
        pivot_column = entries.at[j].set(1)
        kept = jnp.where(alive, pivot, 0)
        return (
            left - kept * jnp.outer(pivot_column, pivot_column),
            factor.at[:, j].set(pivot_column),
            pivots.at[j].set(kept),
        )

    start = covariance, jnp.zeros_like(covariance), jnp.zeros(dim, covariance.dtype)
    _, factor, pivots = jax.lax.fori_loop(0, dim, column, start)
    return pivots, factor


def _floor(diagonal, dim):
    return jnp.finfo(diagonal.dtype).eps * dim * diagonal if dim > 1 else jnp.zeros_like(diagonal)


def _ratio(numerator, denominator):
    """exp(numerator - denominator), 0 where the denominator's direction has no variance."""
    difference = jnp.where(jnp.isfinite(denominator), numerator - denominator, -jnp.inf)
    return jnp.exp(jnp.minimum(difference, _LARGEST_EXPONENT))


def _entry(factor, i, k):
    return factor[place(i, k)] if k < i else 1.0


def _like(factor):
    return factor[0] if factor else jnp.zeros(())


def _absolute(vector):
    return (
        tuple(jnp.abs(value) for value in vector) if isinstance(vector, tuple) else jnp.abs(vector)
    )


def _largest(vector):
    return _largest_of(vector) if isinstance(vector, tuple) else jnp.max(vector)


def _largest_of(values):
    largest = values[0]
    for value in values[1:]:
        largest = jnp.maximum(largest, value)
    return largest


def half_log(value: ArrayLike) -> Array | float:
    """log(value) / 2 of a number known on the host or traced; -inf at 0."""
    if isinstance(value, int | float):
        return math.log(value) / 2 if value > 0 else -math.inf
    return jnp.log(jnp.maximum(value, 0)) / 2
