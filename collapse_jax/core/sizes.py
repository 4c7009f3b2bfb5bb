"""The sizes of training sets, looked at before a run as far as they are known by then."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.errors import InputError, first_line
from collapse_jax.random.derivatives import step_function

# Counts are held in 32 bits.
LARGEST = 2**31 - 1
# Points that are drawn without replacement, one after the other: a generation of one chain takes
# two minutes for so many.
LARGEST_WITHOUT_REPLACEMENT = 10**8
NO_DERIVATIVE = (
    "a sample size has no derivative: points are counted in whole numbers. Differentiate a closed "
    "form, or take differences of simulations (docs/gradients.md)"
)
# Sizes that are computed at once.
_BLOCK = 2**20


# (the most that a traced size may be,) while one point of a grid after another is made.
_GRID: contextvars.ContextVar[tuple[int | None] | None] = contextvars.ContextVar("grid")


@contextlib.contextmanager
def of_a_grid(most: int | None) -> Iterator[None]:
    """A context in which processes are points of a grid, one of which was looked at before.

    Args:
        most: what no traced sample size exceeds; None where that is not known.
    """
    token = _GRID.set((most,))
    try:
        yield
    finally:
        _GRID.reset(token)


def in_a_grid() -> bool:
    """Whether such a process was looked at before, as `of_a_grid` says."""
    return _GRID.get(None) is not None


def traced(size: Any, largest: int | None) -> tuple[Any, int | None]:
    """(a size, the most that it may be, where known); a traced one as a function."""
    if not isinstance(size, Tracer):
        return size, largest
    (most,) = _GRID.get(None) or (None,)
    return lambda generation: size, most if largest is None else largest


class TooMany(InputError):
    """More points are counted together than 32 bits hold."""


class Multiples(NamedTuple):
    """How many points a workflow holds together, in multiples of the size of a training set.

    kept: in its carry after the first set.
    growth: what each generation adds to the carry.
    pooled: in the largest pool that the first step makes.
    """

    kept: float = 0.0
    growth: float = 0.0
    pooled: float = 1.0


class Schedule(NamedTuple):
    """The sizes that a process asks for.

    sample_size: a number, or a function of the generation.
    most: the largest that is allowed.
    on_host: whether the function is given Python's integers, one at a time.
    """

    sample_size: Any
    most: int
    on_host: bool = False

    def at(self, generation: Any) -> Any:
        """The size at a generation: an int where it is a number, or the family runs on the host.

        Raises:
            InputError: where it is known, and no whole number in [1, most].
        """
        if not callable(self.sample_size):
            return self.sample_size
        size: Any = self._asked(int(generation) if self.on_host else generation)
        if isinstance(size, Tracer):
            return jnp.asarray(step_function(size, size, NO_DERIVATIVE), jnp.int32)
        number = generation if isinstance(generation, Tracer) else int(generation)
        self.check_known(_array([size]), number)
        return int(size) if self.on_host else jnp.asarray(int(size), jnp.int32)

    def _asked(self, generation):
        try:
            return self.sample_size(generation)
        except Exception as error:
            if not isinstance(generation, Tracer) or isinstance(error, InputError):
                raise
            raise InputError(
                "sample_size fails for a generation that JAX traces "
                f"({type(error).__name__}: {first_line(error, 200)}); use jnp.where for if, and "
                "jnp.array(sizes)[generation] for a list"
            ) from error

    def is_sound(self, generation: Any) -> Any:
        """Whether the size at a generation is a whole number in [1, most]; bool [], traced."""
        size = jnp.asarray(self._asked(generation))
        if not jnp.issubdtype(size.dtype, jnp.number):
            return jnp.zeros((), bool)
        return (size >= 1) & (size <= self.most) & (size == jnp.floor(size))

    def check(self, generations: int, counted: Multiples | None, name: str) -> None:
        """Looks at the sizes of all generations.

        Args:
            generations: the last one.
            counted: what a workflow holds together where that is counted in 32 bits, else None.
            name: the workflow's.

        Raises:
            InputError: for a size that is no whole number in [1, most]; it names the first
                generation.
            TooMany: for more points together than 32 bits count.
        """
        if not callable(self.sample_size):
            if counted is not None:
                _check_constant(self.sample_size, generations, counted, name)
            return
        totals = None if counted is None else _Totals(counted, name)
        for first, sizes in self._blocks(generations):
            self.check_known(sizes, first)
            if totals is not None:
                totals.add(sizes, first)

    def _blocks(self, generations) -> Iterator[tuple[int, np.ndarray]]:
        """(the first generation, sizes from there on), as far as they are known."""
        for first in range(0, generations + 1, _BLOCK):
            numbers = np.arange(first, min(first + _BLOCK, generations + 1))
            sizes = None if self.on_host else mapped(self.sample_size, numbers)
            sizes = one_by_one(self.sample_size, numbers) if sizes is None else sizes
            if sizes is None:
                return
            yield first, sizes

    def check_known(self, sizes: np.ndarray, first: Any) -> None:
        """Raises `InputError` for sizes [generation] from `first` on that are none."""
        if sizes.dtype.kind in "iuf":
            with np.errstate(invalid="ignore"):
                wrong = ~((sizes >= 1) & (sizes <= self.most) & (np.floor(sizes) == sizes))
        else:
            wrong = np.ones(len(sizes), bool)
        if wrong.any():
            place = int(np.argmax(wrong))
            where = "" if isinstance(first, Tracer) else f" at generation {first + place}"
            raise InputError(
                f"sample_size{where} is {sizes[place]}; it must be a whole number in "
                f"[1, {self.most}]"
            )


class _Totals:
    """Points that are held together, generation by generation."""

    def __init__(self, counted, name):
        self._counted, self._name, self._first, self._sum = counted, name, 0.0, 0.0
        self._largest = 0.0

    def add(self, sizes, first):
        """Takes the sizes from generation `first` on; raises for more than 32 bits count."""
        kept, growth, pooled = self._counted
        sizes = sizes.astype(np.float64)  # exact up to 2^53
        self._first = sizes[0] if first == 0 else self._first
        until = self._sum + np.cumsum(sizes)
        largest = np.maximum(np.maximum.accumulate(sizes), self._largest)
        if growth > 0:
            earlier = until - sizes - self._first
            totals = kept * self._first + growth * earlier + (pooled - kept) * sizes
        else:
            totals = max(pooled, kept) * largest
        if first == 0:
            totals[0] = max(kept, 1) * sizes[0]
        self._sum, self._largest = until[-1], largest[-1]
        if (totals > LARGEST).any():
            place = int(np.argmax(totals > LARGEST))
            raise _too_many("a function", self._name, first + place, totals[place])


def _check_constant(size, generations, counted, name):
    kept, growth, pooled = counted
    if max(kept, 1) * size > LARGEST:
        raise _too_many(size, name, 0, max(kept, 1) * size)
    if growth > 0:
        fits = int((LARGEST / size - pooled) // growth) + 1  # the last generation that does
    else:
        fits = generations if max(pooled, kept) * size <= LARGEST else 0
    if generations > fits:
        raise _too_many(size, name, fits + 1, (pooled + growth * fits) * size)


def _too_many(size, name, generation, total):
    return TooMany(
        f"sample_size is {size}, and {name} counts the points of {generation + 1} generations "
        f"together: {total:.0f} at generation {generation}, and they must be at most {LARGEST}; "
        "take fewer points or generations"
    )


def mapped(function: Any, numbers: np.ndarray) -> np.ndarray | None:
    """The function at all numbers at once; None where it cannot be mapped, or is traced."""

    def of_all(dtype):
        sizes = jax.vmap(lambda number: jnp.asarray(function(number)))(jnp.asarray(numbers, dtype))
        return None if isinstance(sizes, Tracer) or sizes.ndim != 1 else _array(sizes)

    try:
        with jax.ensure_compile_time_eval():
            sizes = of_all(jnp.int32)
            if sizes is None or sizes.dtype.kind not in "iu":
                return sizes
            # What integers of 32 bits have wrapped to a size that looks well.
            with jax.enable_x64(True):
                return of_all(jnp.int64)
    except Exception:
        return None


def one_by_one(function: Any, numbers: np.ndarray, name: str = "sample_size") -> np.ndarray | None:
    """The function at one number after the other; None where it is traced."""
    sizes = []
    for number in numbers.tolist():
        try:
            with jax.ensure_compile_time_eval():
                sizes.append(function(number))
        except jax.errors.UnexpectedTracerError:
            return None
        except Exception as error:
            raise InputError(
                f"{name} fails at generation {number} ({type(error).__name__}: {first_line(error)})"
            ) from error
    return None if any(isinstance(size, Tracer) for size in sizes) else _array(sizes)


def _array(sizes) -> np.ndarray:
    """Sizes [generation] as they were given, in text where one is no number."""
    try:
        array = np.asarray(sizes)
        # Mixed types become one: what is no number must not hide among those that are.
        hidden = isinstance(sizes, list) and any(isinstance(s, bool | np.bool_) for s in sizes)
        if array.dtype.kind in "iuf" and array.ndim == 1 and not hidden:
            return array
        if array.dtype.kind in "OV" and not hidden:  # integers of any length, and bfloat16
            return np.array([float(size) for size in sizes])
    except (TypeError, ValueError, OverflowError):
        pass
    return np.array([repr(size) if isinstance(size, str) else str(size) for size in sizes])


def overflowed(data: Any, before: Any) -> Any:
    """Whether counts of 32 bits have overflowed; bool [], or None without such counts.

    Args:
        data: the newest training set; its integers are counts, whose sum 32 bits must hold.
        before: what was there before. Leaves that are still there are no new counts.
    """
    known = {id(leaf) for leaf in jax.tree.leaves(before)}
    counts = [
        leaf
        for leaf in jax.tree.leaves(data)
        if id(leaf) not in known and jnp.result_type(leaf) == jnp.int32
    ]
    if not counts:
        return None
    # Floats see what is far beyond, and the sum what is just beyond.
    return jnp.any(
        jnp.stack(
            [
                jnp.any(leaf < 0)
                | (jnp.sum(leaf) < 0)
                | (jnp.sum(leaf, dtype=float) > LARGEST + 1024.0)
                for leaf in counts
            ]
        )
    )
