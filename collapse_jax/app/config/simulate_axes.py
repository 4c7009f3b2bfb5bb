"""The settings of `collapse-jax simulate` that may have several values, and their checks."""

import dataclasses
import math
from typing import TYPE_CHECKING

from collapse_jax.app.config import ranges
from collapse_jax.errors import InputError

if TYPE_CHECKING:
    from collapse_jax.app.config.simulate import SimulateConfig

WORKFLOWS = ("replace", "mix", "accumulate", "accumulate_subsample", "keep_real")
# Workflows that take a real share.
ACCUMULATING = ("accumulate", "accumulate_subsample")
# Options of two families that have fields here; those of all others are in `options`.
FIELDS_OF_FAMILIES = {"dim": "gaussian", "ddof": "gaussian", "num_categories": "categorical"}
# Options that take several values with commas. The first ones need a program for each value.
PROGRAM_AXES = ("workflow", "dim", "ddof", "num_categories", "synthetic_ratio")
VALUE_AXES = (
    *("sample_size", "alpha", "beta", "gamma", "real_share", "temperature"),
    *("synthetic_weight", "exchange"),
)
# Value axes that change nothing at one of their values, where the program has no trace of them.
NEUTRAL = {
    **{"alpha": 0.0, "beta": 0.0, "gamma": 0.0, "real_share": 0.0, "temperature": 1.0},
    **{"synthetic_weight": 1.0, "exchange": 0.0},
}
# Settings are made for every point before it starts, 1.5 kB each.
_MOST_POINTS = 10**6


def values_of_option(texts: str) -> tuple[str, ...]:
    """Returns the values of an option of the family in `grid`, as text.

    Args:
        texts: the text after "=": numbers and ranges with commas.
    """
    if not ranges.is_range(texts):
        return tuple(texts.split(","))
    return tuple(f"{value:.12g}" for value in ranges.read(float, texts).values)


def check_axes(config: "SimulateConfig") -> None:
    """Raises `InputError` for a value that is given twice, and for too many points."""
    for name, values in config.axes().items():
        if len(set(values)) == len(values):
            continue
        value = next(value for value in values if values.count(value) > 1)
        listed = ",".join(map(str, values))
        raise InputError(f"{name} has {value} more than once ({listed}); give each value once")
    points = math.prod(map(len, config.axes().values()))
    if points > _MOST_POINTS:
        raise InputError(
            f"{', '.join(config.axes())} make a grid of {points:,} points; give at most "
            f"{_MOST_POINTS:,}"
        )


def check_options(config: "SimulateConfig") -> None:
    """Raises `InputError` for options of the family that cannot be read, or are given twice."""
    for option in config.options:
        if "=" not in option:
            raise InputError(f"options has {option!r}; it must be NAME=VALUE")
        name = option.partition("=")[0]
        if sum(other.startswith(f"{name}=") for other in config.options) > 1:
            raise InputError(
                f"options give {name} more than once ('{' '.join(config.options)}'); give it once"
            )
        if FIELDS_OF_FAMILIES.get(name) == config.family:
            flag = f"--{name.replace('_', '-')} {option.partition('=')[2]}"
            raise InputError(f"options have {option}, which is a separate option; give {flag}")


def check_grid(config: "SimulateConfig") -> None:
    """Raises `InputError` for an invalid entry of `grid`."""
    for entry in config.grid:
        name, given, values = entry.partition("=")
        own = {field.name for field in dataclasses.fields(config)}
        if not given or not name or not values:
            raise InputError(f"grid has {entry!r}; it must be NAME=VALUE,VALUE,...")
        if name in own:
            raise InputError(
                f"grid has {name}, which has its own option; give --{name.replace('_', '-')} "
                f"{values}"
            )
        try:
            numbers = ranges.read(float, values).values
        except ValueError as error:
            if ranges.is_range(values):
                raise InputError(f"grid has {entry!r}: {error}") from None
            numbers = (math.nan,)
        if not all(map(math.isfinite, numbers)):
            raise InputError(
                f"grid has {entry!r}; its values must be finite numbers, separated by commas"
            )
        others = (*config.options, *config.grid)
        if sum(other.startswith(f"{name}=") for other in others) > 1:
            raise InputError(f"{name} is given more than once by options and grid; give it once")


def check_fields_of_families(config: "SimulateConfig") -> None:
    """Raises `InputError` for a field that the family ignores."""
    for name, family in FIELDS_OF_FAMILIES.items():
        value = getattr(config, name)
        if config.family != family and value != getattr(type(config), name):
            raise InputError(
                f"{name} is {value} with family {config.family}, which ignores it; give the "
                "options of this family by --options"
            )
