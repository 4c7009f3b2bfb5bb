"""What a family takes as data: shape, values, and how much of them its numbers can hold.

A check is a function of points x [N, ...] as they were given (a NumPy array, never traced). It
returns them as the family holds them, or raises `InputError` that names a value and its place.
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.reading import at
from collapse_jax.errors import InputError

# Rounding may move a point by no more than this share of what the family measures: three digits.
DIGITS = 1e-3
# Numbers that are looked at together in float64.
_BLOCK = 2**20


@dataclasses.dataclass(frozen=True)
class PointCheck:
    """The check of a family of points of one shape, in an interval.

    Points that differ from `shape` by axes of length 1 alone have one meaning and are taken: [n]
    or [n, 1] for one dimension. So are integers and bools for real numbers, and floats without a
    fraction for whole ones. Held are float64 under x64, float32 otherwise, and int32.

    What rounding to these may lose is bounded: with h half the distance of the floats around the
    largest |x| of a coordinate, no point moves by more than h. Then neither does the mean, and, by
    the triangle inequality, neither does the deviation about it. h must be at most a thousandth of
    what `keeps` names, so that three digits of it are right.

    family: for messages, with its options: "categorical(4)".
    takes: what it takes, for messages: "labels 0, 1, 2, 3".
    shape: of one point.
    whole: whether points are integers.
    low, high: the smallest and the largest value.
    keeps: "differences" for families that subtract points from each other (h against the
        deviation, unless that is 0), "sizes" for those that do not (h against the mean |x|), None
        where no digit is lost.
    deviations: known ones, which take the place of the data's; () for none.
    hint: (smallest, largest value) -> what to do where values are outside, "" for nothing.
    """

    family: str
    takes: str
    shape: tuple[int, ...] = ()
    whole: bool = False
    low: float = -math.inf
    high: float = math.inf
    keeps: Literal["differences", "sizes"] | None = None
    deviations: tuple[float, ...] = ()
    hint: Any = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The points as the family holds them."""
        x = self._shaped(x)
        if x.dtype.kind == "c":
            place = np.argwhere(np.imag(x) != 0)
            place = place[0] if len(place) else np.zeros(x.ndim, int)
            raise self._refused(f"{at(place)} is {x[tuple(place)]!s}, of a complex type")
        smallest, largest = finite_bounds(x)
        if smallest < self.low or largest > self.high:
            raise self._outside(x, smallest, largest)
        if self.whole:
            return self._as_whole(x)
        return self._as_real(x)

    def _shaped(self, x):
        if x.shape[1:] == self.shape:
            return x
        if _long_axes(x.shape[1:]) == _long_axes(self.shape):
            return x.reshape(len(x), *self.shape)
        hint = ""
        if x.ndim == 2 and x.shape[:1] == self.shape:
            hint = "; points are rows: give x.T"
        elif self.whole and self.shape == () and x.ndim == 2 and (x.sum(1) == 1).all():
            hint = "; of one-hot rows give x.argmax(1)"
        wanted = ", ".join(["n", *map(str, self.shape)])
        raise InputError(
            f"points have shape {list(x.shape[1:])}; {self.family} takes {self.takes}, of shape "
            f"{list(self.shape)} (x is [{wanted}]{hint})"
        )

    def _as_whole(self, x):
        if x.dtype.kind == "f":
            broken = np.floor(x) != x
            if broken.any():
                raise self._wrong(x, broken)
        return x.astype(np.int32, copy=False)

    def _as_real(self, x):
        dtype = np.dtype(jnp.result_type(float))
        held = _held_as(x, dtype)
        if self.keeps is not None:
            check_digits(x, dtype, self.keeps, self.deviations)
        return held

    def _outside(self, x, smallest, largest):
        hint = self.hint(smallest, largest) if self.hint is not None else ""
        return self._wrong(x, (x < self.low) | (x > self.high), hint)

    def _wrong(self, x, where, hint=""):
        place = np.argwhere(where)[0]
        more = int(np.count_nonzero(where)) - 1
        count = f" ({more + 1:,} such values)" if more else ""
        value = _shown(x[tuple(place)])
        return self._refused(f"{at(place)} is {value}{count}", f" ({hint})" if hint else "")

    def _refused(self, what, hint=""):
        return InputError(f"{what}; {self.family} takes {self.takes}{hint}")


def reals(name: str, dim: int) -> PointCheck:
    """The check of a family of real points [n, dim] that subtracts them from each other."""
    return PointCheck(f"{name}(dim={dim})", "real numbers", (dim,), keeps="differences")


def check_any(x: np.ndarray) -> np.ndarray:
    """The check of a family without one: numbers that JAX holds, with digits in their differences.

    Raises:
        InputError: unless they are finite, and held with three digits of their deviations.
    """
    held = as_jax_holds(x)
    if x.dtype.kind == "f" and held.dtype != np.float16:
        check_digits(x, held.dtype, more=", or give the estimator a `check` of its own")
    return held


def as_jax_holds(x: np.ndarray) -> np.ndarray:
    """Numbers in a type of JAX: of 64 bits under x64 alone, else of 32.

    Raises:
        InputError: if one is not finite, or not held by that type.
    """
    finite_bounds(x)
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(x.dtype))
    if x.dtype.kind == "f":
        return _held_as(x, dtype)
    if x.dtype.kind in "iu" and dtype != x.dtype:
        range_of = np.iinfo(dtype)
        outside = (x < range_of.min) | (x > range_of.max)
        if outside.any():
            place = np.argwhere(outside)[0]
            raise InputError(
                f"{at(place)} is {x[tuple(place)]}, beyond what {dtype.name} holds; give floats, "
                "or jax.config.update('jax_enable_x64', True)"
            )
    return x.astype(dtype, copy=False)


def check_digits(
    x: np.ndarray,
    dtype: np.dtype,
    keeps: Literal["differences", "sizes"] = "differences",
    deviations: tuple[float, ...] = (),
    more: str = "",
) -> None:
    """Raises `InputError` where rounding leaves less than three digits; see `PointCheck`.

    Args:
        x: points [N, ...] as they were given.
        dtype: the type that they are rounded to.
        keeps, deviations: see `PointCheck`.
        more: another remedy, for the message.
    """
    flat = x.reshape(len(x), -1)
    largest, means, sizes, scale = moments(flat)
    step = half_spacing(largest, dtype)
    if keeps == "sizes":
        scale = sizes
    elif deviations:
        scale = np.asarray(deviations)
    elif x.dtype == np.float64:
        # What float64 itself cannot tell from a constant counts as one.
        scale = np.where(scale > 8 * np.finfo(float).eps * largest, scale, 0)
    lost = (scale > 0) & (step > DIGITS * scale)
    if not lost.any():
        return
    j = int(np.argmax(lost))
    column = f" in coordinate {j}" if flat.shape[1] > 1 else ""
    x64 = ", or jax.config.update('jax_enable_x64', True)" if dtype == np.float32 else ""
    if step[j] <= float(np.finfo(dtype).tiny):
        raise InputError(
            f"x is about {sizes[j]:.3g}{column}, too near the smallest {dtype.name}; multiply it "
            f"by a constant{x64}"
        )
    raise InputError(
        f"x has mean {means[j]:.10g} and standard deviation {scale[j]:.3g}{column}, and numbers of "
        f"{dtype.name} are {2 * step[j]:.5g} apart there: less than three digits of its "
        f"differences would be left; subtract a constant near the mean (variances stay){x64}{more}"
    )


def finite_bounds(x: np.ndarray) -> tuple[Any, Any]:
    """(smallest, largest) of numbers; of complex ones the smallest and largest part.

    Raises:
        InputError: if one is nan or infinite.
    """
    if not x.size:
        return 0, 0
    parts = x.view(np.real(x).dtype) if x.dtype.kind == "c" and x.flags.c_contiguous else x
    parts = np.stack([np.real(x), np.imag(x)]) if parts is x and x.dtype.kind == "c" else parts
    smallest, largest = parts.min(), parts.max()
    if x.dtype.kind in "fc" and not (np.isfinite(smallest) and np.isfinite(largest)):
        broken = ~np.isfinite(x)
        place, count = np.argwhere(broken)[0], int(np.count_nonzero(broken))
        others = f", and {count - 1:,} more are nan or infinite" if count > 1 else ""
        raise InputError(f"{at(place)} is {x[tuple(place)]}{others}; all must be finite")
    return smallest.item(), largest.item()


def half_spacing(largest: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Half the distance of floats around numbers, or the smallest float that is not flushed."""
    with np.errstate(over="ignore"):
        spacing = np.spacing(largest.astype(dtype)).astype(float)
    return np.where(largest > 0, np.maximum(spacing / 2, float(np.finfo(dtype).tiny)), 0)


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(largest |x|, mean, mean |x|, deviation) [d] of rows [N, d], in float64.

    Whole numbers are subtracted as such, so that none of their digits is lost before.
    """
    rows = max(_BLOCK // max(x.shape[1], 1), 1)
    first, count = x[0], len(x)
    largest, total, size, square = np.zeros((4, x.shape[1]))
    whole = x.dtype.kind in "iu" and x.dtype.itemsize == 8
    for start in range(0, count, rows):
        block = x[start : start + rows]
        # Modulo 2^64, which is exact wherever the difference is below 2^63.
        apart = (block - first).view(np.int64) if whole else block.astype(float) - first
        plain = np.abs(block.astype(float))
        largest = np.maximum(largest, plain.max(0))
        size += plain.sum(0)
        apart = apart.astype(float)
        total += apart.sum(0)
        with np.errstate(over="ignore"):
            square += (apart**2).sum(0)
    shift = total / count
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.maximum(square / count - shift**2, 0)
    return largest, first.astype(float) + shift, size / count, np.sqrt(variance)


def labels(count: int, most: int = 6) -> str:
    """ "labels 0, 1, 2, 3"; of many "labels 0 to 99"."""
    if count == 1:
        return "the label 0"
    listed = ", ".join(map(str, range(count))) if count <= most else f"0 to {count - 1}"
    return f"labels {listed}"


@functools.cache  # equal checks are equal
def starts_at_one(count: int, what: str = "labels"):
    """The hint for numbers from 1 to `count` where they must be 0 to count - 1."""
    return functools.partial(_from_one, count, what)


def check_size_of_params(what: str, given: int, wanted: int, at_most: bool = False) -> None:
    """Raises `InputError` for parameters of another size than the family's.

    Args:
        what: what there are so many of, for the message.
        given: how many the parameters have.
        wanted: how many the family has.
        at_most: whether fewer are right too.
    """
    if given > wanted or (given != wanted and not at_most):
        raise InputError(f"the params have {given} {what}, the family has {wanted}")


def check_location(name: str, means: np.ndarray, deviations: np.ndarray) -> None:
    """Raises `InputError` where floats around a model's means are too far apart; see `PointCheck`.

    Args:
        name: of the means, for the message.
        means: of any shape.
        deviations: of the same shape; those of 0 are let pass.
    """
    dtype = np.dtype(jnp.result_type(float))
    step = half_spacing(np.abs(means), dtype)
    lost = (deviations > 0) & (step > DIGITS * deviations) & (means != 0)
    if lost.any():
        place = np.unravel_index(np.argmax(lost), lost.shape)
        x64 = ", or jax.config.update('jax_enable_x64', True)" if dtype == np.float32 else ""
        raise InputError(
            f"{name} {means[place]:.10g} has standard deviation {deviations[place]:.3g}, and "
            f"numbers of {dtype.name} are {2 * step[place]:.5g} apart there: less than "
            f"three digits of its differences would be left; move it towards 0{x64}"
        )


def _from_one(count, what, smallest, largest):
    from_one = smallest >= 1 and largest == count
    return f"{what} that start at 1: subtract 1" if from_one else ""


def _held_as(x, dtype):
    """Real numbers in the type of a family, none of them infinite there."""
    with np.errstate(over="ignore", under="ignore"):
        held = x.astype(dtype, copy=False)
    if held is not x and not all(map(math.isfinite, (held.min(), held.max()))):
        place = np.argwhere(~np.isfinite(held))[0]
        raise InputError(
            f"{at(place)} is {_shown(x[tuple(place)])}, beyond what {dtype.name} holds; scale x, "
            "or jax.config.update('jax_enable_x64', True)"
        )
    return held


def _long_axes(shape):
    return tuple(size for size in shape if size != 1)


def _shown(value):
    return str(value.item() if isinstance(value, np.generic) else value)
