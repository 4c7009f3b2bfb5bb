"""Fine-tuning: AdamW on blocks of tokens, all weights or LoRA, the best epoch by validation."""

import collections
import contextlib
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from collapse_jax.errors import DivergenceError, InputError, one_key
from collapse_jax.models.lm import lora
from collapse_jax.models.lm.fit_settings import (
    FineTune,
    Plan,
    check_fine_tune,
    check_length,
    plan_of,
)
from collapse_jax.models.lm.schedules import learning_rate_at, learning_rates
from collapse_jax.models.lm.score import batch_loss, check_blocks, mean_loss
from collapse_jax.models.lm.steps import (
    STEPS_PER_CALL,
    Recipe,
    Training,
    finite_losses,
    run_steps,
)
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.distributed import to_host
from collapse_jax.runs.scratch import AsFirstWritten, fingerprint, key_name, pack, unpack
from collapse_jax.runs.session import Session

# What the loop on the host reads. Other values of these compile nothing new, so the compiled step
# cannot read them; it receives every other field of `FineTune`, those to come among them.
_HOST_FIELDS = (
    *("epochs", "batch_size", "learning_rate", "final_learning_rate", "keep"),
    *("schedule", "warmup_steps", "max_steps", "max_tokens"),
)
# Fields that the version which first kept unfinished fits did not have.
_LATER_FIELDS = FineTune._fields[FineTune._fields.index("schedule") :]
_StepSettings = collections.namedtuple(
    "_StepSettings", [name for name in FineTune._fields if name not in _HOST_FIELDS]
)


class FineTuned(NamedTuple):
    """The losses and counts of one fine-tuning.

    train_loss, valid_loss: [epochs] nats per token that counts, for the epochs that were started.
    best_epoch: 0 .. epochs - 1, of lowest validation loss; epochs count from 0 in records, tables
        and messages too.
    steps: total number of optimiser steps.
    gradient_norm: [epochs] the mean over the steps of an epoch of the Euclidean norm of the
        gradient of the mean loss of a step's batch by all that is trained (of LoRA its matrices),
        before it is clipped; nan of epochs that an earlier version ran.
    """

    train_loss: np.ndarray
    valid_loss: np.ndarray
    best_epoch: int
    steps: int
    gradient_norm: np.ndarray = np.zeros(0)


def fine_tune(
    model: Transformer,
    params: dict,
    blocks: Any,
    valid_blocks: Any,
    settings: FineTune,
    key: jax.Array,
    *,
    session: Session = Session(),
) -> tuple[dict, FineTuned]:
    """Fine-tunes on blocks of tokens.

    Args:
        params: The initial parameters; not changed.
        blocks: int [N, length], shuffled again in every epoch.
        valid_blocks: int [V, length], held out.
        key: Key of the order of the blocks, of dropout and of LoRA's initial matrices.
        session: Devices, scratch (each finished epoch is saved) and progress (stage "fit").

    Returns:
        The fine-tuned parameters, LoRA's matrices merged into them, and the losses by epoch.

    Raises:
        InputError: If a setting is out of range, ignored because of another or incompatible with
            the model, or if blocks are incompatible with the model.
        DivergenceError: If a loss becomes nan or infinite; the text names the step.
    """
    check_fine_tune(settings)
    one_key("key", key)
    blocks, valid_blocks = check_blocks(model, blocks), check_blocks(model, valid_blocks)
    for name, value in (("training", blocks), ("validation", valid_blocks)):
        if not len(value):
            raise InputError(f"there are no {name} blocks; at least 1 is needed")
    plan = plan_for(settings, params, *blocks.shape)
    check_length(settings._replace(max_tokens=None), valid_blocks.shape[1])
    epochs = _Epochs(model, settings, plan, blocks, key, session)
    state, frozen = epochs.begin(epochs.place(params))
    made_of = _made_of(model, settings, blocks, valid_blocks, state)
    saved = _Saved(session.scratch, key, settings, plan.epochs, made_of, epochs.place)
    fit = saved.load(state) or _Fit(state, {}, [], [], [], 0)
    for epoch in range(len(fit.valid), plan.epochs):
        state, loss, norm, steps = epochs.run(fit.state, frozen, epoch, fit.steps)
        devices, whole = session.devices_only(), epochs.whole(state.params, frozen)
        held_out = mean_loss(
            model, whole, valid_blocks, loss_from=settings.loss_from, session=devices
        )
        del whole
        train, valid = [*fit.train, loss], [*fit.valid, float(held_out.mean())]
        if not math.isfinite(valid[-1]):
            raise DivergenceError(
                f"the validation loss became {valid[-1]} after epoch {epoch}, step "
                f"{steps}; try a smaller learning rate"
            )
        is_kept = _kept_epoch(settings, valid) == epoch
        best = jax.tree.map(jnp.copy, state.params) if is_kept else fit.best
        fit = _Fit(state, best, train, valid, [*fit.norms, norm], steps)
        saved.save(fit)
    losses, best_epoch = (np.array(fit.train), np.array(fit.valid)), int(np.argmin(fit.valid))
    result = FineTuned(*losses, best_epoch, fit.steps, np.array(fit.norms))
    return epochs.whole(fit.best, frozen), result


def plan_for(settings: FineTune, params: dict, blocks: int, length: int) -> Plan:
    """`plan_of` the settings, once they are seen to fit the model.

    Args:
        settings: Checked ones.
        params: Of the model.
        blocks: Of the training set.
        length: Tokens of a block.

    Raises:
        InputError: As `plan_of`, and if LoRA's settings do not fit the model.
    """
    if settings.lora_rank:
        lora.adapted_kernels(params, settings)
    return plan_of(settings, blocks, length)


def _made_of(model, settings, blocks, valid_blocks, state):
    """The fingerprint of what a fit is computed from."""
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(state)]
    named = AsFirstWritten(settings, _LATER_FIELDS)
    return fingerprint(model, named, blocks, valid_blocks, shapes)


class _Fit(NamedTuple):
    """A fit after some epochs: `best` is what it would return, `train` and `valid` are losses.

    norms: of gradients, by epoch.

    Of LoRA both `state` and `best` hold the adapters alone.
    """

    state: Training
    best: dict
    train: list[float]
    valid: list[float]
    norms: list[float]
    steps: int


@dataclasses.dataclass(frozen=True)
class _Epochs:
    """Runs the epochs of one fit."""

    model: Transformer
    settings: FineTune
    plan: Plan
    blocks: np.ndarray
    key: jax.Array
    session: Session

    def place(self, tree):
        """Parameters or moments on the devices that share a batch."""
        rows = min(self.settings.batch_size, len(self.blocks))
        return self.session.placement.place_parameters(tree, rows)

    def begin(self, params):
        """(where the steps begin, what they leave as it is).

        The first is in memory of its own, for they donate it. Nothing else holds the moments, which
        are twice what is trained.
        """
        frozen = None
        if self.settings.lora_rank:
            # Lower numbers shuffle the epochs, and drop units out.
            key = jax.random.fold_in(self.key, self.settings.epochs + 1)
            frozen = jax.tree.map(jnp.asarray, params)
            params = self.place(lora.init_adapters(params, self.settings, key))
        moments = self.place(_optimiser(self.settings, 0.0).init(params))
        return jax.tree.map(jnp.copy, Training(params, moments)), frozen

    def whole(self, trained, frozen):
        """The model's parameters."""
        if frozen is None:
            return trained
        return self.place(lora.merged(frozen, trained, lora.scale_of(self.settings)))

    def run(self, state, frozen, epoch, steps):
        """(state, mean training loss, mean norm of gradients, steps so far) after an epoch, given
        the steps before it.
        """
        settings, placement, plan = self.settings, self.session.placement, self.plan
        count, length = self.blocks.shape
        static = _StepSettings(*(getattr(settings, name) for name in _StepSettings._fields))
        # Lower numbers shuffle the epochs.
        dropout_key = jax.random.fold_in(self.key, settings.epochs)
        total, seen, before, gradients = 0.0, 0, epoch * count, []
        order_key = jax.random.fold_in(self.key, epoch)
        taken = min(count, plan.blocks - before)
        for tokens, weights, calls in _calls(self.blocks, settings, order_key, taken):
            axis = tokens.ndim - 2
            batches = placement.place((tokens, weights), tokens.shape[axis], axis)
            call_key = jax.random.fold_in(dropout_key, steps)
            rate = self._rate(epoch, steps, len(tokens))
            more = calls, rate, call_key, frozen
            state, losses, norms = run_steps(
                _RECIPE, self.model, static, placement, state, batches, *more
            )
            gradients += to_host(norms)[:calls].tolist()
            losses = finite_losses(losses, calls, functools.partial(_where, epoch, steps, rate))
            sizes = weights[:calls].reshape(calls, -1).sum(1)
            total, seen = total + float(losses @ sizes), seen + int(sizes.sum())
            steps += calls
            self.session.progress("fit", (before + seen) * length, plan.blocks * length)
        return state, total / seen, float(np.mean(gradients)), steps

    def _rate(self, epoch, steps, count):
        """The learning rate of an epoch, or [count] those of the steps that follow so many."""
        if self.settings.schedule == "cosine-by-epoch":
            # It ends with the epochs that there are.
            return learning_rate_at(self.settings._replace(epochs=self.plan.epochs), epoch)
        rates = np.zeros(count, np.float32)
        next_ones = self._rates[steps : steps + count]
        rates[: len(next_ones)] = next_ones
        return rates

    @functools.cached_property
    def _rates(self):
        return learning_rates(self.settings, self.plan.steps)


def _where(epoch, steps, rate, i):
    return f"epoch {epoch}, step {steps + i} (learning rate {np.broadcast_to(rate, i + 1)[i]:g})"


def _kept_epoch(settings, valid):
    """Which of the epochs so far would be returned, by their validation losses."""
    return len(valid) - 1 if settings.keep == "last" else int(np.argmin(valid))


class _Saved:
    """A fit on the scratch: the state after the newest epoch, and better parameters beside it."""

    def __init__(self, scratch, key, settings, epochs, made_of, place):
        self._scratch, self._settings, self._place = scratch, settings, place
        self._epochs = epochs
        self._name, self._made_of = f"fit-{key_name(key)}", made_of

    def save(self, fit):
        numbers = {"train": np.array(fit.train), "valid": np.array(fit.valid)}
        numbers |= {"norms": np.array(fit.norms), "steps": np.array(fit.steps)}
        newest, kept = len(fit.valid) - 1, _kept_epoch(self._settings, fit.valid)
        if len(fit.valid) == self._epochs:
            arrays = pack("best", fit.best)
        else:
            arrays = pack("state", fit.state)
            # Until now the best parameters were those of the state, which is about to be replaced.
            if kept == newest - 1:
                made_of = f"{self._made_of} epoch {kept}"
                self._scratch.save(f"{self._name}-best", made_of, pack("best", fit.best))
        self._scratch.save(self._name, self._made_of, numbers | arrays)

    def load(self, like):
        """The saved `_Fit` or None; after the last epoch its state, which is used up, is `like`."""
        newest = self._scratch.load(self._name, self._made_of)
        if newest is None:
            return None
        train, valid = newest["train"].tolist(), newest["valid"].tolist()
        # Version 0.5.0 kept no norms.
        norms = newest.get("norms", np.full(len(valid), np.nan)).tolist()
        numbers = train, valid, norms, int(newest["steps"])
        if len(valid) == self._epochs:
            best = self._arrays("best", newest, like.params)
            return _Fit(like, best, *numbers)
        state, kept = self._arrays("state", newest, like), _kept_epoch(self._settings, valid)
        if kept == len(valid) - 1:
            best = jax.tree.map(jnp.copy, state.params)
            return _Fit(state, best, *numbers)
        older = self._scratch.load(f"{self._name}-best", f"{self._made_of} epoch {kept}")
        if older is None:
            return None
        best = self._arrays("best", older, like.params)
        return _Fit(state, best, *numbers)

    def _arrays(self, prefix, arrays, like):
        """The tree on the devices, copied because steps donate their state."""
        return jax.tree.map(jnp.copy, self._place(unpack(prefix, arrays, like)))


def _calls(blocks, settings, key, taken):
    """Compiled calls of an epoch: tokens [steps, batch, length], weights [steps, batch], steps.

    Where gradients are accumulated, a step has an axis of batches before those. The blocks are
    shuffled, and so many of them taken; places that are left over in the last call have weight 0.
    """
    size = min(settings.batch_size, len(blocks))
    batches = min(settings.gradient_accumulation, -(-len(blocks) // size))
    shape = (size,) if settings.gradient_accumulation == 1 else (batches, size)
    rows = size * batches
    per_call = min(max(STEPS_PER_CALL // batches, 1), -(-len(blocks) // rows))
    order = np.asarray(jax.random.permutation(key, len(blocks)))[:taken]
    for start in range(0, len(order), rows * per_call):
        index = order[start : start + rows * per_call]
        padded = np.zeros(rows * per_call, order.dtype)
        padded[: len(index)] = index
        weights = (np.arange(rows * per_call) < len(index)).astype(np.float32)
        yield (
            blocks[padded].reshape(per_call, *shape, -1),
            weights.reshape(per_call, *shape),
            -(-len(index) // rows),
        )


def _optimiser(settings, rate):
    adamw = optax.adamw(
        rate,
        settings.beta1,
        settings.beta2,
        settings.epsilon,
        weight_decay=settings.weight_decay,
    )
    if settings.max_grad_norm is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(settings.max_grad_norm), adamw)


def _gradient(model, settings, params, frozen, batch, key):
    """Mean loss [] over the blocks of a step that have weight, and its gradient."""
    if settings.gradient_accumulation == 1:
        return jax.value_and_grad(_loss, 2)(model, settings, params, frozen, batch, key)
    total = jnp.sum(batch[1])

    def part(i, so_far):
        tokens, weights = jax.tree.map(lambda array: array[i], batch)
        own_key = jax.random.fold_in(key, i)
        more = jax.value_and_grad(_loss, 2)(
            model, settings, params, frozen, (tokens, weights), own_key, total
        )
        return jax.tree.map(jnp.add, so_far, more)

    # The batches that are empty come last.
    count = jnp.sum(jnp.any(batch[1] > 0, axis=1))
    return jax.lax.fori_loop(0, count, part, (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)))


def _loss(model, settings, params, frozen, batch, key, total=None):
    """Mean loss [] over the blocks of a batch that have weight, or its part of that of a step."""
    tokens, weights = batch
    adapters: Any = contextlib.nullcontext()
    if settings.lora_rank:
        adapters = lora.adapted(model, params, lora.scale_of(settings))
        params = frozen
    with adapters:
        return batch_loss(
            model,
            params,
            tokens,
            weights,
            loss_from=settings.loss_from,
            total_weight=total,
            deterministic=not model.config.has_dropout,
            rngs={"dropout": key},
        )


_RECIPE = Recipe(_gradient, _optimiser, has_norms=True)
