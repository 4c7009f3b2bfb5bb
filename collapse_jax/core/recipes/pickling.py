"""Things that keep their recipe are pickled as the call that made them, and made again by it."""

import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.core import Tracer

from collapse_jax.core.recipes.keys import recipe_of, signature_of
from collapse_jax.core.recipes.words import name_of
from collapse_jax.errors import InputError, defined_at

# Picklers that take functions which Python's own does not.
_BY_VALUE = ("cloudpickle", "dill")


def reduced(made: Any, otherwise: Callable[[int], Any]) -> Any:
    """What `__reduce_ex__` gives.

    Args:
        made: with a recipe, or without one.
        otherwise: its `__reduce_ex__` by its fields.

    Raises:
        pickle.PicklingError: for a function that pickle does not find by its name, or a traced
            number; one line says which part it is, and what to do.
    """
    recipe = recipe_of(made)
    if recipe is None:
        given, owner = made._asdict(), type(made).__name__
    else:
        names = signature_of(recipe.maker).parameters
        given = dict(zip(names, recipe.args, strict=False)) | recipe.options
        owner = getattr(recipe.maker, "called", name_of(recipe.maker))
    if not _by_value():
        for part, value in given.items():
            _check(part, owner, value)
    if recipe is None:
        return otherwise(4)
    return _made_again, (recipe.maker, recipe.args, dict(recipe.options), recipe.context[0])


def _made_again(maker, args, options, in_64_bits):
    """Calls what made something, under the same type of floats."""
    here = bool(jax.config.jax_enable_x64)  # pyright: ignore
    if here != in_64_bits:
        raise InputError(
            f"{name_of(maker)} was pickled with jax_enable_x64={in_64_bits}, and it is {here} "
            f"here; set JAX_ENABLE_X64={int(in_64_bits)} in the environment of this process, or "
            f"call jax.config.update('jax_enable_x64', {in_64_bits}), before unpickling"
        )
    return maker(*args, **options)


def _check(part, owner, value):
    if isinstance(value, Tracer):
        raise pickle.PicklingError(
            f"{part} of {owner} is traced, and cannot be pickled; make it outside of jit, vmap and "
            "grad, of plain numbers"
        )
    for function in _functions_in(value):
        if not _is_found(function):
            raise pickle.PicklingError(
                f"{part} of {owner} cannot be pickled: it is {defined_at(function)}, and not at "
                "the top of a module; write it there with def, or as a class with __call__ where "
                "it needs settings"
            )


def _functions_in(value) -> Iterator[Any]:
    """Functions of Python's in a value, but for those in what is made with recipes."""
    if recipe_of(value) is not None:
        return
    if isinstance(value, tuple | list | set | frozenset):
        for item in value:
            yield from _functions_in(item)
    elif isinstance(value, Mapping):
        yield from _functions_in(tuple(value.values()))
    elif hasattr(value, "__code__") and hasattr(value, "__qualname__"):
        yield value


def _is_found(function):
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    owner = getattr(function, "__self__", None)
    return owner is not None or found is function


def _by_value():
    """Whether a pickler is at work that takes any function."""
    frame = sys._getframe(1)
    while frame is not None:
        if any(name in frame.f_globals.get("__name__", "") for name in _BY_VALUE):
            return True
        frame = frame.f_back
    return False
