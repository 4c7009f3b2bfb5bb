"""Settings of `collapse-jax reproduce`."""

import dataclasses
from typing import ClassVar

from collapse_jax.app.config.checks import LARGEST_SEED, at_least, at_most


@dataclasses.dataclass(frozen=True)
class ReproduceConfig:
    """Published and exactly derived results, checked by simulation.

    Which of them is no setting: a folder may gather them bit by bit.
    """

    command: ClassVar[str] = "reproduce"
    may_change: ClassVar[tuple[str, ...]] = ()

    registry: str = ""
    """Another folder of entries than experiments/published."""
    seed: int = 0

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        at_least(self, 0, "seed")
        at_most(self, LARGEST_SEED, "seed")

    def resolved(self) -> "ReproduceConfig":
        """Itself: nothing is left open."""
        return self
