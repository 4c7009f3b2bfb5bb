"""Several values of a setting on the command line: a list with commas, which may contain ranges.

0:1:11 means 11 evenly spaced values from 0 to 1, and log:10:6000:50 means 50 values whose
logarithms are evenly spaced. Both ends are included.
"""

import math
from typing import NamedTuple

# Values of one axis.
_MOST = 10**6
_FORM = "A:B:N or log:A:B:N, with N of at least 2"
# Digits that are kept, so that 0:1:11 holds 0.3 as it is typed, and not 0.30000000000000004.
_DIGITS = 12


class Values(NamedTuple):
    """The values of a setting.

    values: ints or floats, in their order.
    note: a line about values that a range gives more than once, which are used once; else "".
    """

    values: tuple[int | float, ...]
    note: str = ""


def is_range(text: str) -> bool:
    """Whether a text contains a range."""
    return ":" in text


def read(kind: type, text: str) -> Values:
    """Returns the numbers that a text describes.

    Args:
        kind: int or float. In a range of ints, every value is rounded.
        text: numbers and ranges with commas.

    Raises:
        ValueError: for an invalid range; the message gives the reason but not the option. Also for
            text that `kind` cannot convert; the message is then that of `kind`.
    """
    values = [
        value
        for part in text.split(",")
        for value in (_range(kind, part) if is_range(part) else [kind(part)])
    ]
    if len(values) > _MOST:
        raise ValueError(f"{text!r} has {len(values)} values; give at most {_MOST}")
    if not is_range(text):
        return Values(tuple(values))
    once = tuple(dict.fromkeys(values))
    what = "whole numbers" if kind is int else "values"
    note = f"{text} has {len(once):,} different {what} among {len(values):,}; each is used once"
    return Values(once, note if len(once) < len(values) else "")


def _range(kind, part):
    """The values of A:B:N or log:A:B:N."""
    words = part.split(":")
    is_log = words[0] == "log"
    words = words[1:] if is_log else words
    try:
        first, last, count = float(words[0]), float(words[1]), int(words[2])
    except (ValueError, IndexError):
        raise ValueError(f"{part!r} must be {_FORM}") from None
    if len(words) > 3 or count < 2 or not (math.isfinite(first) and math.isfinite(last)):
        raise ValueError(f"{part!r} must be {_FORM}")
    if count > _MOST:
        raise ValueError(f"{part!r} has {count} values; give at most {_MOST}")
    if is_log and min(first, last) <= 0:
        raise ValueError(f"{part!r} must have two positive ends")
    low, high = (math.log(first), math.log(last)) if is_log else (first, last)
    inner = [low + (high - low) * place / (count - 1) for place in range(1, count - 1)]
    inner = [math.exp(value) for value in inner] if is_log else inner
    if kind is int:
        return [round(value) for value in (first, *inner, last)]
    return [first, *(float(f"{value:.{_DIGITS}g}") for value in inner), last]
