"""How `collapse-jax lm` fits the model of each generation."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from collapse_jax.app.config.checks import LARGEST_COUNT, at_least, at_most, finite
from collapse_jax.errors import InputError

if TYPE_CHECKING:
    from collapse_jax.models.lm.fit_settings import FineTune


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """The fit of each generation."""

    epochs: int | None = None
    """Epochs of each fit at most, and after each of them a validation; by default the preset's, or
    the protocol's if it has its own."""
    max_steps: int | None = None
    """Optimiser steps of each fit at most; the smallest of epochs, steps and tokens ends it. With
    many epochs every generation gets this budget, however many blocks it is trained on."""
    max_tokens: int | None = None
    """The same in tokens of the blocks that are read; the last step takes what is left."""
    batch_size: int = 128
    """Blocks whose gradient is computed at once. Not stated in the paper; the released code's (one
    of its scripts passes 16)."""
    gradient_accumulation: int = 1
    """Batches of one optimiser step, as if they were one."""
    learning_rate: float = 2e-5
    """At the first epoch, or after the warm-up. Not stated in the paper; the released code's (one
    of its scripts passes 1e-5)."""
    final_learning_rate: float = 1e-6
    """Where the schedule ends; 0 is what linear and cosine mean elsewhere. Not stated in the paper;
    the released code's."""
    schedule: Literal["cosine-by-epoch", "constant", "linear", "cosine"] = "cosine-by-epoch"
    """cosine-by-epoch: constant within an epoch. The others go by optimiser steps, over all steps
    of a fit. Not stated in the paper; the released code's."""
    warmup_steps: int = 0
    """Optimiser steps in which the rate climbs from 0, of the schedules by step."""
    max_grad_norm: float | None = None
    """Global norm above which a gradient is scaled down; by default none is."""
    weight_decay: float = 0.01
    """On every parameter that is trained. Not stated in the paper; the released code's."""
    loss_on: Literal["all", "continuation"] = "all"
    """Tokens whose loss is trained on and chooses the best epoch. continuation: those after the
    prompt, where blocks hold both (--train-on both). Perplexities of the test text count all."""
    lora_rank: int = 0
    """Rank of LoRA's matrices, which are trained in the place of all weights and merged into them
    at the end of each fit; 0 is off. A learning rate of 1e-4 or more is usual then."""
    lora_alpha: float = 8.0
    """What LoRA adds is scaled by lora_alpha / lora_rank. peft's default."""
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Projections that LoRA changes, those of Hu et al. 2021: q_proj, k_proj, v_proj, out_proj,
    fc1, fc2 and, where the model has it, gate."""
    dropout: float | None = None
    """By default the model's own (OPT: 0.1); 0 switches it off, and with it the model's
    attention_dropout and layerdrop, which other values leave alone. Not stated in the paper; the
    released code has the model's own under old versions of its training library and none under
    new ones."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the factors of all products; sums, parameters, norms and losses are float32 in any case.
    Not stated in the paper."""

    def check_fit(self) -> None:
        """Raises `InputError` for the first setting of these that is out of range."""
        optional = ("epochs", "max_steps", "max_tokens")
        budgets = [name for name in optional if getattr(self, name) is not None]
        counts = ("batch_size", "gradient_accumulation")
        at_least(self, 1, *counts, *budgets)
        at_least(self, 0, "warmup_steps", "lora_rank")
        at_most(self, LARGEST_COUNT, *counts, "warmup_steps", "lora_rank")
        at_most(self, LARGEST_COUNT, "epochs", "max_steps")
        finite(self, "learning_rate", "final_learning_rate", "weight_decay", "lora_alpha")


def fine_tune_of(values: dict[str, Any]) -> "FineTune":
    """The fit that settings by name describe.

    Args:
        values: Of all settings, with nothing left to preset and protocol.

    Raises:
        InputError: If one is out of range, or ignored by others.
    """
    from collapse_jax.models.lm.fit_settings import FineTune, check_fine_tune, check_length

    shared = {name: values[name] for name in FineTune._fields if name in values}
    if values["loss_on"] == "continuation":
        shared["loss_from"] = _prompt_length(values)
    settings = FineTune(keep=values["generator"], **shared)
    check_fine_tune(settings)
    check_length(settings, values["block_length"])
    return settings


def _prompt_length(values):
    """The tokens of a block that are its prompt."""
    train_on = values["train_on"]
    if train_on != "both":
        raise InputError(
            f"loss_on is continuation with train_on {train_on}, whose blocks are continuation "
            "throughout; give --train-on both, or --loss-on all"
        )
    if values["prompts"] == "start":
        raise InputError(
            "loss_on is continuation with prompts start, whose prompt is the one token that no "
            "loss counts; give --loss-on all, or --prompts real"
        )
    length = values["prompt_length"]
    if not length:
        raise InputError("loss_on is continuation, but prompt_length is not given; give it")
    return length
