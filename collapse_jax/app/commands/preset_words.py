"""The lines that a run prints about the published loop that it follows."""

from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm.presets import OF_SHUMAILOV, PRESETS


def preset_words(config: LMConfig) -> list[str]:
    """Lines on the preset of a run: changed values, our choices, and what is not reproduced.

    Args:
        config: Resolved settings. The loops of Shumailov et al., which are the default, need no
            lines.
    """
    if config.preset in OF_SHUMAILOV:
        return []
    row, values = PRESETS[config.preset], vars(config)
    there = vars(LMConfig.of_preset(config.preset).resolved())
    changed = [
        f"{name} {values[name]} ({there[name]} in the preset)"
        for name in row.settings
        if values[name] != there[name]
    ]
    open_ones = [f"{name} {there[name]}" for name in row.left_open if values[name] == there[name]]
    parts = [f"preset {config.preset}: {row.title}"]
    if changed:
        parts.append(f"changed: {', '.join(changed)}")
    if open_ones:
        parts.append(f"left open by its source, our choice: {', '.join(open_ones)}")
    lines = ["; ".join(parts)]
    if row.not_followed:
        lines.append(f"preset {config.preset}, not reproduced here: {'; '.join(row.not_followed)}")
    return lines
