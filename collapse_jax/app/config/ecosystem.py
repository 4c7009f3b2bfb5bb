"""Settings of `collapse-jax simulate` for many models that read each other."""

import dataclasses
import math
import pathlib
from typing import ClassVar

from collapse_jax.app.config.checks import at_most
from collapse_jax.errors import InputError, did_you_mean
from collapse_jax.runs.settings import Settings

SHAPES = ("ring", "star", "complete")
FILES = (".csv", ".npy")
# Metrics of a single model of an ecosystem are called NAME_of_model_K.
OF_MODEL = "_of_model_"
# What models read of others where it is not said.
_EXCHANGE = 0.1
_MOST_MODELS = 10_000


@dataclasses.dataclass(frozen=True)
class EcosystemSettings(Settings):
    """Many models that read each other, instead of one (docs/ecosystems.md)."""

    is_last_in_help: ClassVar[bool] = True

    ecosystem: int = 0
    """Number of models that read each other; 0 is a single model without an ecosystem. All have the
    same family, workflow and sample size. The points that a workflow takes from the newest model
    come from the models that the coupling names."""
    coupling: str = ""
    """Which models read which: ring (the default), star, complete, or a .csv or .npy file. ring:
    each model reads its two neighbours. star: model 0 reads all others, and they read model 0.
    complete: each model reads all others equally. A file contains [K, K] shares, one row per
    reader; if a row sums to less than 1, the rest is fresh real data."""
    exchange: float | tuple[float, ...] | None = None
    """With ring, star and complete: the share of a model's synthetic data that other models
    generate (by default 0.1); it generates the rest itself."""

    def has_ecosystem(self) -> bool:
        """Whether there are several models."""
        return self.ecosystem != 0 or self.coupling != ""

    def coupling_file(self) -> str:
        """The file that contains the coupling; "" for a named coupling."""
        return "" if self.coupling in ("", *SHAPES) else self.coupling

    def exchanges(self) -> "float | tuple[float, ...] | None":
        """`exchange`, or its default if the coupling uses one; None if it does not."""
        counts = self.has_ecosystem() and not self.coupling_file()
        return _EXCHANGE if self.exchange is None and counts else self.exchange

    def ecosystem_in_words(self) -> str:
        """The models in words, for a title; "" for a single model."""
        if not self.has_ecosystem():
            return ""
        if self.coupling_file():
            count = f"{self.ecosystem} " if self.ecosystem else ""
            return f"{count}models that read each other by {self.coupling_file()}"
        share = self.exchanges()
        of_all = f"{share:g}" if isinstance(share, int | float) else "a share"
        shape = self.coupling or SHAPES[0]
        return f"{self.ecosystem} models ({shape}) that read {of_all} of each other"

    def check_ecosystem(self) -> None:
        """Raises `InputError` for invalid settings of an ecosystem."""
        at_most(self, _MOST_MODELS, "ecosystem")
        if not self.has_ecosystem():
            if self.exchange is not None:
                raise InputError(
                    f"exchange is {self.exchange} with a single model, which reads no other; give "
                    "a number of models, such as --ecosystem 8"
                )
            return
        file = self.coupling_file()
        if self.ecosystem < 2 and not (file and self.ecosystem == 0):
            raise InputError(
                f"ecosystem is {self.ecosystem} with coupling {self.coupling or SHAPES[0]}; it "
                "must be at least 2 models"
            )
        if file:
            self._check_file(file)
        shares = self.exchanges()
        for share in shares if isinstance(shares, tuple) else [shares]:
            if share is not None and not (math.isfinite(share) and 0 <= share <= 1):
                raise InputError(f"exchange is {share:g}; it must be in [0, 1]")

    def _check_file(self, file):
        if pathlib.Path(file).suffix.lower() not in FILES:
            raise InputError(
                f"coupling is {file!r}; it must be {', '.join(SHAPES)}, or a file "
                f"{' or '.join(FILES)}{did_you_mean(file, SHAPES)}"
            )
        if self.exchange is not None:
            raise InputError(
                f"exchange is {self.exchange} with coupling {file}, which contains all shares; "
                f"leave exchange out, or give --coupling {SHAPES[0]}"
            )
