"""What `collapse-jax lm` records of each generation."""

import dataclasses
from collections.abc import Container

from collapse_jax.app.config.checks import LARGEST_COUNT, at_least, at_most

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
    samples/examples_seed_N.jsonl; 0 is none."""

    def check_measures(self) -> None:
        """Raises `InputError` for the first setting of these that is out of range."""
        at_least(self, 0, "examples")
        at_most(self, LARGEST_COUNT, "examples")


def perplexities_shown(protocol: str, recorded: Container) -> list[str]:
    """The recorded perplexities of the test text, the protocol's own first.

    Args:
        protocol: That of the run.
        recorded: Names of what the run recorded; runs of older versions lack one of the two.

    Returns:
        Keys of `PERPLEXITY_WORDS`.
    """
    names = sorted(PERPLEXITY_WORDS, key=lambda name: name != TEST_PERPLEXITY[protocol])
    return [name for name in names if name in recorded]
