"""Fine-tuning: AdamW on blocks of tokens, a cosine over epochs, the best epoch by validation."""

import collections
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from collapse_jax.errors import DivergenceError, InputError, one_key, one_of, real, whole
from collapse_jax.models.lm.score import batch_loss, check_blocks, mean_loss
from collapse_jax.models.lm.steps import (
    STEPS_PER_CALL,
    Recipe,
    Training,
    finite_losses,
    run_steps,
)
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.scratch import fingerprint, key_name, pack, unpack
from collapse_jax.runs.session import Session


class FineTune(NamedTuple):
    """Settings of one fine-tuning; the defaults are those of protocols.md.

    learning_rate, final_learning_rate: a cosine over epochs falls from the first to the second; the
        rate is constant within an epoch.
    weight_decay: decoupled (AdamW), on every parameter.
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


# What the loop on the host reads. Other values of these compile nothing new, so the compiled step
# cannot read them; it receives every other field of `FineTune`, those to come among them.
_HOST_FIELDS = ("epochs", "batch_size", "learning_rate", "final_learning_rate", "keep")
_StepSettings = collections.namedtuple(
    "_StepSettings", [name for name in FineTune._fields if name not in _HOST_FIELDS]
)


class FineTuned(NamedTuple):
    """What one fine-tuning gave besides parameters.

    train_loss, valid_loss: [epochs] nats per token.
    best_epoch: 0 .. epochs - 1, of lowest validation loss; epochs count from 0 in records, tables
        and messages too.
    steps: optimiser steps in all.
    """

    train_loss: np.ndarray
    valid_loss: np.ndarray
    best_epoch: int
    steps: int


def check_fine_tune(settings: FineTune) -> None:
    """Raises `InputError` for the first setting that is out of range."""
    for field in ("epochs", "batch_size"):
        whole(field, getattr(settings, field), 1)
    for field in ("learning_rate", "final_learning_rate", "weight_decay", "epsilon"):
        real(field, getattr(settings, field), at_least=0)
    for field in ("beta1", "beta2"):
        real(field, getattr(settings, field), at_least=0, below=1)
    one_of("keep", settings.keep, ("best", "last"), must_be="'best' or 'last'")


def learning_rate_at(settings: FineTune, epoch: int) -> float:
    """Learning rate of an epoch: a cosine in float64 that ends at `final_learning_rate`."""
    share = (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    final = settings.final_learning_rate
    return final + (settings.learning_rate - final) * share


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
        params: Where to start; left alone.
        blocks: int [N, length], shuffled anew in every epoch.
        valid_blocks: int [V, length], held out.
        key: Of the order of the blocks and of dropout.
        session: Devices, scratch (each epoch is kept as it ends) and progress (stage "fit").

    Returns:
        The fine-tuned parameters, and the losses by epoch.

    Raises:
        InputError: If a setting is out of range, or blocks do not fit the model.
        DivergenceError: If a loss becomes nan or infinite; the text names the step.
    """
    check_fine_tune(settings)
    one_key("key", key)
    blocks, valid_blocks = check_blocks(model, blocks), check_blocks(model, valid_blocks)
    for name, value in (("training", blocks), ("validation", valid_blocks)):
        if not len(value):
            raise InputError(f"there are no {name} blocks; at least 1 is needed")
    epochs = _Epochs(model, settings, blocks, key, session)
    params = epochs.place(params)
    state = epochs.begin(params)
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(state)]
    made_of = fingerprint(model, settings, blocks, valid_blocks, shapes)
    saved = _Saved(session.scratch, key, settings, made_of, epochs.place)
    fit = saved.load(state) or _Fit(state, params, [], [], 0)
    for epoch in range(len(fit.valid), settings.epochs):
        state, loss, steps = epochs.run(fit.state, epoch, fit.steps)
        held_out = mean_loss(model, state.params, valid_blocks, session=session.devices_only())
        train, valid = [*fit.train, loss], [*fit.valid, float(held_out.mean())]
        if not math.isfinite(valid[-1]):
            raise DivergenceError(
                f"the validation loss became {valid[-1]} after epoch {epoch}, step "
                f"{steps}; try a smaller learning rate"
            )
        is_kept = _kept_epoch(settings, valid) == epoch
        best = jax.tree.map(jnp.copy, state.params) if is_kept else fit.best
        fit = _Fit(state, best, train, valid, steps)
        saved.save(fit)
    losses = np.array(fit.train), np.array(fit.valid)
    return fit.best, FineTuned(*losses, int(np.argmin(fit.valid)), fit.steps)


class _Fit(NamedTuple):
    """A fit after some epochs: `best` is what it would return, `train` and `valid` are losses."""

    state: Training
    best: dict
    train: list[float]
    valid: list[float]
    steps: int


@dataclasses.dataclass(frozen=True)
class _Epochs:
    """Runs the epochs of one fit."""

    model: Transformer
    settings: FineTune
    blocks: np.ndarray
    key: jax.Array
    session: Session

    def place(self, tree):
        """Parameters or moments on the devices that share a batch."""
        rows = min(self.settings.batch_size, len(self.blocks))
        return self.session.placement.place_parameters(tree, rows)

    def begin(self, params):
        """Where the steps begin, in memory of its own: they donate it.

        Nothing else holds the moments, which are twice the parameters.
        """
        moments = self.place(_optimiser(self.settings, 0.0).init(params))
        return jax.tree.map(jnp.copy, Training(params, moments))

    def run(self, state, epoch, steps):
        """(state, mean training loss, steps so far) after an epoch, given the steps before it."""
        settings, placement = self.settings, self.session.placement
        count, length = self.blocks.shape
        static = _StepSettings(*(getattr(settings, name) for name in _StepSettings._fields))
        # Lower numbers shuffle the epochs.
        dropout_key = jax.random.fold_in(self.key, settings.epochs)
        rate = learning_rate_at(settings, epoch)
        total, seen = 0.0, 0
        for tokens, weights, calls in _calls(
            self.blocks, settings.batch_size, jax.random.fold_in(self.key, epoch)
        ):
            batches = placement.place((tokens, weights), tokens.shape[1], 1)
            call_key = jax.random.fold_in(dropout_key, steps)
            state, losses = run_steps(
                _RECIPE, self.model, static, placement, state, batches, calls, rate, call_key
            )
            where = functools.partial(_where, epoch, steps, rate)
            losses = finite_losses(losses, calls, where)
            sizes = weights[:calls].sum(1)
            total, seen = total + float(losses @ sizes), seen + int(sizes.sum())
            steps += calls
            self.session.progress(
                "fit", (epoch * count + seen) * length, settings.epochs * count * length
            )
        return state, total / seen, steps


def _where(epoch, steps, rate, i):
    return f"epoch {epoch}, step {steps + i} (learning rate {rate:g})"


def _kept_epoch(settings, valid):
    """Which of the epochs so far would be returned, by their validation losses."""
    return len(valid) - 1 if settings.keep == "last" else int(np.argmin(valid))


class _Saved:
    """A fit on the scratch: the state after the newest epoch, and better parameters beside it."""

    def __init__(self, scratch, key, settings, made_of, place):
        self._scratch, self._settings, self._place = scratch, settings, place
        self._name, self._made_of = f"fit-{key_name(key)}", made_of

    def save(self, fit):
        numbers = {"train": np.array(fit.train), "valid": np.array(fit.valid)}
        numbers["steps"] = np.array(fit.steps)
        newest, kept = len(fit.valid) - 1, _kept_epoch(self._settings, fit.valid)
        if len(fit.valid) == self._settings.epochs:
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
        train, valid, steps = newest["train"].tolist(), newest["valid"].tolist(), newest["steps"]
        if len(valid) == self._settings.epochs:
            best = self._arrays("best", newest, like.params)
            return _Fit(like, best, train, valid, int(steps))
        state, kept = self._arrays("state", newest, like), _kept_epoch(self._settings, valid)
        if kept == len(valid) - 1:
            best = jax.tree.map(jnp.copy, state.params)
            return _Fit(state, best, train, valid, int(steps))
        older = self._scratch.load(f"{self._name}-best", f"{self._made_of} epoch {kept}")
        if older is None:
            return None
        best = self._arrays("best", older, like.params)
        return _Fit(state, best, train, valid, int(steps))

    def _arrays(self, prefix, arrays, like):
        """The tree on the devices, copied because steps donate their state."""
        return jax.tree.map(jnp.copy, self._place(unpack(prefix, arrays, like)))


def _calls(blocks, batch_size, key):
    """Compiled calls of an epoch: tokens [steps, batch, length], weights [steps, batch], steps.

    The blocks are shuffled; places that are left over in the last call have weight 0.
    """
    size = min(batch_size, len(blocks))
    per_call = min(STEPS_PER_CALL, -(-len(blocks) // size))
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


def _optimiser(settings, rate):
    return optax.adamw(
        rate,
        settings.beta1,
        settings.beta2,
        settings.epsilon,
        weight_decay=settings.weight_decay,
    )


def _loss(model, params, batch, key):
    """Mean loss [] over the blocks of a batch that have weight."""
    tokens, weights = batch
    deterministic = not model.config.has_dropout
    rngs = {"dropout": key}
    return batch_loss(model, params, tokens, weights, deterministic=deterministic, rngs=rngs)


_RECIPE = Recipe(_loss, _optimiser)
