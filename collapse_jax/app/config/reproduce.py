"""Settings of `collapse-jax reproduce`."""

import dataclasses
from typing import ClassVar

from collapse_jax.app.config.checks import LARGEST_SEED, at_least, at_most
from collapse_jax.runs.settings import Settings


@dataclasses.dataclass(frozen=True)
class ReproduceConfig(Settings):
    """Published and exactly derived results, checked by simulation.

    The choice of entries is not a setting: a folder may collect them in several calls.
    """

    command: ClassVar[str] = "reproduce"
    names_code: ClassVar[tuple[str, ...]] = ("registry",)

    registry: str = ""
    """Another folder of entries than experiments/published. Its Python files are run."""
    seed: int = 0

    def check(self) -> None:
        """Raises `InputError` for the first field whose value means nothing."""
        at_least(self, 0, "seed")
        at_most(self, LARGEST_SEED, "seed")
