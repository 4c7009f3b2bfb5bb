"""Checks of arguments that several parts of the Python interface share: each gives the value back, or raises `InputError`."""

import math

import numpy as np

from collapse_jax.errors import InputError


def numbers(name: str, value) -> np.ndarray:
    """Any numbers as a float64 array."""
    try:
        if np.asarray(value).dtype.kind not in "USO":
            return np.asarray(value, float)
    except (TypeError, ValueError):  # rows of different lengths
        pass
    raise InputError(f"{name} is {_shown(value)}; it must be made of numbers")


def number(name: str, value) -> float:
    """One number, nan and infinity among them."""
    try:
        if not isinstance(value, str | bytes):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{name} is {_shown(value)}; it must be a number")


def whole(name: str, value, least: int, most: float = math.inf) -> int:
    """An integer in a range, Python's or NumPy's, as Python's."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} is {_shown(value)}; it must be an integer of at least {least}")
    if value > most:
        raise InputError(f"{name} is {value}; it must be at most {most}")
    return int(value)


def function(name: str, value):
    """Something that can be called."""
    if not callable(value):
        raise InputError(f"{name} is {_shown(value)}; it must be a function")
    return value


def made_by(name: str, value, kind: type, maker: str):
    """An instance of `kind`; maker: what gives one, in words."""
    if not isinstance(value, kind):
        raise InputError(f"{name} is {_shown(value)}; it must be what {maker} gives")
    return value


def _shown(value, most=200):
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]} ..."
