"""Settings of what a run of `collapse-jax lm` reads: text, model and tokenizer."""

import dataclasses
from typing import Literal

from collapse_jax.app.config.checks import LARGEST_COUNT, at_least, at_most


@dataclasses.dataclass(frozen=True)
class TextSettings:
    """Text, model and tokenizer."""

    corpus: str = "wikitext-2-raw-v1"
    """A folder with train/valid/test files, one text file, a hub name, or "embedded". Files are
    recognised by whole words in their names. Hub names are those of WikiText, "tinystories", "xsum"
    and any owner/name. The run prints which files it reads and which it leaves out. The release of
    WikiText-2 is not stated in the paper; the default is that of the released code."""
    text_column: str | None = None
    """Column to read from parquet, JSON or a hub data set; by default "text", and "document" for
    xsum."""
    model: str = "facebook/opt-125m"
    """A folder in Hugging Face layout, a GGUF file, a hub name, "embedded", or "random:NAME".
    Supported architectures are OPT, GPT-2, GPT-NeoX, Llama, Mistral, Qwen and Gemma. "embedded" is
    the OPT of 1.1 M parameters that comes with the package, pretrained on books. Models with random
    weights are "random:opt-125m", "random:mini" and "random:tiny"."""
    tokenizer: str | None = None
    """A folder, a hub name, or "embedded"; by default the model's own. Another tokenizer must give
    the same encoding, unless the weights are random."""
    block_length: int = 64
    """Number of tokens per block."""
    train_blocks: int = 0
    """Number of blocks of the training text to use; 0 is all. See blocks_from."""
    valid_blocks: int = 0
    """Number of blocks of the validation text to use; 0 is all."""
    test_blocks: int = 0
    """Number of blocks of the test text to use; 0 is all."""
    blocks_from: Literal["start", "spread"] = "start"
    """Which blocks to use if not all are used: the first ones (start) or evenly spaced ones
    (spread). The first ones may all come from one or two articles."""

    def check_text(self) -> None:
        """Raises `InputError` for the first setting of these that is out of range."""
        blocks = ("train_blocks", "valid_blocks", "test_blocks")
        at_least(self, 0, *blocks)
        at_least(self, 2, "block_length")
        at_most(self, LARGEST_COUNT, *blocks, "block_length")
