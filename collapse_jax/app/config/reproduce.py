"""Settings of `collapse-jax reproduce`."""

import dataclasses
from typing import ClassVar

from collapse_jax.app.config.checks import LARGEST_SEED, at_least, at_most
from collapse_jax.runs.settings import Settings


@dataclasses.dataclass(frozen=True)
class ReproduceConfig(Settings):
    """Published and exactly derived results, checked by simulation.

    The choice of entries is not a setting: one folder may collect entries from several calls.
    """

    command: ClassVar[str] = "reproduce"
    names_code: ClassVar[tuple[str, ...]] = ("registry",)

    registry: str = ""
    """A folder of entries to use instead of experiments/published. Its Python files are
    executed."""
    seed: int = 0
    """Seed of all random numbers."""

    def check(self) -> None:
        """Raises `InputError` for the first invalid field."""
        at_least(self, 0, "seed")
        at_most(self, LARGEST_SEED, "seed")
