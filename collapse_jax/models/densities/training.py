"""Training of a network on weighted points: random batches, Adam, a learning rate that falls to
0."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from collapse_jax.errors import real, whole
from collapse_jax.random.multinomial import inverted


class Training(NamedTuple):
    """Settings of one training. learning_rate: of the first step; it falls to 0 as a cosine."""

    steps: int
    batch_size: int
    learning_rate: float


class Standard(NamedTuple):
    """Where points lie, as all networks see them: (x - mean) / scale.

    mean: [d].
    scale: [d], or [] for one of all coordinates; 0 where all points are equal.
    """

    mean: jax.Array
    scale: jax.Array


def check_training(training: Training) -> Training:
    """The settings.

    Raises:
        InputError: for the first that is out of range.
    """
    return Training(
        whole("steps", training.steps, 1),
        whole("batch_size", training.batch_size, 1),
        real("learning_rate", training.learning_rate, above=0),
    )


def standard_of(x: jax.Array, weight: jax.Array, *, each: bool) -> Standard:
    """Mean and standard deviation (ddof = 0) of weighted points x [n, d]; each: by coordinate."""
    total = jnp.sum(weight)
    share = weight / jnp.where(total > 0, total, 1)
    mean = jnp.matmul(share, x, precision="highest")
    squares = jnp.matmul(share, (x - mean) ** 2, precision="highest")
    # A deviation of a few roundings of the mean is one of 0.
    least = (32 * jnp.finfo(x.dtype).eps * mean) ** 2
    if not each:
        squares, least = jnp.mean(squares), jnp.max(least)
    return Standard(mean, jnp.where(squares > least, jnp.sqrt(squares), 0))


def standardised(standard: Standard, x: jax.Array) -> jax.Array:
    """Points as the networks see them; where the scale is 0, the distance to the mean itself."""
    return (x - standard.mean) / jnp.where(standard.scale > 0, standard.scale, 1)


def placed(standard: Standard, z: jax.Array) -> jax.Array:
    """The inverse of `standardised`; the mean where the scale is 0."""
    return standard.mean + standard.scale * z


def train(
    loss: Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array],
    params: Any,
    key: jax.Array,
    x: jax.Array,
    weight: jax.Array,
    training: Training,
) -> tuple[Any, jax.Array, jax.Array]:
    """Parameters after all steps; of each batch the loss and the norm of its gradient, [steps].

    A batch is drawn with replacement, each point with a probability proportional to its weight.

    Args:
        loss: (params, key, offset, x [batch, d]) -> its mean []; offset is uniform in [0, 1).
        params: where the training begins.
        key: of the batches and of the loss.
        x: [slots, d].
        weight: [slots], 0 for an empty slot.
        training: see `Training`.
    """
    fall = optax.cosine_decay_schedule(training.learning_rate, training.steps)
    optimiser = optax.adam(fall)
    cumulative = jnp.cumsum(weight)

    def step(carry, key):
        params, moments = carry
        place_key, loss_key = jax.random.split(key)
        # One draw for all that is uniform: each takes as long to compile as the network.
        u = jax.random.uniform(place_key, (training.batch_size + 1,))
        batch = x[inverted(cumulative, u[1:])]
        value, gradient = jax.value_and_grad(loss)(params, loss_key, u[0], batch)
        updates, moments = optimiser.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), (value, optax.tree.norm(gradient))

    start = params, optimiser.init(params)
    keys = jax.random.split(key, training.steps)
    (fitted, _), (losses, norms) = jax.lax.scan(step, start, keys)
    return fitted, losses, norms
