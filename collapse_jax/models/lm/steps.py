"""The loop of optimiser steps that fine-tuning and pretraining share."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from collapse_jax.errors import DivergenceError
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.distributed import to_host
from collapse_jax.runs.placement import Placement

# Optimiser steps in one compiled call: long enough to hide the dispatch, short enough to show
# progress and to find a nan early.
STEPS_PER_CALL = 16


class Training(NamedTuple):
    """What a step changes: the parameters that are trained, and the state of the optimiser."""

    params: dict
    optimiser: optax.OptState


class Recipe(NamedTuple):
    """What is minimised and how, as two module-level functions (jit compares them by identity).

    gradient: (model, settings, params, frozen, batch, key) -> the loss [] of a batch, and its
        gradient by `params`; settings are static.
    optimiser: (settings, rate) -> the transformation; `rate` is traced.
    has_norms: whether norms of the gradients are wanted.
    """

    gradient: Callable[[Transformer, Any, Any, Any, Any, Any], tuple[jax.Array, Any]]
    optimiser: Callable[[Any, Any], optax.GradientTransformation]
    has_norms: bool = False


def gradient_of(loss: Callable[[Transformer, dict, Any, Any], jax.Array]) -> Callable:
    """The `Recipe.gradient` of a loss (model, params, batch, key) -> []; another at each call."""

    def loss_and_gradient(model, settings, params, frozen, batch, key):
        return jax.value_and_grad(functools.partial(loss, model))(params, batch, key)

    return loss_and_gradient


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def run_steps(
    recipe: Recipe,
    model: Transformer,
    settings: Any,
    placement: Placement,
    state: Training,
    batches: Any,
    count: Any,
    rate: Any = None,
    key: jax.Array | None = None,
    frozen: Any = None,
) -> tuple[Training, jax.Array, jax.Array | None]:
    """`count` optimiser steps. Another `count`, `rate` or `key` compiles nothing new.

    Args:
        model: Its parameters are in the state, those that are trained.
        settings: What the optimiser is made of. A setting that may change without a compilation
            must be traced (`rate`), and must not be a field here: its value would be stale.
        placement: Where the state lies.
        state: Donated.
        batches: A tree of arrays [steps, ...], steps >= count.
        count: Steps to do.
        rate: The learning rate, or [steps] that of each step, unless the settings hold a schedule.
        key: Step i gets `fold_in(key, i)`, or None.
        frozen: Parameters beside the state, which stay as they are.

    Returns:
        The new state, and of each step the loss [steps] before it and the Euclidean norm [steps] of
        its gradient, before it is clipped; both are 0 from `count` on. Norms are None unless the
        recipe wants them.
    """

    def step(i, carry):
        state, losses, norms = carry
        optimiser = recipe.optimiser(settings, _rate_at(rate, i))
        batch = jax.tree.map(lambda array: array[i], batches)
        step_key = None if key is None else jax.random.fold_in(key, i)
        loss, gradient = recipe.gradient(model, settings, state.params, frozen, batch, step_key)
        update, moments = optimiser.update(gradient, state.optimiser, state.params)
        params: Any = optax.apply_updates(state.params, update)
        state = Training(params, moments)
        if norms is not None:
            norms = norms.at[i].set(optax.tree.norm(gradient))
        return placement.kept(state), losses.at[i].set(loss), norms

    steps = len(jax.tree.leaves(batches)[0])
    norms = jnp.zeros(steps) if recipe.has_norms else None
    return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(steps), norms))


def _rate_at(rate, i):
    """That of step i, where there is one for each."""
    return rate[i] if rate is not None and jnp.ndim(rate) == 1 else rate


def finite_losses(losses: jax.Array, count: int, where: Callable[[int], str]) -> np.ndarray:
    """The first `count` losses on the host.

    Args:
        losses: [steps] of one call.
        count: Steps that were done.
        where: Names step i of the call and its learning rate, for the message.

    Raises:
        DivergenceError: If a loss is nan or infinite; the text names the first.
    """
    losses_here = to_host(losses)[:count]
    if not np.isfinite(losses_here).all():
        bad = int(np.argmin(np.isfinite(losses_here)))
        raise DivergenceError(
            f"the loss became {losses_here[bad]} at {where(bad)}; try a smaller one"
        )
    return losses_here
