"""collapse-jax and its commands. Everything heavy is imported by the command that needs it."""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import inspect
import io
import itertools
import json
import logging
import os
import pathlib
import platform
import re
import sys
import traceback
import types
import typing
import warnings
from typing import Annotated

import tyro

from collapse_jax.app.config import (
    Devices,
    LMConfig,
    ModelDevices,
    PretrainConfig,
    QuickstartConfig,
    ReproduceConfig,
    SeedDevices,
    SimulateConfig,
)
from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.runs.settings import KINDS, from_dict


def commands(defaults: dict) -> dict:
    """Command name -> the function that runs it; `defaults` holds the settings that each starts
    from.
    """

    def quickstart(
        config: QuickstartConfig = defaults["quickstart"], out: str = "runs/quickstart"
    ) -> None:
        """Everything at once, offline, in under 3 minutes."""
        from collapse_jax.app.commands.quickstart import run_quickstart

        run_quickstart(config, out, _console())

    def simulate(
        config: SimulateConfig = defaults["simulate"],
        out: str = "runs/simulate",
        on: Devices = Devices(),
    ) -> None:
        """Thousands of chains of any family, drawn against their closed forms where these are
        known.
        """
        from collapse_jax.app.commands.simulate import run_simulate

        devices, console = _joined(config, on)
        run_simulate(config, out, console, devices)

    def lm(
        config: LMConfig = defaults["lm"], out: str = "runs/lm", on: SeedDevices = SeedDevices()
    ) -> None:
        """Fine-tune an OPT on real text, let it make the next training set, and so on."""
        from collapse_jax.app.commands.lm import lm_command

        seeds = on.seeds(config.seeds)
        placement, console = _joined(config, on)
        lm_command(config, out, console, placement, seeds)

    def pretrain(
        config: PretrainConfig = defaults["pretrain"],
        out: str = "runs/pretrain",
        on: ModelDevices = ModelDevices(),
    ) -> None:
        """Train an OPT from scratch on a text, for lm to start from."""
        from collapse_jax.app.commands.pretrain import pretrain_command

        placement, console = _joined(config, on)
        pretrain_command(config, out, console, placement)

    def plot(run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]) -> None:
        """Draw every figure of a run again, from its files alone."""
        from collapse_jax.app.commands.plot import redraw
        from collapse_jax.runs.folder import RunFolder

        for path in redraw(RunFolder(run)):
            print(path)

    def families() -> None:
        """Every estimator, workflow and curation in a line, with its source."""
        from collapse_jax.app.commands.families import print_families

        print_families(_console())

    def reproduce(
        ids: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
        config: ReproduceConfig = defaults["reproduce"],
        paper: str = "",
        cost: str = "",
        show: Annotated[bool, tyro.conf.arg(name="list")] = False,
        out: str = "runs/reproduce",
    ) -> None:
        """Every published result that this machine can check, in ten minutes.

        Args:
            ids: Entries to check; all by default.
            paper: Only those of papers whose arXiv number or name contains this.
            cost: cpu, gpu or weights: only entries of this cost.
            show: Name the entries and check nothing.
            out: The run folder: table.md, index.html, figures/.
        """
        from collapse_jax.app.commands.reproduce import run_reproduce

        if not run_reproduce(config, ids, paper, cost, show, out, _console()):
            sys.exit(1)

    return {
        "quickstart": quickstart, "simulate": simulate, "lm": lm, "pretrain": pretrain,
        "reproduce": reproduce, "plot": plot, "families": families,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """The entry point; how it ends is `terminal`'s."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with terminal():
        defaults, arguments = _defaults(arguments)
        _parsed(commands(defaults), arguments)()


def _parsed(known, arguments):
    """The command that the arguments ask for, as a function of nothing.

    Raises `InputError`, one line, for arguments that ask for none.
    """
    _check_names(known, arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _numbers():
            later = {name: _later(command) for name, command in known.items()}
            return tyro.extras.subcommand_cli_from_dict(
                later, args=arguments, prog="collapse-jax", config=(tyro.conf.OmitArgPrefixes,)
            )
    except SystemExit as ended:
        if ended.code != 2:
            raise
        raise InputError(
            f"{_message_in(said.getvalue())}; see collapse-jax {arguments[0]} --help"
        ) from None


def _later(command):
    @functools.wraps(command)
    def bound(*arguments, **options):
        return functools.partial(command, *arguments, **options)

    return bound


def _check_names(known, arguments):
    """Raises `InputError` for a command or an option that is not there, with the nearest that is."""
    first = arguments[0] if arguments else ""
    if not first or not (first.startswith("-") or first in known):
        raise InputError(
            f"the command is {first!r}; it must be one of "
            f"{', '.join(known)}{_nearest(first, known)}"
        )
    if first.startswith("-"):
        return
    parameters = inspect.signature(known[first]).parameters
    parts = {
        name: one.default
        for name, one in parameters.items()
        if dataclasses.is_dataclass(one.default)
    }
    names = (
        {field.name for part in parts.values() for field in dataclasses.fields(part)}
        | set(parameters) - set(parts)
        | {"list"}
    )
    options = {f"--{no}{name.replace('_', '-')}" for name in names for no in ("", "no-")} | {
        "--help"
    }
    for word in arguments[1:]:
        name = word.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in options and not name.startswith("--tyro-"):
            raise InputError(
                f"{first} has no option {name!r}; collapse-jax {first} --help lists "
                f"them{_nearest(name, options)}"
            )


def _nearest(word, known):
    found = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _message_in(box):
    """What tyro says in a box of several lines: its first paragraph below the title, as one line."""
    framed = (
        "╭" in box.partition("\n")[0]
    )  # with the title in the frame; without one it is a paragraph of its own
    lines = [
        re.sub(r"\x1b\[[\d;]*m", "", line).strip(" │|╭╮╰╯") for line in box.splitlines()[framed:]
    ]
    parts = [
        list(group)
        for rule, group in itertools.groupby(
            lines, lambda line: bool(line) and not line.strip("─-")
        )
        if not rule
    ]
    words = parts[1 - framed] if len(parts) > 1 - framed else lines
    return " ".join(" ".join(words).split()).removeprefix("Error parsing ").rstrip(".")


@contextlib.contextmanager
def terminal():
    """For what runs from a shell: exits with 2 for bad input (one line, before any work), 1 for a
    fit that diverged, 130 or 143 if stopped.

    Libraries' chatter is off, and compiled programs are kept between calls.
    """
    _quiet()
    try:
        yield
    except InputError as error:
        _stop(f"error: {error}", 2)
    except DivergenceError as error:
        _stop(f"stopped: {error}; what was saved is kept", 1)
    except OSError as error:
        _stop(
            f"stopped: {error}; what was saved is kept, and the same command goes on once "
            "this is mended",
            1,
        )
    except MemoryError as error:
        _stop(
            f"stopped: not enough memory ({error or 'no more was given'}); what was saved "
            "is kept, and less at once may fit",
            1,
        )
    except KeyboardInterrupt as error:
        _stop(
            "interrupted: what was saved is kept; the same command goes on from there",
            128 + getattr(error, "signal", 2),
        )
    except Exception as error:
        from collapse_jax.runs import distributed

        if distributed.processes() == 1:
            raise
        if not distributed.lost_another(error):
            traceback.print_exc()
            distributed.leave(1)
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        _stop(
            f"stopped: another process of this job ended ({said}); what was saved is kept, "
            "and the same command goes on, with any number",
            1,
        )


def _numbers():
    """How tyro reads numbers, and an option that takes one value, or several with commas between
    them.
    """
    registry = tyro.constructors.ConstructorRegistry()
    several = {kind | tuple[kind, ...]: kind for kind in (int, float, str)} | {
        float | tuple[float, ...] | None: float
    }
    single = {int: "INT", float: "FLOAT", int | None: "{None}|INT", float | None: "{None}|FLOAT"}

    @registry.primitive_rule
    def rule(info):
        if info.type in several:
            kind = several[info.type]
            spec = f"{kind.__name__.upper()}[,...]", functools.partial(_several, kind)
        elif info.type in single:
            spec = single[info.type], functools.partial(_single, info.type)
        else:
            return None

        def write(value):
            return [",".join(map(str, value)) if isinstance(value, tuple) else str(value)]

        metavar, read = spec
        return tyro.constructors.PrimitiveConstructorSpec(
            1,
            metavar,
            lambda words: read(words[0]),
            is_instance=lambda value: True,
            str_from_instance=write,
        )

    return registry


def _single(kind, word):
    kinds = typing.get_args(kind) or (kind,)
    if word == "None" and types.NoneType in kinds:
        return None
    return _number(kinds[0], word, word)


def _several(kind, word):
    values = tuple(
        kind(part) if kind is str else _number(kind, part, word) for part in word.split(",")
    )
    return values if len(values) > 1 else values[0]


def _number(kind, word, whole):
    """Raises the `ValueError` that tyro reports with the option's name."""
    try:
        return kind(word)
    except ValueError:
        raise ValueError(
            f"{whole!r} holds no {'whole number' if kind is int else 'number'} where one must be"
        ) from None


def _defaults(arguments):
    """Default settings of each command, those of a --config FILE taken out of the arguments."""
    defaults = {name: config() for name, config in KINDS.items()}
    for position, argument in enumerate(arguments):
        if argument == "--config" or argument.startswith("--config="):
            name = (
                argument.partition("=")[2]
                if "=" in argument
                else "".join(arguments[position + 1 : position + 2])
            )
            config = from_dict(_read_json(name), name)
            if arguments[0] != config.command:
                raise InputError(
                    f"{name} is a configuration for '{config.command}', not for '{arguments[0]}'"
                )
            taken = 1 if "=" in argument else 2
            return defaults | {config.command: config}, arguments[:position] + arguments[
                position + taken :
            ]
    return defaults, arguments


def _read_json(name):
    try:
        return json.loads(pathlib.Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--config {name!r} cannot be read as JSON: {error}") from None


def _joined(config, on):
    """What a command runs on, and where it prints: in a job of several processes process 0 alone.
    Wrong settings are found before.

    For commands that train models a `Placement`; for chains the devices of this process.
    """
    from collapse_jax.runs import distributed

    config.check()
    devices = distributed.start(on)
    console = _console(quiet=not distributed.is_first())
    if distributed.processes() > 1:
        console.print(f"{distributed.processes()} processes, {len(devices)} devices; should one process "
"end, all do, and the same command "
                      "goes on with any number of them", highlight=False)  # fmt: skip
    if isinstance(on, ModelDevices):
        from collapse_jax.models.lm.devices import Placement

        return Placement(devices, on.shard_parameters), console
    return [device for device in devices if device.process_index == distributed.process()], console


def _console(quiet=False):
    from rich.console import Console

    return Console(soft_wrap=True, markup=False, quiet=quiet)


def _quiet():
    """Libraries' chatter off, and compiled programs kept between calls, unless the user decided
    otherwise.
    """
    # Orbax logs the whole stack of what it also raises.
    for name in ("absl", "asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"(orbax|jax|transformers)\b")
    sys.excepthook, sys.unraisablehook = _print_unless_left_over, _print_unless_abandoned
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    cache = (
        pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        / "collapse_jax"
        / f"compiled-{_processor()}"
    )
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def _print_unless_left_over(kind, value, trace):
    if not _is_left_over(kind, value):
        sys.__excepthook__(kind, value, trace)


def _print_unless_abandoned(unraisable):
    """Of many arrays that it reads at once, Orbax raises the first failure, and leaves the others
    to be told when they are thrown away.
    """
    if not (
        inspect.iscoroutine(unraisable.object)
        or _is_left_over(unraisable.exc_type, unraisable.exc_value)
    ):
        sys.__unraisablehook__(unraisable)


def _is_left_over(kind, value):
    """Tensorstore's threads tell a loop that is gone about what failed; the failure itself was
    raised.
    """
    return kind is RuntimeError and str(value) == "Event loop is closed"


def _processor():
    """A name for this kind of processor: programs compiled for one may not run on another that
    shares the home folder.
    """
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = ""
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"


def _stop(message, code):
    from collapse_jax.runs import distributed

    print(" ".join(message.splitlines()), file=sys.stderr)
    distributed.leave(code)
