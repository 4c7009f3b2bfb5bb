"""The published loops as Markdown: the tables of docs/presets.md."""

from collections.abc import Mapping
from typing import Any

from collapse_jax.app.config.lm.following import open_values
from collapse_jax.app.config.lm.presets import OF_SHUMAILOV, PRESETS, PROTOCOLS

# The settings in the order of the questions that a reader has.
_ORDER = (
    "corpus", "text_column", "model", "start", "block_length", "train_blocks", "test_blocks",
    "workflow", "real_fraction", "real_kept", "prompts", "prompt_length", "continuation_length",
    "train_on", "decoding", "temperature", "top_k", "top_p", "min_p", "repetition_penalty",
    "loss_on", "epochs", "batch_size", "gradient_accumulation", "learning_rate", "schedule",
    "warmup_steps", "final_learning_rate", "weight_decay", "max_grad_norm", "lora_rank",
    "lora_alpha", "lora_targets", "precision", "generator", "generations", "seeds", "protocol",
)  # fmt: skip


def markdown() -> str:
    """Returns tables of names and settings, and lists of what is left open and not followed.

    A star marks a value that the source leaves open. An empty cell is the default of `collapse-jax
    lm`.
    """
    names = ["| preset | what it is | source |", "|---|---|---|"]
    names += [f"| `{name}` | {row.title} | {row.source} |" for name, row in PRESETS.items()]
    return "\n".join([*names, "", *_settings(), "", *_remarks()]) + "\n"


def _settings():
    """Lines of the table of settings: a row per setting, a column per loop."""
    columns = _columns()
    rows = [
        f"| setting | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    named = {setting for values, _ in columns.values() for setting in values}
    for setting in (*_ORDER, *sorted(named.difference(_ORDER))):
        cells = [_cell(values, setting, left_open) for values, left_open in columns.values()]
        if any(cells):
            rows.append(f"| `{setting}` | {' | '.join(cells)} |")
    return rows


def _columns() -> dict[str, tuple[Mapping[str, Any], Mapping[str, str]]]:
    """Heading -> (values, those left open); Shumailov et al. have another column for their code."""
    columns = {}
    for name, row in PRESETS.items():
        for protocol in PROTOCOLS if name in OF_SHUMAILOV else ("paper",):
            heading = f"{name}, released code" if protocol == "released-code" else name
            columns[heading] = ({**row.settings, **open_values(name, protocol)}, row.left_open)
    return columns


def _cell(values, setting, left_open):
    if setting not in values:
        return "*" if setting in left_open else ""
    value = values[setting]
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, tuple):
        text = ", ".join(value)
    return text + "*" * (setting in left_open)


def _remarks():
    """Lines on each loop: what its source leaves open, and what is not reproduced here."""
    lines = []
    for name, row in PRESETS.items():
        lines += [f"## {name}", "", f"Source: {row.source}.", ""]
        if row.left_open:
            lines += ["Values that the source leaves open, and our choice:", ""]
            lines += [f"- `{setting}`: {remark}" for setting, remark in row.left_open.items()]
            lines.append("")
        if row.not_followed:
            lines += [
                "Not reproduced here:",
                "",
                *(f"- {remark}" for remark in row.not_followed),
                "",
            ]
    return lines[:-1]
