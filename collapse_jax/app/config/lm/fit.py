"""Training settings of `collapse-jax lm`, for the fit of each generation."""

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
    """Largest number of epochs of each fit, with a validation after each epoch; by default the
    protocol's value if it has one, else the preset's."""
    max_steps: int | None = None
    """Largest number of optimiser steps of each fit; the first limit reached among epochs, steps
    and tokens ends the fit. With a large number of epochs, every generation has this budget,
    whatever the size of its training set."""
    max_tokens: int | None = None
    """Largest number of training tokens of each fit; the last step may be smaller."""
    batch_size: int = 128
    """Number of blocks per batch. Not stated in the paper; taken from the released code (one of its
    scripts passes 16)."""
    gradient_accumulation: int = 1
    """Number of batches per optimiser step; their gradients are averaged as in one large batch."""
    learning_rate: float = 2e-5
    """Learning rate in the first epoch, or after the warm-up. Not stated in the paper; taken from
    the released code (one of its scripts passes 1e-5)."""
    final_learning_rate: float = 1e-6
    """Learning rate at the end of the schedule; linear and cosine schedules of other libraries end
    at 0. Not stated in the paper; taken from the released code."""
    schedule: Literal["cosine-by-epoch", "constant", "linear", "cosine"] = "cosine-by-epoch"
    """cosine-by-epoch: a cosine over epochs, constant within an epoch. constant, linear, cosine: by
    optimiser step, over all steps of a fit. The default is not stated in the paper; taken from the
    released code."""
    warmup_steps: int = 0
    """Optimiser steps of linear warm-up from 0, for the schedules by step."""
    max_grad_norm: float | None = None
    """Global norm to which larger gradients are scaled down; by default gradients are not
    clipped."""
    weight_decay: float = 0.01
    """AdamW weight decay of every trained parameter. Not stated in the paper; taken from the
    released code."""
    loss_on: Literal["all", "continuation"] = "all"
    """Tokens that the training loss and the choice of the best epoch count: all, or the
    continuation. continuation: the tokens after the prompt, if blocks contain both (--train-on
    both). Perplexities of the test text count all tokens."""
    lora_rank: int = 0
    """Rank of LoRA adapters, which are trained instead of the full weights and merged into them at
    the end of each fit; 0 is off. With LoRA a learning rate of 1e-4 or more is usual."""
    lora_alpha: float = 8.0
    """LoRA scale: the adapter's output is multiplied by lora_alpha / lora_rank. The default is that
    of peft."""
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Projections with LoRA adapters: any of q_proj, k_proj, v_proj, out_proj, fc1, fc2 and, if the
    model has it, gate. The default is that of Hu et al. (2021)."""
    dropout: float | None = None
    """Dropout rate; by default the model's own (OPT: 0.1). 0 also switches off the model's
    attention_dropout and layerdrop, which other values leave unchanged. Not stated in the paper;
    the released code uses the model's own dropout with old versions of its training library and
    none with new ones."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the inputs of matrix products; sums, parameters, norms and losses are always float32.
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
    """Returns the fit that these settings describe.

    Args:
        values: All settings by name, with the values of preset and protocol filled in.

    Raises:
        InputError: If one is out of range, or ignored because of another.
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
    """Returns the number of prompt tokens in a block."""
    train_on = values["train_on"]
    if train_on != "both":
        raise InputError(
            f"loss_on is continuation with train_on {train_on}, whose blocks contain no prompt; "
            "give --train-on both, or --loss-on all"
        )
    if values["prompts"] == "start":
        raise InputError(
            "loss_on is continuation with prompts start, whose prompt is a single token that no "
            "loss counts; give --loss-on all, or --prompts real"
        )
    length = values["prompt_length"]
    if not length:
        raise InputError(
            "loss_on is continuation, but prompt_length is not given; give --prompt-length"
        )
    return length
