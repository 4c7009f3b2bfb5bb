"""How the defaults of settings follow from a preset."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from collapse_jax.app.config.lm.decoding import DECODING_OF
from collapse_jax.app.config.lm.presets import (
    DEFAULT_PRESET,
    LEFT_TO_BOTH,
    OF_SHUMAILOV,
    PRESETS,
    PROTOCOLS,
)
from collapse_jax.errors import InputError

T = TypeVar("T")


def follows_preset(kind: type[T]) -> type[T]:
    """Makes the values of a preset the defaults of a dataclass of settings.

    Args:
        kind: A dataclass with a field "preset". A value that is given, by name or position,
            overrides the preset's, even if it equals the default of the field.

    Returns:
        The same class.
    """
    made: Any = kind
    init = made.__init__
    names = [field.name for field in dataclasses.fields(made)]

    @functools.wraps(init)
    def __init__(self, *args, **given):
        given = dict(zip(names, args, strict=False)) | given
        init(self, **(_settings_of(given, names) | given))

    made.__init__ = __init__
    return kind


@contextlib.contextmanager
def preset_named(config: Any) -> Iterator[None]:
    """Within this context, an `InputError` adds which of the named values come from the preset.

    Args:
        config: An `LMConfig`. Nothing is added for the default preset.
    """
    try:
        yield
    except InputError as error:
        row = PRESETS.get(config.preset)
        if row is None or config.preset == DEFAULT_PRESET:
            raise
        said = str(error)
        own = [
            f"{name} {value}"
            for name, value in row.settings.items()
            if re.search(rf"\b{name}\b.*\b{re.escape(str(value))}\b", said)
            and getattr(config, name) in (value, None)
        ]
        if own:
            are = "is a value" if len(own) == 1 else "are values"
            error.args = (f"{said} ({', '.join(own)} {are} of preset {config.preset})",)
        raise


def _settings_of(given, names):
    """The values of the given preset, except those that `open_values` fills in."""
    preset = given.get("preset", DEFAULT_PRESET)
    row = PRESETS.get(preset) if isinstance(preset, str) else None
    if row is None:  # `check_preset` says so
        return {}
    missing = [name for name in row.settings if name not in names]
    if missing:
        raise InputError(
            f"preset is {preset!r}, which sets {', '.join(missing)}; this version does not have "
            "these settings, so give another preset"
        )
    return {
        name: value
        for name, value in row.settings.items()
        if name not in LEFT_TO_BOTH and not _is_ignored(name, given)
    }


def _is_ignored(name, given):
    """Whether what is given leaves a setting of the preset without effect, so that it would be
    refused: a preset's temperature with beam search.
    """
    decoding, schedule = given.get("decoding"), given.get("schedule")
    return (
        (decoding is not None and DECODING_OF.get(name, decoding) != decoding)
        or (name in ("lora_alpha", "lora_targets") and given.get("lora_rank") == 0)
        or (name == "final_learning_rate" and schedule == "constant")
        or (name == "warmup_steps" and schedule == "cosine-by-epoch")
    )


def open_values(preset: str, protocol: str) -> dict[str, Any]:
    """Returns the values of the fields that are None until preset and protocol fill them in.

    Args:
        preset: A name of `PRESETS`.
        protocol: A name of `PROTOCOLS`; for loops other than those of Shumailov et al. it fills in
            only what they leave out.
    """
    own = {name: value for name, value in PRESETS[preset].settings.items() if name in LEFT_TO_BOTH}
    if preset in OF_SHUMAILOV:
        return own | PROTOCOLS[protocol]
    return PROTOCOLS[protocol] | own
