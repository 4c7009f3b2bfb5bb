"""`collapse-jax quickstart`: chains compared with theory, and the language-model loop, offline."""

import pathlib
from typing import TYPE_CHECKING

from collapse_jax.app.commands.lm import lm_command
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.commands.simulation import memory_of
from collapse_jax.app.config import LMConfig, QuickstartConfig, SimulateConfig
from collapse_jax.app.plots.quickstart import draw_overview, parts_of
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console


def chain_runs(config: QuickstartConfig) -> dict[str, SimulateConfig]:
    """Folder name -> settings of the four simulations; they share the seed's random numbers."""
    return {
        f"{family}_{workflow}": SimulateConfig(
            family=family,
            workflow=workflow,
            sample_size=100,
            generations=100,
            chains=config.chains,
            seed=config.seed,
        )
        for family in ("gaussian", "categorical")
        for workflow in ("replace", "accumulate")
    }


def language_model_run(config: QuickstartConfig) -> LMConfig:
    """Settings of the loop of the embedded OPT, which starts on the embedded text."""
    return LMConfig(
        corpus="embedded",
        model="embedded",
        generations=config.generations,
        seeds=1,
        seed=config.seed,
        train_blocks=160,
        valid_blocks=64,
        epochs=3,
        batch_size=8,
        learning_rate=1e-3,
        final_learning_rate=1e-4,
        decode_batch=80,
    )


def run_quickstart(config: QuickstartConfig, out: str, console: "Console") -> None:
    """Runs (or resumes) all parts under one folder; prints their tables and paths of the figures.

    Raises:
        InputError: Before any work, if a part of the folder contains anything else.
    """
    config.check()
    RunFolder(out).check(config)
    for name, settings in chain_runs(config).items():
        RunFolder(pathlib.Path(out) / name).check(settings)
        memory_of(settings)
    language_model = language_model_run(config)
    language_model.check()
    RunFolder(pathlib.Path(out) / "language_model").check(language_model)
    folder = RunFolder.open(out, config)
    for name, settings in chain_runs(config).items():
        run_simulate(settings, pathlib.Path(out) / name, console)
    lm_command(language_model, str(pathlib.Path(out) / "language_model"), console)
    # The language model's were drawn at its end.
    drawn = pathlib.Path(out, "language_model", "figures").glob("*.png")
    console.print("all figures:")
    for path in [draw_overview(folder, parts_of(folder)), *sorted(drawn)]:
        console.print(f"  {path}", highlight=False)
