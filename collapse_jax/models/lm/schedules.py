"""Learning rates of a fit: by epoch, or by optimiser step after a warm-up."""

import math

import numpy as np
import optax

from collapse_jax.models.lm.fit_settings import FineTune


def learning_rate_at(settings: FineTune, epoch: int) -> float:
    """Learning rate of an epoch: a cosine in float64 that ends at `final_learning_rate`.

    Args:
        settings: The cosine ends after `epochs` epochs.
        epoch: From 0.
    """
    share = (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    final = settings.final_learning_rate
    return final + (settings.learning_rate - final) * share


def learning_rates(settings: FineTune, steps: int) -> np.ndarray:
    """Learning rates [steps] (float64) of a schedule by optimiser step.

    Step s of a warm-up of w steps has s / w of `learning_rate`, so that the first step has 0. The
    later steps are as in transformers' `get_scheduler`, but with `final_learning_rate` as the end,
    which step number `steps` (the first after the fit) would have.

    Args:
        settings: `schedule` is "constant", "linear" or "cosine".
        steps: Of the fit, above `warmup_steps`.
    """
    warmup, first = settings.warmup_steps, settings.learning_rate
    numbers = np.arange(steps)
    climb = np.asarray(_climb(warmup)(numbers), np.float64)
    share = np.asarray(_decay(settings.schedule, steps - warmup)(numbers - warmup), np.float64)
    final = settings.final_learning_rate if settings.schedule != "constant" else first
    return np.where(numbers < warmup, first * climb, final + (first - final) * share)


def _climb(steps):
    """From 0 to 1 in so many steps."""
    return optax.schedules.linear_schedule(0.0, 1.0, max(steps, 1))


def _decay(schedule, steps):
    """From 1 to 0 in so many steps."""
    if schedule == "constant":
        return optax.schedules.constant_schedule(1.0)
    if schedule == "linear":
        return optax.schedules.linear_schedule(1.0, 0.0, steps)
    return optax.schedules.cosine_decay_schedule(1.0, steps)
