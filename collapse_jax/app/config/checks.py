"""Checks that several commands' settings share; each raises `InputError` for the first bad one."""

import math

from collapse_jax.errors import InputError

# The seeds that jax.random.key tells apart, and the counts that 32 bits hold.
LARGEST_SEED, LARGEST_COUNT = 2**32 - 1, 2**31 - 1


def at_least(settings: object, least: float, *names: str) -> None:
    """Checks that the named settings (or all values of them) are at least `least`."""
    for name, value in _values(settings, names):
        if not value >= least:
            raise InputError(f"{name} is {value}; it must be at least {least}")


def at_most(settings: object, most: float, *names: str) -> None:
    """Checks that the named settings (or all values of them) are at most `most`, or None."""
    for name, value in _values(settings, names):
        if value is not None and value > most:
            raise InputError(f"{name} is {value}; it must be at most {most}")


def finite(settings: object, *names: str) -> None:
    """Checks that the named settings are finite and not negative."""
    for name, value in _values(settings, names):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} is {value}; it must be finite and not negative")


def _values(settings, names):
    """(name, value) of every value of the named settings; a setting may have several values."""
    for name in names:
        values = getattr(settings, name)
        for value in values if isinstance(values, tuple) else (values,):
            yield name, value
