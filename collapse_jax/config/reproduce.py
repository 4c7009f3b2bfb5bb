"""Settings of `collapse-jax reproduce`."""

import dataclasses
from typing import ClassVar

from collapse_jax.config.checks import at_least
from collapse_jax.errors import InputError

COSTS = ("cpu", "gpu", "weights")


@dataclasses.dataclass(frozen=True)
class ReproduceConfig:
    """The published and exactly derived results of the field, checked by simulation."""

    command: ClassVar[str] = "reproduce"
    may_change: ClassVar[tuple[str, ...]] = ("ids", "paper", "cost")

    ids: tuple[str, ...] = ()
    """Entries to check; all by default."""
    paper: str = ""
    """Only those of papers whose arXiv number or name contains this."""
    cost: str = ""
    """cpu, gpu or weights: only entries of this cost. Those of other costs than cpu say what would decide them."""
    registry: str = ""
    """Another folder of entries."""
    seed: int = 0

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        at_least(self, 0, "seed")
        if self.cost not in ("", *COSTS):
            raise InputError(f"cost is {self.cost!r}; it must be one of {', '.join(COSTS)}")

    def resolved(self) -> "ReproduceConfig":
        """Itself: nothing is left open."""
        return self
