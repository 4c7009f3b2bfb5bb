"""What `collapse-jax lm` records of each generation."""

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
    """What is recorded."""

    examples: int = 4
    """How many blocks of the test text every generation continues, for
    samples/examples_seed_N.jsonl; 0 is none. example_entropy is that of these continuations: more
    of them make it steadier."""
    context_length: int | None = None
    """Also score the test text as one text, by a window of so many tokens that moves on: the
    columns that end in _strided. It may be longer than a block, and as long as the model has
    positions. Costs as much as scoring the test text context_length / stride times."""
    stride: int | None = None
    """By how many tokens that window moves on: each token is scored once, with at least
    context_length - stride tokens before it. By default half of context_length."""
    extras: tuple[Literal["embedding-diversity", "mauve"], ...] = ()
    """More measures of the training sets. embedding-diversity: mean cosine distance between blocks,
    each the pretrained model's mean hidden state; costs its forward pass. mauve: MAUVE against the
    real training text, by the same states; needs the package mauve-text."""

    def check_measures(self) -> None:
        """Raises `InputError` for the first setting of these that is out of range."""
        at_least(self, 0, "examples")
        at_most(self, LARGEST_COUNT, "examples", "context_length", "stride")
        if self.context_length is None:
            if self.stride is not None:
                raise InputError(
                    f"stride is {self.stride}, which moves a window on; give --context-length, its "
                    "length"
                )
        else:
            at_least(self, 2, "context_length")
            if self.stride is not None:
                at_least(self, 1, "stride")
                if self.stride >= self.context_length:
                    raise InputError(
                        f"stride is {self.stride} with context_length {self.context_length}; it "
                        "must be below that, so that each token has one before it"
                    )
        twice = [name for name in self.extras if self.extras.count(name) > 1]
        if twice:
            raise InputError(f"extras names {twice[0]} twice; give it once")

    def check_window(self, blocks_from: str, test_blocks: int) -> None:
        """Raises `InputError` where the blocks of the test text are no one text.

        Args:
            blocks_from: Where blocks lie.
            test_blocks: How many there are; 0 is all.
        """
        if self.context_length is not None and blocks_from == "spread" and test_blocks:
            raise InputError(
                f"context_length is {self.context_length} with blocks_from spread, whose "
                f"{test_blocks} test blocks do not follow each other; give --test-blocks 0 or "
                "--blocks-from start"
            )

    def window(self) -> tuple[int, int] | None:
        """(context_length, stride) of the strided scores; None where there are none."""
        if self.context_length is None:
            return None
        return self.context_length, self.stride or self.context_length // 2


def perplexities_shown(protocol: str, recorded: Container) -> list[str]:
    """The recorded perplexities of the test text by block, the protocol's own first.

    Args:
        protocol: That of the run.
        recorded: Names of what the run recorded; runs of older versions lack one of the two.

    Returns:
        Keys of `PERPLEXITY_WORDS`.
    """
    names = sorted(PERPLEXITY_WORDS, key=lambda name: name != TEST_PERPLEXITY[protocol])
    return [name for name in names if name in recorded]


def context_words(block_length: int) -> str:
    """What a block's perplexity has as context, wherever it is shown."""
    return f"each token after at most {block_length - 1} others"


def window_words(window: tuple[int, int]) -> str:
    """What a strided perplexity has as context, wherever it is shown.

    Args:
        window: (context_length, stride).
    """
    length, stride = window
    return f"each token after {length - stride} to {length - 1} others"
