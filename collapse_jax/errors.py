"""The package's exceptions, and the checks of arguments that raise `InputError`.

A check returns the value, or raises with one line: "NAME is VALUE; it must be ...". `name` is the
name of the value in that line. `must_be` replaces the end of the line if a range is not specific
enough.
"""

import itertools
import math
import unicodedata
from collections.abc import Callable, Iterable
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

# The largest numbers of characters of an error text, and of a value in it.
_LONGEST_LINE, _LONGEST_VALUE = 2000, 200
# Categories of Unicode that draw nothing themselves, but steer a terminal or turn text around:
# control characters, formats, surrogates, separators of lines and paragraphs. The two joiners stay:
# scripts and emoji are written with them, and they reorder nothing.
_UNSEEN, _JOINERS = {"Cc", "Cf", "Cs", "Zl", "Zp"}, "\u200c\u200d"


class InputError(ValueError):
    """Bad input, found before any work was done.

    The command line prints its text alone, as one line, and exits with code 2.
    """

    def __init__(self, text: str):
        line = visible(" ".join(str(text).splitlines()))  # values may hold anything
        if len(line) > _LONGEST_LINE:
            half = _LONGEST_LINE // 2
            line = f"{line[:half]} ... {line[-half:]}"
        super().__init__(line)


class DivergenceError(ArithmeticError):
    """A fit whose loss or parameters became nan, or an invalid reward, verdict or weight.

    The message names the step or the function. What was saved before that step stays on disk.

    trace: for `cj.simulate`, the records of all chains up to the end of the chunk in which one
        chain became nan. The metrics of that chain are those of a model of nan from then on.
        Otherwise None.
    summary: for `cj.simulate_summary`, the summary of the earlier chunks; otherwise None.
    dataset: for `cj.simulate_grid`, the points that are done; otherwise None.
    """

    trace: Any = None
    summary: Any = None
    dataset: Any = None


class FloatRangeWarning(UserWarning):
    """Models whose numbers are finite but out of the range in which they are accurate.

    The text names the generation, the number of chains, and the metrics that are inaccurate there.
    """


class DamagedError(Exception):
    """A file whose content differs from what was saved; the message names the file.

    Results that were computed from it are computed again.
    """

    def __init__(self, text: str):
        super().__init__(visible(text))


def number(name: str, value: Any) -> float:
    """Returns any number as a float; nan and infinity are allowed.

    Args:
        value: Anything that `float` takes, except text.

    Raises:
        InputError: If it is not a number.
    """
    result = _as_float(value)
    if result is None:
        raise _refused(name, value, "a number")
    return result


def numbers(name: str, value: Any) -> "np.ndarray":
    """Returns any array or nested sequence of numbers as a float64 array.

    Args:
        value: One number, or an array-like of any shape.

    Raises:
        InputError: If it contains text, objects or complex numbers, or rows of different lengths.
    """
    import numpy as np  # here, so that the command line answers --help without it

    try:
        if np.asarray(value).dtype.kind not in "USOc":
            return np.asarray(value, float)
    except (TypeError, ValueError):  # rows of different lengths
        pass
    raise _refused(name, value, "a number or an array of numbers")


def whole(name: str, value: Any, least: int, most: float = math.inf, *, must_be: str = "") -> int:
    """Returns an integer in [least, most] as Python's int.

    Args:
        value: An int or a NumPy integer; True and 2.0 are refused.
        least: The smallest value allowed.
        most: The largest value allowed.

    Raises:
        InputError: If it is not an integer, or out of range.
    """
    result = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if result is None or result < least:
        raise _refused(name, value, must_be or f"an integer of at least {least}")
    if result > most:
        raise _refused(name, value, must_be or f"at most {most}")
    return result


def real(
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    finite: bool = True,
    must_be: str = "",
) -> float:
    """Returns a real number in a range as a float; without ends the range is unlimited.

    Args:
        value: Anything that `float` takes, except text and bools.
        at_least: The smallest value allowed.
        above: Exclusive lower end, instead of `at_least`.
        at_most: The largest value allowed.
        below: Exclusive upper end, instead of `at_most`.
        finite: Whether infinity is refused. Nan is always refused.

    Raises:
        InputError: If it is not a number, or out of range: "P is 2; it must be in (0, 1]".
    """
    result = None if isinstance(value, bool) else _as_float(value)
    if (
        result is None
        or math.isnan(result)
        or (finite and math.isinf(result))
        or (at_least is not None and result < at_least)
        or (above is not None and result <= above)
        or (at_most is not None and result > at_most)
        or (below is not None and result >= below)
    ):
        raise _refused(
            name, value, must_be or _range_words(at_least, above, at_most, below, finite)
        )
    return result


def one_of(name: str, value: Any, choices: Iterable[T], *, must_be: str = "") -> T:
    """Returns the choice that equals the value.

    Args:
        value: Anything; only an instance of a choice's type can equal it.
        choices: The allowed values, in the order in which the message lists them.

    Raises:
        InputError: If no choice equals it: "METHOD is 'x'; it must be one of a, b".
    """
    choices = tuple(choices)
    for choice in choices:
        if isinstance(value, type(choice)) and value == choice:
            return choice
    raise _refused(name, value, must_be or f"one of {', '.join(map(str, choices))}")


def function(name: str, value: Any) -> Callable:
    """Returns the value if it can be called.

    Raises:
        InputError: If it cannot be called.
    """
    if not callable(value):
        raise _refused(name, value, "a function")
    return value


def one_key(name: str, value: Any) -> Any:
    """Returns one typed key of `jax.random`, traced or not.

    Args:
        value: A key such as `jax.random.key(0)`.

    Raises:
        InputError: If it is anything else: a number, the two words of `jax.random.PRNGKey`, or
            several keys.
    """
    import jax  # here, so that the command line answers --help without it

    if not isinstance(value, jax.Array):
        raise _refused(name, value, "one key, such as jax.random.key(0)")
    if not jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise InputError(
            f"{name} is {value!r:.200}; it must be one key, such as jax.random.key(0) "
            "(jax.random.wrap_key_data converts an old key)"
        )
    if value.shape != ():
        raise InputError(
            f"{name} is {value!r:.200}; it must be one key, such as jax.random.key(0), but these "
            f"are keys of shape {list(value.shape)} (use jax.vmap over them)"
        )
    return value


def defined_at(value: Any) -> str:
    """Returns a function's name, with file and line if they are known: "fit (line 3 of a.py)".

    Args:
        value: Anything that can be called.
    """
    while hasattr(value, "func"):  # of functools.partial
        value = value.func
    name = getattr(value, "__qualname__", type(value).__qualname__).split("<locals>.")[-1]
    inner = getattr(value, "__func__", getattr(value, "__wrapped__", value))
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    if code is None:
        return name
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{name} (line {code.co_firstlineno} of {file})"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Returns " (did you mean 'NAME'?)" with the known name closest to a word, or ""."""
    import difflib

    close = difflib.get_close_matches(str(word), [str(name) for name in known], 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def made_by(name: str, value: Any, kind: type[T], maker: str) -> T:
    """Returns the value if it is an instance of a class.

    Args:
        value: Anything.
        kind: The class.
        maker: The function that returns such instances, for the message.

    Raises:
        InputError: If it is not an instance of the class.
    """
    if not isinstance(value, kind):
        raise _refused(name, value, f"what {maker} gives")
    return value


def rounding_twins(values: Iterable[Any]) -> tuple[float, float] | None:
    """Two numbers that differ, and by rounding alone (4 units in the last place); or None.

    Args:
        values: Numbers, and others, which are left out.
    """
    floats = sorted({float(value) for value in values if type(value) in (int, float)})
    for low, high in itertools.pairwise(floats):
        if high - low <= 4 * math.ulp(max(abs(low), abs(high))) < math.inf:
            # Neighbouring whole numbers are meant, however large they are.
            if not (low.is_integer() and high.is_integer()):
                return low, high
    return None


def first_line(error: BaseException, most: int | None = None) -> str:
    """Returns the first line of an exception's text, made `visible`, or the name of its type.

    Args:
        error: The exception.
        most: The largest number of characters to return; by default the whole line.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return visible(line[:most])


def visible(text: str, keep: str = "") -> str:
    """Returns text in which each character that would control a terminal is escaped.

    Names of files, packages and settings may contain any character: ESC starts the sequences that
    clear a screen, and U+202E reverses the text that follows.

    Args:
        text: Any text.
        keep: Characters that stay as they are, such as a line break.

    Returns:
        The text, with a control character as Python writes it: "\\x1b", "\\u202e", "\\n".
    """
    if text.isprintable():
        return text
    stays = _JOINERS + keep
    return "".join(
        repr(character)[1:-1]
        if unicodedata.category(character) in _UNSEEN and character not in stays
        else character
        for character in text
    )


def size_words(size: float) -> str:
    """Returns bytes as text, with at most one decimal: "13.3 GiB", "239 MiB", "1 KiB"."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{f'{size / unit:.1f}'.removesuffix('.0')} {name}"
    return f"{size:.0f} bytes"


def _refused(name, value, must_be):
    return InputError(f"{name} is {_shown(value)}; it must be {must_be}")


def _shown(value):
    """A number as `str` shows it (NumPy's repr includes the type), anything else by its repr."""
    text = repr(value) if _as_float(value) is None else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} ..."


def _as_float(value):
    try:
        return None if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _range_words(at_least, above, at_most, below, finite):
    low = at_least if above is None else above
    high = at_most if below is None else below
    if low is not None and high is not None:
        return f"in {'[' if above is None else '('}{low}, {high}{']' if below is None else ')'}"
    words = ["finite"] if finite else []
    if low is not None:
        words.append(f"at least {low}" if above is None else f"above {low}")
    if high is not None:
        words.append(f"at most {high}" if below is None else f"below {high}")
    return " and ".join(words) or "a number"
