"""The generations of `collapse-jax lm`: how many, and what each is trained on."""

import dataclasses
from typing import Literal

from collapse_jax.app.config.checks import LARGEST_SEED, at_least, at_most
from collapse_jax.errors import InputError

# A run lists its generations.
MOST_GENERATIONS = 100_000


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """Generations, and what each is trained on."""

    generations: int = 9
    """The last generation; generation 0 is the model fitted to real text."""
    seeds: int = 5
    """Independent runs, one after another."""
    seed: int = 0
    """Root of all randomness."""
    workflow: Literal["replace", "accumulate", "accumulate_subsample"] = "replace"
    """replace: what the newest model made, and the shares below. accumulate: all blocks so far.
    accumulate_subsample: as many of those as the original set has, drawn anew."""
    real_fraction: float | None = None
    """Share of each training set that original blocks make up, chosen anew in every generation; by
    default the preset's. That the set keeps its size is not stated in the paper; it does in the
    released code."""
    real_kept: Literal["drawn", "batches"] | None = None
    """How real blocks are chosen; by default the protocol's. drawn: a random share, and the model
    continues blocks chosen independently of it. batches: ceil(share * blocks / batch_size) whole
    batches of the shuffled blocks pass unchanged, and the model continues the others."""
    beta: float = 0.0
    """Share of each training set that is drawn without replacement from the previous one."""
    start: Literal["pretrained", "first", "previous"] = "pretrained"
    """What each generation is fine-tuned from: the pretrained weights, the generation-0 model, or
    its predecessor (the epoch that generator chose). The paper can be read as either of the first
    two."""
    generator: Literal["best", "last"] | None = None
    """The epoch that goes on: the one of lowest loss on the original validation set, or the last;
    by default the protocol's."""
    checkpoints: Literal["all", "ends"] = "all"
    """Generations whose parameters stay on disk: all, or the two ends, generation 0 and the newest.
    Records and texts stay in any case."""

    def check_loop(self) -> None:
        """Raises `InputError` for the first setting of these that is out of range."""
        at_least(self, 0, "generations", "seed")
        at_least(self, 1, "seeds")
        at_most(self, LARGEST_SEED, "seed")
        at_most(self, MOST_GENERATIONS, "generations", "seeds")

    def check_shares(self, real_fraction: float) -> None:
        """Raises `InputError` for shares of kept text that are none, or that nothing reads.

        Args:
            real_fraction: That of the preset where it is left to it.
        """
        shares = {"real_fraction": real_fraction, "beta": self.beta}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise InputError(f"{name} is {share}; it must be in [0, 1]")
            if self.workflow != "replace" and share > 0:
                kept = "real" if name == "real_fraction" else "earlier"
                raise InputError(
                    f"{name} is {share} with workflow {self.workflow}, which keeps all "
                    f"{kept} data; give 0"
                )
        if sum(shares.values()) > 1 + 1e-6:
            raise InputError(
                f"real_fraction + beta is {sum(shares.values()):g}; it must be at most 1"
            )
