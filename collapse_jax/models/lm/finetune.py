"""Fine-tuning: AdamW on blocks of tokens, a cosine over epochs, the best epoch by validation loss."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.lm.devices import Placement
from collapse_jax.models.lm.opt import OPT
from collapse_jax.models.lm.score import batch_loss, check_blocks, mean_loss
from collapse_jax.runs.distributed import to_host
from collapse_jax.runs.scratch import Scratch, fingerprint, key_name, pack, unpack

# Optimiser steps in one compiled call: long enough to hide the dispatch, short enough to show
# progress and to find a nan early.
_STEPS_PER_CALL = 16


class FineTune(NamedTuple):
    """Settings of one fine-tuning; the defaults are protocols.md's (AdamW, weight decay on every
    parameter).

    The learning rate falls from `learning_rate` to `final_learning_rate` by a cosine over epochs,
    and is constant within each.
    keep: "best" returns the epoch of lowest validation loss, "last" the last one.
    """

    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 2e-5
    final_learning_rate: float = 1e-6
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    keep: str = "best"


class FineTuned(NamedTuple):
    """train_loss, valid_loss: [epochs] nats per token. best_epoch: 0 .. epochs - 1. steps:
    optimiser steps in all.
    """

    train_loss: np.ndarray
    valid_loss: np.ndarray
    best_epoch: int
    steps: int


def check_fine_tune(settings: FineTune) -> None:
    """Raises `InputError` for settings that have no meaning."""
    for field in ("epochs", "batch_size"):
        if getattr(settings, field) < 1:
            raise InputError(f"{field} is {getattr(settings, field)}; it must be at least 1")
    for field in ("learning_rate", "final_learning_rate", "weight_decay"):
        value = getattr(settings, field)
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{field} is {value}; it must be finite and not negative")
    if settings.keep not in ("best", "last"):
        raise InputError(f"keep is {settings.keep!r}; it must be 'best' or 'last'")


def learning_rate_at(settings: FineTune, epoch: int) -> float:
    """Learning rate of an epoch: cosine annealing to `final_learning_rate`, stepped once per epoch."""
    share = (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    return (
        settings.final_learning_rate
        + (settings.learning_rate - settings.final_learning_rate) * share
    )


def fine_tune(
    model: OPT,
    params: dict,
    blocks,
    valid_blocks,
    settings: FineTune,
    key: jax.Array,
    *,
    progress=lambda stage, done, total: None,
    scratch: Scratch = Scratch(),
    placement: Placement = Placement(),
) -> tuple[dict, FineTuned]:
    """Fine-tuned parameters, and the losses by epoch.

    blocks: int [N, length], shuffled anew in every epoch; valid_blocks: int [V, length], held out.
    progress: called with the stage ("fit" or "validate") and how many of its tokens are done.
    scratch: keeps each epoch as it ends; called again, with the same key, this goes on from there.
    The key must then be this fit's own. placement: the devices that share each batch where their
    number divides it, and whether the parameters are cut into parts.
    Raises `InputError` for bad settings or blocks, `DivergenceError` naming the step when the loss
    is no longer finite.
    """
    check_fine_tune(settings)
    blocks, valid_blocks = check_blocks(model, blocks), check_blocks(model, valid_blocks)
    for name, value in (("training", blocks), ("validation", valid_blocks)):
        if not len(value):
            raise InputError(f"there are no {name} blocks; at least 1 is needed")
    length = blocks.shape[1]
    # What the compiled steps depend on: other epochs and learning rates compile nothing new.
    compiled = FineTune()._replace(
        **{name: getattr(settings, name) for name in ("beta1", "beta2", "epsilon", "weight_decay")}
    )
    rows = min(settings.batch_size, len(blocks))
    place = functools.partial(placement.place_parameters, rows=rows)
    params = place(params)
    state = jax.tree.map(jnp.copy, (params, place(_optimiser(settings).init(params))))
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(state)]
    saved = _Saved(
        scratch, key, settings, fingerprint(model, settings, blocks, valid_blocks, shapes), place
    )
    dropout_key = jax.random.fold_in(key, settings.epochs)  # those below it shuffle the epochs
    state, best, train, valid, steps = saved.load(state) or (state, params, [], [], 0)
    for epoch in range(len(valid), settings.epochs):
        rate = learning_rate_at(settings, epoch)
        total, seen = 0.0, 0
        for batches, weights, count in _calls(
            blocks, settings.batch_size, jax.random.fold_in(key, epoch)
        ):
            call_key = jax.random.fold_in(dropout_key, steps)
            placed = placement.place((batches, weights), rows, 1)
            state, losses = _run_steps(
                model, compiled, placement, state, *placed, count, rate, call_key
            )
            losses = to_host(losses)[:count]
            if not np.isfinite(losses).all():
                step = steps + int(np.argmin(np.isfinite(losses)))
                raise DivergenceError(
                    f"the loss became {losses[step - steps]} at epoch {epoch}, step {step} "
                    f"(learning rate {rate:g}); try a smaller one"
                )
            sizes = weights[:count].sum(1)
            total, seen, steps = (
                total + float(losses @ sizes),
                seen + int(sizes.sum()),
                steps + count,
            )
            progress(
                "fit", (epoch * len(blocks) + seen) * length, settings.epochs * len(blocks) * length
            )
        train.append(total / seen)
        valid.append(float(mean_loss(model, state[0], valid_blocks, placement=placement).mean()))
        if not math.isfinite(valid[-1]):
            raise DivergenceError(
                f"the validation loss became {valid[-1]} after epoch {epoch}, step "
                f"{steps}; try a smaller learning rate"
            )
        if _kept_epoch(settings, valid) == epoch:
            best = jax.tree.map(jnp.copy, state[0])
        saved.save(state, best, train, valid, steps)
    return best, FineTuned(np.array(train), np.array(valid), int(np.argmin(valid)), steps)


def _kept_epoch(settings, valid):
    """Which of the epochs so far would be returned, by their validation losses."""
    return len(valid) - 1 if settings.keep == "last" else int(np.argmin(valid))


class _Saved:
    """A fit on the scratch: optimiser and parameters after the newest epoch; the best ones beside
    them where those are older.
    """

    def __init__(self, scratch, key, settings, made_of, place):
        self._workbench, self._settings, self._made_of, self._place = (
            scratch,
            settings,
            made_of,
            place,
        )
        self._name = f"fit-{key_name(key)}"

    def save(self, state, best, train, valid, steps):
        numbers = {"train": np.array(train), "valid": np.array(valid), "steps": np.array(steps)}
        newest, kept = len(valid) - 1, _kept_epoch(self._settings, valid)
        if len(valid) == self._settings.epochs:
            arrays = pack("best", best)
        else:
            arrays = pack("state", state)
            if (
                kept == newest - 1
                # Until now the best parameters were those of the state, which is about to be
                # replaced.
            ):
                self._workbench.save(
                    f"{self._name}-best", f"{self._made_of} epoch {kept}", pack("best", best)
                )
        self._workbench.save(self._name, self._made_of, numbers | arrays)

    def load(self, like):
        """(state, best, train, valid, steps), or None; after the last epoch the state is `like`
        itself, since nobody needs it.
        """
        newest = self._workbench.load(self._name, self._made_of)
        if newest is None:
            return None
        train, valid, steps = (
            newest["train"].tolist(),
            newest["valid"].tolist(),
            int(newest["steps"]),
        )
        if len(valid) == self._settings.epochs:
            return like, _arrays("best", newest, like[0], self._place), train, valid, steps
        state, kept = (
            _arrays("state", newest, like, self._place),
            _kept_epoch(self._settings, valid),
        )
        if kept == len(valid) - 1:
            return state, jax.tree.map(jnp.copy, state[0]), train, valid, steps
        older = self._workbench.load(f"{self._name}-best", f"{self._made_of} epoch {kept}")
        return older and (state, _arrays("best", older, like[0], self._place), train, valid, steps)


def _arrays(prefix, arrays, like, place):
    """The tree on the devices, in memory of its own: steps give theirs away."""
    return jax.tree.map(jnp.copy, place(unpack(prefix, arrays, like)))


def _calls(blocks, batch_size, key):
    """The epoch's batches, shuffled: ([steps, batch, length], weights [steps, batch], how many of
    the steps count).
    """
    size = min(batch_size, len(blocks))
    per_call = min(_STEPS_PER_CALL, -(-len(blocks) // size))
    order = np.asarray(jax.random.permutation(key, len(blocks)))
    for start in range(0, len(order), size * per_call):
        index = order[start : start + size * per_call]
        padded = np.zeros(size * per_call, order.dtype)
        padded[: len(index)] = index
        weights = (np.arange(size * per_call) < len(index)).astype(np.float32)
        yield (
            blocks[padded].reshape(per_call, size, -1),
            weights.reshape(per_call, size),
            -(-len(index) // size),
        )


def _optimiser(settings):
    return optax.chain(
        optax.scale_by_adam(settings.beta1, settings.beta2, settings.epsilon),
        optax.add_decayed_weights(settings.weight_decay),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _run_steps(model, settings, placement, state, batches, weights, count, rate, key):
    """`count` optimiser steps; the mean loss [steps] of each, over the blocks of its batch that
    have weight.
    """
    optimiser = _optimiser(settings)
    deterministic = model.config.dropout == 0 and model.config.attention_dropout == 0

    def loss_of(params, tokens, weight, rng):
        return batch_loss(
            model, params, tokens, weight, deterministic=deterministic, rngs={"dropout": rng}
        )

    def step(i, carry):
        (params, optimiser_state), losses = carry
        loss, gradient = jax.value_and_grad(loss_of)(
            params, batches[i], weights[i], jax.random.fold_in(key, i)
        )
        update, optimiser_state = optimiser.update(gradient, optimiser_state, params)
        params = jax.tree.map(lambda p, u: p - rate * u, params, update)
        return placement.kept((params, optimiser_state)), losses.at[i].set(loss)

    return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(len(batches))))
