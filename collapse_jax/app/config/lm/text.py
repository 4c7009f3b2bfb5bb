"""What a run of `collapse-jax lm` reads: text, model and tokenizer."""

import dataclasses
from typing import Literal

from collapse_jax.app.config.checks import LARGEST_COUNT, at_least, at_most


@dataclasses.dataclass(frozen=True)
class TextSettings:
    """Text, model and tokenizer."""

    corpus: str = "wikitext-2-raw-v1"
    """A folder with train/valid/test files, one text file, a hub name, or "embedded". Files are
    found by whole words of their names. Hub names are those of WikiText, "tinystories", "xsum" and
    any owner/name. What is read and what is left out is printed. Which release of WikiText-2 it is
    is not stated in the paper; this is that of the released code."""
    text_column: str | None = None
    """Column of parquet, JSON or a hub's text that is read; by default "text". Of xsum it is
    "document"."""
    model: str = "facebook/opt-125m"
    """A folder in Hugging Face layout, a GGUF file, a hub name, "embedded", or "random:NAME".
    Built are OPT, GPT-2, GPT-NeoX, Llama, Mistral, Qwen and Gemma. "embedded" is the OPT of 1.1 M
    parameters that comes with the package, pretrained on books. Random weights are those of
    "random:opt-125m", "random:mini" and "random:tiny"."""
    tokenizer: str | None = None
    """A folder, a hub name, or "embedded"; by default the model's own. Another one must encode as
    that does, unless the weights are random."""
    block_length: int = 64
    """Tokens of a block."""
    train_blocks: int = 0
    """Blocks of the training text to use; 0 is all. See blocks_from."""
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
