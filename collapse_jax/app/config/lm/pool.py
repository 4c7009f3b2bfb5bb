"""Lineages of `collapse-jax lm` that read each other: how many, and who reads how much of whom."""

import dataclasses
import math
from typing import Any

from collapse_jax.app.config.checks import at_least, at_most
from collapse_jax.errors import InputError

MOST_LINEAGES = 64
# Settings that mean nothing for one lineage.
_OF_SEVERAL = ("lineage_models", "exchange", "coupling")


@dataclasses.dataclass(frozen=True)
class PoolSettings:
    """Several models that read each other."""

    lineages: int = 1
    """Lineages of models, each a run of its own in OUT/lineage_0, OUT/lineage_1, ... In every
    generation each model writes one text, as large as its training set, and the next models read
    shares of all texts, each by its own tokens."""
    lineage_models: tuple[str, ...] = ()
    """The model of each lineage, in the place of model; they may be of several families."""
    exchange: float | None = None
    """Share of the synthetic text a lineage reads that others wrote, evenly; by default all texts
    count alike, its own too. 0: nobody reads the others."""
    coupling: tuple[float, ...] = ()
    """The same share by share, row by row: lineages x lineages numbers, of which row k says how
    much of what lineage k reads was written by each of them. A row sums to 1. How much real text
    there is beside it, real_fraction, real_blocks and real_tokens say."""
    lineage: int | None = None
    """Which lineage a run folder belongs to. The command sets it."""

    def check_pool(self) -> None:
        """Raises `InputError` for the first setting of these that means nothing."""
        at_least(self, 1, "lineages")
        at_most(self, MOST_LINEAGES, "lineages")
        if self.lineages == 1:
            for name in (*_OF_SEVERAL, "lineage"):
                if getattr(self, name) not in (None, ()):
                    raise InputError(
                        f"{name} is {getattr(self, name)} with lineages 1, which reads nobody "
                        "else; give --lineages 2 or more"
                    )
            return
        count = len(self.lineage_models)
        if count not in (0, self.lineages):
            raise InputError(
                f"lineage_models names {count} model{'s' * (count != 1)} for lineages "
                f"{self.lineages}; give one each"
            )
        if self.lineage is not None and not 0 <= self.lineage < self.lineages:
            raise InputError(f"lineage is {self.lineage}; it must be from 0 to {self.lineages - 1}")
        self._check_shares_of_each_other()

    def _check_shares_of_each_other(self):
        if self.coupling and self.exchange is not None:
            raise InputError(
                f"exchange {self.exchange} and coupling both say who reads whom; give one of them"
            )
        if self.exchange is not None and not 0 <= self.exchange <= 1:
            raise InputError(f"exchange is {self.exchange}; it must be in [0, 1]")
        if not self.coupling:
            return
        many = self.lineages
        if len(self.coupling) != many**2:
            raise InputError(
                f"coupling has {len(self.coupling)} numbers; lineages {many} needs {many} x {many} "
                f"= {many**2}, row by row"
            )
        for row, shares in enumerate(self.shares()):
            for share in shares:
                if not (math.isfinite(share) and share >= 0):
                    raise InputError(f"coupling has {share} in row {row}; give 0 or more")
            if abs(sum(shares) - 1) > 1e-6:
                addends = " + ".join(f"{share:g}" for share in shares)
                raise InputError(
                    f"coupling has a row {row} of {addends} = {sum(shares):g}; it must sum to 1 "
                    "(real text is beside it: --real-fraction)"
                )

    def shares(self) -> list[list[float]]:
        """Row k: shares of the synthetic text that lineage k reads, by who wrote it."""
        many = self.lineages
        if self.coupling:
            return [list(self.coupling[row * many : (row + 1) * many]) for row in range(many)]
        exchange = 1 - 1 / many if self.exchange is None else self.exchange
        others = exchange / (many - 1) if many > 1 else 0.0
        return [
            [1 - exchange if one == row else others for one in range(many)] for row in range(many)
        ]


def check_with_pool(values: dict[str, Any]) -> None:
    """Raises `InputError` for settings of one lineage that several do not go with.

    Args:
        values: All settings by name, with nothing left to preset and protocol.
    """
    if values["lineages"] == 1:
        return
    if values["control"] != "none":
        raise InputError(
            f"control is {values['control']} with lineages {values['lineages']}; a control is a "
            "run of one lineage, so give --lineages 1, or --control none"
        )
    if values["real_kept"] == "batches" and (values["real_fraction"] or values["real_blocks"]):
        raise InputError(
            f"real_kept is batches with lineages {values['lineages']}, where the blocks that are "
            "not kept would be continued by several models; give --real-kept drawn"
        )
