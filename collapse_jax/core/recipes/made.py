"""What keeps the call that made it: it compares, hashes, prints and pickles by that call.

`recorded` marks a function of this package whose results keep it. What people make by hand, from
functions of their own, is told apart by these functions, each by identity.
"""

import functools
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from collapse_jax.core.recipes import pickling
from collapse_jax.core.recipes.keys import Recipe, key_of, recipe_of
from collapse_jax.core.recipes.words import call_words, name_of

P = ParamSpec("P")
T = TypeVar("T")


class Made:
    """A NamedTuple of functions, told apart by the call that made it, or by its fields."""

    __slots__ = ()

    @property
    def recipe(self) -> Recipe | None:
        """The call that made it; None where it was made by hand."""
        return self.__dict__.get("_recipe")

    def __setattr__(self, name: str, value: Any):
        raise AttributeError(
            f"{type(self).__name__} is not changed: _replace({name}=...) makes another"
        )

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        return bool(_key(self) == _key(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), _key(self)))

    def __copy__(self):
        return self

    def __deepcopy__(self, known):
        return self  # nothing in it changes

    def __reduce_ex__(self, protocol: Any):
        return pickling.reduced(self, super().__reduce_ex__)


def _key(made):
    recipe = recipe_of(made)
    return key_of(tuple(made)) if recipe is None else recipe.key


def with_recipe(made: T, maker: Callable, args: tuple = (), options: dict | None = None) -> T:
    """The same as a result of this call.

    Args:
        made: a `Made`.
        maker: a function at the top of a module of this package.
        args, options: what it was called with.
    """
    return keeping(made, Recipe(maker, args, options or {}))


def keeping(made: T, recipe: Recipe | None) -> T:
    """The same with another recipe, or with none."""
    other: Any = type(made)._make(made)  # pyright: ignore
    if recipe is not None:
        other.__dict__["_recipe"] = recipe
    return other


def noted(maker: Callable, **notes: Any) -> None:
    """Notes on a function of `recorded`, for what it makes.

    Args:
        maker: the function.
        **notes: `called`, another name of it; `shown`, names of defaults that are printed where
            nothing was given; `words`, (recipe) -> the line that is printed; `exact`, whether it
            tells 1 from 1.0.
    """
    for name, value in notes.items():
        setattr(maker, name, value)


class Curation:
    """A wrapper of workflows, told apart by the call that made it."""

    def __init__(self, wrap: Callable, recipe: Recipe):
        """wrap: a workflow -> the same with this curation around it."""
        self.wrap, self._recipe = wrap, recipe
        self.__name__ = name_of(recipe.maker)

    @property
    def recipe(self) -> Recipe:
        """The call that made it."""
        return self._recipe

    def __call__(self, workflow: Any) -> Any:
        """The workflow with this curation around it."""
        made = self.wrap(workflow)
        return made if made is workflow else with_recipe(made, curated, (self, workflow))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Curation) and self.recipe.key == other.recipe.key
        )

    def __hash__(self) -> int:
        return hash(self.recipe.key)

    def __deepcopy__(self, known):
        return self

    def __reduce_ex__(self, protocol: Any):
        return pickling.reduced(self, super().__reduce_ex__)

    def __repr__(self) -> str:
        return call_words(self.recipe)


def curated(curation: Curation, workflow: Any) -> Any:
    """The workflow with a curation around it; what a curated one is unpickled by."""
    return curation(workflow)


def _curated_words(recipe):
    curation, workflow = recipe.args
    return f"{curation!r}({workflow!r})"


noted(curated, words=_curated_words)


def recorded(maker: Callable[P, T]) -> Callable[P, T]:
    """Decorator of a function whose results keep its name and arguments.

    Args:
        maker: at the top of a module; it gives a `Made`, or a wrapper of workflows.
    """

    @functools.wraps(maker)
    def with_its_recipe(*args: P.args, **options: P.kwargs) -> T:
        made: Any = maker(*args, **options)
        # What comes back as it was given has another recipe.
        if any(made is given for given in (*args, *options.values())):
            return made
        recipe = Recipe(with_its_recipe, args, options)
        if isinstance(made, Made):
            return keeping(cast(T, made), recipe)
        return cast(T, Curation(getattr(made, "wrap", made), recipe))

    noted(with_its_recipe, __recorded__=maker)
    return with_its_recipe


def recorded_by(value: Any) -> Any:
    """What keeps no recipe, of a function of `recorded` and of a `Curation`; others as they are."""
    if isinstance(value, Curation):
        return value.wrap
    if isinstance(value, types.FunctionType):
        return vars(value).get("__recorded__", value)
    return value


def replaced(before: T, after: T, parts: dict[str, Any]) -> T:
    """What `_replace` made, which keeps what it was made of.

    Args:
        before: a `Made`.
        after: the same with other parts.
        parts: name -> what was replaced.
    """
    recipe = recipe_of(before)
    if recipe is None:
        return after
    if not parts:
        return keeping(after, recipe)
    return with_recipe(after, replace_parts, (before,), parts)


def replace_parts(made: T, **parts: Any) -> T:
    """The same with other parts; what `_replace` of something made is unpickled by."""
    return cast(Any, made)._replace(**parts)


noted(replace_parts, called="_replace")


def made_words(made: Any) -> str:
    """One line for what something was made with; "" where that is not known."""
    recipe, own = recipe_of(made), []
    while recipe is not None and recipe.maker is replace_parts:
        own = [*recipe.options, *own]
        recipe = recipe_of(made := recipe.args[0])
    if recipe is None:
        return ""
    words = getattr(recipe.maker, "words", call_words)(recipe)
    return f"{words} with its own {', '.join(dict.fromkeys(own))}" if own else words
