"""`collapse-jax pretrain`: an OPT from scratch, from a text to a folder that `lm --model` loads."""

import functools
import json
import math
import os
from typing import Any

from collapse_jax.app.commands import inputs
from collapse_jax.app.commands.pretrain_materials import (
    corpus_read,
    excluded_read,
    prepare,
    rows_to_exclude,
    said_before,
)
from collapse_jax.app.commands.pretrain_steps import run_pretrain
from collapse_jax.app.config import PretrainConfig
from collapse_jax.runs import distributed
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.placement import Placement
from collapse_jax.runs.session import Session
from collapse_jax.runs.stopping import Stop

# Nats per token; exp of more than 709 is no float.
_LARGEST_LOSS = 700.0


def pretrain_command(
    config: PretrainConfig,
    out: str,
    console: Any,
    placement: Placement = Placement(),
    *,
    dry_run: bool = False,
) -> None:
    """Runs `collapse-jax pretrain`: checks, runs or resumes, draws the loss curve.

    Args:
        dry_run: Whether only a plan of the run is printed.
    """
    from collapse_jax.app.plots import draw_run

    settings = config.settings()
    folder = RunFolder(out)
    folder.check(config)
    if dry_run:
        from collapse_jax.app.commands.pretrain_dry_run import dry_run as dry_run_of

        return dry_run_of(settings, folder, console, placement)
    weights = folder.path / "model" / "model.safetensors"
    if _is_done(config, folder, functools.partial(console.print, highlight=False)):
        console.print(f"all {config.steps} steps of {folder.path} are done")
    else:
        folder = _open_and_run(settings, out, console, placement)
    rows = folder.rows("step", "held_out_loss")
    if not distributed.is_first():
        return
    loss = rows[-1]["held_out_loss"]
    console.print(
        f"held-out loss {loss:.4f} (perplexity, exp of the mean loss: {_exp_words(loss)}); "
        f"model: {weights.parent} ({weights.stat().st_size / 1e6:.2f} MB, {config.precision})",
        highlight=False,
    )
    for path in draw_run(folder):
        console.print(f"figure: {path}", highlight=False)


def _exp_words(loss):
    return f"{math.exp(loss):.2f}" if loss < _LARGEST_LOSS else "above 1e300"


def _open_and_run(settings, out, console, placement):
    """The run folder, with all steps done."""
    from collapse_jax.app.commands.progress import StageProgress

    config = settings.config
    with StageProgress(console) as bar:
        session = Session(placement, progress=bar.stage)
        said: list[str] = []
        folder, materials = distributed.first_then_others(
            functools.partial(prepare, settings, out, session=session, say=said.append)
        )
        for line in said:
            bar.line(line)
        counts = json.loads((folder.path / "counts.json").read_text())
        left_out = ""
        if config.exclude:
            left_out = (
                f", {counts['left_out_windows']:,} of them left out because they share text with "
                f"{config.exclude}"
            )
        bar.line(
            f"{counts['parameters']:,} parameters; {counts['tokens']:,} tokens: "
            f"{counts['train_windows']:,} windows of {config.block_length}{left_out}, "
            f"{counts['held_out_windows']:,} held out; run folder {folder.path}"
        )

        def recorded(row):
            bar.line(_line(row))

        with Stop(bar.line) as stop:
            run_pretrain(settings, folder, materials, session=session, recorded=recorded, stop=stop)
    return folder


def _is_done(config, folder, say):
    """Whether every record and the model exist, made from the present inputs."""
    rows = {row["step"] for row in folder.rows("step", "held_out_loss")}
    wanted = {*range(config.evaluate_every, config.steps, config.evaluate_every), config.steps}
    own = folder.path / "tokenizer"
    names = ["model.safetensors", "config.json", *(os.listdir(own) if own.is_dir() else ())]
    if not wanted <= rows or not all((folder.path / "model" / name).is_file() for name in names):
        return False
    finders = {
        "corpus": lambda: corpus_read(config),
        "tokenizer": lambda: inputs.tokenizer_files(config.tokenizer),
        "text to exclude": lambda: excluded_read(
            config, rows_to_exclude(config.exclude, said_before)
        ),
    }
    return inputs.unchanged(folder, finders, say)


def _line(row):
    rate = f", {row['tokens_per_second']:,.0f} tokens/s" if row["tokens_per_second"] else ""
    losses = f"training loss {row['train_loss']:.4f}, held-out loss {row['held_out_loss']:.4f}"
    return (
        f"step {row['step']} ({row['tokens']:,} tokens): {losses}, learning rate "
        f"{row['learning_rate']:.2e}{rate}"
    )
