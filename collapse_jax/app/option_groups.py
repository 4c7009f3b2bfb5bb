"""The options of a command in groups, each with the first sentence of its description."""

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import sys
import textwrap
import typing
from typing import Annotated, Any

import tyro

from collapse_jax.runs.settings import Settings

_END = re.compile(r"(?<!Fig\.)(?<! al\.)(?<!e\.g\.)(?<!i\.e\.)(?<=\.)\s")
# A text that begins with the name of a choice goes on with those of the others.
_OF_CHOICES = re.compile(r"[\w-]+: ")


def option_groups(settings: Settings, *, is_short: bool = True) -> list[tuple[str, type, Any]]:
    """Fields of a dataclass of arguments: one for each class that settings inherit fields from.

    Args:
        settings: The defaults.
        is_short: Whether the help of an option is only its first sentence.

    Returns:
        (name of the group, a dataclass, its default). Those of the last base come first, as in the
        settings themselves.
    """
    return [
        (name, group, _filled(group, settings)) for name, group in _groups(type(settings), is_short)
    ]


def one_group(name: str, default: Any, *, is_short: bool = True) -> tuple[str, type, Any]:
    """Returns the same for any dataclass, with all its fields in one group of that name."""
    group = _one_group(type(default), is_short)
    return name, group, _filled(group, default)


def with_texts(kind: type) -> type:
    """Returns a dataclass with the fields and defaults of another, and its texts in one line each.

    tyro shows the text below a field with the line breaks of the source.
    """
    texts, hints = _texts_below_fields(kind), typing.get_type_hints(kind, include_extras=True)
    fields: list = []
    for field in dataclasses.fields(kind):
        text = " ".join(texts.get(field.name, "").split())
        default = dataclasses.field(default=field.default)
        hint = Annotated[hints[field.name], tyro.conf.arg(help=text)]
        fields.append((field.name, hint, default))
    return dataclasses.make_dataclass(kind.__name__, fields, frozen=True)


def of_groups(kind: type[Settings], given: Any) -> Settings:
    """Returns the settings in parsed arguments that contain the fields of `option_groups`."""
    values: dict[str, Any] = {}
    for name, group in _groups(kind, True):
        part = getattr(given, name)
        values |= {field.name: getattr(part, field.name) for field in dataclasses.fields(group)}
    return kind(**values)


@functools.cache
def _groups(kind, is_short):
    """(name, dataclass) of each base class of `kind`, and of `kind`, that adds fields."""
    names = [field.name for field in dataclasses.fields(kind)]
    groups = []
    # Those of what few need stand behind the others.
    bases = sorted(
        reversed(kind.__mro__), key=lambda base: vars(base).get("is_last_in_help", False)
    )
    for base in bases:
        own = [name for name in names if name in inspect.get_annotations(base)]
        if own:
            group = _group(base, own, kind, _texts_below_fields(base), is_short)
            groups.append((re.sub("(Settings|Config)$", "", base.__name__).lower(), group))
    return groups


@functools.cache
def _one_group(kind, is_short):
    """A dataclass with all fields of `kind`."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        texts |= _texts_below_fields(base)
    names = [field.name for field in dataclasses.fields(kind)]
    return _group(kind, names, kind, texts, is_short)


def _group(base, names, kind, texts, is_short):
    """A dataclass of those fields of `kind`, with their texts for --help.

    A field without text has "", since tyro would otherwise search all sources, which is slow.
    """
    hints, fields = typing.get_type_hints(kind, include_extras=True), []
    for name in names:
        text = " ".join(texts.get(name, "").split())
        text = first_sentence(text) if is_short else text
        fields.append((name, Annotated[hints[name], tyro.conf.arg(help=text)]))
    group = dataclasses.make_dataclass(base.__name__, fields, frozen=True)
    group.__doc__ = (inspect.getdoc(base) or "").partition("\n\n")[0]
    return group


def _filled(group, values):
    """An instance of a group, with the values of another object's fields."""
    return group(*(getattr(values, field.name) for field in dataclasses.fields(group)))


def first_sentence(text: str) -> str:
    """The first sentence of a text; the whole text if it explains the choices one by one."""
    text = " ".join(text.split())
    return text if _OF_CHOICES.match(text) else _END.split(text, maxsplit=1)[0]


def _texts_below_fields(kind):
    """{field: the string below it} of one class, read from its source."""
    body = _body_of(kind)
    return {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _body_of(kind):
    """The statements of a class; [] for a class defined in a session."""
    try:
        if kind.__qualname__ == kind.__name__:
            return _classes_of(sys.modules[kind.__module__])[kind.__name__].body
        made: Any = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        return made.body
    except (OSError, TypeError, SyntaxError, KeyError):
        return []


@functools.cache
def _classes_of(module):
    """{name: node} of the classes of a module, which is faster than reading each source."""
    body = ast.parse(inspect.getsource(module)).body
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}
