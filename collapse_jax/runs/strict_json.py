"""JSON that any parser reads: nan and infinities, which JSON has no numbers for, as texts.

They are "NaN", "Infinity" and "-Infinity", as in the JSON of protocol buffers. What older versions
wrote, Python's bare NaN and Infinity, is read too.
"""

import json
import math
from typing import Any

_STRICT = json.JSONEncoder(allow_nan=False)
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_QUOTED = ('"NaN"', 'Infinity"')


def dumps(value: Any, **options: Any) -> str:
    """`json.dumps` with the texts above for numbers that are not finite; options: those of
    `json.JSONEncoder`."""
    encoder = json.JSONEncoder(allow_nan=False, **options) if options else _STRICT
    try:
        return encoder.encode(value)
    except ValueError:  # the usual value has none, and is not copied
        return encoder.encode(as_json(value))


def loads(text: str) -> Any:
    """The inverse of `dumps`.

    Raises:
        ValueError: If it is no JSON.
    """
    value = json.loads(text)
    return from_json(value) if any(name in text for name in _QUOTED) else value


def as_json(value: Any) -> Any:
    """A value of dicts, lists, numbers and texts with texts for numbers that are not finite."""
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def from_json(value: Any) -> Any:
    """The inverse of `as_json`."""
    if isinstance(value, dict):
        return {name: from_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return _NUMBERS.get(value, value) if isinstance(value, str) else value
