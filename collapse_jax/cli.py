"""collapse-jax and its commands. Everything heavy is imported by the command that needs it."""

import contextlib
import hashlib
import json
import logging
import os
import pathlib
import platform
import sys
import traceback
import warnings
from typing import Annotated

import tyro

from collapse_jax.config import (
    CONFIGS,
    Devices,
    LMConfig,
    ModelDevices,
    PretrainConfig,
    QuickstartConfig,
    ReproduceConfig,
    SimulateConfig,
    config_from_dict,
)
from collapse_jax.errors import DivergenceError, InputError


def commands(defaults: dict) -> dict:
    """Command name -> the function that runs it; `defaults` holds the settings that each starts from."""

    def quickstart(config: QuickstartConfig = defaults["quickstart"], out: str = "runs/quickstart") -> None:
        """Everything at once, offline, in under 3 minutes."""
        from collapse_jax.commands.quickstart import run_quickstart

        run_quickstart(config, out, _console())

    def simulate(config: SimulateConfig = defaults["simulate"], out: str = "runs/simulate", on: Devices = Devices()) -> None:
        """Thousands of chains of any family, drawn against their closed forms where these are known."""
        from collapse_jax.commands.simulate import run_simulate

        devices, console = _joined(config, on)
        run_simulate(config, out, console, devices)

    def lm(config: LMConfig = defaults["lm"], out: str = "runs/lm", on: ModelDevices = ModelDevices()) -> None:
        """Fine-tune an OPT on real text, let it make the next training set, and so on."""
        from collapse_jax.commands.lm import lm_command

        spread, console = _joined(config, on)
        lm_command(config, out, console, spread)

    def pretrain(config: PretrainConfig = defaults["pretrain"], out: str = "runs/pretrain", on: ModelDevices = ModelDevices()) -> None:
        """Train an OPT from scratch on a text, for lm to start from."""
        from collapse_jax.commands.pretrain import pretrain_command

        spread, console = _joined(config, on)
        pretrain_command(config, out, console, spread)

    def plot(run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]) -> None:
        """Draw every figure of a run again, from its files alone."""
        from collapse_jax.commands.plot import redraw
        from collapse_jax.records import RunFolder

        for path in redraw(RunFolder(run)):
            print(path)

    def families() -> None:
        """Every estimator, workflow and curation in a line, with its source."""
        from collapse_jax.commands.families import print_families

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
        from collapse_jax.commands.reproduce import run_reproduce

        if not run_reproduce(config, ids, paper, cost, show, out, _console()):
            sys.exit(1)

    return {
        "quickstart": quickstart, "simulate": simulate, "lm": lm, "pretrain": pretrain,
        "reproduce": reproduce, "plot": plot, "families": families,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """The entry point; how it ends is `terminal`'s."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with terminal(), _comma_separated():
        defaults, arguments = _defaults(arguments)
        tyro.extras.subcommand_cli_from_dict(commands(defaults), args=arguments, prog="collapse-jax", config=(tyro.conf.OmitArgPrefixes,))


@contextlib.contextmanager
def terminal():
    """For what runs from a shell: exits with 2 for bad input (one line, before any work), 1 for a fit that diverged, 130 or 143 if stopped.

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
        _stop(f"stopped: {error}; what was saved is kept, and the same command goes on once this is mended", 1)
    except KeyboardInterrupt as error:
        _stop("interrupted: what was saved is kept; the same command goes on from there", 128 + getattr(error, "signal", 2))
    except Exception as error:
        from collapse_jax import distributed

        if distributed.processes() == 1:
            raise
        if not distributed.lost_another(error):
            traceback.print_exc()
            distributed.leave(1)
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        _stop(
            f"stopped: another process of this job ended ({said}); what was saved is kept, and the same command goes on, with any number", 1
        )


def _comma_separated():
    """How tyro reads an option that takes one value, or several with commas between them."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def rule(info):
        kinds = {kind | tuple[kind, ...]: kind for kind in (int, float, str)} | {float | tuple[float, ...] | None: float}
        if info.type not in kinds:
            return None
        kind = kinds[info.type]

        def read(words):
            values = tuple(kind(word) for word in words[0].split(","))
            return values if len(values) > 1 else values[0]

        def write(value):
            return [",".join(map(str, value)) if isinstance(value, tuple) else str(value)]

        metavar = f"{kind.__name__.upper()}[,...]"
        return tyro.constructors.PrimitiveConstructorSpec(1, metavar, read, is_instance=lambda value: True, str_from_instance=write)

    return registry


def _defaults(arguments):
    """Default settings of each command, those of a --config FILE taken out of the arguments."""
    defaults = {name: config() for name, config in CONFIGS.items()}
    for position, argument in enumerate(arguments):
        if argument == "--config" or argument.startswith("--config="):
            name = argument.partition("=")[2] if "=" in argument else "".join(arguments[position + 1 : position + 2])
            config = config_from_dict(_read_json(name), name)
            if arguments[0] != config.command:
                raise InputError(f"{name} is a configuration for '{config.command}', not for '{arguments[0]}'")
            taken = 1 if "=" in argument else 2
            return defaults | {config.command: config}, arguments[:position] + arguments[position + taken :]
    return defaults, arguments


def _read_json(name):
    try:
        return json.loads(pathlib.Path(name).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"--config {name!r} cannot be read as JSON: {error}") from None


def _joined(config, on):
    """What a command runs on, and where it prints: in a job of several processes process 0 alone. Wrong settings are found before.

    For commands that train models a `Spread`; for chains the devices of this process.
    """
    from collapse_jax import distributed

    config.check()
    devices = distributed.start(on)
    console = _console(quiet=not distributed.is_first())
    if distributed.processes() > 1:
        console.print(f"{distributed.processes()} processes, {len(devices)} devices; should one process end, all do, and the same command "
                      "goes on with any number of them", highlight=False)  # fmt: skip
    if isinstance(on, ModelDevices):
        from collapse_jax.lm.devices import Spread

        return Spread(devices, on.shard_parameters), console
    return [device for device in devices if device.process_index == distributed.process()], console


def _console(quiet=False):
    from rich.console import Console

    return Console(soft_wrap=True, markup=False, quiet=quiet)


def _quiet():
    """Libraries' chatter off, and compiled programs kept between calls, unless the user decided otherwise."""
    # Orbax logs the whole stack of what it also raises.
    for name in ("absl", "asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"(orbax|jax|transformers)\b")
    sys.excepthook = _print_unless_left_over
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "collapse_jax" / f"compiled-{_processor()}"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def _print_unless_left_over(kind, value, trace):
    """Tensorstore's threads tell a loop that is gone about writes that failed; the failure itself was raised."""
    if not (kind is RuntimeError and str(value) == "Event loop is closed"):
        sys.__excepthook__(kind, value, trace)


def _processor():
    """A name for this kind of processor: programs compiled for one may not run on another that shares the home folder."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = ""
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"


def _stop(message, code):
    from collapse_jax import distributed

    print(message, file=sys.stderr)
    distributed.leave(code)
