"""Singular values by one-sided Jacobi rotations in plain array operations.

A matrix is given as its columns and their log scales, A = columns * exp(log_scale), and stays so:
nothing underflows however far the scales lie apart, and small singular values are as accurate,
relative to themselves, as large ones (Demmel and Veselic 1992). Columns are [column, row, chains],
scales [column, chains]. No LAPACK, no data-dependent loop.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def log_singular_values(columns: Array, log_scale: Array) -> Array:
    """Logs of the singular values [d, chains], unordered; -inf for each missing rank."""
    return orthogonalised(
        *triangularised(columns, log_scale), sweeps=enough_sweeps(len(columns), triangular=True)
    )[1]


def triangularised(columns: Array, log_scale: Array) -> tuple[Array, Array]:
    """The matrices times rotations from the right, triangular up to the order of rows and columns.

    Householder reflections, the largest row that is left first, which keeps rows of very different
    sizes apart: what Jacobi rotations need to be accurate and quick for matrices whose rows as well
    as columns are graded.

    Returns:
        (columns, log scales).

    References:
        Drmac and Veselic 2008.
    """
    dim = len(columns)
    numbers = jnp.arange(dim)[:, None]

    def step(_, carry):
        columns, log_scale, columns_left, rows_left = carry
        unit_columns, unit_scale = normalised(columns, log_scale)
        columns = jnp.where(columns_left[:, None], unit_columns, columns)
        log_scale = jnp.where(columns_left, unit_scale, log_scale)
        unit = jnp.max(jnp.where(columns_left, log_scale, -jnp.inf), axis=0)
        weight = jnp.where(
            columns_left, jnp.exp(log_scale - jnp.maximum(unit, jnp.finfo(unit.dtype).min)), 0
        )
        scaled = columns * weight[:, None]
        row = numbers == jnp.argmax(jnp.where(rows_left, jnp.sum(scaled**2, axis=0), -1), axis=0)
        of_row = jnp.where(columns_left, jnp.sum(jnp.where(row, columns, 0), axis=1), 0)
        scaled_row = of_row * weight
        column = numbers == jnp.argmax(jnp.where(columns_left, jnp.abs(scaled_row), -1), axis=0)
        length = jnp.sqrt(jnp.sum(scaled_row**2, axis=0))
        pivot = jnp.sum(jnp.where(column, scaled_row, 0), axis=0)
        end = jnp.where(pivot < 0, -length, length)
        unscaled_end = end * _inverse(jnp.sum(jnp.where(column, weight, 0), axis=0))
        mirror, unscaled_mirror = scaled_row + column * end, of_row + column * unscaled_end
        along = jnp.sum(scaled * mirror[:, None], axis=0) * _inverse(
            length * (length + jnp.abs(pivot))
        )
        cleared = jnp.where(
            row,
            jnp.where(column, -unscaled_end, 0)[:, None],
            columns - unscaled_mirror[:, None] * along,
        )
        columns = jnp.where(columns_left[:, None], cleared, columns)
        return columns, log_scale, columns_left & ~column, rows_left & ~row

    left = jnp.ones(log_scale.shape, bool)
    columns, log_scale, _, _ = jax.lax.fori_loop(0, dim, step, (columns, log_scale, left, left))
    return columns, log_scale


def orthogonalised(columns: Array, log_scale: Array, sweeps: int) -> tuple[Array, Array, Array]:
    """The rotation V that makes the columns of A V orthogonal.

    Returns:
        (columns, log scales, V [column, row, chains]) of A V: the left singular vectors, the log
        singular values and the right singular vectors. A singular value of zero has a log scale of
        -inf, and where it came out as exactly zero a column of zeros.
    """
    dim, chains = log_scale.shape
    columns, log_scale = normalised(columns, log_scale)
    right = jnp.broadcast_to(jnp.eye(dim, dtype=columns.dtype)[..., None], (dim, dim, chains))
    if dim == 1:
        return columns, log_scale, right
    half = (dim + 1) // 2
    # Round robin: every step pairs the upper half with the lower, and all but the first then move
    # on by one place; a sweep brings each to its own place again. An odd dimension is filled up
    # with an empty column.
    upper = [array[:half] for array in (columns, log_scale, right)]
    lower = [
        jnp.concatenate(
            [array[half:], jnp.full((2 * half - dim, *array.shape[1:]), fill, array.dtype)]
        )
        for array, fill in zip((columns, log_scale, right), (0, -jnp.inf, 0), strict=True)
    ]

    def step(_, pairs):
        rotated = _rotated(*pairs)
        moved = [_moved_on(a, b) for a, b in zip(*rotated, strict=True)]
        return [a for a, _ in moved], [b for _, b in moved]

    upper, lower = jax.lax.fori_loop(0, sweeps * (2 * half - 1), step, (upper, lower))
    columns, log_scale, right = (
        jnp.concatenate([a, b])[:dim] for a, b in zip(upper, lower, strict=True)
    )
    return columns, log_scale, right


def enough_sweeps(dim: int, triangular: bool) -> int:
    """How often `orthogonalised` must rotate every pair for float32, one sweep to spare.

    Convergence is quadratic in the end.
    """
    return 1 if dim == 2 else 4 + math.ceil(math.log2(dim) / (2 if triangular else 1))


def in_blocks(function: Callable[..., Array], *arrays: Array) -> Array:
    """function(*arrays [..., chains]) -> [..., chains], a few chains at a time.

    So few that matrices [d, d, chains] stay in a core's cache: for larger ones it is several times
    as fast. On accelerators and over several devices, all at once.
    """
    dim, chains = arrays[-1].shape[0], arrays[-1].shape[-1]
    block = 2 ** max(4, round(math.log2(2**15 / dim**2)))
    if (
        chains <= block
        or chains % block
        or jax.default_backend() != "cpu"
        or len(jax.devices()) > 1
    ):
        return function(*arrays)
    parts = [
        jnp.moveaxis(array.reshape(*array.shape[:-1], chains // block, block), -2, 0)
        for array in arrays
    ]
    done = jnp.moveaxis(jax.lax.map(lambda part: function(*part), parts), 0, -2)
    return done.reshape(*done.shape[:-2], chains)


def normalised(columns: Array, log_scale: Array) -> tuple[Array, Array]:
    """The same matrices with columns of length one; a column of zeros stays, at scale -inf."""
    largest = jnp.max(jnp.abs(columns), axis=1)
    columns = columns * _inverse(largest)[:, None]
    length = jnp.sqrt(jnp.sum(columns**2, axis=1))
    return columns * _inverse(length)[:, None], log_scale + jnp.log(largest) + jnp.log(length)


def _rotated(upper, lower):
    """Each column of `upper` and its partner in `lower`, rotated to be orthogonal.

    By the smaller of the angles that do so.
    """
    (a, log_a, right_a), (b, log_b, right_b) = upper, lower
    swapped = log_b > log_a
    cosine = jnp.sum(a * b, axis=1)
    ratio = jnp.where(jnp.maximum(log_a, log_b) > -jnp.inf, -jnp.abs(log_a - log_b), -jnp.inf)
    ratio, squared, rest = jnp.exp(ratio), jnp.exp(2 * ratio), -jnp.expm1(2 * ratio)
    # The tangent over the ratio of lengths, which stays of order one however small that ratio is.
    tangent = 2 * cosine * _inverse(rest + jnp.sqrt(rest**2 + 4 * squared * cosine**2))
    to_larger, to_smaller = tangent * squared, -tangent
    shrunk = 1 / jnp.sqrt(1 + tangent**2 * squared)
    log_shrunk = jnp.log(shrunk)
    new_a = a + jnp.where(swapped, to_smaller, to_larger)[:, None] * b
    new_b = b + jnp.where(swapped, to_larger, to_smaller)[:, None] * a
    turn = jnp.where(swapped, -tangent, tangent) * ratio
    new_right = (
        shrunk[:, None] * (right_a + turn[:, None] * right_b),
        shrunk[:, None] * (right_b - turn[:, None] * right_a),
    )
    lengths = [jnp.sqrt(jnp.sum(new**2, axis=1)) for new in (new_a, new_b)]
    new_a, new_b = (
        new * _inverse(length)[:, None] for new, length in zip((new_a, new_b), lengths, strict=True)
    )
    log_a, log_b = (
        log + jnp.log(length) + log_shrunk
        for log, length in zip((log_a, log_b), lengths, strict=True)
    )
    return [new_a, log_a, new_right[0]], [new_b, log_b, new_right[1]]


def _moved_on(upper, lower):
    if len(upper) == 1:
        return upper, lower
    return jnp.concatenate([upper[:1], lower[:1], upper[1:-1]]), jnp.concatenate(
        [lower[1:], upper[-1:]]
    )


def _inverse(value):
    return jnp.where(value > 0, 1 / jnp.where(value > 0, value, 1), 0)
