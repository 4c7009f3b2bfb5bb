"""Processes of the same settings have the same functions, so that nothing is compiled twice.

What is shared lives as long as a process of these settings, or a compiled program of it, which
drivers keep for the newest 256.
"""

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from collapse_jax.core.recipes.captured import Key, captured
from collapse_jax.core.recipes.keys import recipe_of
from collapse_jax.core.tracing import inside_a_program

T = TypeVar("T")
_KNOWN: weakref.WeakValueDictionary[Key, Any] = weakref.WeakValueDictionary()


def shared(made_of: Key | None, make: Callable[[], T]) -> T:
    """What is made of these settings: what was made of them before, or new.

    Args:
        made_of: from `settings_of`.
        make: () -> an object, which must keep `made_of` as its attribute of that name.
    """
    if made_of is None:
        return make()
    found = _KNOWN.get(made_of)
    if found is None:
        found = _KNOWN[made_of] = make()
    return found


def settings_of(*settings: Any) -> Key | None:
    """The key of settings as they are now; None for what is shared by nobody.

    Args:
        settings: all arguments of the maker, in its order.
    """
    return None if inside_a_program() else captured(*settings)


def as_of_now(process: T) -> T:
    """The process; made again where what its functions read has changed since it was made.

    Compiled programs keep what a function closes over, or reads of its module, as it was.
    """
    recipe = recipe_of(process)
    core = getattr(getattr(process, "init", None), "__self__", None)
    made_of = getattr(core, "made_of", None)
    if recipe is None or made_of is None or made_of.is_fixed:
        return process
    if settings_of(*recipe.arguments.values()) == made_of:
        return process
    return recipe.maker(*recipe.args, **recipe.options)
