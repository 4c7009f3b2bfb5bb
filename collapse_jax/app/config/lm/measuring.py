"""Settings of what `collapse-jax lm` records of each generation."""

import dataclasses
from collections.abc import Container
from typing import Literal

from collapse_jax.app.config.checks import LARGEST_COUNT, at_least, at_most
from collapse_jax.errors import InputError

# The recorded perplexity of the test text that each protocol means: the mean of the blocks' own, or
# exp of their mean loss (the released code averages over batches, so that a smaller last batch
# weighs as much as the others).
TEST_PERPLEXITY = {"paper": "test_perplexity_mean", "released-code": "test_perplexity"}
# What each of the two is, wherever it is shown.
PERPLEXITY_WORDS = {
    "test_perplexity_mean": "mean over blocks (paper)",
    "test_perplexity": "exp of the mean loss (released code)",
}


@dataclasses.dataclass(frozen=True)
class MeasureSettings:
    """What is recorded of each generation."""

    examples: int = 4
    """Number of test blocks that every generation continues, for samples/examples_seed_N.jsonl; 0
    is none. The metric example_entropy is measured on these continuations; more of them reduce its
    noise."""
    context_length: int | None = None
    """Also score the test text as one stream, with a sliding window of this many tokens; the
    results are the columns that end in _strided. The window may be longer than a block, up to the
    model's context length. It costs as much as scoring the test text context_length / stride
    times."""
    stride: int | None = None
    """Tokens by which the sliding window moves. Each token is scored once, with at least
    context_length - stride tokens before it. By default half of context_length."""
    extras: tuple[Literal["embedding-diversity", "mauve"], ...] = ()
    """Additional measures of the training sets: embedding-diversity, mauve. embedding-diversity:
    mean cosine distance between blocks, each represented by the pretrained model's mean hidden
    state; it costs a forward pass. mauve: MAUVE between a training set and the real training text,
    from the same hidden states; it needs the package mauve-text."""

    def check_measures(self) -> None:
        """Raises `InputError` for the first setting of these that is out of range."""
        at_least(self, 0, "examples")
        at_most(self, LARGEST_COUNT, "examples", "context_length", "stride")
        if self.context_length is None:
            if self.stride is not None:
                raise InputError(
                    f"stride is {self.stride} without a sliding window; give the length of the "
                    "window, --context-length"
                )
        else:
            at_least(self, 2, "context_length")
            if self.stride is not None:
                at_least(self, 1, "stride")
                if self.stride >= self.context_length:
                    raise InputError(
                        f"stride is {self.stride} with context_length {self.context_length}; it "
                        "must be below context_length, so that each token has one before it"
                    )
        twice = [name for name in self.extras if self.extras.count(name) > 1]
        if twice:
            raise InputError(f"extras names {twice[0]} twice; give it once")

    def check_window(self, blocks_from: str, test_blocks: int) -> None:
        """Raises `InputError` for a sliding window over test blocks that are not consecutive.

        Args:
            blocks_from: The setting `blocks_from`.
            test_blocks: Number of test blocks; 0 is all.
        """
        if self.context_length is not None and blocks_from == "spread" and test_blocks:
            raise InputError(
                f"context_length is {self.context_length} with blocks_from spread, whose "
                f"{test_blocks} test blocks are not consecutive; give --test-blocks 0 or "
                "--blocks-from start"
            )

    def window(self) -> tuple[int, int] | None:
        """Returns (context_length, stride) of the strided scores; None without them."""
        if self.context_length is None:
            return None
        return self.context_length, self.stride or self.context_length // 2


def perplexities_shown(protocol: str, recorded: Container) -> list[str]:
    """Returns the recorded perplexities of the test text by block, that of the protocol first.

    Args:
        protocol: The protocol of the run.
        recorded: Names of the recorded metrics; runs of older versions lack one of the two
            perplexities.

    Returns:
        Keys of `PERPLEXITY_WORDS`.
    """
    names = sorted(PERPLEXITY_WORDS, key=lambda name: name != TEST_PERPLEXITY[protocol])
    return [name for name in names if name in recorded]


def context_words(block_length: int) -> str:
    """Describes the context of the tokens in a block's perplexity."""
    return f"each token after at most {block_length - 1} others"


def window_words(window: tuple[int, int]) -> str:
    """Describes the context of the tokens in a strided perplexity.

    Args:
        window: (context_length, stride).
    """
    length, stride = window
    return f"each token after {length - stride} to {length - 1} others"
