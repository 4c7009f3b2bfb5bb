"""Settings of `collapse-jax lm`."""

import dataclasses
from typing import ClassVar, Literal

from collapse_jax.config.checks import at_least, finite
from collapse_jax.errors import InputError

PRESETS = {
    "fig1b": {"real_fraction": 0.0, "epochs": 5},
    "fig1c": {"real_fraction": 0.1, "epochs": 10},
}


@dataclasses.dataclass(frozen=True)
class LMConfig:
    """Fine-tune an OPT on real text, let it make the next training set, and so on. The defaults are the paper's Fig. 1b."""

    command: ClassVar[str] = "lm"
    may_change: ClassVar[tuple[str, ...]] = ("generations", "seeds", "checkpoints")

    preset: Literal["fig1b", "fig1c"] = "fig1b"
    """fig1b: 5 epochs, no real data kept. fig1c: 10 epochs, a fresh random 10% of the original blocks in every generation."""
    corpus: str = "wikitext-2-raw-v1"
    """A folder with train/valid/test files, one text file, a WikiText name on the hub, or "embedded"."""
    model: str = "facebook/opt-125m"
    """A folder in Hugging Face layout, a hub name, or random weights: "random:opt-125m", "random:mini", "random:tiny"."""
    tokenizer: str | None = None
    """A folder, a hub name, or "embedded"; by default the model's own."""
    generations: int = 9
    """The last generation; generation 0 is the model fitted to real text."""
    seeds: int = 5
    """Independent runs, one after another."""
    seed: int = 0
    """Root of all randomness."""
    workflow: Literal["replace", "accumulate", "accumulate_subsample"] = "replace"
    real_fraction: float | None = None
    """Share of each training set that is a fresh random part of the original blocks; by default the preset's."""
    start: Literal["pretrained", "first", "previous"] = "pretrained"
    """What each generation is fine-tuned from: the pretrained weights, the generation-0 model, or its predecessor."""
    keep: Literal["best", "last"] = "best"
    """The epoch that goes on: the one of lowest loss on the original validation set, or the last."""
    block_length: int = 64
    train_blocks: int = 0
    """How many blocks of the training text to use, from its start; 0 uses all."""
    valid_blocks: int = 0
    test_blocks: int = 0
    epochs: int | None = None
    """Epochs of each fit; by default the preset's."""
    batch_size: int = 128
    learning_rate: float = 2e-5
    final_learning_rate: float = 1e-6
    weight_decay: float = 0.01
    dropout: float | None = None
    """By default the model's own."""
    decoding: Literal["beam", "greedy", "sampling"] = "beam"
    num_beams: int = 5
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    """Sampling from the k most probable tokens only; 0 is off."""
    top_p: float = 1.0
    decode_batch: int = 64
    """Prompts decoded at once."""
    checkpoints: Literal["all", "ends"] = "all"
    """Generations whose parameters stay on disk: all, or the two ends, generation 0 and the newest. Records and texts stay in any case."""

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        at_least(self, 0, "generations", "seed", "train_blocks", "valid_blocks", "test_blocks", "top_k")
        at_least(self, 1, "seeds", "batch_size", "num_beams", "decode_batch")
        at_least(self, 2, "block_length")
        if self.epochs is not None:
            at_least(self, 1, "epochs")
        finite(self, "learning_rate", "final_learning_rate", "weight_decay")
        if self.real_fraction is not None and not 0 <= self.real_fraction <= 1:
            raise InputError(f"real_fraction is {self.real_fraction}; it must be in [0, 1]")
        if self.workflow != "replace" and self.resolved().real_fraction > 0:
            raise InputError(
                f"real_fraction is {self.resolved().real_fraction} with workflow {self.workflow}, which keeps all real data; give 0"
            )

    def resolved(self) -> "LMConfig":
        """The same with every setting that the preset leaves open filled in."""
        preset = PRESETS[self.preset]
        return dataclasses.replace(self, **{name: value for name, value in preset.items() if getattr(self, name) is None})
