"""How `collapse-jax lm` fits the model of each generation."""

import dataclasses
from typing import Literal

from collapse_jax.app.config.checks import LARGEST_COUNT, at_least, at_most, finite


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """The fit of each generation."""

    epochs: int | None = None
    """Epochs of each fit; by default the preset's, or the protocol's if it has its own."""
    batch_size: int = 128
    """Not stated in the paper; the released code's (one of its scripts passes 16)."""
    learning_rate: float = 2e-5
    """At the first epoch. Not stated in the paper; the released code's (one of its scripts passes
    1e-5)."""
    final_learning_rate: float = 1e-6
    """Where a cosine over epochs ends. Not stated in the paper; the released code's."""
    weight_decay: float = 0.01
    """On every parameter. Not stated in the paper; the released code's."""
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
        at_least(self, 1, "batch_size", *(["epochs"] if self.epochs is not None else []))
        at_most(self, LARGEST_COUNT, "batch_size", "epochs")
        finite(self, "learning_rate", "final_learning_rate", "weight_decay")
