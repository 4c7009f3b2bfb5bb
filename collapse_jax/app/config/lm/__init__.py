"""Settings of `collapse-jax lm`, a file for each group of them."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from collapse_jax.app.config.lm.decoding import DecodingSettings, decoder_of
from collapse_jax.app.config.lm.fit import FitSettings, fine_tune_of
from collapse_jax.app.config.lm.following import follows_preset, open_values, preset_named
from collapse_jax.app.config.lm.kept import check_real_kept
from collapse_jax.app.config.lm.loop import LoopSettings, check_first_token, check_prompts
from collapse_jax.app.config.lm.measuring import (
    PERPLEXITY_WORDS,
    TEST_PERPLEXITY,
    MeasureSettings,
    context_words,
    perplexities_shown,
    window_words,
)
from collapse_jax.app.config.lm.pool import PoolSettings, check_with_pool
from collapse_jax.app.config.lm.presets import PRESETS, PROTOCOLS, PresetSettings
from collapse_jax.app.config.lm.text import TextSettings
from collapse_jax.errors import one_of
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


@follows_preset
@dataclasses.dataclass(frozen=True)
class LMConfig(
    # The last one's fields come first.
    MeasureSettings,
    DecodingSettings,
    FitSettings,
    PoolSettings,
    LoopSettings,
    TextSettings,
    PresetSettings,
    Settings,
):
    """Fine-tune a language model on real text, train the next model on its text, and so on.

    The defaults are those of the preset, which is Fig. 1b of Shumailov et al. (2024) by default. A
    field that is given explicitly overrides the preset, even with the default value of the field.
    `dataclasses.replace` passes every field explicitly, so replacing `preset` alone changes nothing
    else: construct a new `LMConfig` for another preset.
    """

    command: ClassVar[str] = "lm"
    decisive: ClassVar[tuple[str, ...]] = (
        "preset",
        "protocol",
        "decoding",
        "schedule",
        "lora_rank",
    )
    exclusive: ClassVar[tuple[str, ...]] = ("preset", "protocol")
    may_change: ClassVar[tuple[str, ...]] = ("generations", "seeds", "checkpoints")
    paths: ClassVar[dict[str, str]] = {name: name for name in ("corpus", "model", "tokenizer")}

    @classmethod
    def of_preset(cls, preset: str, **changes: Any) -> "LMConfig":
        """Returns the settings of a published loop.

        Args:
            preset: A name of `PRESETS`.
            changes: Settings by name; they override the preset's.

        Raises:
            InputError: If there is no such preset.
        """
        one_of("preset", preset, PRESETS)
        made: Any = cls
        return made(preset=preset, **changes)

    def check(self) -> None:
        """Raises `InputError` for the first setting that is out of range."""
        self.check_preset()
        with preset_named(self):
            self._check_groups()

    def _check_groups(self):
        self.check_text()
        self.check_loop()
        self.check_pool()
        self.check_fit()
        self.check_decoding()
        self.check_measures()
        self.check_window(self.blocks_from, self.test_blocks)
        resolved = vars(self.resolved())
        self.check_shares(resolved["real_fraction"])
        check_prompts(resolved)
        check_with_pool(resolved)

    def resolved(self) -> "LMConfig":
        """Returns the settings as config.json stores them: preset and protocol are filled in."""
        defaults = open_values(self.preset, self.protocol)
        if self.counts_real:
            defaults["real_fraction"] = None
        return dataclasses.replace(
            self, **{name: value for name, value in defaults.items() if getattr(self, name) is None}
        )

    def settings(self) -> "LMSettings":
        """Returns the checked settings in the form that the code below the command takes.

        Raises:
            InputError: If one is out of range.
        """
        self.check()
        config = self.resolved()
        values = vars(config)
        with preset_named(config):
            # Folders that earlier versions made with these can still be read.
            if self.real_fraction is None:
                check_real_kept(values, open_values(config.preset, config.protocol)["real_kept"])
            check_first_token(values)
            fine_tune, decoder = fine_tune_of(values), decoder_of(values)
        return LMSettings(
            config,
            fine_tune,
            decoder,
            values["real_fraction"] or 0.0,
            values["real_kept"] == "batches",
        )


# A run folder of a version that had no such field was made with the default of the field, whatever
# its preset says by now.
LMConfig.earlier = {field.name: field.default for field in dataclasses.fields(LMConfig)}


class LMSettings(NamedTuple):
    """Checked settings of a run, with all values of preset and protocol filled in.

    config: as config.json stores them. The other fields are derived from it.
    fine_tune: the fit of each generation.
    decoder: how blocks are continued.
    real_fraction: share of real blocks in each training set; 0 if a number of blocks is given.
    real_in_batches: whether they are whole batches, rather than drawn.
    """

    config: LMConfig
    fine_tune: "FineTune"
    decoder: "Decoder"
    real_fraction: float
    real_in_batches: bool
