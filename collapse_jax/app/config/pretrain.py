"""Settings of `collapse-jax pretrain`."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from collapse_jax.app.config.checks import LARGEST_COUNT, LARGEST_SEED, at_least, at_most, finite
from collapse_jax.errors import InputError, real
from collapse_jax.runs.settings import Settings

if TYPE_CHECKING:
    from collapse_jax.models.lm.pretrain import Pretrain


@dataclasses.dataclass(frozen=True)
class PretrainConfig(Settings):
    """Train an OPT from scratch on a text of any size, for `collapse-jax lm --model OUT/model`."""

    command: ClassVar[str] = "pretrain"
    may_change: ClassVar[tuple[str, ...]] = ()
    paths: ClassVar[dict[str, str]] = {
        "corpus": "corpus",
        "tokenizer": "tokenizer",
        "exclude": "text to exclude",
    }

    corpus: str = "embedded"
    """A text file, a folder of text files, or "embedded". Formats are .txt, .raw, .tokens, .json,
    .jsonl and .parquet, also compressed as .xz or .gz. They are read as a stream. Of a folder the
    train file or shards are read, or all text files if none is named train."""
    text_column: str | None = None
    """Column to read from parquet or JSON; by default "text"."""
    tokenizer: str = "embedded"
    """A folder, "embedded", or "train:N" for a byte-level BPE of N entries trained on the
    corpus."""
    exclude: str | None = None
    """A corpus whose validation and test text must not be trained on: windows that share 13
    consecutive tokens with it are skipped."""
    hidden_size: int = 128
    """Width of the hidden states."""
    num_hidden_layers: int = 4
    """Number of transformer layers."""
    num_attention_heads: int = 4
    """Number of attention heads per layer."""
    ffn_dim: int = 512
    """Width of the feed-forward layers."""
    max_position_embeddings: int = 128
    """Largest context length of the model, in tokens."""
    block_length: int = 128
    """Tokens of a window."""
    batch_size: int = 32
    """Windows per optimiser step."""
    steps: int = 2000
    """Number of optimiser steps; the text is repeated as often as needed, in a new order each
    time."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    warmup_steps: int = 200
    """Optimiser steps of linear warm-up to the peak."""
    final_share: float = 0.03
    """Final learning rate of the cosine decay, as a share of the peak."""
    weight_decay: float = 0.1
    """Weight decay of matrices and token embeddings; biases, norms and positions have none."""
    beta1: float = 0.9
    """First-moment decay of AdamW."""
    beta2: float = 0.95
    """Second-moment decay of AdamW."""
    gradient_clip: float = 1.0
    """Global norm to which larger gradients are scaled down; 0 switches clipping off."""
    held_out: float = 0.02
    """Share of the text, from its end, that is held out for validation; cut between works or
    rows."""
    held_out_windows: int = 256
    """Number of held-out windows that each evaluation scores, evenly spaced; 0 is all."""
    evaluate_every: int = 100
    """Optimiser steps between evaluations."""
    save_every: int = 100
    """Optimiser steps between checkpoints."""
    seed: int = 0
    """Seed of all random numbers."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the exported weights."""

    def check(self) -> None:
        """Raises `InputError` for the first setting that is out of range."""
        from collapse_jax.models.lm.opt import MOST_LAYERS

        sizes = ("hidden_size", "ffn_dim", "max_position_embeddings", "batch_size", "block_length")
        at_least(self, 0, "seed", "warmup_steps", "held_out_windows")
        at_least(self, 1, "hidden_size", "num_hidden_layers", "num_attention_heads", "ffn_dim")
        at_least(self, 1, "batch_size", "steps", "evaluate_every", "save_every")
        at_least(self, 2, "block_length", "max_position_embeddings")
        at_most(self, LARGEST_SEED, "seed")
        at_most(self, LARGEST_COUNT, "steps", *sizes)
        at_most(self, MOST_LAYERS, "num_hidden_layers")
        finite(self, "learning_rate", "weight_decay", "gradient_clip")
        real("beta1", self.beta1, at_least=0, below=1)
        real("beta2", self.beta2, at_least=0, below=1)
        real("final_share", self.final_share, at_least=0, at_most=1)
        real("held_out", self.held_out, above=0, below=1, must_be="a share above 0 and below 1")
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
        """Returns the settings as config.json stores them: itself."""
        return self

    def settings(self) -> "PretrainSettings":
        """Returns the checked settings in the form that the training code takes.

        Raises:
            InputError: If one is out of range.
        """
        from collapse_jax.models.lm.pretrain import Pretrain

        self.check()
        values = vars(self)
        shared = {name: values[name] for name in Pretrain._fields if name in values}
        return PretrainSettings(self, Pretrain(**shared))


class PretrainSettings(NamedTuple):
    """Settings of a run, checked.

    config: as config.json stores them.
    optimiser: steps, batches and learning rates.
    """

    config: PretrainConfig
    optimiser: "Pretrain"
