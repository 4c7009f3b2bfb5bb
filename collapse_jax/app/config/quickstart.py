"""Settings of `collapse-jax quickstart`."""

import dataclasses
from typing import ClassVar

from collapse_jax.app.config.checks import LARGEST_COUNT, LARGEST_SEED, at_least, at_most
from collapse_jax.runs.settings import Settings


@dataclasses.dataclass(frozen=True)
class QuickstartConfig(Settings):
    """A first tour of everything, offline, in under 2 minutes of CPU time.

    It compares chains with theory, then runs the language-model loop on embedded text.
    """

    command: ClassVar[str] = "quickstart"

    chains: int = 10_000
    """Number of chains of each family under each workflow."""
    generations: int = 4
    """The last generation of the language model."""
    seed: int = 0
    """Seed of all random numbers."""

    def check(self) -> None:
        """Raises `InputError` for the first invalid field."""
        at_least(self, 0, "generations", "seed")
        at_least(self, 1, "chains")
        at_most(self, LARGEST_SEED, "seed")
        at_most(self, LARGEST_COUNT, "chains", "generations")
