"""What people call data as a NumPy array of numbers, or one line that says why it is none."""

import decimal
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.errors import InputError, first_line

_CODES = "give codes, as numpy.unique(x, return_inverse=True)[1]"
# What NumPy's kinds of types are called, and what to do about them.
_NO_NUMBERS = {
    "U": ("text", _CODES),
    "S": ("text", _CODES),
    "M": ("dates", "subtract a start, and divide by a unit of time"),
    "m": ("time spans", "divide by a unit, as x / numpy.timedelta64(1, 's')"),
    "V": ("records of several fields", "give one array of numbers"),
    "T": ("text", _CODES),
}


def read(x: Any) -> np.ndarray | jax.Array:
    """An array-like as an array of numbers, in the type that it has.

    Args:
        x: an array, a frame, or a nested sequence of numbers. A mask must hide nothing. Python's
            numbers of any kind are read as floats where they are no integers.

    Returns:
        Bools, integers, floats or complex numbers; a traced array as it is.

    Raises:
        InputError: unless it is made of numbers, and all its rows have one length.
    """
    if isinstance(x, Tracer):
        return x
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        place = np.argwhere(np.ma.getmaskarray(x))[0]
        raise InputError(f"{at(place)} is masked; leave such points out, or fill them in")
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(_why(x, error)) from None
    if jnp.issubdtype(array.dtype, np.floating) and array.dtype.kind == "V":
        return array.astype(np.float32)  # bfloat16 and its like
    if array.dtype.kind == "O":
        return _of_objects(x, array)
    if array.dtype.kind in "fc" and np.real(array).dtype.itemsize > 8:
        with np.errstate(over="ignore"):
            return array.astype(float if array.dtype.kind == "f" else complex)
    if array.dtype.kind in _NO_NUMBERS:
        what, remedy = _NO_NUMBERS[array.dtype.kind]
        given = x if isinstance(x, str | bytes) else array.ravel()[:1].tolist()
        raise InputError(
            f"it holds {what}, as {given!r:.100}; it must be an array of numbers: {remedy}"
        )
    return array


def at(place: Any) -> str:
    """The name of an entry: x[17], x[3, 1]."""
    return f"x[{', '.join(str(int(axis)) for axis in np.atleast_1d(place))}]"


def _of_objects(x, array):
    if array.ndim == 0:
        remedy = ": give x.toarray()" if hasattr(x, "toarray") else ""
        raise InputError(
            f"it is {type(x).__name__} {x!r:.100}; it must be an array of numbers{remedy}"
        )
    for place, value in np.ndenumerate(array):
        if not isinstance(value, numbers.Number | decimal.Decimal | np.number | np.bool_):
            remedy = f": {_CODES}" if isinstance(value, str | bytes) else ""
            raise InputError(f"{at(place)} is {value!r:.100}; it must be a number{remedy}")
    values = array.ravel().tolist()
    try:
        if all(isinstance(value, numbers.Integral) for value in values):
            return np.array(values, np.int64).reshape(array.shape)
        kind = float if all(_is_real(value) for value in values) else complex
        return np.array([kind(value) for value in values]).reshape(array.shape)
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"its numbers cannot be held ({first_line(error)})") from None


def _is_real(value):
    return isinstance(value, numbers.Real | decimal.Decimal)


def _why(x, error):
    """Why an array-like is no array."""
    if isinstance(x, list | tuple):
        shapes = []
        for row in x:
            try:
                shapes.append(np.shape(row))
            except (TypeError, ValueError):
                shapes.append(None)
        if len(x) == 2 and None not in shapes and shapes[0][:1] == shapes[1][:1] != ():
            return (
                f"it is a pair of arrays of shapes {shapes[0]} and {shapes[1]}; it must be one "
                "array: numpy.column_stack((features, labels))"
            )
        if None in shapes:
            lengths = f"x[{shapes.index(None)}] has rows of different lengths"
            return f"its rows are ragged: {lengths}; all must have one shape"
        for number, shape in enumerate(shapes):
            if shape != shapes[0]:
                lengths = f"x[0] has shape {shapes[0]}, and x[{number}] {shape}"
                return f"its rows are ragged: {lengths}; all must have one shape"
    return f"it is {x!r:.200} ({first_line(error)}); it must be an array of numbers [N, ...]"
