"""Helpers for reading a `config.json`: values with defaults, and rotary positions."""

import dataclasses
from typing import Any

from collapse_jax.errors import InputError
from collapse_jax.models.lm.switches import Rotary, TransformerConfig

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
# The names that transformers writes.
ACTIVATION_NAMES = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu"}


@dataclasses.dataclass(frozen=True)
class Values:
    """The values of one `config.json`."""

    values: dict[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name; null counts as absent."""
        value = self.values.get(name)
        return default if value is None else value

    def only(self, name: str, default: Any, built: Any) -> None:
        """Raises `InputError` unless a setting has the supported value."""
        value = self.get(name, default)
        if value != built:
            raise InputError(f"config.json: {name} is {value!r}; only {built!r} is supported")

    def integer(self, name: str, default: int | None = None) -> int:
        """Returns a positive integer."""
        value = self.get(name, default)
        if type(value) is not int or value < 1:
            there = "missing" if value is None else f"{value!r:.100}"
            raise InputError(f"config.json: {name} is {there}; it must be a positive integer")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise InputError(f"config.json: {name} is {value!r:.100}; it must be true or false")
        return value

    def number(self, name: str, default: float) -> float:
        """A positive number."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(f"config.json: {name} is {value!r:.100}; it must be above 0")
        return value

    def shared_width(self, heads: str, width: str, by_default: tuple[int, int]) -> tuple[int, int]:
        """(heads, width), of which each head has an equal part."""
        count, size = self.integer(heads, by_default[0]), self.integer(width, by_default[1])
        if size % count:
            raise InputError(f"config.json: {width} {size} is not a multiple of {heads} {count}")
        return count, size

    def object(self, name: str) -> dict[str, Any]:
        """A JSON object; empty where there is none."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise InputError(f"config.json: {name} is {value!r:.200}; it must be an object")
        return value

    def activation(self, name: str, default: str) -> str:
        """Our name of an activation."""
        value = self.get(name, default)
        if not isinstance(value, str) or value not in ACTIVATIONS:
            raise InputError(
                f"config.json: {name} is {value!r}; supported are {', '.join(sorted(ACTIVATIONS))}"
            )
        return ACTIVATIONS[value]

    def special_tokens(self, **defaults: int) -> dict[str, Any]:
        """The ids of special tokens; the beginning and padding are the end where there are none."""
        # An explicit null is a model without an end; a default is meant where the name is absent.
        value = self.values.get("eos_token_id", defaults.get("eos"))
        ends = value if isinstance(value, list) else [value]
        if not ends or any(type(end) is not int for end in ends):
            there = "missing" if value is None else repr(value)
            raise InputError(
                f"config.json: eos_token_id is {there}; it must be a token or a list of tokens"
            )
        return {
            "eos_token_id": ends[0],
            "more_ends": tuple(ends[1:]),
            "bos_token_id": self.get("bos_token_id", defaults.get("bos", ends[0])),
            "pad_token_id": self.get("pad_token_id", defaults.get("pad", ends[0])),
        }

    def windows(self, layers: int, window: int | None, by_default: list[str]) -> tuple:
        """The window of each layer, from `layer_types`; () if every layer has full attention."""
        kinds = self.get("layer_types", by_default)
        built = {"full_attention": None, "sliding_attention": window}
        if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= set(built):
            raise InputError(
                f"config.json: layer_types is {kinds!s:.200}; it must be a list of {layers}, "
                "each 'full_attention' or 'sliding_attention'"
            )
        found = tuple(built[kind] for kind in kinds)
        return found if any(one is not None for one in found) else ()

    def rotary(self, theta: float = 10_000.0, share: float = 1.0) -> Rotary:
        """Rotary positions, in the words of transformers 4 (`rope_theta`, `rope_scaling`) or 5."""
        scaling = self.object("rope_scaling") | self.object("rope_parameters")
        return rotary_from(
            {
                "rope_theta": self.get("rope_theta", theta),
                "partial_rotary_factor": self.get("partial_rotary_factor", share),
            }
            | {name: value for name, value in scaling.items() if value is not None}
        )


def written_tokens(config: TransformerConfig) -> dict[str, Any]:
    """What `Values.special_tokens` reads."""
    return {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.ends) if config.more_ends else config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


def rotary_from(values: dict[str, Any]) -> Rotary:
    """`Rotary` from one object of rope parameters."""
    kind = values.get("rope_type", values.get("type", "default"))
    numbers = {"theta": values["rope_theta"], "share": values.get("partial_rotary_factor", 1.0)}
    names = {"default": {}, "linear": {"factor": "factor"}}
    names["llama3"] = names["linear"] | {
        "low": "low_freq_factor",
        "high": "high_freq_factor",
        "original": "original_max_position_embeddings",
    }
    if kind not in names:
        raise InputError(
            f"config.json: rotary positions of type {kind!r}; supported are {', '.join(names)}"
        )
    for ours, name in names[kind].items():
        if name not in values:
            raise InputError(f"config.json: rotary positions of type {kind!r} need {name}")
        numbers[ours] = values[name]
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(
                f"config.json: rotary positions have {name} {value!r}; it must be a number"
            )
    return Rotary(**numbers)


def rope_parameters(rotary: Rotary) -> dict[str, Any]:
    """The object that `rotary_from` reads."""
    values: dict[str, Any] = {"rope_type": "default", "rope_theta": rotary.theta}
    if rotary.share != 1:
        values["partial_rotary_factor"] = rotary.share
    if rotary.low is not None:
        values |= {
            "rope_type": "llama3",
            "factor": rotary.factor,
            "low_freq_factor": rotary.low,
            "high_freq_factor": rotary.high,
            "original_max_position_embeddings": rotary.original,
        }
    elif rotary.factor != 1:
        values |= {"rope_type": "linear", "factor": rotary.factor}
    return values
