"""Covariances by their roots, where the covariance itself has no digits for its smallest direction.

A covariance in floats knows the variance that is left in a direction to eps of the coordinate's; a
root knows its deviation to eps, so the variance to eps^2: correlations up to 1 - 1e-12 in float32
instead of 1 - 1e-6. A direction counts as without variance where what is found there is within
rounding of the numbers that it was computed from, coordinate by coordinate, so that scales far
apart in different coordinates do not matter.

Points in general position span as many directions as they can, so that whatever is found is one;
callers say so by `general`. Else it is a guess of what rounding comes to. A direction whose
deviation is below some 1e-5 of its coordinate's may be lost: of n points in n - 1 dimensions the
last is so with a probability of about 1e-4. And a sum of samples of one plane may be given a
direction beside it, in about 1e-3 of the sums, unless the number of points says that there is none
(`factored.limited`; `spanned` of `core.types.Statistics` for pools that go back to few points).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

# A pivot above this share of its diagonal entry has the digits that it needs in the covariance:
# eps * dim / share is what rounding does to it.
WELL_CONDITIONED = 2.0**-10
# Roundings that an entry that is truly 0 may come to, for each of its steps: one and a few more.
_ROUNDINGS = 8
# More than this share of what an entry was computed from is no rounding.
_LARGEST = 2.0**-10

# (log_scale [d], factor [d, d]) of `factored`, as arrays.
Directions = tuple[Array, Array]
# A tuple of numbers, or an array [d].
Entries = Any


def ill_conditioned(pivots: Entries, diagonal: Entries, some: Array) -> Array:
    """Whether [] a pivot of a covariance has lost digits.

    Args:
        pivots: d numbers, as a tuple or an array.
        diagonal: The covariance's, in the same form. An entry of 0 counts where there is variance
            at all: its own may be too small for a covariance.
        some: Whether [] there is.
    """

    def lost(pivot, entry):
        return (pivot <= WELL_CONDITIONED * entry) & ((entry > 0) | some)

    if not isinstance(pivots, tuple):
        return jnp.any(lost(pivots, diagonal))
    return functools.reduce(jnp.logical_or, map(lost, pivots, diagonal))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def where_ill(compute: Callable[..., Any], ill: Array, plain: Any, arguments: Sequence) -> Any:
    """`plain`, or `compute(*arguments)` where `ill` [] is true: computed only if some chain is.

    Derivatives are those of `plain`.

    Args:
        compute: Gives what has the structure of `plain`.
        ill: Whether to look closer.
        plain: What the covariance gave.
        arguments: Pytrees of arrays.
    """

    # A loop, because under vmap a branch costs every chain what one of them needs. Its arguments
    # depend on what it carries, or XLA would compute in advance what is made of them.
    def body(carry):
        these = jax.tree.map(
            lambda leaf: jnp.where(carry[0], leaf, jnp.zeros_like(leaf)), arguments
        )
        return jnp.zeros_like(ill), compute(*these)

    return jax.lax.while_loop(lambda carry: carry[0], body, (ill, plain))[1]


@where_ill.defjvp
def _(compute, primals, tangents):
    return where_ill(compute, *primals), tangents[1]


def root_of_points(
    centred: Array, weight: Array, divisor: Array, *, general: bool = False
) -> Directions:
    """The directions of sum of weight c c^T / divisor, by Gram and Schmidt's modified method.

    Args:
        centred: [n, d], about their mean up to its rounding.
        weight: [n], 0 for an empty slot.
        divisor: [].
        general: whether the points are in general position.

    References:
        Bjorck 1967, "Solving linear least squares problems by Gram-Schmidt orthogonalization".
    """
    dim, total = centred.shape[1], jnp.sum(weight)
    total = jnp.where(total > 0, total, 1)
    # Once more about the mean: rounding it moves all points alike.
    again = jnp.matmul(weight, centred, precision="highest") / total
    rows = jnp.where(weight[:, None] > 0, centred - again, 0) * jnp.sqrt(weight)[:, None]
    size = jnp.max(jnp.abs(rows), axis=0)
    rows = rows / jnp.where(size > 0, size, 1)
    norm = jnp.sqrt(jnp.sum(rows**2, axis=0))
    rounding = 0.0 if general else (_ROUNDINGS + dim) * jnp.finfo(rows.dtype).eps

    def column(j, carry):
        rows, bound, lengths, factor = carry
        mine = rows[:, j]
        largest = jnp.max(jnp.abs(mine))
        unit = mine / jnp.where(largest > 0, largest, 1)
        root = jnp.sqrt(jnp.sum(unit**2))
        length = largest * root
        alive = length > rounding * bound[j]
        unit = jnp.where(alive, unit / jnp.where(alive, root, 1), 0)
        later = jnp.arange(dim) > j
        along = jnp.where(later, jnp.matmul(unit, rows, precision="highest"), 0)
        below = along / jnp.where(alive, length, 1)
        return (
            rows - jnp.outer(unit, along),
            bound + jnp.abs(along),
            lengths.at[j].set(jnp.where(alive, length, 0)),
            factor.at[:, j].add(below),
        )

    start = rows, norm, jnp.zeros_like(norm), jnp.eye(dim, dtype=rows.dtype)
    _, _, lengths, factor = jax.lax.fori_loop(0, dim, column, start)
    log_scale = jnp.log(lengths) + jnp.log(size) - jnp.log(divisor) / 2
    # Back from units of each coordinate: row i in its own, over those of column j.
    units = jnp.log(jnp.where(size > 0, size, 1))
    return log_scale, factor * jnp.exp(units[:, None] - units)


def root_of_columns(
    root: Array, columns: Array, unit: Array, *, general: bool = False
) -> Directions:
    """The directions of root root^T + columns^T columns, by rotations of each column into the root.

    Args:
        root: [d, d], lower triangular.
        columns: [m, d].
        unit: The logarithm [] of what all entries are to be multiplied by.
        general: whether every column is a direction of its own until there are d.

    References:
        Gill, Golub, Murray and Saunders 1974, "Methods for modifying matrix factorizations".
    """
    dim = root.shape[0]
    eps = jnp.finfo(root.dtype).eps
    row = jnp.arange(dim)

    def rotated(j, carry):
        root, bounds, column, bound, turned = carry
        mine, mine_bound = root[:, j], bounds[:, j]
        kept, new = mine[j], column[j]
        # A direction that nobody had is no direction where it is rounding; one that there is
        # already takes what there is.
        rounding = 4 * eps * ((_ROUNDINGS + dim) * bound[j] + turned[j])
        guess = jnp.minimum(rounding, _LARGEST * bound[j])
        least = jnp.where(kept > 0, eps * bound[j], 0.0 if general else guess)
        new = jnp.where(jnp.abs(new) > least, new, 0)
        largest = jnp.maximum(kept, jnp.abs(new))
        safe = jnp.where(largest > 0, largest, 1)
        length = largest * jnp.sqrt((kept / safe) ** 2 + (new / safe) ** 2)
        over = jnp.where(length > 0, length, 1)
        cosine, sine = jnp.where(length > 0, kept / over, 1), new / over
        after = row > j
        mixed = jnp.where(row == j, length, jnp.where(after, cosine * mine + sine * column, 0))
        # The angle is rounded with both numbers that it comes from, and turns all below by as much.
        angle = (bound[j] + mine_bound[j] + turned[j]) / over
        return (
            root.at[:, j].set(mixed),
            bounds.at[:, j].set(cosine * mine_bound + jnp.abs(sine) * bound),
            jnp.where(after, cosine * column - sine * mine, 0),
            cosine * bound + jnp.abs(sine) * mine_bound,
            cosine * turned + jnp.where(kept > 0, angle, 0) * jnp.abs(mixed),
        )

    def absorbed(carry, column):
        root, bounds = carry
        start = root, bounds, column, jnp.abs(column), jnp.zeros_like(column)
        result = jax.lax.fori_loop(0, dim, rotated, start)
        return result[:2], None

    (root, _), _ = jax.lax.scan(absorbed, (root, jnp.abs(root)), columns)
    lengths = jnp.diagonal(root)
    alive = lengths > 0
    factor = jnp.where(alive & (row[:, None] > row), root / jnp.where(alive, lengths, 1), 0)
    return jnp.log(lengths) + unit, factor + jnp.eye(dim, dtype=root.dtype)
