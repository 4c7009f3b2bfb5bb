"""Numbers of workflows and curations: known, traced, or functions of the generation.

A driver checks all of them before it begins, as it does with sample sizes. The attribute
`schedules` of a workflow's `next`, and of each of its filters, lists the numbers to check.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core import sizes
from collapse_jax.core.functions import check_arguments
from collapse_jax.errors import InputError, first_line, number

# What shares in float32 may exceed their range by.
_ROUNDING = 1e-6
# Numbers [generation] that are computed at once.
_BLOCK = 2**20


class Schedule(NamedTuple):
    """Numbers that belong together, at every generation.

    names: their names.
    values: each a number, a traced scalar, or a function of the generation.
    is_sound: numbers [...] -> bool [...], whether each is in its range.
    must_be: the range in words.
    total: the sum that they must have; None for any.
    first, last: they are used in generations from `first` on and before `last`; None for all.
    """

    names: tuple[str, ...]
    values: tuple[Any, ...]
    is_sound: Callable[[Any], Any]
    must_be: str
    total: float | None = None
    first: int = 0
    last: int | None = None

    def between(self, first: int, last: int | None) -> "Schedule":
        """The same numbers, used from generation `first` on and before `last`."""
        ends = [end for end in (self.last, last) if end is not None]
        return self._replace(first=max(first, self.first), last=min(ends) if ends else None)

    def is_used(self, generation: Any) -> Any:
        """Whether the numbers are used in a generation; bool of its shape."""
        used = generation >= self.first
        return used if self.last is None else used & (generation < self.last)

    def at(self, generation: Any) -> tuple[Any, ...]:
        """The numbers at a generation."""
        pairs = zip(self.names, self.values, strict=True)
        return tuple(value_at(name, value, generation) for name, value in pairs)

    @property
    def is_constant(self) -> bool:
        """Whether they are the same in every generation."""
        return not any(map(callable, self.values))

    def is_sound_at(self, generation: Any) -> jax.Array:
        """Whether the numbers at a generation are in their range; bool []."""
        values = jnp.stack([jnp.asarray(value, float) for value in self.at(generation)])
        sound = jnp.all(self.is_sound(values))
        if self.total is not None:
            sound &= jnp.abs(jnp.sum(values) - self.total) <= _ROUNDING
        return sound | ~jnp.asarray(self.is_used(generation))

    def check(self, values: np.ndarray, first: int) -> None:
        """Raises `InputError` for numbers [names, generations] that are out of their range.

        Args:
            values: from generation `first` on; of constant ones a single column.
            first: the first generation.
        """
        values = np.asarray(values, np.float64)
        with np.errstate(invalid="ignore"):
            wrong = ~self.is_sound(values)
            total = np.sum(values, axis=0)
            off = np.zeros(len(total), bool)
            if self.total is not None:
                off = ~(np.abs(total - self.total) <= _ROUNDING)
        if not self.is_constant:
            used = self.is_used(first + np.arange(len(total)))
            wrong, off = wrong & used, off & used
        if not (wrong.any() or off.any()):
            return
        place = int(np.argmax(wrong.any(0) | off))
        where = "" if self.is_constant else f" at generation {first + place}"
        if wrong[:, place].any():
            row = int(np.flatnonzero(wrong[:, place])[-1])  # alpha may be what others leave
            raise InputError(
                f"{self.names[row]}{where} is {values[row, place]:g}; it must be {self.must_be}"
            )
        terms = " + ".join(f"{value:g}" for value in values[:, place])
        raise InputError(
            f"{' + '.join(self.names)}{where} is {total[place]:g} ({terms}); it must be "
            f"{self.total:g}"
        )


def shares(**values: Any) -> Schedule:
    """Numbers in [0, 1] by their names."""
    return Schedule(tuple(values), tuple(values.values()), is_share, "in [0, 1]")


def is_share(value: Any) -> Any:
    """Whether numbers are in [0, 1], or as near as float32 has them."""
    return (value >= -_ROUNDING) & (value <= 1 + _ROUNDING)


def checked_share(name: str, value: Any) -> bool:
    """Returns whether a share is a known number, which must then be in [0, 1].

    Raises:
        InputError: if the value is neither a share, traced or not, nor a function.
    """
    if callable(value):
        return False
    if isinstance(value, jax.Array):
        if value.shape != ():
            raise InputError(f"{name} has shape {list(value.shape)}; it must be one number")
        if not isinstance(value, Tracer) and not is_share(float(value)):
            raise InputError(f"{name} is {float(value):g}; it must be in [0, 1]")
        return False
    if not 0 <= number(name, value) <= 1:
        raise InputError(f"{name} is {value}; it must be in [0, 1]")
    return True


def value_at(name: str, value: Any, generation: Any) -> Any:
    """Returns a number unchanged, or the value of a function at a generation.

    Args:
        name: the name in error messages.
        value: a number, a traced scalar, or a function.
        generation: an int, or an array [], which may be traced.

    Raises:
        InputError: if the function fails, or does not return one number.
    """
    if not callable(value):
        return value
    traced = isinstance(generation, Tracer)
    try:
        found: Any = value(generation if traced else int(generation))
    except Exception as error:
        if not isinstance(error, InputError):
            check_arguments(name, value, ("generation",))
        if isinstance(error, InputError) or not traced:
            raise
        raise InputError(
            f"{name} fails for a generation that JAX traces ({type(error).__name__}: "
            f"{first_line(error, 200)}); use jnp.where for if, and jnp.array(values)[generation] "
            "for a list"
        ) from error
    where = name if traced else f"{name} at generation {int(generation)}"
    if not isinstance(found, Tracer) and jnp.ndim(found) == 0:
        return number(where, found)
    if jnp.ndim(found) != 0:
        raise InputError(f"{where} has shape {list(jnp.shape(found))}; it must be one number")
    return found


def share_at(name: str, value: Any, generation: Any) -> Any:
    """Returns a share at a generation, clipped to [0, 1] if float32 rounding exceeds it."""
    found = value_at(name, value, generation)
    if not callable(value):
        return found
    if isinstance(found, Tracer):
        return jnp.clip(found, 0, 1)
    if not is_share(found):
        where = "" if isinstance(generation, Tracer) else f" at generation {int(generation)}"
        raise InputError(f"{name}{where} is {found:g}; it must be in [0, 1]")
    return min(max(found, 0.0), 1.0)


def of(workflow: Any) -> tuple[Schedule, ...]:
    """Returns the numbers of a workflow and of its filters that must be checked."""
    given = (workflow.next, *workflow.filters)
    return tuple(one for function in given for one in getattr(function, "schedules", ()))


def check(given: tuple[Schedule, ...], generations: int, first: int = 1) -> None:
    """Checks numbers in all generations of a run, as far as they are known before it.

    Args:
        given: the result of `of`.
        generations: the last generation.
        first: the first generation; generation 0 has real data alone.

    Raises:
        InputError: for the first generation with a number out of its range; the message names both.
    """
    for one in given:
        for begin, numbers in _blocks(1 if one.is_constant else generations, first):
            columns = [_values(*pair, numbers) for pair in zip(one.names, one.values, strict=True)]
            if any(column is None for column in columns):
                break  # traced: looked at in each step, or at the points of a grid
            one.check(np.stack([np.asarray(column, np.float64) for column in columns]), begin)


def _blocks(last, first) -> Iterator[tuple[int, np.ndarray]]:
    for begin in range(first, last + 1, _BLOCK):
        yield begin, np.arange(begin, min(begin + _BLOCK, last + 1))


def _values(name, value, numbers):
    """The numbers [generation]; None where they are traced."""
    if not callable(value):
        known = not isinstance(value, Tracer)
        return np.full(len(numbers), np.asarray(value, np.float64)) if known else None
    found = sizes.mapped(value, numbers)
    return (
        sizes.one_by_one(value, numbers, name) if found is None else _numeric(name, found, numbers)
    )


def _numeric(name, found, numbers):
    if found.dtype.kind not in "iufb":
        raise InputError(f"{name} at generation {numbers[0]} is {found[0]}; it must be a number")
    return found


def check_points(at: Callable[[Mapping], Any], generations: int, settings: Mapping) -> None:
    """Checks the numbers at all points of a grid.

    Args:
        at: settings -> the process at one point.
        generations: the last generation.
        settings: name -> [points].

    Raises:
        InputError: as `check`.
    """
    arrays = {name: jnp.asarray(values) for name, values in settings.items()}
    program, found = _at_points(at)
    if not jax.tree.leaves(jax.eval_shape(program, arrays, jnp.arange(1))):
        return
    constant = all(one.is_constant for one in found)
    for begin, numbers in _blocks(1 if constant else generations, 1):
        for one, of_points in zip(found, program(arrays, numbers), strict=True):
            for values in np.asarray(of_points):  # [points, generations, names]
                one.check(values.T, begin)


@functools.lru_cache(256)
def _at_points(at):
    """((settings [points], generations) -> one array [points, generations, names] of each, each)"""
    found = []

    def of_point(settings, numbers):
        found[:] = of(at(settings).parts.workflow)
        return [
            jax.vmap(lambda g, one=one: jnp.stack([jnp.asarray(v, float) for v in one.at(g)]))(
                numbers
            )
            for one in found
        ]

    return jax.jit(jax.vmap(of_point, (0, None))), found
