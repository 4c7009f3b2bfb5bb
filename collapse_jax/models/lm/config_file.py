"""The values of a Hugging Face `config.json`, whatever its family."""

import json
from typing import Any

from collapse_jax.errors import InputError


def config_values(text: str) -> dict[str, Any]:
    """The values of a `config.json`.

    Raises:
        InputError: If it is not a JSON object, or states that the weights are quantised.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"config.json is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise InputError("config.json must contain one JSON object")
    if values.get("quantization_config"):
        raise InputError(
            "config.json: it has a quantization_config; only floating weights are read"
        )
    return values
