"""Settings of every command, as frozen dataclasses: the command line, config.json and Python share
them.
"""

import dataclasses
import difflib
import types
import typing
from typing import Literal

from collapse_jax.app.config.devices import Devices, ModelDevices, SeedDevices
from collapse_jax.app.config.lm import PRESETS, PROTOCOLS, TEST_PERPLEXITY, LMConfig
from collapse_jax.app.config.pretrain import PretrainConfig
from collapse_jax.app.config.quickstart import QuickstartConfig
from collapse_jax.app.config.reproduce import ReproduceConfig
from collapse_jax.app.config.simulate import PROGRAM_AXES, VALUE_AXES, WORKFLOWS, SimulateConfig
from collapse_jax.errors import InputError

__all__ = [
    "CONFIGS", "PRESETS", "PROGRAM_AXES", "PROTOCOLS", "TEST_PERPLEXITY", "VALUE_AXES", "WORKFLOWS",
    "Config", "Devices", "LMConfig", "ModelDevices", "PretrainConfig", "QuickstartConfig", "ReproduceConfig", "SeedDevices",
    "SimulateConfig",
]  # fmt: skip

Config = LMConfig | SimulateConfig | QuickstartConfig | PretrainConfig | ReproduceConfig
CONFIGS = {
    config.command: config
    for config in (LMConfig, SimulateConfig, QuickstartConfig, PretrainConfig, ReproduceConfig)
}


def config_from_dict(values: dict, where: str) -> Config:
    """The configuration in a parsed config.json.

    Raises `InputError` for unknown, misspelt or ill-typed fields; `where` names the file.
    """
    if not isinstance(values, dict) or values.get("command") not in list(CONFIGS):
        raise InputError(f"{where}: 'command' must be one of {', '.join(CONFIGS)}")
    kind = CONFIGS[values["command"]]
    hints = typing.get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    given = {name: value for name, value in values.items() if name != "command"}
    for name, value in given.items():
        if name not in fields:
            nearest = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(fields)}"
            raise InputError(f"{where}: unknown field {name!r}; {hint}")
        given[name] = _typed(value, fields[name], f"{where}: {name}")
    config = kind(**given)
    try:
        config.check()
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return config


def differing_fields(there: Config, here: Config) -> list[str]:
    """The settings in which two runs of one kind differ, as "name: THERE there, HERE here"; those
    that may grow are left out.
    """
    there, here = there.resolved(), here.resolved()
    names = [
        field.name for field in dataclasses.fields(there) if field.name not in there.may_change
    ]
    return [
        f"{name}: {getattr(there, name)} there, {getattr(here, name)} here"
        for name in names
        if getattr(there, name) != getattr(here, name)
    ]


def _typed(value, kind, where):
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        several = [option for option in options if typing.get_origin(option) is tuple]
        return _typed(
            value, several[0] if several and isinstance(value, list | tuple) else options[0], where
        )
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise InputError(
                f"{where} is {value!r}; it must be one of "
                f"{', '.join(map(str, typing.get_args(kind)))}"
            )
        return value
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
        if not isinstance(value, list | tuple):
            raise InputError(
                f"{where} is {value!r}; it must be a list of "
                f"{'names' if kind is str else 'numbers'}"
            )
        return tuple(_typed(item, kind, where) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where} is {value!r}; it must be of type {kind.__name__}")
    return value
