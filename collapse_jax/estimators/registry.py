"""Families by name: ours, those that installed packages bring, and those that were registered in
this process.
"""

import importlib.metadata

from collapse_jax import estimators
from collapse_jax.core.types import Family
from collapse_jax.errors import InputError, function

ENTRY_POINTS = "collapse_jax.families"
# The one place that remembers: names are for people and command lines, no number depends on them.
_REGISTERED: dict[str, Family] = {}


def register(name: str, factory, *, example=None) -> None:
    """Makes `factory(**options) -> Estimator` known as `name` to `families()`, and so to the
    command line and the contract.

    example() -> (estimator, params): a small model of the family; it stands for the real
    distribution in `collapse-jax simulate`.
    A package does the same for all its users by an entry point in the group "collapse_jax.families"
    whose object is the factory (with
    an attribute `example`, if it has one) or a `Family`.
    Raises `InputError` for a name that is none (letters, digits, underscores), one that is taken by
    another factory, or a factory that cannot be called.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(f"name is {name!r}; it must be made of letters, digits and underscores")
    if not callable(factory):
        raise InputError(
            f"factory of {name!r} is {factory!r}; it must be a function that returns an Estimator"
        )
    if example is not None:
        function("example", example)
    known = families().get(name)
    if known is not None and known.factory is not factory:
        raise InputError(
            f"name {name!r} is taken by "
            f"{known.factory.__module__}.{known.factory.__qualname__}; choose another"
        )
    _REGISTERED[name] = Family(factory, example)


def families() -> dict[str, Family]:
    """Name -> `Family` of all that are known: ours first, then those of entry points, then those
    registered here.
    """
    found = dict(estimators.FAMILIES)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name not in found:
            found[point.name] = _loaded(point)
    return found | _REGISTERED


def family(name: str) -> Family:
    """The family of a name. Raises `InputError` for an unknown one, with what is known."""
    known = families()
    if name not in known:
        raise InputError(f"family is {name!r}; it must be one of {', '.join(known)}")
    return known[name]


def _loaded(point):
    try:
        loaded = point.load()
    except Exception as error:
        raise InputError(
            f"family {point.name!r} of the entry point {point.value} cannot be loaded: {error}"
        ) from error
    return (
        loaded if isinstance(loaded, Family) else Family(loaded, getattr(loaded, "example", None))
    )
