"""Lineages of `collapse-jax lm` that read each other: their number and who reads how much of
whom."""

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
    """Number of lineages of models; each is a separate run in OUT/lineage_0, OUT/lineage_1, and so
    on. In every generation each model writes one text, as large as its training set. The next
    models read shares of all these texts, each with its own tokenizer."""
    lineage_models: tuple[str, ...] = ()
    """The model of each lineage, instead of --model; the models may belong to different
    families."""
    exchange: float | None = None
    """Share of a lineage's synthetic text that the other lineages write, in equal parts. By default
    all texts have equal shares, including the lineage's own. With 0 no lineage reads another."""
    coupling: tuple[float, ...] = ()
    """All shares, row by row: lineages x lineages numbers, and row k gives the shares of lineage
    k's synthetic text that each lineage writes. Each row sums to 1. The amount of real text is set
    separately, by real_fraction, real_blocks or real_tokens."""
    lineage: int | None = None
    """Number of the lineage that a run folder belongs to; set by the command, not by the user."""

    def check_pool(self) -> None:
        """Raises `InputError` for the first invalid setting of these."""
        at_least(self, 1, "lineages")
        at_most(self, MOST_LINEAGES, "lineages")
        if self.lineages == 1:
            for name in (*_OF_SEVERAL, "lineage"):
                if getattr(self, name) not in (None, ()):
                    raise InputError(
                        f"{name} is {getattr(self, name)} with lineages 1, which reads no other "
                        "lineage; give --lineages 2 or more"
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
                f"exchange {self.exchange} and coupling both set who reads whom; give only one of "
                "them"
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
                    "(real text is not part of it: give --real-fraction)"
                )

    def shares(self) -> list[list[float]]:
        """Returns the shares of lineage k's synthetic text by writer, in row k."""
        many = self.lineages
        if self.coupling:
            return [list(self.coupling[row * many : (row + 1) * many]) for row in range(many)]
        exchange = 1 - 1 / many if self.exchange is None else self.exchange
        others = exchange / (many - 1) if many > 1 else 0.0
        return [
            [1 - exchange if one == row else others for one in range(many)] for row in range(many)
        ]


def check_with_pool(values: dict[str, Any]) -> None:
    """Raises `InputError` for settings that are available for a single lineage only.

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
            f"real_kept is batches with lineages {values['lineages']}, in which several models "
            "would continue the blocks that are not kept; give --real-kept drawn"
        )
