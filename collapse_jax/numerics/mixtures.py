"""Expectation-maximisation of Gaussian mixtures on weighted points, shaped for long vectors.

Points are [d, N]. What a step sums up are the products of the responsibilities of a component with
its features: 1, the deviations from a centre, and their products. They are computed once, so that a
step is a few elementwise passes and one matrix-vector product a component. The centre is the
component's own mean, taken anew whenever the mean leaves it, so that no digits cancel.

Shapes: K components, d dimensions, R features (1 + d, and d more or d (d + 1) / 2 products), points
in blocks of n.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from collapse_jax.numerics.blocks import product
from collapse_jax.numerics.cholesky import (
    WRITTEN_OUT,
    cholesky,
    cholesky_entries,
    half_square,
    inverse_entries,
    inverse_of,
    matrices,
)

# Half the squared distance, in deviations of the component, that its mean may go from the centre of
# its features.
_FAR = 8.0
# A component with fewer points than this (as a sum of responsibilities) is empty.
_EMPTY = 1e-20


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
        half_square(one, shift[:, None])[0]
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
        jnp.stack([product(features[b, k], shares[b][k]) for k in range(len(means))])
        for b in range(len(x))
    )
    model = _maximised(sums, jnp.zeros_like(means), jnp.where(total > 0, total, 1), floor, kind)
    weights = jnp.where(total > 0, jnp.exp(model.log_weights), 1 / len(means))
    return weights, means + model.shifts, model.factors


def log_densities(weights: Array, means: Array, inverse: Array, x: Array) -> Array:
    """log(weight * density) [K, N] of the components at points x [d, N]; -inf for weight 0."""
    constants = _constants(jnp.log(weights), inverse)
    return jnp.stack(
        [constants[k] - half_square(inverse[k], x - means[k][:, None]) for k in range(len(means))]
    )


def log_densities_at_0(means: Array, inverse: Array) -> Array:
    """Log-density [P] at 0 of normals with means [P, d] and inverse factors [P, d, d]."""
    return jax.vmap(lambda constant, mean, one: constant - half_square(one, mean))(
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
            - half_square(model.inverse[k], features[k, 1 : dim + 1] - model.shifts[k][:, None])
            for k in range(number)
        ]
        log_density = log_sum(logs)
        # A matrix-vector product, because XLA on the CPU is slow at scalar sums; the first row of
        # the features is 1.
        log_likelihood = product(features[0, : dim + 1], weight * log_density)[0]
        return jnp.stack(
            [product(features[k], weight * jnp.exp(logs[k] - log_density)) for k in range(number)]
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
    entries = cholesky_entries(cells, dim, floor)
    return Model(
        log_weights, shifts, matrices(entries, dim), matrices(inverse_entries(entries, dim), dim)
    )


def _constants(log_weights, inverse):
    """[K]: log weight less the log of the normalising constant."""
    diagonal = jnp.diagonal(inverse, axis1=1, axis2=2) if inverse.ndim == 3 else inverse
    return (
        log_weights + jnp.sum(jnp.log(diagonal), axis=1) - inverse.shape[1] * np.log(2 * np.pi) / 2
    )
