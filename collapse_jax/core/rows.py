"""A fixed set of real points, drawn from without replacement."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.data_checks import as_jax_holds, check_any
from collapse_jax.errors import InputError, one_key
from collapse_jax.random.distinct import distinct

# Rows up to which all are permuted, whatever is asked for: a permutation of so many takes 2 ms and
# 16 KiB a chain.
_LARGEST_PERMUTED = 2048
# A permutation holds no more than four training sets where these have at least this part of N.
_PART = 4
# Bytes that XLA holds for each number that is sorted into a random order, or drawn and compared:
# the number and a random word, both before and after, and the place (temporaries of the programs).
_SORTED, _COMPARED = 20, 22
# Families that one set of points is held for at once.
_MOST_HELD = 8

Check = Callable[[np.ndarray], Any]


class Rows:
    """n of N fixed points in random order: the `sample` of `sources.dataset`.

    Rows are chosen by a permutation of all N. Where N is above 2,048 and training sets have at most
    N / 4 points they are chosen by `random.distinct` instead, in memory of O(n): by the same law
    (all ordered choices have one probability), with other random numbers.

    Args:
        points: [N, ...] as they were given; nobody may write to them.
        check: what holds them against a family.
        largest: the most points of a training set; None: every request counts for itself; 0:
            always permute.
        device: the same points as an array of JAX, where their type is one of JAX's.
    """

    def __init__(
        self,
        points: np.ndarray,
        check: Check = check_any,
        largest: int | None = None,
        device: jax.Array | None = None,
    ):
        self.points, self._check, self._largest, self._device = points, check, largest, device
        self._known: dict[Any, Rows] = {}

    def __call__(self, key: jax.Array, n: int) -> jax.Array:
        """n of the points [n, ...], as the family holds them.

        Raises:
            InputError: if there are fewer, or the family does not take them.
        """
        one_key("key", key)
        size = len(self.points)
        if n > size:
            raise InputError(f"{n} real points are asked for, but the data set has {size}")
        if self._permuted(n):
            return self.held[jax.random.permutation(key, size)[:n]]
        return self.held[distinct(key, n, size)]

    def numbers(self) -> "Rows":
        """The numbers int32 [N] of the rows, drawn by the same choices."""
        return Rows(np.arange(len(self.points), dtype=np.int32), largest=self._largest)

    def scratch(self) -> int:
        """Bytes that one request holds beside its points: numbers of rows, and words to sort."""
        return _SORTED * len(self.points) if self._permuted(self.most) else _COMPARED * self.most

    @property
    def most(self) -> int:
        """The most points that one request is known to have."""
        return self._largest or len(self.points)

    def _permuted(self, n):
        size, largest = len(self.points), n if self._largest is None else self._largest
        return not (size > _LARGEST_PERMUTED and 0 < _PART * largest <= size)

    def of(self, check: Check, largest: int | None) -> "Rows":
        """The same points, held against a family now; once for all processes of that family.

        Raises:
            InputError: if the family does not take them.
        """
        place = (check, largest, jnp.result_type(float))
        try:
            known = self._known.get(place)
        except TypeError:  # a check without a hash
            known, place = None, id(check)
        if known is not None:
            return known
        rows = Rows(self.points, check, largest, self._device)
        rows.held  # noqa: B018 - raises here, and not while something runs
        while len(self._known) >= _MOST_HELD:
            del self._known[next(iter(self._known))]
        self._known[place] = rows
        return rows

    @functools.cached_property
    def held(self) -> jax.Array:
        """The points [N, ...] on the device, as the family holds them."""
        x = checked(self.points, self._check, "dataset")
        with jax.ensure_compile_time_eval():
            if self._device is not None and x.dtype == self.points.dtype:
                if np.may_share_memory(x, self.points):
                    return self._device.reshape(x.shape)
            return jnp.asarray(x)


def checked(x: np.ndarray, check: Check, what: str) -> np.ndarray:
    """Points as a family holds them, in a type of JAX.

    Args:
        x: points [N, ...] as they were given.
        check: the family's: points -> the same in another shape or type, or None for the same.
        what: what the points are, for the message.

    Raises:
        InputError: if the family refuses them, or its `check` gives something else.
    """
    try:
        result = check(x)
        if result is not None and np.shape(result)[:1] != (len(x),):
            given = getattr(result, "shape", None)
            raise InputError(
                f"the estimator's check gave {f'shape {given}' if given else repr(result)}; it "
                f"must give the points, [{len(x)}, ...], or None"
            )
        result = x if result is None else np.asarray(result)
        if result.dtype != jax.dtypes.canonicalize_dtype(result.dtype):
            result = as_jax_holds(result)
        return result
    except ValueError as error:
        raise InputError(f"{what}: {error}") from None
