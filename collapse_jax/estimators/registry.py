"""Families by name: built-in ones, those of installed packages, and those registered here.

A family that cannot be loaded does not affect the others: `broken` reports why it failed.
"""

import importlib.metadata
import inspect
import string
from collections.abc import Callable

from collapse_jax import estimators
from collapse_jax.core.closed_forms import ClosedForms
from collapse_jax.core.protocols import Params
from collapse_jax.core.types import Estimator, Family
from collapse_jax.errors import InputError, did_you_mean, first_line, function, made_by

ENTRY_POINTS = "collapse_jax.families"
# The one place that remembers. Command lines look names up; no number depends on them.
_REGISTERED: dict[str, Family] = {}


def register(
    name: str,
    factory: Callable[..., Estimator] | Family,
    *,
    example: Callable[[], tuple[Estimator, Params]] | None = None,
    label: str = "",
    metrics: tuple[str, ...] = (),
    laws: ClosedForms | None = None,
) -> None:
    """Adds a family to `families()`, and so to the command line and the contract checks.

    A package can do the same for all its users with an entry point in the group
    "collapse_jax.families". The entry point names a `Family`, or a factory, whose attributes
    `example`, `label`, `metrics` and `laws` are used if it has them.

    A name may be registered again with the same factory: arguments that are given replace the
    earlier ones, and the others stay.

    Args:
        name: letters, digits and underscores.
        factory: (**options) -> `Estimator`, or a `Family`.
        example: () -> (`Estimator`, params), a small model of the family. It is the real
            distribution in `collapse-jax simulate`.
        label: the family's name in figures, by default `name`. It may contain options:
            "Laplace at {location}".
        metrics: the metrics that are recorded by default; else the first three scalar metrics.
        laws: closed forms for the family's chains, which figures draw next to the chains.

    Raises:
        InputError: if the name is not an identifier or is taken by another factory, or an argument
            has the wrong type.
    """
    family = factory if isinstance(factory, Family) else Family(factory)
    given = {"example": example, "label": label, "metrics": metrics, "laws": laws}
    changes = {part: value for part, value in given.items() if not _is_left_out(value)}
    known = _checked_name(name, family.factory)
    if known is not None and not isinstance(factory, Family):
        family = known
    _REGISTERED[name] = _checked(name, family._replace(**changes))


def families() -> dict[str, Family]:
    """Returns name -> `Family`: built-in ones first, then entry points, then registered ones.

    Families that cannot be loaded are left out; `collapse-jax families` lists them with the reason.
    """
    return dict(estimators.FAMILIES) | _of_packages()[0] | _REGISTERED


def broken() -> dict[str, str]:
    """Returns entry point -> the reason why its family cannot be loaded, in one line."""
    return _of_packages()[1]


def family(name: str) -> Family:
    """Returns the family with this name.

    Raises:
        InputError: if the name is unknown (the message lists the known names), or if the family is
            an entry point that cannot be loaded (the message gives the reason).
    """
    for known in (_REGISTERED, estimators.FAMILIES):  # so that no package is loaded in vain
        if name in known:
            return known[name]
    theirs, reasons = _of_packages()
    if name in theirs:
        return theirs[name]
    if name in reasons:
        raise InputError(reasons[name])
    known = families()
    raise InputError(
        f"family is {name!r}; it must be one of {', '.join(known)}{did_you_mean(name, known)}"
    )


def _checked_name(name, factory):
    """The family that has a name already, or None; raises `InputError` for a name that is taken."""
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(
            f"name is {name!r}; it must consist of letters, digits and underscores, and must not "
            "start with a digit"
        )
    if not callable(factory):
        raise InputError(
            f"factory of {name!r} is {factory!r:.200}; it must be a function that returns an "
            "Estimator"
        )
    known = _REGISTERED.get(name) or estimators.FAMILIES.get(name) or _of_packages()[0].get(name)
    if known is not None and known.factory is not factory:
        owner = known.factory
        place = f"{owner.__module__}.{getattr(owner, '__qualname__', type(owner).__qualname__)}"
        raise InputError(f"name {name!r} is taken by {place}; choose another")
    return known


def _is_left_out(value):
    return value is None or (isinstance(value, str | tuple | list) and not value)


def _of_packages():
    """(name -> family, entry point -> why it cannot be used) of all installed packages."""
    found, reasons = {}, {}
    try:
        points = list(importlib.metadata.entry_points(group=ENTRY_POINTS))
    except Exception as error:  # the metadata of any package may be damaged
        return {}, {"entry points": f"no entry point can be read: {_reason(error)}"}
    for point in points:
        name, where = str(point.name), f"the entry point {point.value}"
        taken = name in estimators.FAMILIES or name in found
        try:
            if taken:
                is_built_in = name in estimators.FAMILIES
                owner = "a built-in family" if is_built_in else "another entry point"
                raise InputError(f"the name is taken by {owner}")
            found[name] = _loaded(point)
        except (Exception, SystemExit) as error:
            key = f"{name} ({point.value})" if taken else name
            reasons[key] = f"family {name!r} of {where} cannot be loaded: {_reason(error)}"
    return found, reasons


def _reason(error):
    text = first_line(error, 300)
    return (
        text if isinstance(error, InputError | ImportError) else f"{type(error).__name__}: {text}"
    )


def _loaded(point):
    loaded = point.load()
    family = loaded
    if not isinstance(loaded, Family):
        parts = {
            part: getattr(loaded, part) for part in Family._fields[1:] if hasattr(loaded, part)
        }
        family = Family(loaded, **parts)
    if not point.name.isidentifier():
        raise InputError("its name must consist of letters, digits and underscores")
    if not callable(family.factory):
        raise InputError(
            f"the object is {family.factory!r:.200}; it must be a Family, or a function that "
            "returns an Estimator"
        )
    return _checked(point.name, family)


def _checked(name, family):
    """The family with its metrics as a tuple, or `InputError`."""
    if family.example is not None:
        function(f"example of {name!r}", family.example)
    _check_label(name, family)
    metrics = family.metrics
    if not isinstance(metrics, tuple | list) or not all(isinstance(one, str) for one in metrics):
        raise InputError(f"metrics of {name!r} is {metrics!r:.200}; it must be a tuple of names")
    if family.laws is not None:
        made_by(f"laws of {name!r}", family.laws, ClosedForms, "cj.estimators.ClosedForms(means)")
        for part in ("means", "quantiles", "chains_for_means", "real"):
            if getattr(family.laws, part) is not None or part != "real":
                function(f"{part} of the laws of {name!r}", getattr(family.laws, part))
    return family._replace(metrics=tuple(metrics))


def _check_label(name, family):
    """Raises `InputError` unless the label is a string whose fields are options of the factory."""
    try:
        parsed = list(string.Formatter().parse(family.label))
    except (TypeError, ValueError):
        raise InputError(
            f"label of {name!r} is {family.label!r:.200}; it must be a format string"
        ) from None
    try:
        options = inspect.signature(family.factory).parameters
    except (TypeError, ValueError):  # a factory that is written in C does not tell
        return
    if any(option.kind is option.VAR_KEYWORD for option in options.values()):
        return
    for _, field, _, _ in parsed:
        if field is not None and field not in options:
            raise InputError(
                f"label of {name!r} is {family.label!r:.200}; {field!r} must be an option of its "
                f"factory, which has {', '.join(options) or 'none'}{did_you_mean(field, options)}"
            )
