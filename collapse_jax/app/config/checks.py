"""Checks that several commands' settings share."""

import math

from collapse_jax.errors import InputError

# The seeds that jax.random.key tells apart, and the counts that 32 bits hold.
LARGEST_SEED, LARGEST_COUNT = 2**32 - 1, 2**31 - 1


def at_least(config, least, *names):
    """Raises `InputError` for the first of the named settings (or of its values) that is below
    `least`.
    """
    for name in names:
        values = getattr(config, name)
        for value in values if isinstance(values, tuple) else (values,):
            if not value >= least:
                raise InputError(f"{name} is {value}; it must be at least {least}")


def at_most(config, most, *names):
    """Raises `InputError` for the first of the named settings (or of its values) that is above
    `most`.
    """
    for name in names:
        values = getattr(config, name)
        for value in values if isinstance(values, tuple) else (values,):
            if value is not None and value > most:
                raise InputError(f"{name} is {value}; it must be at most {most}")


def finite(config, *names):
    """Raises `InputError` for the first of the named settings that is negative, infinite or nan."""
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} is {value}; it must be finite and not negative")
