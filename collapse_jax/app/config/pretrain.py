"""Settings of `collapse-jax pretrain`."""

import dataclasses
from typing import ClassVar, Literal

from collapse_jax.app.config.checks import LARGEST_COUNT, LARGEST_SEED, at_least, at_most, finite
from collapse_jax.errors import InputError
from collapse_jax.runs.settings import Settings

MOST_LAYERS = 1000


@dataclasses.dataclass(frozen=True)
class PretrainConfig(Settings):
    """Train an OPT from scratch on a text of any size, for `collapse-jax lm --model OUT/model`."""

    command: ClassVar[str] = "pretrain"
    may_change: ClassVar[tuple[str, ...]] = ()

    corpus: str = "embedded"
    """A text file or a folder of them (.txt .raw .jsonl .parquet, plain, .xz or .gz), read as a stream; or "embedded"."""
    tokenizer: str = "embedded"
    """A folder, "embedded", or "train:N": a byte-level BPE of N entries, trained on the corpus."""
    exclude: str | None = None
    """A corpus whose valid and test text is kept out: windows that share 13 tokens in a row with it are not trained on."""
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    ffn_dim: int = 512
    max_position_embeddings: int = 128
    block_length: int = 128
    """Tokens of a window."""
    batch_size: int = 32
    """Windows of an optimiser step."""
    steps: int = 2000
    """Optimiser steps; the text is gone through as often as that takes, in a new order each time."""
    learning_rate: float = 2e-3
    """Its peak."""
    warmup_steps: int = 200
    final_share: float = 0.03
    """Share of the peak that the learning rate falls to, by a cosine."""
    weight_decay: float = 0.1
    """Of matrices and of the embedding of tokens; biases, norms and positions have none."""
    beta1: float = 0.9
    beta2: float = 0.95
    gradient_clip: float = 1.0
    """Global norm above which a gradient is scaled down; 0 is off."""
    held_out: float = 0.02
    """Share of the text, from its end, that is kept for validation; cut between works or rows."""
    held_out_windows: int = 256
    """How many windows of it, evenly spaced, are scored each time; 0 is all."""
    evaluate_every: int = 100
    """Steps from one record to the next."""
    save_every: int = 100
    """Steps from one checkpoint to the next."""
    seed: int = 0
    """Root of all randomness."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the exported weights."""

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        at_least(self, 0, "seed", "warmup_steps", "held_out_windows")
        at_least(self, 1, "hidden_size", "num_hidden_layers", "num_attention_heads", "ffn_dim")
        at_least(self, 1, "batch_size", "steps", "evaluate_every", "save_every")
        at_least(self, 2, "block_length", "max_position_embeddings")
        at_most(self, LARGEST_SEED, "seed")
        at_most(
            self,
            LARGEST_COUNT,
            "steps",
            "hidden_size",
            "ffn_dim",
            "max_position_embeddings",
            "batch_size",
            "block_length",
        )
        at_most(self, MOST_LAYERS, "num_hidden_layers")
        finite(self, "learning_rate", "weight_decay", "gradient_clip")
        for name in ("beta1", "beta2", "final_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (value == 1 and name != "final_share"):
                raise InputError(
                    f"{name} is {value}; it must be in [0, 1{']' if name == 'final_share' else ')'}"
                )
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out is {self.held_out}; it must be a share above 0 and below 1")
        if self.warmup_steps >= self.steps:
            raise InputError(
                f"warmup_steps is {self.warmup_steps}; it must be below steps, {self.steps}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"hidden_size is {self.hidden_size}; it must be a multiple of "
                f"num_attention_heads, {self.num_attention_heads}"
            )
        if self.block_length > self.max_position_embeddings:
            raise InputError(
                f"block_length is {self.block_length}; it must be at most "
                f"max_position_embeddings, {self.max_position_embeddings}"
            )

    def resolved(self) -> "PretrainConfig":
        """Itself: nothing is left open."""
        return self
