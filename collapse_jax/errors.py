"""The exceptions with one line for the user, and the checks of arguments that raise them.

Every line names the field or the place, the value, and what would be right. A check gives the value
back, or raises `InputError`.
"""

import math
from numbers import Integral
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class InputError(ValueError):
    """Bad input, found before any work was done.

    The command line prints its text alone and exits with code 2.
    """

    def __init__(self, text: str):
        # Values and other libraries' messages may hold line breaks, and a line of many thousand
        # characters is none to read.
        line = " ".join(str(text).splitlines())
        super().__init__(
            line
            if len(line) <= _LONGEST
            else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
        )


_LONGEST = 2000


class DivergenceError(ArithmeticError):
    """A fit whose loss or parameters stopped being numbers: the text names the step; what was saved
    stays on disk.
    """


class DamagedError(Exception):
    """A file that is not what was saved: the text names it.

    What was computed from it is made again.
    """


def numbers(name: str, value) -> "np.ndarray":
    """Any numbers as a float64 array."""
    import numpy as np  # here, so that the command line answers --help without it

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
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
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
