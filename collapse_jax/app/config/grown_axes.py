"""Settings of a grid with more values on its axes than its folder has."""

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from collapse_jax.app.config.simulate_axes import PROGRAM_AXES, VALUE_AXES
from collapse_jax.errors import InputError, rounding_twins

if TYPE_CHECKING:
    from collapse_jax.app.config.simulate import SimulateConfig

_FIELDS = (*PROGRAM_AXES, *VALUE_AXES)
# Fields in which a grid that grew may differ from what it was.
FIELDS = (*_FIELDS, "options", "grid")


class _Values(NamedTuple):
    """The values of one setting, or of one option of the family.

    name: of it.
    there, here: as they are written, by their values.
    """

    name: str
    there: dict
    here: dict

    @property
    def added(self) -> list:
        return [value for value in self.here if value not in self.there]

    @property
    def dropped(self) -> list:
        return [value for value in self.there if value not in self.here]


def merged(saved: "SimulateConfig", given: "SimulateConfig", where: str) -> "SimulateConfig":
    """Returns the settings of a resumed grid, with all its values.

    Args:
        saved: the settings in its folder, resolved.
        given: the settings of this call, resolved.
        where: the folder, for the error text.

    Returns:
        `given`, with the values of `saved` if it only leaves some out; otherwise unchanged.

    Raises:
        InputError: if some values are left out and others are new, and for a value that differs
            only by rounding from an existing one.
    """
    if not saved.axes() or not given.axes():
        return given
    pairs = _pairs(saved, given)
    if pairs is None:
        return given
    for one in pairs:
        twins = rounding_twins([*one.there, *one.here])
        if twins:
            raise InputError(
                f"{one.name} has {twins[0]!r} and {twins[1]!r}, in {where} and here, which differ "
                "only by rounding; give the existing value"
            )
    added = [one for one in pairs if one.added]
    dropped = [one for one in pairs if one.dropped]
    if added and dropped:
        left, new = dropped[0], added[0]
        raise InputError(
            f"{new.name} has {_listed(new.added)}, which are new in {where}, but {left.name} lacks "
            f"{_listed(left.dropped)}, which it contains; give these too, or choose another --out"
        )
    if not added:
        return dataclasses.replace(given, **{name: getattr(saved, name) for name in FIELDS})
    return dataclasses.replace(given, grid=_as_written(given, saved))


def grew(saved: "SimulateConfig", given: "SimulateConfig") -> bool:
    """Returns whether a grid has all values of another; then they may differ in `FIELDS`."""
    if not saved.axes() or not given.axes():
        return False
    pairs = _pairs(saved, given)
    return pairs is not None and not any(one.dropped for one in pairs)


def _pairs(saved, given):
    """The values of all settings that may be axes; None where some have no value."""
    found = []
    for name in _FIELDS:
        there, here = getattr(saved, name), getattr(given, name)
        if there == here:
            continue
        if there is None or here is None:
            return None
        there, here = (one if isinstance(one, tuple) else (one,) for one in (there, here))
        found.append(_Values(name, dict.fromkeys(there), dict.fromkeys(here)))
    options = _options(saved), _options(given)
    if options[0].keys() != options[1].keys():
        return None
    found += [_Values(name, there, options[1][name]) for name, there in options[0].items()]
    return found


def _options(config):
    """Option of the family -> value -> how it is written, of one value or of several."""
    single = {}
    for option in config.options:
        name, _, text = option.partition("=")
        try:
            single[name] = {float(text): text}
        except ValueError:
            single[name] = {text: text}
    return single | {
        name: {float(text): text for text in texts} for name, texts in config.option_axes().items()
    }


def _as_written(given, saved):
    """`grid` of `given`, with the values that are there as they are written there.

    What is written names a point, and so its random numbers.
    """
    there = _options(saved)
    return tuple(
        f"{name}={','.join(there[name].get(value, text) for value, text in texts.items())}"
        for name, texts in _options(given).items()
        if name in given.option_axes()
    )


def _listed(values):
    shown = ", ".join(map(str, values[:3]))
    return f"{shown} and {len(values) - 3:,} more" if len(values) > 3 else shown
