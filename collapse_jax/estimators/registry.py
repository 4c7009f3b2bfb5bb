"""Families by name: ours, those that installed packages bring, and those registered here."""

import importlib.metadata
import string
from collections.abc import Callable

from collapse_jax import estimators
from collapse_jax.core.closed_forms import ClosedForms
from collapse_jax.core.protocols import Params
from collapse_jax.core.types import Estimator, Family
from collapse_jax.errors import InputError, function, made_by

ENTRY_POINTS = "collapse_jax.families"
# The one place that remembers. Command lines look names up; no number depends on them.
_REGISTERED: dict[str, Family] = {}


def register(
    name: str,
    factory: Callable[..., Estimator],
    *,
    example: Callable[[], tuple[Estimator, Params]] | None = None,
    label: str = "",
    metrics: tuple[str, ...] = (),
    laws: ClosedForms | None = None,
) -> None:
    """Makes a family known to `families()`, and so to the command line and the contract.

    A package does the same for all its users by an entry point in the group
    "collapse_jax.families". Its object is a `Family`, or the factory, whose attributes `example`,
    `label`, `metrics` and `laws` are read where it has them.

    Args:
        name: letters, digits and underscores.
        factory: (**options) -> `Estimator`.
        example: () -> (`Estimator`, params), a small model of the family. It stands for the real
            distribution in `collapse-jax simulate`.
        label: what figures call the family, by default its name. It may hold options:
            "Laplace at {location}".
        metrics: what is recorded by default; else the first three metrics that are numbers.
        laws: the closed forms that its chains are drawn against.

    Raises:
        InputError: if the name is not an identifier or is taken by another factory, or an argument
            has the wrong type.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(f"name is {name!r}; it must be made of letters, digits and underscores")
    if not callable(factory):
        raise InputError(
            f"factory of {name!r} is {factory!r}; it must be a function that returns an Estimator"
        )
    family = _checked(name, Family(factory, example, label, metrics, laws))
    known = families().get(name)
    if known is not None and known.factory is not factory:
        place = f"{known.factory.__module__}.{known.factory.__qualname__}"
        raise InputError(f"name {name!r} is taken by {place}; choose another")
    _REGISTERED[name] = family


def families() -> dict[str, Family]:
    """Name -> `Family`: ours first, then those of entry points, then those registered here."""
    known = dict(estimators.FAMILIES)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name not in known:
            known[point.name] = _loaded(point)
    return known | _REGISTERED


def family(name: str) -> Family:
    """The family of a name.

    Raises:
        InputError: if it is unknown; the text lists what is known.
    """
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
    if isinstance(loaded, Family):
        return loaded
    given = {part: getattr(loaded, part) for part in Family._fields[1:] if hasattr(loaded, part)}
    return _checked(point.name, Family(loaded, **given))


def _checked(name, family):
    """The family with its metrics as a tuple, or `InputError`."""
    if family.example is not None:
        function("example", family.example)
    try:
        list(string.Formatter().parse(family.label))
    except (TypeError, ValueError):
        raise InputError(
            f"label of {name!r} is {family.label!r}; it must be a format string"
        ) from None
    if isinstance(family.metrics, str) or not all(isinstance(one, str) for one in family.metrics):
        raise InputError(f"metrics of {name!r} is {family.metrics!r}; it must be a tuple of names")
    if family.laws is not None:
        made_by(f"laws of {name!r}", family.laws, ClosedForms, "cj.estimators.ClosedForms(means)")
    return family._replace(metrics=tuple(family.metrics))
