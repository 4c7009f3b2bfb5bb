"""The steps of pretraining, or the rest of them, from an opened folder to an exported model."""

import math
import shutil
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from collapse_jax.app.commands.pretrain_materials import CHECKPOINTS_KEPT, Materials
from collapse_jax.app.config.pretrain import PretrainSettings
from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.lm.pretrain import advance, begin, learning_rate_at, window_order
from collapse_jax.models.lm.score import mean_loss
from collapse_jax.models.lm.steps import STEPS_PER_CALL, Training
from collapse_jax.models.lm.weights import save_opt
from collapse_jax.runs import distributed
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.session import Session
from collapse_jax.runs.stopping import Stop


def run_pretrain(
    settings: PretrainSettings,
    folder: RunFolder,
    materials: Materials,
    *,
    session: Session = Session(),
    recorded: Callable[[dict], Any] = lambda row: None,
    stop: Stop | None = None,
) -> dict:
    """Runs all steps in an opened folder, or the rest of them after the newest checkpoint.

    Args:
        session: Devices and progress (stage "train").
        recorded: Called with each new record.
        stop: Called after each compiled call; returns whether to save and stop there.

    Returns:
        The parameters; the model is also exported to the folder.
    """
    config, model, stop = settings.config, materials.model, stop or Stop()
    init_key, order_key = jax.random.split(jax.random.key(config.seed))
    steps = Steps(settings, materials, session, order_key)
    checkpoints = Checkpoints(folder.checkpoints, keep=CHECKPOINTS_KEPT)
    step, state, record = _restored(checkpoints, model, settings.optimiser, init_key)
    state = session.placement.place_parameters(state, config.batch_size)
    while step < config.steps:
        step, state, losses = steps.run(step, state)
        record["loss"] += float(losses.astype(np.float64).sum())
        record["losses"] += len(losses)
        last = step == config.steps
        if last or step % config.evaluate_every == 0:
            row = steps.row(step, state.params, record["loss"] / record["losses"])
            record = {"rows": [*record["rows"], row], "loss": 0.0, "losses": 0}
            recorded(row)
            if not last:
                folder.write_rows(record["rows"])
        if last or step % config.save_every == 0 or stop.requested:
            checkpoints.save(step, state, record, {})
            stop.here()
    checkpoints.close()
    for path in (folder.path / "tokenizer").iterdir():
        folder.write_text(f"model/{path.name}", path.read_text(encoding="utf-8"))
    params = jax.tree.map(distributed.to_host, state.params)
    if distributed.is_first():
        _export(folder.path / "model", model, params, config.precision)
    # The row of the last step is written last, since it says that everything is done.
    folder.write_rows(record["rows"])
    return state.params


class Steps:
    """Compiled calls on the windows of a text, and their records."""

    def __init__(
        self,
        settings: PretrainSettings,
        materials: Materials,
        session: Session,
        order_key: jax.Array,
    ):
        """Nothing is computed yet; order_key: of the order of the windows."""
        self._config, self._settings, self._session = settings.config, settings.optimiser, session
        self._model, windows = materials
        self._train, self._usable = windows.train, np.flatnonzero(~windows.left_out)
        self._order = window_order(order_key, len(self._usable))
        scored = _evenly_spaced(len(windows.held_out), self._config.held_out_windows)
        self._held_out = windows.held_out[scored]
        self._clock = _Clock()

    @property
    def _batch_tokens(self):
        return self._config.batch_size * self._config.block_length

    def run(self, step, state: Any) -> tuple[int, Any, np.ndarray]:
        """(step, state, losses) after one call, which ends where there is something to do."""
        config = self._config
        ends = (
            step + STEPS_PER_CALL,
            _next_multiple(step, config.evaluate_every),
            _next_multiple(step, config.save_every),
            config.steps,
        )
        count = min(ends) - step
        self._clock.start()
        places = self._order(step * config.batch_size, count * config.batch_size)
        batches = np.asarray(self._train[self._usable[places]], np.int32)
        state, losses = advance(
            self._model,
            self._settings,
            state,
            batches.reshape(count, config.batch_size, -1),
            step,
            session=self._session,
        )
        self._clock.stop(count * self._batch_tokens)
        step += count
        total = config.steps * self._batch_tokens
        self._session.progress("train", step * self._batch_tokens, total)
        return step, state, losses

    def row(self, step: int, params: dict, train_loss: float) -> dict:
        """The record after a step."""
        session = self._session.devices_only()
        held_out = mean_loss(
            self._model,
            params,
            self._held_out,
            batch_size=self._config.batch_size,
            session=session,
        )
        loss = float(held_out.mean())
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the held-out loss became {loss} after step {step - 1}; try a smaller learning "
                "rate"
            )
        return {
            "step": step,
            "tokens": step * self._batch_tokens,
            "train_loss": train_loss,
            "held_out_loss": loss,
            "learning_rate": learning_rate_at(self._settings, step - 1),
            "tokens_per_second": self._clock.rate(),
        }


def _export(folder, model, params, precision):
    for left_over in folder.glob(".saving-*"):  # of a killed export; no other process writes here
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        save_opt(folder, model, params, precision)
    except InputError as error:  # not bad input: all the work is done by now
        raise OSError(str(error)) from None


class _Clock:
    """Tokens a second; the first call of a process is not counted, because it compiles."""

    def __init__(self):
        self._warm, self._seconds, self._tokens, self._began = False, 0.0, 0, 0.0

    def start(self):
        self._began = time.perf_counter()

    def stop(self, tokens):
        if self._warm:
            self._seconds += time.perf_counter() - self._began
            self._tokens += tokens
        self._warm = True

    def rate(self):
        """Since the last call of `rate`; None if nothing was counted."""
        rate = round(self._tokens / self._seconds, 1) if self._tokens else None
        self._seconds, self._tokens = 0.0, 0
        return rate


def _restored(checkpoints, model, optimiser, key):
    """Step, state and record of the newest checkpoint, or of the beginning."""
    template: Training = jax.eval_shape(lambda: begin(model, optimiser, key))
    newest = checkpoints.newest_whole(template)
    if newest:
        return newest[:3]
    return 0, begin(model, optimiser, key), {"rows": [], "loss": 0.0, "losses": 0}


def _evenly_spaced(windows, wanted):
    """Numbers of `wanted` of the windows; of all if that is 0 or too many."""
    if not 0 < wanted < windows:
        return np.arange(windows)
    return np.linspace(0, windows - 1, wanted).round().astype(int)


def _next_multiple(step, every):
    """The first multiple of `every` above `step`."""
    return (step // every + 1) * every
