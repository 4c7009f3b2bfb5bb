"""What two things are told apart by: hashable keys of settings, arrays and functions.

Numbers compare as Python compares them, arrays by type, shape and every bit, functions of other
people by identity. `core.recipes.captured` makes stricter keys for what programs are shared by.
"""

import dataclasses
import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core.tracing import inside_a_program

_OWN = __name__.partition(".")[0]
# Numbers of an array that its hash looks at; whether two are equal is seen from all of them.
_SAMPLED = 64


class Same:
    """An object by its identity; it is kept, so that no other one gets its address."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return hash((Same, id(self.value)))


class Bits:
    """An array by its type, shape and bits. A few of them are hashed, all are compared."""

    __slots__ = ("_hash", "_kind", "value")

    def __init__(self, value: Any):
        self.value = value
        self._kind = (
            type(value).__name__ if isinstance(value, np.ndarray) else "jax",
            value.shape,
            str(value.dtype),
            getattr(value, "weak_type", False),
        )
        self._hash = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bits):
            return False
        if self.value is other.value:
            return True
        if self._kind != other._kind:
            return False
        return np.array_equal(_words(self.value), _words(other.value))

    def __hash__(self) -> int:
        if self._hash is None:
            words = _words(self.value)
            sampled = words[:: max(len(words) // _SAMPLED, 1)]
            self._hash = hash((self._kind, sampled.tobytes()))
        return self._hash


def _words(array):
    """The bytes of an array of this process's memory, in a row; a view where there can be one."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.ascontiguousarray(np.asarray(array)).reshape(-1).view(np.uint8)


def is_whole(array: Any) -> bool:
    """Whether an array has values, all of which this process can read."""
    if isinstance(array, np.ndarray):
        return array.dtype != object
    return not isinstance(array, Tracer) and array.is_fully_addressable and not array.is_deleted()


def is_own(kind: Any) -> bool:
    """Whether a class or a function comes with this package."""
    return (getattr(kind, "__module__", None) or "").partition(".")[0] == _OWN


def key_of(value: Any) -> Any:
    """A hashable key: two values are the same settings if, and only if, theirs are equal.

    Args:
        value: numbers, texts, arrays, functions, objects, and containers of such.
    """
    recipe = recipe_of(value)
    if recipe is not None:
        return recipe.key
    if isinstance(value, bool | str | bytes | None):
        return type(value), value
    if isinstance(value, int | float | complex):
        return "nan" if isinstance(value, float) and math.isnan(value) else value
    if isinstance(value, np.ndarray | jax.Array):
        return Bits(value) if is_whole(value) else Same(value)
    return container_key(value, key_of) or Same(value)


def container_key(value: Any, key_of_item: Any) -> Any:
    """The key of what is made of others, by theirs; None for what is no container.

    Args:
        value: any.
        key_of_item: gives the keys of what it holds.
    """
    if isinstance(value, tuple | list):
        return type(value), tuple(map(key_of_item, value))
    if isinstance(value, Mapping):
        pairs = tuple((key_of_item(key), key_of_item(item)) for key, item in value.items())
        return Mapping, pairs
    if isinstance(value, Set):
        return Set, frozenset(map(key_of_item, value))
    if isinstance(value, functools.partial):
        held = value.func, value.args, tuple(sorted(value.keywords.items()))
        return functools.partial, tuple(map(key_of_item, held))
    if isinstance(value, types.MethodType):
        return types.MethodType, (key_of_item(value.__func__), key_of_item(value.__self__))
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and is_own(type(value)):
        if value.__dataclass_params__.frozen and value.__dataclass_params__.eq:  # pyright: ignore
            held = [getattr(value, field.name) for field in dataclasses.fields(value)]
            return type(value), tuple(map(key_of_item, held))
    return None


class Recipe:
    """A call that made something: a function of this package and its arguments.

    maker: the function, as people call it. Its attribute `exact` says that it tells 1 from 1.0.
    args, options: what it was given; containers and NumPy arrays are copies.
    context: the options of JAX that arrays were made under.
    outside: whether it was called outside of `jit`, `vmap`, `grad` and the like.
    """

    def __init__(self, maker: Callable, args: tuple, options: Mapping[str, Any]):
        self.maker = maker
        self.args = tuple(map(kept, args))
        self.options = {name: kept(value) for name, value in options.items()}
        if not getattr(maker, "exact", False):
            self._write_floats()
        self.context, self.outside = context(), not inside_a_program()

    def _write_floats(self):
        """Whole numbers that stand for floats become floats, as 0 in `mix(0.9, 0, 0.1)`."""
        floats, names = float_arguments(self.maker), signature_of(self.maker).parameters
        named = zip(names, self.args, strict=False)
        args = tuple(_as_float(value, name in floats) for name, value in named)
        self.args = args + self.args[len(args) :]
        for name, value in self.options.items():
            self.options[name] = _as_float(value, name in floats)

    @functools.cached_property
    def arguments(self) -> dict[str, Any]:
        """Name -> value of all arguments, with those that were left out."""
        bound = signature_of(self.maker).bind(*self.args, **self.options)
        bound.apply_defaults()
        return bound.arguments

    @functools.cached_property
    def key(self) -> Any:
        """As `key_of` gives it. Inside a program arrays are traced, and nothing else is equal."""
        if not self.outside:
            return Same(self)
        return Same(self.maker), self.context, key_of(self.arguments)


def recipe_of(value: Any) -> Recipe | None:
    """The recipe that something keeps; None where it was made by hand."""
    recipe = getattr(type(value), "recipe", None) and value.recipe
    return recipe if isinstance(recipe, Recipe) else None


def context() -> tuple:
    """The options of JAX that the numbers of new arrays depend on."""
    config: Any = jax.config
    return (
        config.jax_enable_x64,
        config.jax_default_matmul_precision,
        config.jax_default_prng_impl,
        config.jax_threefry_partitionable,
    )


@functools.cache
def signature_of(maker: Callable) -> inspect.Signature:
    """The signature of a function of this package."""
    return inspect.signature(maker)


@functools.cache
def float_arguments(maker: Callable) -> frozenset[str]:
    """Names of the arguments that may be a float."""
    parameters = signature_of(maker).parameters
    return frozenset(name for name, one in parameters.items() if "float" in str(one.annotation))


def _as_float(value, is_float):
    is_whole = is_float and isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole else value


def kept(value):
    """A value that nobody changes later: a copy of containers and NumPy arrays, lists as tuples."""
    if isinstance(value, np.ndarray) and value.dtype != object and not is_read_only(value):
        value = value.copy()
        value.flags.writeable = False
        return value
    if type(value) in (list, tuple):
        return tuple(map(kept, value))
    if type(value) is set:
        return frozenset(map(kept, value))
    if type(value) is dict:
        return {key: kept(item) for key, item in value.items()}
    return value


def is_read_only(array):
    """Whether nobody can write to an array, nor to the one that it is a view of."""
    is_view = isinstance(array.base, np.ndarray)
    return not array.flags.writeable and (not is_view or is_read_only(array.base))
