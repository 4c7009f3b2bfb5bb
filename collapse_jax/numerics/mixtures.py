"""Expectation-maximisation of Gaussian mixtures on weighted points, shaped for long vectors.

Points are [d, N]. What a step sums up are the products of the responsibilities of a component with
its features: 1, the deviations from a centre, and their products. They are computed once, so that a
step is a few elementwise passes and one matrix-vector product a component. The centre is the
component's own mean, taken anew whenever the mean leaves it, so that no digits cancel.

Shapes: K components, d dimensions, R features (1 + d, and d more or d (d + 1) / 2 products), points
in blocks of n.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from collapse_jax.random.bits import key_words, uniform, variate_words
from collapse_jax.random.derivatives import CHOICES, step_function

# Up to this dimension small matrices are written out entry by entry.
WRITTEN_OUT = 4
# Sums over more points are made of sums over so many: the features of a block fit the caches, and
# float32 sums keep their digits.
_BLOCK = 8192
# Half the squared distance, in deviations of the component, that its mean may go from the centre of
# its features.
_FAR = 8.0
# A component with fewer points than this (as a sum of responsibilities) is empty.
_EMPTY = 1e-20
_LLOYD_STEPS, _LLOYD_TOLERANCE = 300, 1e-4


class Model(NamedTuple):
    """A mixture about the centres of its features.

    Attributes:
        log_weights: [K], -inf for an empty component.
        shifts: [K, d], means less centres.
        factors: [K, d, d], the lower Cholesky factors of the covariances (full), or [K, d]
            deviations.
        inverse: Of the factors, [K, d, d] or [K, d].
    """

    log_weights: Array
    shifts: Array
    factors: Array
    inverse: Array


class Progress(NamedTuple):
    """Where EM stands.

    Attributes:
        model: The mixture after the last step.
        log_likelihood: Mean, [], of the parameters before the last step.
        converged: bool [].
        iterations: int [].
        far: [K], whether the mean has left the centre.
    """

    model: Model
    log_likelihood: Array
    converged: Array
    iterations: Array
    far: Array


class Fitted(NamedTuple):
    """What EM returns.

    Attributes:
        weights: [K].
        means: [K, d].
        factors: As in `Model`.
        converged: bool [].
        iterations: int [].
        log_likelihood: Mean, [].
    """

    weights: Array
    means: Array
    factors: Array
    converged: Array
    iterations: Array
    log_likelihood: Array


def one_by_one(function: Callable) -> Callable:
    """A function of one chain whose chains, under `vmap` on a CPU, go one after the other.

    None waits then for another's loop, and each chain's points are vector enough for a core.
    Elsewhere chains are batched as always. Derived here.
    """
    mapped = jax.custom_batching.sequential_vmap(function)

    @functools.wraps(function)
    def of_one(*arrays):
        return mapped(*arrays) if jax.default_backend() == "cpu" else function(*arrays)

    return of_one


def in_blocks(x: Array, weight: Array) -> tuple[Array, Array]:
    """(x [blocks, d, n], weight [blocks, n]) of points x [N, d] and weights [N].

    Empty slots, and those that fill the last block, are 0.
    """
    slots = x.shape[0]
    blocks = -(-slots // _BLOCK)
    size = -(-slots // blocks)
    weight = jnp.pad(weight.astype(x.dtype), (0, blocks * size - slots))
    x = jnp.where(weight > 0, jnp.pad(x, ((0, blocks * size - slots), (0, 0))).T, 0)
    return jnp.moveaxis(x.reshape(len(x), blocks, size), 1, 0), weight.reshape(blocks, size)


def expectation_maximisation(
    x, weight, weights, means, factors, *, steps: int, tolerance: float, floor: float, kind: str
) -> Fitted:
    """EM from the given mixture until the log-likelihood converges.

    The stopping rule and the order of the steps are those of scikit-learn (GaussianMixture). An
    empty component keeps its mean, and has the floor as its variance and weight 0 from then on.

    Args:
        x, weight: [blocks, d, n] and [blocks, n], see `in_blocks`.
        weights, means, factors: The initial mixture: [K], [K, d], and [K, d, d] or [K, d].
        steps: The largest number of steps.
        tolerance: The change of the mean log-likelihood below which EM ends.
        floor: Added to the variances.
        kind: "full", "diagonal" or "spherical" (whose factors are [K, d] with equal entries).

    References:
        Dempster, Laird and Rubin 1977.
    """
    total = jnp.sum(weight)
    total = jnp.where(total > 0, total, 1)

    def unfinished(progress):
        return ~progress.converged & (progress.iterations < steps)

    def around(carry):
        """Steps with features about the means that there are."""
        centres, progress = carry
        centres = centres + progress.model.shifts
        features = _features(x, centres, kind == "full")

        def step(progress):
            sums, log_likelihood = _sums(progress.model, features, weight)
            log_likelihood = log_likelihood / total
            model = _maximised(sums, progress.model.shifts, total, floor, kind)
            converged = jnp.abs(log_likelihood - progress.log_likelihood) < tolerance
            return Progress(
                model, log_likelihood, converged, progress.iterations + 1, _is_far(model)
            )

        here = progress._replace(
            model=progress.model._replace(shifts=jnp.zeros_like(centres)),
            far=jnp.zeros_like(progress.far),
        )
        return centres, jax.lax.while_loop(
            lambda one: unfinished(one) & ~jnp.any(one.far), step, here
        )

    start = _before_the_first_step(weights, means, factors, x.dtype)
    centres, end = jax.lax.while_loop(lambda carry: unfinished(carry[1]), around, (means, start))
    weights = jnp.where(jnp.sum(weight) > 0, jnp.exp(end.model.log_weights), weights)
    return Fitted(
        weights,
        centres + end.model.shifts,
        end.model.factors,
        end.converged,
        end.iterations,
        end.log_likelihood,
    )


def _before_the_first_step(weights, means, factors, dtype):
    return Progress(
        Model(jnp.log(weights), jnp.zeros_like(means), factors, inverse_of(factors)),
        jnp.asarray(-jnp.inf, dtype),
        jnp.asarray(False),
        jnp.asarray(0, jnp.int32),
        jnp.zeros(len(means), bool),
    )


def _is_far(model):
    """[K]: whether a component's mean has left the centre of its features."""
    distances = [
        _half_square(one, shift[:, None])[0]
        for one, shift in zip(model.inverse, model.shifts, strict=True)
    ]
    return jnp.stack(distances) > _FAR


def maximised(
    x: Array, weight: Array, labels: Array, means: Array, *, floor: float, kind: str
) -> tuple[Array, Array, Array]:
    """One step of maximisation from hard assignments of the points to components.

    Args:
        x: [blocks, d, n].
        weight: [blocks, n].
        labels: [blocks, n], 0 .. K - 1.
        means: [K, d], the centres.
        floor: Added to the variances.
        kind: As in `expectation_maximisation`.

    Returns:
        (weights [K], means [K, d], factors).
    """
    total = jnp.sum(weight)
    features = _features(x, means, kind == "full")
    shares = [
        [jnp.where(labels[b] == k, weight[b], 0) for k in range(len(means))] for b in range(len(x))
    ]
    sums = sum(
        jnp.stack([_product(features[b, k], shares[b][k]) for k in range(len(means))])
        for b in range(len(x))
    )
    model = _maximised(sums, jnp.zeros_like(means), jnp.where(total > 0, total, 1), floor, kind)
    weights = jnp.where(total > 0, jnp.exp(model.log_weights), 1 / len(means))
    return weights, means + model.shifts, model.factors


def k_means(key: Array, x: Array, weight: Array, number: int) -> tuple[Array, Array]:
    """k-means++ and Lloyd's steps, as scikit-learn's KMeans starts and stops them.

    Each centre after the first is the best of 2 + log(number) draws in proportion to the squared
    distance from the centres so far. Lloyd's steps end when the centres move by less than 1e-4 of
    the mean variance (squared), or after 300 steps. The centre of an empty cluster does not move.

    Args:
        x, weight: [blocks, d, n] and [blocks, n], see `in_blocks`.
        number: Number of clusters.

    Returns:
        (labels [blocks, n], means [number, d]).

    References:
        Arthur and Vassilvitskii 2007; Lloyd 1982.
    """
    dim, total = x.shape[1], jnp.sum(weight)
    rows = jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1)
    words = key_words(key)

    def distances(centre):
        return sum((x[:, i] - centre[i]) ** 2 for i in range(dim))

    trials = 2 + int(np.log(number))
    centres = [_drawn(*words, 0, x, weight)]
    nearest = distances(centres[0])
    for k in range(1, number):
        chances = weight * nearest
        chances = jnp.where(jnp.any(chances > 0), chances, weight)
        candidates = [_drawn(*words, k * trials + trial, x, chances) for trial in range(trials)]
        candidate_nearest = [jnp.minimum(nearest, distances(candidate)) for candidate in candidates]
        best = jnp.argmin(jnp.stack([jnp.sum(weight * one) for one in candidate_nearest]))
        centres.append(jnp.stack(candidates)[best])
        nearest = jnp.stack(candidate_nearest)[best]

    def labelled(centres):
        best, labels = distances(centres[0]), jnp.zeros(weight.shape, jnp.int32)
        for k in range(1, number):
            one = distances(centres[k])
            labels, best = jnp.where(one < best, k, labels), jnp.minimum(one, best)
        return labels

    safe_total = jnp.where(total > 0, total, 1)
    middle = _pooled(rows, weight)[1:] / safe_total
    enough = _LLOYD_TOLERANCE * jnp.sum(distances(middle) * weight) / (safe_total * dim)

    def step(carry):
        centres, _, taken = carry
        labels = labelled(centres)
        sums = jnp.stack([_pooled(rows, jnp.where(labels == k, weight, 0)) for k in range(number)])
        occupied = sums[:, :1] > 0
        moved = jnp.where(occupied, sums[:, 1:] / jnp.where(occupied, sums[:, :1], 1), centres)
        return moved, jnp.sum((moved - centres) ** 2), taken + 1

    start = jnp.stack(centres), jnp.asarray(jnp.inf, x.dtype), jnp.asarray(0, jnp.int32)
    centres, _, _ = jax.lax.while_loop(
        lambda carry: (carry[1] > enough) & (carry[2] < _LLOYD_STEPS), step, start
    )
    return labelled(centres), centres


def log_densities(weights: Array, means: Array, inverse: Array, x: Array) -> Array:
    """log(weight * density) [K, N] of the components at points x [d, N]; -inf for weight 0."""
    constants = _constants(jnp.log(weights), inverse)
    return jnp.stack(
        [constants[k] - _half_square(inverse[k], x - means[k][:, None]) for k in range(len(means))]
    )


def log_densities_at_0(means: Array, inverse: Array) -> Array:
    """Log-density [P] at 0 of normals with means [P, d] and inverse factors [P, d, d]."""
    return jax.vmap(lambda constant, mean, one: constant - _half_square(one, mean))(
        _constants(0, inverse), means, inverse
    )


def log_sum(values: Sequence[Array]) -> Array:
    """log(sum(exp(values))) over a list of arrays, finite where all are -inf."""
    largest = jnp.maximum(functools.reduce(jnp.maximum, values), jnp.finfo(values[0].dtype).min)
    return largest + jnp.log(
        jnp.maximum(
            sum(jnp.exp(value - largest) for value in values), jnp.finfo(values[0].dtype).tiny
        )
    )


def lower(factors: Array, dim: int) -> Array:
    """Cholesky factors [K, d, d] of factors of any kind.

    These are [K, d, d], deviations [K, d], or one deviation a component [K].
    """
    if factors.ndim == 3:
        return factors
    deviations = jnp.broadcast_to(
        factors[:, None] if factors.ndim == 1 else factors, (len(factors), dim)
    )
    return deviations[:, None, :] * jnp.eye(dim, dtype=factors.dtype)


def cholesky(covariances: Array, floor: ArrayLike) -> Array:
    """Lower Cholesky factors [K, d, d] of covariances [K, d, d].

    Their eigenvalues are known to be at least `floor`; so is every pivot, whatever rounding says.
    """
    dim = covariances.shape[-1]
    if dim <= WRITTEN_OUT:
        entries = _cholesky_entries(
            {(i, j): covariances[:, i, j] for i in range(dim) for j in range(i + 1)}, dim, floor
        )
        return _matrices(entries, dim)
    row = jnp.arange(dim)

    def column(j, carry):
        left, factors = carry
        root = jnp.sqrt(jnp.maximum(left[:, j, j], floor))
        entries = jnp.where(row > j, left[:, :, j] / root[:, None], 0).at[:, j].set(root)
        return left - entries[:, :, None] * entries[:, None, :], factors.at[:, :, j].set(entries)

    return jax.lax.fori_loop(0, dim, column, (covariances, jnp.zeros_like(covariances)))[1]


def _features(x, centres, full):
    """[blocks, K, R, n] of points [blocks, d, n]: 1, deviations, squares or (full) products."""

    def of_block(block):
        deviations = block - centres[:, :, None]
        rows, columns = np.tril_indices(len(block)) if full else (slice(None),) * 2
        return jnp.concatenate(
            [
                jnp.ones_like(deviations[:, :1]),
                deviations,
                deviations[:, rows] * deviations[:, columns],
            ],
            axis=1,
        )

    return of_block(x[0])[None] if len(x) == 1 else jax.lax.map(of_block, x)


def _sums(model, features, weight):
    """(sums [K, R] of all points' features times responsibilities, log-likelihood [])."""
    constants = _constants(model.log_weights, model.inverse)

    def of_block(features, weight):
        number, dim = model.shifts.shape
        logs = [
            constants[k]
            - _half_square(model.inverse[k], features[k, 1 : dim + 1] - model.shifts[k][:, None])
            for k in range(number)
        ]
        log_density = log_sum(logs)
        # A matrix-vector product, because XLA on the CPU is slow at scalar sums; the first row of
        # the features is 1.
        log_likelihood = _product(features[0, : dim + 1], weight * log_density)[0]
        return jnp.stack(
            [_product(features[k], weight * jnp.exp(logs[k] - log_density)) for k in range(number)]
        ), log_likelihood

    if len(weight) == 1:
        return of_block(features[0], weight[0])
    parts = jax.lax.map(lambda block: of_block(*block), (features, weight))
    return jax.tree.map(lambda part: jnp.sum(part, axis=0), parts)


def _maximised(sums, shifts, total, floor, kind):
    """The `Model` of largest expected likelihood, from sums [K, R] about centres."""
    dim = shifts.shape[1]
    count = sums[:, :1]
    occupied = count > _EMPTY
    moments = jnp.where(occupied, sums / jnp.where(occupied, count, 1), 0)
    log_weights = jnp.where(occupied, jnp.log(jnp.where(occupied, count, 1) / total), -jnp.inf)[
        :, 0
    ]
    means = moments[:, 1 : dim + 1]
    shifts = jnp.where(occupied, means, shifts)
    if kind != "full":
        variances = jnp.maximum(moments[:, dim + 1 :] - means**2, 0) + floor
        if kind == "spherical":
            variances = jnp.broadcast_to(
                jnp.mean(variances, axis=1, keepdims=True), variances.shape
            )
        factors = jnp.sqrt(variances)
        return Model(log_weights, shifts, factors, 1 / factors)
    if dim > WRITTEN_OUT:
        rows, columns = np.tril_indices(dim)
        place = np.zeros((dim, dim), int)
        place[rows, columns] = place[columns, rows] = dim + 1 + np.arange(len(rows))
        factors = cholesky(
            moments[:, place] - means[:, :, None] * means[:, None] + floor * jnp.eye(dim), floor
        )
        return Model(log_weights, shifts, factors, inverse_of(factors))
    cells, place = {}, dim + 1
    for i in range(dim):
        for j in range(i + 1):
            cells[i, j] = moments[:, place] - means[:, i] * means[:, j] + (floor if i == j else 0)
            place += 1
    entries = _cholesky_entries(cells, dim, floor)
    return Model(
        log_weights, shifts, _matrices(entries, dim), _matrices(_inverse_entries(entries, dim), dim)
    )


def _cholesky_entries(cells, dim, floor):
    """The lower Cholesky factor's entries (i, j) -> [K], from the covariance's cells, j <= i."""
    entries = {}
    for j in range(dim):
        pivot = cells[j, j] - sum(entries[j, k] ** 2 for k in range(j))
        entries[j, j] = jnp.sqrt(jnp.maximum(pivot, floor))
        for i in range(j + 1, dim):
            entries[i, j] = (
                cells[i, j] - sum(entries[i, k] * entries[j, k] for k in range(j))
            ) / entries[j, j]
    return entries


def _inverse_entries(entries, dim):
    """The entries of the inverse of a lower triangle."""
    inverse = {}
    for j in range(dim):
        inverse[j, j] = 1 / entries[j, j]
        for i in range(j + 1, dim):
            inverse[i, j] = -sum(entries[i, k] * inverse[k, j] for k in range(j, i)) / entries[i, i]
    return inverse


def _matrices(entries, dim):
    """[K, d, d] of entries (i, j) -> [K]; 0 above the diagonal."""
    none = jnp.zeros_like(entries[0, 0])
    return jnp.stack(
        [entries.get((i, j), none) for i in range(dim) for j in range(dim)], axis=-1
    ).reshape(-1, dim, dim)


def inverse_of(factors: Array) -> Array:
    """The inverse of factors [K, d, d] (lower triangular) or [K, d]."""
    if factors.ndim == 2:
        return 1 / factors
    dim = factors.shape[-1]
    if dim <= WRITTEN_OUT:
        return _matrices(
            _inverse_entries(
                {(i, j): factors[:, i, j] for i in range(dim) for j in range(i + 1)}, dim
            ),
            dim,
        )
    return jax.scipy.linalg.solve_triangular(
        factors, jnp.broadcast_to(jnp.eye(dim, dtype=factors.dtype), factors.shape), lower=True
    )


def _constants(log_weights, inverse):
    """[K]: log weight less the log of the normalising constant."""
    diagonal = jnp.diagonal(inverse, axis1=1, axis2=2) if inverse.ndim == 3 else inverse
    return (
        log_weights + jnp.sum(jnp.log(diagonal), axis=1) - inverse.shape[1] * np.log(2 * np.pi) / 2
    )


def _half_square(inverse, deviations) -> Any:
    """Half the squared length [N] of inverse [d, d] or [d] times deviations [d, N]."""
    dim = len(inverse)
    if inverse.ndim == 1:
        scaled = [inverse[i] * deviations[i] for i in range(dim)]
    elif dim <= WRITTEN_OUT:
        scaled = [sum(inverse[i, j] * deviations[j] for j in range(i + 1)) for i in range(dim)]
    else:
        return jnp.sum(jnp.matmul(inverse, deviations, precision="highest") ** 2, axis=0) / 2
    return sum(one * one for one in scaled) / 2


def _product(rows, weight):
    """[R]: rows [R, n] times weights [n], in full precision on accelerators too."""
    return jnp.matmul(rows, weight, precision="highest")


def _pooled(rows, weight) -> Any:
    """[R]: sums of the rows [blocks, R, n] of features times weights [blocks, n]."""
    return sum(_product(rows[b], weight[b]) for b in range(len(rows)))


def _drawn(key0, key1, index, x, chances):
    """One of the points x [blocks, d, n] -> [d], in proportion to `chances` [blocks, n].

    It takes variate `index` of the key.
    """
    dim = x.shape[1]
    flat = step_function(chances, chances, CHOICES).reshape(-1)
    rows = max(int(np.sqrt(len(flat))), 1)
    # Which row of a square of points, then which point of it: XLA is slow at long running sums.
    square = jnp.pad(flat, (0, -len(flat) % rows)).reshape(rows, -1)
    ends = jnp.cumsum(jnp.sum(square, axis=1))
    place = uniform(*variate_words(key0, key1, jnp.uint32(index))) * ends[-1]
    # Strictly below the ends, so that nothing without a chance is hit, whatever is rounded.
    row = jnp.minimum(
        jnp.searchsorted(ends, jnp.minimum(place, jnp.nextafter(ends[-1], 0)), side="right"),
        rows - 1,
    )
    inside = jnp.cumsum(square[row])
    place = (
        (place - (ends[row] - jnp.sum(square[row])))
        / jnp.maximum(jnp.sum(square[row]), jnp.finfo(x.dtype).tiny)
        * inside[-1]
    )
    place = jnp.clip(place, 0, jnp.nextafter(inside[-1], 0))
    number = row * square.shape[1] + jnp.minimum(
        jnp.searchsorted(inside, place, side="right"), square.shape[1] - 1
    )
    number = jnp.minimum(number, len(flat) - 1)
    block, slot = number // x.shape[2], number % x.shape[2]
    start = (block, jnp.zeros_like(block), slot)  # of one type, also with float64
    return jax.lax.dynamic_slice(x, start, (1, dim, 1)).reshape(dim)
