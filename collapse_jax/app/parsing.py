"""Parses arguments into a dataclass by tyro; every mistake is an `InputError` of one line."""

import contextlib
import dataclasses
import functools
import io
import itertools
import re
import sys
import typing
from collections.abc import Callable
from typing import Any

import tyro

from collapse_jax.app.config import ranges
from collapse_jax.app.written import Shown
from collapse_jax.errors import InputError, did_you_mean

# Types of options that take one value, or several with commas, and what each value is.
_SEVERAL = {kind | tuple[kind, ...]: kind for kind in (int, float, str)}
_SEVERAL[float | tuple[float, ...] | None] = float
_NAMES = {int: "whole number", float: "number", str: "word"}
_SINGLE = {int: "INT", float: "FLOAT", int | None: "{None}|INT", float | None: "{None}|FLOAT"}


def parsed(
    known: dict[str, type], arguments: list[str], say: Callable[[str], object] = print
) -> Any:
    """Returns an instance of the dataclass of the command that the arguments name.

    Args:
        known: Name of each command -> the dataclass of its arguments, whose docstring is its help.
        arguments: The command's name and its options.
        say: Called with a line about values that a range gives more than once.

    Raises:
        InputError: For unknown names, and for values that cannot be read.
    """
    _check_names(known, arguments)
    printed, notes = io.StringIO(), {}
    try:
        # The help shows the settings of a file, which may hold anything.
        shown: Any = Shown(sys.stdout)
        numbers = _numbers(notes)
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(shown), numbers:
            given = tyro.extras.subcommand_cli_from_dict(
                known, args=arguments, prog="collapse-jax", config=(tyro.conf.OmitArgPrefixes,)
            )
    except SystemExit as ended:
        if ended.code != 2:
            raise
        message = _message_in(printed.getvalue())
        raise InputError(f"{message}; see collapse-jax {arguments[0]} --help") from None
    for note in notes:
        say(note)
    return given


def _check_names(known, arguments):
    """Raises `InputError` for an unknown command or option, with the nearest known name."""
    first = arguments[0] if arguments else ""
    if first not in known and not first.startswith("-"):
        raise InputError(
            f"the command is {first!r}; it must be one of {', '.join(known)}"
            f"{did_you_mean(first, known)}"
        )
    if first.startswith("-"):
        return
    options = {"--help", *_options(known[first])}
    for word in arguments[1:]:
        name = word.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in options and not name.startswith("--tyro-"):
            raise InputError(
                f"{first} has no option {name!r}; collapse-jax {first} --help lists them"
                f"{did_you_mean(name, options)}"
            )


def _options(kind):
    """The options of a dataclass and of its nested dataclasses, as they are typed.

    A boolean has two options, --NAME and --no-NAME; a positional argument has none.
    """
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            yield from _options(field.type)
            continue
        marks = getattr(field.type, "__metadata__", ())
        if tyro.conf.Positional in marks:
            continue
        renamed = (getattr(mark, "name", None) for mark in marks)
        name = next(filter(None, renamed), field.name).replace("_", "-")
        yield f"--{name}"
        if bool in (field.type, getattr(field.type, "__origin__", None)):
            yield f"--no-{name}"


def _message_in(box):
    """The first paragraph below the title of tyro's framed output, as one line.

    tyro gives no other public access to its errors. The first line of a frame is its title.
    """
    framed = "╭" in box.partition("\n")[0]
    lines = [
        re.sub(r"\x1b\[[\d;]*m", "", line).strip(" │|╭╮╰╯") for line in box.splitlines()[framed:]
    ]
    groups = itertools.groupby(lines, lambda line: bool(line) and not line.strip("─-"))
    paragraphs = [list(group) for is_rule, group in groups if not is_rule]
    text = paragraphs[1 - framed] if len(paragraphs) > 1 - framed else lines
    return " ".join(" ".join(text).split()).removeprefix("Error parsing ").rstrip(".")


def _numbers(notes):
    """Rules by which tyro reads numbers, and options with one or several comma-separated values.

    notes: receives lines about them, as keys.
    """
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def rule(info):
        if info.type in _SEVERAL:
            kind = _SEVERAL[info.type]
            metavar = f"{kind.__name__.upper()}[,...]"
            read = functools.partial(_several, notes, kind)
        elif info.type in _SINGLE:
            metavar, read = _SINGLE[info.type], functools.partial(_single, info.type)
        else:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: read(words[0]),
            is_instance=lambda value: True,
            str_from_instance=lambda value: [_written(value)],
        )

    return registry


def _written(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _single(kind, word):
    options = list(typing.get_args(kind))  # of T | None, else none
    if word == "None" and options:
        return None
    kind = options[0] if options else kind
    return _number(kind, word, f"{word!r} must be a {_NAMES[kind]}")


def _several(notes, kind, word):
    if kind is not str and ranges.is_range(word):
        values, note = ranges.read(kind, word)
        notes |= {note: None} if note else {}
        return values[0] if len(values) == 1 else values
    refused = f"{word!r} must be one {_NAMES[kind]}, or several with commas"
    values = tuple(_number(kind, part, refused) for part in word.split(","))
    return values[0] if len(values) == 1 else values


def _number(kind, word, refused):
    """The word as its type; tyro reports the `ValueError` with the option's name."""
    try:
        return kind(word)
    except ValueError:
        raise ValueError(refused) from None
