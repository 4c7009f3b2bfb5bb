"""The settings of a command: a frozen dataclass that is written to config.json."""

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, Self

from collapse_jax.errors import InputError, did_you_mean, one_of

# Command -> its settings.
KINDS: dict[str, type["Settings"]] = {}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The base of every command's settings; a subclass is a frozen dataclass, listed in `KINDS`."""

    command: ClassVar[str]
    """What the subclass is called on the command line and in config.json."""
    may_change: ClassVar[tuple[str, ...]] = ()
    """Fields that may differ when a run goes on: the larger number counts, or the newer name."""
    earlier: ClassVar[Mapping[str, Any]] = {}
    """Field -> its value in run folders of versions that had no such field, whose config.json lacks
    it."""

    is_last_in_help: ClassVar[bool] = False
    """Whether the fields of this class, which others inherit, stand behind theirs in --help."""

    decisive: ClassVar[tuple[str, ...]] = ()
    """Fields on whose values the defaults of others depend."""
    exclusive: ClassVar[tuple[str, ...]] = ()
    """Of those, the ones that the command line may not give otherwise than a settings file."""

    paths: ClassVar[Mapping[str, str]] = {}
    """Fields that say where an input is -> its entry in made_of.json: the same content may lie
    elsewhere when a run goes on."""

    names_code: ClassVar[tuple[str, ...]] = ()
    """Fields that name Python code to run. Only the command line may give them, never a file."""

    def __init_subclass__(cls):
        if "command" in vars(cls):
            KINDS[cls.command] = cls

    def check(self) -> None:
        """Raises `InputError` for the first field with an invalid value."""

    def grown_fields(self, saved: Self) -> Collection[str]:
        """Further fields in which these settings may differ from those of a run that goes on.

        Args:
            saved: Of the run, resolved.
        """
        return ()

    def resolved(self) -> Self:
        """The same settings with every field filled in that others imply."""
        return self


def as_dict(settings: Settings) -> dict:
    """What config.json holds of settings: the command, then every field."""
    return {"command": settings.command} | dataclasses.asdict(settings)


def from_dict(values: object, where: str, *, of_folder: bool = False) -> Settings:
    """The settings in a parsed config.json, checked field by field.

    Args:
        values: What was parsed.
        where: The file, for the error text.
        of_folder: Whether a run has been made with them: fields that its version did not have are
            then what they were without them (`Settings.earlier`).

    Raises:
        InputError: For another command, and for unknown, misspelt or ill-typed fields.
    """
    if not isinstance(values, dict) or values.get("command") not in list(KINDS):
        raise InputError(f"{where}: 'command' must be one of {', '.join(KINDS)}")
    kind = KINDS[values["command"]]
    hints = typing.get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    given = {name: value for name, value in values.items() if name != "command"}
    if of_folder:
        given = dict(kind.earlier) | given
    for name, value in given.items():
        if name not in fields:
            nearest = did_you_mean(name, fields).strip(" ()")
            hint = nearest or f"known are {', '.join(fields)}"
            raise InputError(f"{where}: unknown field {name!r}; {hint}")
        given[name] = _typed(value, fields[name], f"{where}: {name}")
    settings = kind(**given)
    try:
        settings.check()
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return settings


def differing_fields(saved: Settings, given: Settings, besides: Collection[str] = ()) -> list[str]:
    """The fields in which two runs of one command differ, as "NAME: VALUE there, VALUE here".

    Fields that may change are left out.

    Args:
        saved: Settings of the one.
        given: Settings of the other.
        besides: Other fields to leave out.
    """
    saved, given = saved.resolved(), given.resolved()
    besides = {*besides, *given.grown_fields(saved)}
    pairs = {
        field.name: (getattr(saved, field.name), getattr(given, field.name))
        for field in dataclasses.fields(saved)
        if field.name not in saved.may_change and field.name not in besides
    }
    return [f"{name}: {old} there, {new} here" for name, (old, new) in pairs.items() if old != new]


def grown(saved: Settings, given: Settings) -> Settings:
    """The settings of a run that goes on: `given`, with the larger of each number that may grow."""
    changes = {}
    for name in given.may_change:
        old, new = getattr(saved, name), getattr(given, name)
        changes[name] = new if isinstance(new, str) else max(old, new)
    return dataclasses.replace(given, **changes)


def _typed(value, kind, where):
    """The value as the type of its field: lists become tuples, and ints of float fields floats."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in options:
            return None
        several = [option for option in options if typing.get_origin(option) is tuple]
        is_list = isinstance(value, list | tuple)
        return _typed(value, several[0] if several and is_list else options[0], where)
    if origin is Literal:
        return one_of(where, value, options)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            items = "names" if options[0] is str else "numbers"
            raise InputError(f"{where} is {value!r}; it must be a list of {items}")
        return tuple(_typed(item, options[0], where) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"{where} exceeds the largest float; give a smaller number") from None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{where} is {value!r}; it must be of type {kind.__name__}")
    return value
