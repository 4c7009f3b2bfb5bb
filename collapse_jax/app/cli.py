"""collapse-jax: what the user types, and the command that it runs.

Everything heavy is imported by the command that needs it.
"""

import dataclasses
import itertools
import json
import pathlib
import sys
import typing

from collapse_jax.app.commands import COMMANDS, Command, load
from collapse_jax.app.commands.arguments import RunArguments
from collapse_jax.app.option_groups import of_groups, one_group, option_groups, with_texts
from collapse_jax.app.parsing import parsed
from collapse_jax.app.terminal import new_console, terminal
from collapse_jax.errors import InputError
from collapse_jax.runs.settings import Settings, from_dict

_HELP_ALL = "--help-all"


def main(arguments: list[str] | None = None) -> None:
    """Runs the command that the arguments ask for; `terminal` decides how it ends.

    Args:
        arguments: Those of the process by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with terminal():
        settings, arguments = _settings_of_file(arguments)
        settings = settings or _settings_of_decisive(arguments)
        is_short = _HELP_ALL not in arguments
        known = {
            name: _arguments_type(command, settings.get(name), is_short)
            if name in arguments[:1]
            else _no_arguments(command)
            for name, command in COMMANDS.items()
        }
        given = parsed(known, ["--help" if word == _HELP_ALL else word for word in arguments])
        if _run(COMMANDS[arguments[0]], given) is False:
            sys.exit(1)


def _arguments_type(command: Command, settings: Settings | None, is_short: bool = True) -> type:
    """Returns the dataclass that a command's arguments are parsed into.

    Args:
        settings: Its defaults.
        is_short: Whether --help shows only the first sentence on each setting.
    """
    fields: list = []
    summary = command.summary
    if command.settings:
        fields += option_groups(settings or command.settings(), is_short=is_short)
        # Its --config is read before all others, in `_settings_of_file`; --help lists it here.
        run = RunArguments(out=f"runs/{command.name}")
        fields.append(one_group("run", run, is_short=is_short))
    if command.devices:
        fields.append(one_group("hardware", command.devices(), is_short=is_short))
    bases = ()
    if command.arguments and _group_of(command):
        fields.append(one_group(_group_of(command), command.arguments(), is_short=False))
    elif command.arguments:
        bases = (with_texts(command.arguments),)
    kind = dataclasses.make_dataclass(command.name, fields, bases=bases, frozen=True)
    if command.settings and is_short:
        summary += f"\n{_HELP_ALL} describes each option in full."
        for name in command.settings.decisive[:1]:
            summary += f"\n--help --{name} NAME shows the defaults that a {name} sets."
    kind.__doc__ = summary
    return kind


def _group_of(command):
    """The name of the help group of arguments below the devices: "track"; "" without such a
    group."""
    if not (command.arguments and command.devices):
        return ""
    return command.arguments.__name__.removesuffix("Arguments").lower()


def _no_arguments(command):
    """An empty dataclass for a command that is listed but was not asked for."""
    kind = dataclasses.make_dataclass(command.name, [])
    kind.__doc__ = command.summary
    return kind


def _run(command, given):
    """Calls the command's function; settings are checked before anything heavy is imported."""
    extra = dataclasses.fields(command.arguments) if command.arguments else ()
    place = getattr(given, _group_of(command)) if _group_of(command) else given
    extra = {field.name: getattr(place, field.name) for field in extra}
    if not command.settings:
        return load(command.run)(new_console(), **extra)
    settings = of_groups(command.settings, given)
    settings.check()
    devices, console = (), new_console()
    if command.devices:
        devices, console = _joined(settings, command.devices(**vars(given.hardware)))
    return load(command.run)(settings, given.run.out, console, *devices, **extra)


def _joined(settings, on):
    """The devices of a command and its console; of several processes, only the first one prints."""
    from collapse_jax.runs import distributed

    on.check_for(settings)
    devices = distributed.start(on)
    console = new_console(quiet=not distributed.is_first())
    if distributed.processes() > 1:
        console.print(
            f"{distributed.processes()} processes, {len(devices)} devices; if one process ends, "
            "all end; the same command then resumes the run, with any number of processes",
            highlight=False,
        )
    return on.given(settings, devices), console


def _settings_of_file(arguments):
    """({command: the settings from --config FILE or RUN}, the arguments without that option)."""
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is not None and not command.settings:
        return {}, arguments
    for position, argument in enumerate(arguments):
        option, is_joined, name = argument.partition("=")
        if option != "--config":
            continue
        rest = arguments[position + 1 :]
        name, rest = (name, rest) if is_joined else ("".join(rest[:1]), rest[1:])
        if "--config" in (word.partition("=")[0] for word in rest):
            raise InputError("--config is given more than once; give it once")
        values = _with_decisive(command, _read_json(name), name, [*arguments[:position], *rest])
        settings = from_dict(values, name, of_folder=pathlib.Path(name).is_dir())
        _refuse_code(settings, name)
        if arguments[0] != settings.command:
            raise InputError(
                f"{name} is a configuration for '{settings.command}', not for '{arguments[0]}'"
            )
        return {settings.command: settings}, arguments[:position] + rest
    return {}, arguments


def _settings_of_decisive(arguments):
    """{command: its settings, with the defaults that follow from the decisive fields given}."""
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None or command.settings is None or not command.settings.decisive:
        return {}
    settings = command.settings(**_decisive(command, arguments))
    asks_for_help = {"-h", "--help", _HELP_ALL} & set(arguments)
    return {command.name: settings.resolved() if asks_for_help else settings}


def _with_decisive(command, values, name, arguments):
    """The values of a settings file; decisive fields that it lacks come from the command line.

    Values of the file take precedence over a preset's, so the file must not name another preset.
    """
    if command is None or not isinstance(values, dict):
        return values
    given = _decisive(command, arguments)
    for field, value in given.items():
        if field in command.settings.exclusive and values.get(field, value) != value:
            raise InputError(
                f"--{field} is {value!r}, but {name} contains settings of {field} "
                f"{values[field]!r}; leave out one of the two"
            )
    return given | values


def _decisive(command, arguments):
    """{field: value} of the decisive fields that are given, if the value can be read."""
    hints, given = typing.get_type_hints(command.settings), {}
    for field in filter(hints.get, command.settings.decisive):
        for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
            option, is_joined, value = argument.partition("=")
            value = value if is_joined else following
            if option.replace("_", "-") != f"--{field.replace('_', '-')}":
                continue
            if value in typing.get_args(hints[field]):
                given[field] = value
            elif hints[field] is int and value.isdecimal():
                given[field] = int(value)
    return given


def _refuse_code(settings, name):
    """Raises `InputError` for settings from a file that name Python code to run."""
    for field in settings.names_code:
        value = getattr(settings, field)
        if value != getattr(type(settings), field):
            raise InputError(
                f"{name}: {field} is {value!r}, which names Python code to run; a settings file "
                f"may not name code, so give --{field.replace('_', '-')} on the command line if "
                "you trust it"
            )


def _read_json(name):
    path = pathlib.Path(name)
    path = path / "config.json" if name and path.is_dir() else path  # of a run folder
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--config {name!r} cannot be read as JSON: {error}") from None
