"""The table of commands, which the command line and the plots read.

A new command needs settings (config/NAME.py), a function (commands/NAME.py), and a row here.
Functions are named, not imported: `collapse-jax --help` imports nothing heavy.
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from collapse_jax.app.commands.arguments import (
    CompareArguments,
    EvaluateArguments,
    ExportArguments,
    MeasureArguments,
    PlanArguments,
    PlotArguments,
    ProfileArguments,
    ReproduceArguments,
    TrackArguments,
    WarningArguments,
)
from collapse_jax.app.config.devices import Devices, ModelDevices, PointDevices, SeedDevices
from collapse_jax.app.config.lm import LMConfig
from collapse_jax.app.config.pretrain import PretrainConfig
from collapse_jax.app.config.quickstart import QuickstartConfig
from collapse_jax.app.config.reproduce import ReproduceConfig
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.runs.settings import Settings


class Command(NamedTuple):
    """One command. Functions are given as "MODULE:FUNCTION", with modules below this package.

    name: What the user types.
    summary: One sentence of `--help`.
    run: Called with these arguments, as far as the other fields ask for them: the settings and the
        path of the run folder; the console; what `devices.given` returns; the fields of `arguments`
        by name. If it returns False, the exit code is 1.
    settings: The settings that config.json stores; None for a command without a run folder.
    devices: The options on devices and processes, if the command has any.
    arguments: A dataclass of arguments that are not settings.
    draw: Called with the run folder and its settings; draws all figures and returns their paths.
    """

    name: str
    summary: str
    run: str
    settings: type[Settings] | None = None
    devices: type[Devices] | None = None
    arguments: type | None = None
    draw: str = ""


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "quickstart",
            "A first tour of everything, offline, in under 2 minutes of CPU time.",
            "commands.quickstart:run_quickstart",
            QuickstartConfig,
            draw="plots.quickstart:draw",
        ),
        Command(
            "simulate",
            "Simulate thousands of chains of any family and compare them with theory where it is "
            "known.",
            "commands.simulate:run_simulate",
            SimulateConfig,
            PointDevices,
            PlanArguments,
            draw="plots.simulate:draw",
        ),
        Command(
            "lm",
            "Fine-tune a language model on real text, then on text that it generated, and so on.",
            "commands.lm:lm_command",
            LMConfig,
            SeedDevices,
            TrackArguments,
            draw="plots.language_model:draw",
        ),
        Command(
            "evaluate",
            "Score another text with the models of a run of lm: perplexity and bits per byte.",
            "commands.evaluate:evaluate_command",
            arguments=EvaluateArguments,
        ),
        Command(
            "export",
            "Write one model of a run of lm, with its tokenizer, as a Hugging Face folder.",
            "commands.export:export_command",
            arguments=ExportArguments,
        ),
        Command(
            "compare",
            "Compare several runs of lm in one figure and one table.",
            "commands.compare:compare_command",
            arguments=CompareArguments,
        ),
        Command(
            "profile",
            "Report which of eight definitions of model collapse a run meets, from which "
            "generation on, and where the definitions disagree.",
            "commands.profile:profile_command",
            arguments=ProfileArguments,
        ),
        Command(
            "warning",
            "Measure how many generations before the collapse of a loss each metric of a run "
            "raises an alarm.",
            "commands.warning:warning_command",
            arguments=WarningArguments,
        ),
        Command(
            "pretrain",
            "Pretrain an OPT from scratch on a text, as a starting model for lm.",
            "commands.pretrain:pretrain_command",
            PretrainConfig,
            ModelDevices,
            PlanArguments,
            draw="plots.pretraining:draw",
        ),
        Command(
            "reproduce",
            "Check every published result that this machine can check, in about eleven minutes.",
            "commands.reproduce:run_reproduce",
            ReproduceConfig,
            arguments=ReproduceArguments,
            draw="reproduce.report:draw",
        ),
        Command(
            "measure",
            "Add metrics to a finished simulation, measured on the same chains.",
            "commands.measure:measure_command",
            arguments=MeasureArguments,
        ),
        Command(
            "plot",
            "Draw all figures of a run again from its files.",
            "commands.plot:plot",
            arguments=PlotArguments,
        ),
        Command(
            "families",
            "List every estimator, workflow, curation and published loop, with its source.",
            "commands.families:print_families",
        ),
    )
}


def load(function: str) -> Callable:
    """Imports and returns the function that a row of the table names."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(f"collapse_jax.app.{module}"), name)
