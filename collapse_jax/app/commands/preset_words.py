"""What a run says of the published loop that it follows."""

from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm.presets import OF_SHUMAILOV, PRESETS


def preset_words(config: LMConfig) -> list[str]:
    """Lines on the preset of a run: what was changed, what is ours, and what is not followed.

    Args:
        config: With nothing left to the preset. Of Shumailov et al., whose loop this is by
            default, there is nothing to say.
    """
    if config.preset in OF_SHUMAILOV:
        return []
    row, values = PRESETS[config.preset], vars(config)
    there = vars(LMConfig.of_preset(config.preset).resolved())
    changed = [
        f"{name} {values[name]} (there {there[name]})"
        for name in row.settings
        if values[name] != there[name]
    ]
    open_ones = [f"{name} {there[name]}" for name in row.left_open if values[name] == there[name]]
    parts = [f"preset {config.preset}: {row.title}"]
    if changed:
        parts.append(f"changed: {', '.join(changed)}")
    if open_ones:
        parts.append(f"left open by its source, and ours: {', '.join(open_ones)}")
    lines = ["; ".join(parts)]
    if row.not_followed:
        lines.append(f"preset {config.preset}, not followed: {'; '.join(row.not_followed)}")
    return lines
