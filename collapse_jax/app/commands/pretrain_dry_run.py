"""`collapse-jax pretrain --dry-run`: time, memory and files of a run, from its first steps."""

import dataclasses
import pathlib
import tempfile
import time
from typing import Any

import jax

from collapse_jax.app.commands.planned import print_planned, time_row, where
from collapse_jax.app.commands.pretrain_materials import CHECKPOINTS_KEPT, parameters_of, prepare
from collapse_jax.app.commands.pretrain_steps import Steps
from collapse_jax.app.config.pretrain import PretrainSettings
from collapse_jax.errors import size_words
from collapse_jax.models.lm.pretrain import begin
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.memory import PeakMemory
from collapse_jax.runs.placement import Placement
from collapse_jax.runs.session import Session


def dry_run(
    settings: PretrainSettings, folder: RunFolder, console: Any, placement: Placement
) -> None:
    """Reads the text, times a step and a score, and prints a table.

    Tokenizer and tokens are made as for the run, in a temporary folder.

    Args:
        settings: The settings of the run.
        folder: The run folder; nothing is written there.
        console: Shows progress and the table.
        placement: The devices.

    Raises:
        InputError: As the run itself.
    """
    from collapse_jax.app.commands.progress import StageProgress

    config, memory = settings.config, PeakMemory()
    with tempfile.TemporaryDirectory() as aside, StageProgress(console) as bar:
        session = Session(placement, progress=bar.stage)
        began = time.perf_counter()
        made, materials = prepare(settings, f"{aside}/run", session=session, say=lambda line: None)
        reading = time.perf_counter() - began
        tokens = _bytes_below(made.path)
        with memory.stage("fit"):
            compiled, step, score = _timed(settings, materials, session)
    done = folder.rows("step")[-1]["step"] if folder.rows("step") else 0
    scores = -(-config.steps // config.evaluate_every) - done // config.evaluate_every
    model = 4 * parameters_of(materials.model.config)
    states = (CHECKPOINTS_KEPT + 1) * 3 * model
    rows = (
        ("memory", _memory_words(memory)),
        time_row(compiled, reading + (config.steps - done) * step + scores * score, ""),
        ("disk", f"{size_words(states + model + tokens)} {where(folder)}"),
        ("checkpoints/", f"{size_words(states)}: {CHECKPOINTS_KEPT} and the one being written"),
        ("model/", f"{size_words(model)} in float32"),
        ("tokens/, tokenizer/", size_words(tokens)),
        ("metrics.jsonl, metrics.csv, config.json, figures/", "small"),
    )
    batch = f"{config.batch_size} x {config.block_length} tokens"
    title = (
        f"{model // 4:,} parameters, {config.steps:,} steps of {batch}, "
        f"{len(materials.windows.train):,} windows"
    )
    print_planned(console, title, rows)


def _timed(settings, materials, session):
    """Seconds (until a step and a score were compiled, of a step, of a score)."""
    # A compiled call ends where there is something to score: after each step here.
    short = dataclasses.replace(settings.config, evaluate_every=1)
    init_key, order_key = jax.random.split(jax.random.key(short.seed))
    quiet = session._replace(progress=lambda *stage: None)
    steps = Steps(settings._replace(config=short), materials, quiet, order_key)
    state = begin(materials.model, settings.optimiser, init_key)
    state = session.placement.place_parameters(state, short.batch_size)
    of_steps, of_scores = [], []
    for step in range(min(2, short.steps)):
        began = time.perf_counter()
        _, state, losses = steps.run(step, state)
        jax.block_until_ready(state)
        of_steps.append(time.perf_counter() - began)
        began = time.perf_counter()
        steps.row(step + 1, state.params, float(losses.mean()))
        of_scores.append(time.perf_counter() - began)
    compiled = of_steps[0] - of_steps[-1] + of_scores[0] - of_scores[-1]
    return max(compiled, 0.0), of_steps[-1], of_scores[-1]


def _memory_words(memory):
    peaks = memory.take()
    host, device = (peaks.get(f"fit_{kind}_mib") for kind in ("peak", "device_peak"))
    parts = [] if host is None else [f"host {host:,.0f} MiB"]
    parts += [] if device is None else [f"fullest device {device:,.0f} MiB"]
    return ", ".join(parts) or "not available here"


def _bytes_below(folder: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
