"""Pretraining: AdamW with warm-up and cosine decay on windows of a text, in an order fixed by the
step."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from collapse_jax.errors import one_key, real, whole
from collapse_jax.models.lm.opt import OPT, init_params
from collapse_jax.models.lm.score import batch_loss
from collapse_jax.models.lm.steps import (
    STEPS_PER_CALL,
    Recipe,
    Training,
    finite_losses,
    gradient_of,
    run_steps,
)
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.session import Session


class Pretrain(NamedTuple):
    """Settings of one pretraining; `PretrainConfig` has the defaults.

    learning_rate: the peak, after a linear warm-up over `warmup_steps`; then a cosine decays to
        `final_share` of it.
    weight_decay: decoupled, on matrices and on the embedding of tokens (which is the output matrix
        too); biases, layer norms and positions have none.
    gradient_clip: the global norm to which larger gradients are scaled down; 0 is off.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    final_share: float
    weight_decay: float
    beta1: float
    beta2: float
    gradient_clip: float
    epsilon: float = 1e-8


def schedule_of(settings: Pretrain) -> optax.Schedule:
    """Learning rate by step: (step + 1) / (warmup_steps + 1) of the peak, then the cosine.

    The cosine ends at step `steps`.
    """
    return optax.warmup_cosine_decay_schedule(
        init_value=settings.learning_rate / (settings.warmup_steps + 1),
        peak_value=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        decay_steps=settings.steps,
        end_value=settings.learning_rate * settings.final_share,
    )


def learning_rate_at(settings: Pretrain, step: int) -> float:
    """The learning rate of one step."""
    return float(np.asarray(schedule_of(settings)(step)))


def optimiser_of(settings: Pretrain) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019) on clipped gradients."""
    clip = settings.gradient_clip
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
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

    Raises:
        InputError: If a setting is out of range.
    """
    for field in ("steps", "batch_size"):
        whole(field, getattr(settings, field), 1)
    below_steps = f"at least 0 and below steps, {settings.steps}"
    whole("warmup_steps", settings.warmup_steps, 0, settings.steps - 1, must_be=below_steps)
    for field in ("learning_rate", "final_share", "weight_decay", "gradient_clip", "epsilon"):
        real(field, getattr(settings, field), at_least=0)
    for field in ("beta1", "beta2"):
        real(field, getattr(settings, field), at_least=0, below=1)
    params = init_params(model.config, key)
    return Training(params, optimiser_of(settings).init(params))


def window_order(key: jax.Array, windows: int) -> Callable[[int, int], np.ndarray]:
    """Returns the order of the windows, a new permutation in each epoch.

    Epoch e is the `windows` places from e * windows on, permuted with `fold_in(key, e)`. The window
    at a place depends on nothing that came before.

    Returns:
        order(start, count) -> [count], the windows at places start, start + 1, ...
    """

    one_key("key", key)

    @functools.lru_cache(maxsize=2)
    def epoch_order(epoch):
        return np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), windows))

    def order(start, count):
        epochs, places = np.divmod(np.arange(start, start + count), windows)
        return np.concatenate(
            [epoch_order(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)]
        ).astype(np.int64)

    return order


def window_loss(model: Transformer, params: dict, tokens: Any, key: Any = None) -> jax.Array:
    """Mean negative log-likelihood [] in nats of all predicted tokens of [batch, length]."""
    return batch_loss(model, params, tokens, jnp.ones(len(tokens)))


def advance(
    model: OPT,
    settings: Pretrain,
    state: Training,
    batches: np.ndarray,
    step: int,
    *,
    session: Session = Session(),
) -> tuple[Training, np.ndarray]:
    """One optimiser step for each of some batches; one compiled program for any number of them.

    Args:
        settings: The settings of the state.
        state: Placed on the devices of the session, and donated.
        batches: int [count, batch, length], count <= `STEPS_PER_CALL`.
        step: Steps before these, for the error text.

    Returns:
        The new state, and the losses [count] before each step.

    Raises:
        DivergenceError: If a loss becomes nan or infinite; the text names the step.
    """
    count, rows, length = batches.shape
    padded = np.zeros((STEPS_PER_CALL, rows, length), np.int32)
    padded[:count] = batches
    placed = session.placement.place(padded, rows, 1)
    state, losses, _ = run_steps(_RECIPE, model, settings, session.placement, state, placed, count)

    def where(i):
        return f"step {step + i} (learning rate {learning_rate_at(settings, step + i):g})"

    return state, finite_losses(losses, count, where)


def _decayed(params):
    """A tree of bools: True for arrays of two axes, except the embedding of positions."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            leaf.ndim > 1
            and not any(getattr(part, "key", None) == "embed_positions" for part in path)
        ),
        params,
    )


def _scheduled(settings, rate):
    return optimiser_of(settings)


_RECIPE = Recipe(gradient_of(window_loss), _scheduled)
