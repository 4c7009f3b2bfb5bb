"""Pretraining from scratch: AdamW with warm-up and a cosine over windows of a text, in an order
that depends on the step alone.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.lm.devices import Placement
from collapse_jax.models.lm.opt import OPT, init_params
from collapse_jax.models.lm.score import batch_loss
from collapse_jax.runs.distributed import to_host

# Optimiser steps in one compiled call: long enough to hide the dispatch, short enough to show
# progress and to find a nan early.
STEPS_PER_CALL = 16


class Pretrain(NamedTuple):
    """Settings of one pretraining.

    The learning rate climbs for `warmup_steps` in a straight line to `learning_rate`, and falls by
    a cosine to `final_share` of it. gradient_clip: the global norm above which a gradient is scaled
    down; 0 is off. weight_decay: of matrices and of the embedding
    of tokens, which is the output matrix too; biases, layer norms and positions have none.
    """

    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    final_share: float = 0.03
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    gradient_clip: float = 1.0


class Training(NamedTuple):
    """What a step changes: the parameters, and the optimiser's state (which counts the steps)."""

    params: dict
    optimiser: optax.OptState


def schedule_of(settings: Pretrain) -> optax.Schedule:
    """Step 0, 1, ... -> learning rate: (step + 1) / (warmup_steps + 1) of the peak, then the
    cosine, whose end is step `steps`.
    """
    return optax.warmup_cosine_decay_schedule(
        init_value=settings.learning_rate / (settings.warmup_steps + 1),
        peak_value=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        decay_steps=settings.steps,
        end_value=settings.learning_rate * settings.final_share,
    )


def optimiser_of(settings: Pretrain) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019) on clipped gradients."""
    return optax.chain(
        optax.clip_by_global_norm(settings.gradient_clip)
        if settings.gradient_clip
        else optax.identity(),
        optax.adamw(
            schedule_of(settings),
            settings.beta1,
            settings.beta2,
            settings.epsilon,
            weight_decay=settings.weight_decay,
            mask=_decayed,
        ),
    )


def begin(model: OPT, settings: Pretrain, key: jax.Array) -> Training:
    """Random parameters, and the optimiser before its first step.

    Raises `InputError` for settings that have no meaning.
    """
    for field in ("steps", "batch_size"):
        if getattr(settings, field) < 1:
            raise InputError(f"{field} is {getattr(settings, field)}; it must be at least 1")
    if not 0 <= settings.warmup_steps < settings.steps:
        raise InputError(
            f"warmup_steps is {settings.warmup_steps}; it must be at least 0 and below "
            f"steps, {settings.steps}"
        )
    for field in ("learning_rate", "final_share", "weight_decay", "gradient_clip"):
        value = getattr(settings, field)
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{field} is {value}; it must be finite and not negative")
    params = init_params(model.config, key)
    return Training(params, optimiser_of(settings).init(params))


def window_order(key: jax.Array, windows: int) -> Callable[[int, int], np.ndarray]:
    """order(start, count) -> numbers [count] of the windows at places start, start + 1, ... of the
    order in which they are seen.

    Epoch e, the `windows` places from e * windows on, is a permutation drawn with `fold_in(key,
    e)`; so what stands at a place
    depends on nothing that came before.
    """

    @functools.lru_cache(maxsize=2)
    def epoch_order(epoch):
        return np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), windows))

    def order(start, count):
        epochs, places = np.divmod(np.arange(start, start + count), windows)
        return np.concatenate(
            [epoch_order(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)]
        ).astype(np.int64)

    return order


def window_loss(model: OPT, params: dict, tokens) -> jax.Array:
    """What is minimised: the mean negative log-likelihood in nats of the predicted tokens of
    `tokens` [batch, length].
    """
    return batch_loss(model, params, tokens, jnp.ones(len(tokens)))


def advance(
    model: OPT,
    settings: Pretrain,
    state: Training,
    batches: np.ndarray,
    step: int,
    placement: Placement = Placement(),
) -> tuple[Training, np.ndarray]:
    """The state after one optimiser step for each of `batches` (int32 [count, batch, length]), and
    the losses [count] before each.

    count: at most `STEPS_PER_CALL`, one compiled program for all. `state` is given away: its arrays
    are used for the new one.
    placement: where the state was placed, and what shares each batch.
    step: how many were done before, for the message of the `DivergenceError` that a loss raises
    which is no longer finite.
    """
    count = len(batches)
    padded = np.zeros((STEPS_PER_CALL, *batches.shape[1:]), np.int32)
    padded[:count] = batches
    placed = placement.place(padded, padded.shape[1], 1)
    state, losses = _run_steps(model, settings, placement, state, placed, count)
    losses = to_host(losses)[:count]
    if not np.isfinite(losses).all():
        bad = int(np.argmin(np.isfinite(losses)))
        rate = float(schedule_of(settings)(step + bad))
        raise DivergenceError(
            f"the loss became {losses[bad]} at step {step + bad} (learning rate {rate:g}); "
            "try a smaller one"
        )
    return state, losses


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _run_steps(model, settings, placement, state, batches, count):
    optimiser = optimiser_of(settings)

    def step(i, carry):
        state, losses = carry
        loss, gradient = jax.value_and_grad(functools.partial(window_loss, model))(
            state.params, batches[i]
        )
        update, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        state = placement.kept(Training(optax.apply_updates(state.params, update), optimiser_state))
        return state, losses.at[i].set(loss)

    return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(len(batches))))


def _decayed(params):
    """True for the arrays of two axes, but for the positions."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            leaf.ndim > 1
            and not any(getattr(part, "key", None) == "embed_positions" for part in path)
        ),
        params,
    )
