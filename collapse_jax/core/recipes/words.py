"""The call that a recipe stands for, as one line of text."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core.recipes.keys import Recipe

# Numbers of an array, and characters of a text, that are written out.
_NUMBERS, _LONGEST, _LONGEST_LINE = 4, 60, 400


def call_words(recipe: Recipe) -> str:
    """The call with its arguments as they were given, as `gaussian(1, ddof=1)`.

    A maker's attribute `called` is another name for it, and `shown` names defaults that are shown
    where nothing was given.
    """
    shown = recipe.args
    if not shown and not recipe.options:
        shown = tuple(recipe.arguments[name] for name in getattr(recipe.maker, "shown", ()))
    options = [f"{name}={short(value)}" for name, value in recipe.options.items()]
    called = getattr(recipe.maker, "called", name_of(recipe.maker))
    return f"{called}({', '.join([*map(short, shown), *options])})"


def name_of(given: Any) -> str:
    """What a function, or another object, is called."""
    return getattr(given, "__name__", type(given).__name__)


def short(value: Any) -> str:
    """One setting in few words: numbers as they are, arrays by type and shape."""
    if isinstance(value, Tracer):
        return "traced"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, jax.Array | np.ndarray):
        return _array_words(value)
    if isinstance(value, str):
        text = repr(value)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."
    if hasattr(type(value), "recipe") or isinstance(value, bool | int | float | complex | None):
        return repr(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value).__name__  # parameters
    if isinstance(value, list | tuple):
        inner = ", ".join(map(short, value[: _NUMBERS + 1]))
        more = ", ..." if len(value) > _NUMBERS + 1 else ""
        return f"[{inner}{more}]"  # lists are kept as tuples
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{short(k)}: {short(v)}" for k, v in value.items()) + "}"
    return name_of(value)  # its own repr may print a whole model


def fields_words(record: Any) -> str:
    """A NamedTuple of arrays in one line: single numbers as they are, others by type and shape."""
    text = _tree_words(record)
    return text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 4]} ..."


def _tree_words(value):
    if isinstance(value, jax.Array | np.ndarray):
        is_known = isinstance(value, np.ndarray) or (
            not isinstance(value, Tracer) and value.is_fully_addressable and not value.is_deleted()
        )
        if value.size == 1 and value.ndim == 0 and is_known and value.dtype.kind in "biuf":
            number = value.item()
            return f"{number:.6g}" if isinstance(number, float) else str(number)
        return f"{value.dtype}{list(value.shape)}"
    fields = getattr(value, "_fields", None)
    if isinstance(value, tuple) and fields is not None:
        pairs = zip(fields, value, strict=True)
        inner = ", ".join(f"{name}={_tree_words(item)}" for name, item in pairs)
        return f"{type(value).__name__}({inner})"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key!r}: {_tree_words(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, tuple):
        comma = "," if len(value) == 1 else ""
        return f"({', '.join(map(_tree_words, value))}{comma})"
    return repr(value)


def _array_words(array):
    is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    if array.size > _NUMBERS or is_key or array.dtype == object:
        return f"{array.dtype}{list(array.shape)}"
    return short(np.asarray(array).tolist())
