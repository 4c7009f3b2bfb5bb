"""What a run of `collapse-jax lm` reads: text, model and tokenizer."""

import dataclasses
from typing import Literal

from collapse_jax.app.config.checks import LARGEST_COUNT, at_least, at_most


@dataclasses.dataclass(frozen=True)
class TextSettings:
    """Text, model and tokenizer."""

    corpus: str = "wikitext-2-raw-v1"
    """A folder with train/valid/test files (whole words of their names), one text file, a WikiText
    name on the hub, or "embedded". What is read and what is left out is printed. Which release of
    WikiText-2 is not stated in the paper; this is that of the released code."""
    model: str = "facebook/opt-125m"
    """A folder in Hugging Face layout (OPT, GPT-2, GPT-NeoX, Llama, Mistral, Qwen, Gemma), a GGUF
    file, a hub name, or random weights: "random:opt-125m", "random:mini", "random:tiny". "embedded"
    is the OPT of 1.1 M parameters that comes with the package, pretrained on books."""
    tokenizer: str | None = None
    """A folder, a hub name, or "embedded"; by default the model's own. Another one must encode as
    that does, unless the weights are random."""
    block_length: int = 64
    """Tokens of a block."""
    train_blocks: int = 0
    """How many blocks of the training text to use (see blocks_from); 0 uses all."""
    valid_blocks: int = 0
    """The same of the validation text."""
    test_blocks: int = 0
    """The same of the test text."""
    blocks_from: Literal["start", "spread"] = "start"
    """Where those blocks lie, if not all are used. start: the first ones, which may be of one or
    two articles. spread: evenly spaced over the text."""

    def check_text(self) -> None:
        """Raises `InputError` for the first setting of these that is out of range."""
        blocks = ("train_blocks", "valid_blocks", "test_blocks")
        at_least(self, 0, *blocks)
        at_least(self, 2, "block_length")
        at_most(self, LARGEST_COUNT, *blocks, "block_length")
