"""The repetition ablation of Shumailov et al. 2024: Fig. 1b with a repetition penalty of 2.0.

It is compared with the same run without the penalty.

    python experiments/shumailov2024_repetition_penalty.py  OPT-125m and WikiText-2 from the hub
    python experiments/shumailov2024_repetition_penalty.py --scale mini
        a 5.3 M-parameter OPT on part of WikiText-2, on the CPU

Run time: full: not measured, no GPU was available. Mini: about 1.7 hours on 2 CPU cores, estimated:
twice the 50 generations of shumailov2024_fig1b.py, which take about a minute each without other
load. Published: enforcing the penalty "causes the perplexity to double compared with the original",
and models "remain as susceptible to model collapse, if not more". Writes a run folder for each
penalty, and OUT/figures/repetition_penalty.png; the same command again resumes the run.
"""

import dataclasses
import pathlib

import shumailov2024 as shared

from collapse_jax.app.config import TEST_PERPLEXITY
from collapse_jax.app.script import run_script


@dataclasses.dataclass(frozen=True)
class Settings(shared.Settings):
    """Those of all the experiments, and the penalties."""

    out: str = "runs/shumailov2024_repetition_penalty"
    penalties: tuple[float, ...] = (1.0, 2.0)
    """Each gets a run of its own; ratios are to the first."""


def main(settings: Settings = Settings()) -> None:
    """A run a penalty, then a table and a figure of all."""
    from rich.console import Console

    configs = {
        penalty: shared.config_of(settings, "fig1b", repetition_penalty=penalty)
        for penalty in settings.penalties
    }
    for config in configs.values():
        config.check()
    folders = {
        penalty: shared.run(config, pathlib.Path(settings.out) / f"penalty_{penalty:g}")
        for penalty, config in configs.items()
    }
    values = {
        penalty: folder.results()[TEST_PERPLEXITY[settings.protocol]]
        for penalty, folder in folders.items()
    }
    Console(soft_wrap=True).print(table(values))
    print(draw(values, settings.out))


def table(values: dict):
    """Perplexity of the test text by generation under each penalty, and its ratio to the first's.

    Averaged over seeds.
    """
    from rich.table import Table

    base, *others = values
    made = Table(
        "generation",
        *(f"penalty {penalty:g}" for penalty in values),
        *(f"{penalty:g} over {base:g}" for penalty in others),
    )
    for g in values[base]["generation"].values:
        row = {penalty: float(seeds.sel(generation=g).mean()) for penalty, seeds in values.items()}
        made.add_row(
            str(g),
            *(f"{value:.2f}" for value in row.values()),
            *(f"{row[penalty] / row[base]:.2f}" for penalty in others),
        )
    made.caption = "published: the penalty of 2 doubles the perplexity"
    return made


def draw(values: dict, out) -> pathlib.Path:
    """OUT/figures/repetition_penalty.png: test perplexity under each penalty.

    Every seed, their mean, and twice the first penalty's.
    """
    from collapse_jax.app.plots import style
    from collapse_jax.runs.folder import RunFolder

    made, axes = style.figure(width=5.2)
    axis = axes[0, 0]
    axis.set_yscale("log")
    for (penalty, seeds), colour in zip(
        values.items(), style.generation_colours(len(values)), strict=True
    ):
        of_seeds = seeds.transpose("chain", "generation").values
        style.seeds(
            axis,
            seeds["generation"].values,
            of_seeds,
            colour,
            label=f"repetition penalty {penalty:g}",
        )
    base = next(iter(values.values())).mean("chain")
    axis.plot(
        base["generation"],
        2 * base,
        color=style.REAL,
        ls="--",
        lw=1,
        label="published: twice the first",
    )
    style.plain_ticks(axis.yaxis)
    axis.set_xlabel("generation (0: fitted to real text)", fontsize=8)
    axis.set_ylabel("perplexity on the real test text", fontsize=8)
    axis.legend(fontsize=7, frameon=False)
    return style.save(made, RunFolder(out), "repetition_penalty")


if __name__ == "__main__":
    run_script(main, __doc__)
