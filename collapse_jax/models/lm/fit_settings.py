"""Settings of one fine-tuning, and how many blocks, steps and epochs they come to."""

from typing import NamedTuple

from collapse_jax.errors import InputError, one_of, real, whole

SCHEDULES = ("cosine-by-epoch", "constant", "linear", "cosine")


class FineTune(NamedTuple):
    """Settings of one fine-tuning; the defaults are those of protocols.md.

    epochs: The largest number of epochs; a budget (`max_steps`, `max_tokens`) may end the fit
        earlier.
    batch_size: Blocks per batch.
    learning_rate, final_learning_rate: where the schedule begins (after the warm-up) and ends.
    weight_decay: decoupled (AdamW), on every parameter that is trained.
    keep: "best" returns the epoch of lowest validation loss, "last" the last one.
    schedule: "cosine-by-epoch" is constant within an epoch. "constant", "linear" and "cosine" go by
        optimiser steps and end with the last step of this fit.
    warmup_steps: Optimiser steps of linear warm-up from 0, for the schedules by step.
    gradient_accumulation: Batches of one optimiser step, whose gradients are averaged over all
        their blocks.
    max_grad_norm: Global norm above which the gradient of a step is scaled down; None is off.
    max_steps: The largest number of optimiser steps of the fit.
    max_tokens: The largest number of tokens of the blocks that the fit reads.
    loss_from: First position of a block that counts, in training and in validation; 0 is all. The
        token at position 0 is given in any case.
    lora_rank: Rank of the adapters that are trained instead of all parameters (`lora`); 0 is off.
    lora_alpha: Their product is scaled by lora_alpha / lora_rank.
    lora_targets: Names of the projections that have adapters.
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
    schedule: str = "cosine-by-epoch"
    warmup_steps: int = 0
    gradient_accumulation: int = 1
    max_grad_norm: float | None = None
    max_steps: int | None = None
    max_tokens: int | None = None
    loss_from: int = 0
    lora_rank: int = 0
    lora_alpha: float = 8.0
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")


class Plan(NamedTuple):
    """The size of one fit.

    rows: Blocks of an optimiser step; the last step of an epoch may have fewer.
    blocks: Number of blocks that are read, over all epochs.
    epochs: Epochs; a budget may cut the last one short.
    steps: Optimiser steps.
    """

    rows: int
    blocks: int
    epochs: int
    steps: int


def check_fine_tune(settings: FineTune) -> None:
    """Raises `InputError` for the first setting that is out of range or would be ignored."""
    for field in ("epochs", "batch_size", "gradient_accumulation"):
        whole(field, getattr(settings, field), 1)
    for field in ("max_steps", "max_tokens"):
        if getattr(settings, field) is not None:
            whole(field, getattr(settings, field), 1)
    for field in ("warmup_steps", "loss_from", "lora_rank"):
        whole(field, getattr(settings, field), 0)
    for field in ("learning_rate", "final_learning_rate", "weight_decay", "epsilon"):
        real(field, getattr(settings, field), at_least=0)
    for field in ("beta1", "beta2"):
        real(field, getattr(settings, field), at_least=0, below=1)
    if settings.max_grad_norm is not None:
        real("max_grad_norm", settings.max_grad_norm, above=0)
    one_of("keep", settings.keep, ("best", "last"), must_be="'best' or 'last'")
    one_of("schedule", settings.schedule, SCHEDULES)
    _check_lora(settings)
    _check_ignored(settings)


def _check_lora(settings):
    real("lora_alpha", settings.lora_alpha, above=0)
    targets = settings.lora_targets
    if not (isinstance(targets, tuple) and targets and all(isinstance(t, str) for t in targets)):
        raise InputError(
            f"lora_targets is {targets!r}; it must be a tuple of names of projections, such as "
            "('q_proj', 'v_proj')"
        )


def _check_ignored(settings):
    """Refuses what the other settings would leave without effect."""
    schedule, defaults = settings.schedule, FineTune._field_defaults
    by_step = "a schedule by step: constant, linear or cosine"
    cases = [
        ("warmup_steps", schedule == "cosine-by-epoch", f"schedule {schedule}", by_step),
        (
            "final_learning_rate",
            schedule == "constant",
            "schedule constant",
            "another schedule, or leave it out",
        ),
        ("lora_alpha", not settings.lora_rank, "lora_rank 0", "lora_rank of at least 1"),
        ("lora_targets", not settings.lora_rank, "lora_rank 0", "lora_rank of at least 1"),
    ]
    for name, ignored, because, give in cases:
        value = getattr(settings, name)
        if ignored and value != defaults[name]:
            shown = ", ".join(value) if isinstance(value, tuple) else value
            raise InputError(f"{name} is {shown} with {because}, which ignores it; give {give}")


def plan_of(settings: FineTune, blocks: int, length: int) -> Plan:
    """Returns the size of a fit on this number of blocks; the first limit reached ends it.

    Args:
        settings: Checked ones.
        blocks: Of the training set, at least 1.
        length: Tokens of a block.

    Raises:
        InputError: If the budget is less than a block, the warm-up as long as the fit, or no
            position of a block counts.
    """
    check_length(settings, length)
    rows = min(settings.batch_size * settings.gradient_accumulation, blocks)
    per_epoch = -(-blocks // rows)
    read = settings.epochs * blocks
    if settings.max_steps is not None:
        epochs, steps = divmod(settings.max_steps, per_epoch)
        read = min(read, epochs * blocks + steps * rows)
    if settings.max_tokens is not None:
        read = min(read, settings.max_tokens // length)
    epochs, rest = divmod(read, blocks)
    steps = epochs * per_epoch + -(-rest // rows)
    if settings.warmup_steps >= steps and settings.warmup_steps:
        raise InputError(
            f"warmup_steps is {settings.warmup_steps}; a fit of {blocks} blocks has {steps} "
            f"optimiser step{'s' * (steps != 1)} here, so it must be below that"
        )
    return Plan(rows, read, epochs + (rest > 0), steps)


def check_length(settings: FineTune, length: int) -> None:
    """Raises `InputError` if such blocks exceed the budget, or none of their tokens counts.

    Args:
        settings: `max_tokens` and `loss_from`.
        length: Tokens of a block.
    """
    if settings.max_tokens is not None and settings.max_tokens < length:
        raise InputError(
            f"max_tokens is {settings.max_tokens}; a block has {length} tokens, so it must be at "
            "least that"
        )
    if settings.loss_from >= length:
        raise InputError(
            f"loss_from is {settings.loss_from}; a block has {length} tokens, so it must be at "
            f"most {length - 1}"
        )
