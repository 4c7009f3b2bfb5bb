"""`collapse-jax lm --dry-run`: time, memory and files of a run, from a timed piece of it."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.app.commands.lm import memory_words
from collapse_jax.app.commands.lm_ingredients import Ingredients, prepare, process_of
from collapse_jax.app.commands.needs import disk_need
from collapse_jax.app.commands.planned import print_planned, time_row, where
from collapse_jax.app.config.lm import LMSettings
from collapse_jax.app.config.lm.kept import made_blocks, training_blocks
from collapse_jax.core.types import Estimator
from collapse_jax.errors import size_words
from collapse_jax.estimators.causal_lm import CausalLMParams
from collapse_jax.models.lm.finetune import fine_tune
from collapse_jax.models.lm.fit_settings import FineTune, plan_of
from collapse_jax.models.lm.score import mean_loss
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.memory import PeakMemory
from collapse_jax.runs.placement import Placement
from collapse_jax.runs.session import Session

# Blocks that are scored, and made where the settings do not say how many, in a piece.
_SCORED, _MADE = 64, 16
# What depends on how long a fit is; a piece has one step.
_OF_LENGTH = (
    *("epochs", "schedule", "warmup_steps", "final_learning_rate", "max_steps", "max_tokens"),
)


class _Rates(NamedTuple):
    """Measured times and memory.

    compiled: seconds until all three stages were compiled.
    step: seconds per optimiser step.
    made, scored: seconds per generated and per scored block.
    peaks: peak memory, as in a row of a run.
    """

    compiled: float
    step: float
    made: float
    scored: float
    peaks: dict[str, float]


def dry_run_command(
    settings: LMSettings,
    out: str,
    console: Any,
    placement: Placement = Placement(),
    seeds: tuple[int, ...] = (),
) -> None:
    """Prints a table of the run, or of each lineage's run; arguments as for `dry_run`.

    Args:
        out: The run folder, or the folder of all lineages.
    """
    config, folder = settings.config, RunFolder(out, seeds)
    if config.lineages == 1:
        return dry_run(settings, folder, console, placement, seeds)
    from collapse_jax.app.commands.lineages import lineage_configs

    for number, one in enumerate(lineage_configs(config)):
        folder = RunFolder(RunFolder(out).path / f"lineage_{number}", seeds)
        dry_run(one.settings(), folder, console, placement, seeds)


def dry_run(
    settings: LMSettings,
    folder: RunFolder,
    console: Any,
    placement: Placement = Placement(),
    seeds: tuple[int, ...] = (),
) -> None:
    """Reads everything, times a step, a batch of text and a score, and prints a table.

    Args:
        settings: The settings of the run.
        folder: The run folder; nothing is written there.
        console: Shows progress and the table.
        placement: The devices.
        seeds: The seeds of the call; () is all.

    Raises:
        InputError: As the run itself.
    """
    from collapse_jax.app.commands.progress import StageProgress

    config = settings.config
    folder.check(config)
    with StageProgress(console) as bar:
        session = Session(placement, progress=bar.stage)
        ingredients = prepare(settings, session=session, say=lambda line: None, run=folder.path)
        folder.check(config, ingredients.inputs)
        rates = _timed(settings, ingredients, session._replace(progress=lambda *stage: None))
    finished = {(row["chain"], row["generation"]) for row in folder.rows("chain", "generation")}
    missing = [
        (seed, generation)
        for seed in seeds or range(config.seeds)
        for generation in range(config.generations + 1)
        if (seed, generation) not in finished
    ]
    need = disk_need(settings, ingredients, finished, seeds)
    running = sum(_seconds(settings, ingredients, rates, generation) for _, generation in missing)
    blocks = sum(part.nbytes for part in ingredients.every_block().values())
    model = size_words(sum(leaf.nbytes for leaf in jax.tree.leaves(ingredients.pretrained)))
    count = len(seeds) or config.seeds
    several = f"{count} seeds, " if count > 1 else ""
    rows = (
        ("memory", memory_words([rates.peaks]).removeprefix("peak memory, ")),
        time_row(rates.compiled if missing else 0.0, running, " what was timed"),
        ("disk", f"{size_words(need.total + blocks)} {where(folder)}"),
        (
            "checkpoints/",
            f"{size_words(need.states * need.state)}: {need.states} of {model} models",
        ),
        ("unfinished/", size_words(need.unfinished)),
        ("results.nc, metrics.jsonl, metrics.csv", size_words(need.arrays)),
        ("samples/", size_words(need.texts)),
        ("blocks of the text", size_words(blocks)),
        ("config.json, environment.json, made_of.json, figures/", "small"),
    )
    left = "" if len(missing) == count * (config.generations + 1) else f", {len(missing)} left"
    title = f"{config.model}, {several}generations 0 to {config.generations}{left}"
    print_planned(console, title, rows)


def _seconds(settings, ingredients, rates, generation):
    """Of a generation: its fit, the text that it is fitted to, and its scores."""
    config, blocks = settings.config, ingredients.blocks
    size = training_blocks(config, len(blocks.train), generation)
    plan = plan_of(settings.fine_tune, size, config.block_length)
    # Held-out blocks after each epoch, the test text, and the set under two models.
    scored = plan.epochs * len(blocks.valid) + len(blocks.test) + 2 * size
    made = made_blocks(config, len(blocks.train)) if generation else 0
    if config.control != "none":
        made = 0
    return plan.steps * rates.step + made * rates.made + scored * rates.scored


def _timed(settings: LMSettings, ingredients: Ingredients, session: Session) -> _Rates:
    """One piece of each stage, twice: the first time it compiles."""
    memory = PeakMemory()
    session = session._replace(stage=memory.stage)
    config, blocks = settings.config, ingredients.blocks
    estimator = process_of(settings, ingredients, session=session).estimator
    step, of_step = _step(settings, ingredients, session)
    scored = blocks.test[: min(len(blocks.test), _SCORED)]
    score = lambda: mean_loss(ingredients.model, ingredients.pretrained, scored, session=session)  # noqa: E731
    with memory.stage("score"):
        first_score, of_score = _twice(score)
    with memory.stage("fit"):
        first_step, of_fit = _twice(step)
    made, first_made, of_made = 0, 0.0, 0.0
    if config.generations and config.control == "none":
        made = min(config.decode_batch or _MADE, made_blocks(config, len(blocks.train)))
    if made:
        first_made, of_made = _twice(_sampling(estimator, ingredients, made))
    each = of_score / len(scored)
    return _Rates(
        first_score - of_score + first_step - of_fit + first_made - of_made,
        max(of_fit - of_step * each, 0.0),
        of_made / max(made, 1),
        each,
        memory.take(),
    )


def _step(settings, ingredients, session) -> tuple[Callable[[], Any], int]:
    """(a fit of one optimiser step, how many blocks it scores)."""
    blocks, tuned = ingredients.blocks, settings.fine_tune
    defaults = {name: FineTune._field_defaults[name] for name in _OF_LENGTH}
    rows = plan_of(tuned, len(blocks.train), settings.config.block_length).rows
    of_one = tuned._replace(**defaults)._replace(epochs=1)
    valid = blocks.valid[: min(len(blocks.valid), _SCORED)]
    arguments = ingredients.model, ingredients.pretrained, blocks.train[:rows], valid
    return (
        lambda: fine_tune(*arguments, of_one, jax.random.key(0), session=session),
        len(valid),
    )


def _sampling(estimator: Estimator, ingredients: Ingredients, count: int) -> Callable[[], Any]:
    params = CausalLMParams(ingredients.pretrained, {}, jnp.asarray(0, jnp.int32))
    return lambda: estimator.sample(jax.random.key(0), params, count)


def _twice(piece: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the first call, which compiles, and of the second."""
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        jax.block_until_ready(piece())
        taken.append(time.perf_counter() - began)
    return max(taken[0], taken[1]), taken[1]
