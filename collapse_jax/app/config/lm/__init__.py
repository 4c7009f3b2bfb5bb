"""Settings of `collapse-jax lm`, a file for each group of them."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from collapse_jax.app.config.lm.decoding import DecodingSettings, decoder_of
from collapse_jax.app.config.lm.fit import FitSettings
from collapse_jax.app.config.lm.loop import LoopSettings
from collapse_jax.app.config.lm.measuring import (
    PERPLEXITY_WORDS,
    TEST_PERPLEXITY,
    MeasureSettings,
    context_words,
    perplexities_shown,
    window_words,
)
from collapse_jax.app.config.lm.presets import PRESETS, PROTOCOLS, PresetSettings
from collapse_jax.app.config.lm.text import TextSettings
from collapse_jax.runs.settings import Settings

if TYPE_CHECKING:
    from collapse_jax.models.lm.decode import Decoder
    from collapse_jax.models.lm.finetune import FineTune

__all__ = [
    "PERPLEXITY_WORDS",
    "PRESETS",
    "PROTOCOLS",
    "TEST_PERPLEXITY",
    "LMConfig",
    "LMSettings",
    "context_words",
    "perplexities_shown",
    "window_words",
]


@dataclasses.dataclass(frozen=True)
class LMConfig(
    # The last one's fields come first.
    MeasureSettings,
    DecodingSettings,
    FitSettings,
    LoopSettings,
    TextSettings,
    PresetSettings,
    Settings,
):
    """Fine-tune a language model on real text, let it make the next training set, and so on.

    The defaults are the paper's Fig. 1b.
    """

    command: ClassVar[str] = "lm"
    may_change: ClassVar[tuple[str, ...]] = ("generations", "seeds", "checkpoints")
    paths: ClassVar[dict[str, str]] = {name: name for name in ("corpus", "model", "tokenizer")}

    def check(self) -> None:
        """Raises `InputError` for the first setting that is out of range."""
        self.check_text()
        self.check_loop()
        self.check_fit()
        self.check_decoding()
        self.check_measures()
        self.check_window(self.blocks_from, self.test_blocks)
        self.check_shares(vars(self.resolved())["real_fraction"])

    def resolved(self) -> "LMConfig":
        """What config.json holds: every setting that is left to preset and protocol filled in."""
        defaults = PRESETS[self.preset] | PROTOCOLS[self.protocol]
        return dataclasses.replace(
            self, **{name: value for name, value in defaults.items() if getattr(self, name) is None}
        )

    def settings(self) -> "LMSettings":
        """The settings as everything below the command takes them.

        Raises:
            InputError: If one is out of range.
        """
        from collapse_jax.models.lm.finetune import FineTune

        self.check()
        config = self.resolved()
        values = vars(config)
        shared = {name: values[name] for name in FineTune._fields if name in values}
        decoder = decoder_of(values)
        fine_tune = FineTune(keep=values["generator"], **shared)
        return LMSettings(
            config, fine_tune, decoder, values["real_fraction"], values["real_kept"] == "batches"
        )


class LMSettings(NamedTuple):
    """Settings of a run, checked, with nothing left to preset and protocol.

    config: as config.json holds them. What the other fields say is read from those.
    fine_tune: the fit of each generation.
    decoder: how blocks are continued.
    real_fraction: share of real blocks in each training set.
    real_in_batches: whether they are whole batches, rather than drawn.
    """

    config: LMConfig
    fine_tune: "FineTune"
    decoder: "Decoder"
    real_fraction: float
    real_in_batches: bool
