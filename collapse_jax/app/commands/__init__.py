"""The table of commands, which the command line and the plots read.

A new command is its settings (config/NAME.py), its function (commands/NAME.py), and a row here.
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
    """One command. Functions are given as "MODULE:FUNCTION"; the modules lie below this package.

    name: What the user types.
    summary: One sentence of `--help`.
    run: Called with what the other fields ask for, in this order: the settings and the run folder's
        path; the console; what `devices.given` returns; the fields of `arguments` by name. False
        makes the exit code 1.
    settings: What config.json holds; None for a command without a run folder.
    devices: Where the user may say on what it runs.
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
            "Everything at once, offline, in under 2 minutes of CPU time.",
            "commands.quickstart:run_quickstart",
            QuickstartConfig,
            draw="plots.quickstart:draw",
        ),
        Command(
            "simulate",
            "Thousands of chains of any family, drawn against their closed forms where these are "
            "known.",
            "commands.simulate:run_simulate",
            SimulateConfig,
            PointDevices,
            PlanArguments,
            draw="plots.simulate:draw",
        ),
        Command(
            "lm",
            "Fine-tune a language model on real text, then on what it wrote, and so on.",
            "commands.lm:lm_command",
            LMConfig,
            SeedDevices,
            TrackArguments,
            draw="plots.language_model:draw",
        ),
        Command(
            "evaluate",
            "Perplexity and bits per byte of another text under the models of a run of lm.",
            "commands.evaluate:evaluate_command",
            arguments=EvaluateArguments,
        ),
        Command(
            "export",
            "One model of a run of lm as a Hugging Face folder with its tokenizer.",
            "commands.export:export_command",
            arguments=ExportArguments,
        ),
        Command(
            "compare",
            "Several runs of lm in one figure and one table.",
            "commands.compare:compare_command",
            arguments=CompareArguments,
        ),
        Command(
            "profile",
            "Which of eight definitions of model collapse a run meets, since when, and where they "
            "disagree.",
            "commands.profile:profile_command",
            arguments=ProfileArguments,
        ),
        Command(
            "warning",
            "How many generations before a loss collapses each metric of a run rings an alarm.",
            "commands.warning:warning_command",
            arguments=WarningArguments,
        ),
        Command(
            "pretrain",
            "Train an OPT from scratch on a text, for lm to start from.",
            "commands.pretrain:pretrain_command",
            PretrainConfig,
            ModelDevices,
            PlanArguments,
            draw="plots.pretraining:draw",
        ),
        Command(
            "reproduce",
            "Every published result that this machine can check, in some eleven minutes.",
            "commands.reproduce:run_reproduce",
            ReproduceConfig,
            arguments=ReproduceArguments,
            draw="reproduce.report:draw",
        ),
        Command(
            "measure",
            "More metrics of a simulation that is done, of the same chains.",
            "commands.measure:measure_command",
            arguments=MeasureArguments,
        ),
        Command(
            "plot",
            "Draw every figure of a run again, from its files alone.",
            "commands.plot:plot",
            arguments=PlotArguments,
        ),
        Command(
            "families",
            "Every estimator, workflow, curation and published loop in a line, with its source.",
            "commands.families:print_families",
        ),
    )
}


def load(function: str) -> Callable:
    """The function that a row of the table names, imported now."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(f"collapse_jax.app.{module}"), name)
