"""Fig. 1c of Shumailov et al. 2024: as Fig. 1b, but 10 epochs, and 10% of the original blocks in every training set.

    python experiments/shumailov2024_fig1c.py                    OPT-125m and WikiText-2 from the hub, 5 seeds, generations 0 to 9
    python experiments/shumailov2024_fig1c.py --scale mini       a 5.3 M-parameter OPT on part of WikiText-2, on the CPU
    python experiments/shumailov2024_fig1c.py --beside runs/shumailov2024_fig1b     with the perplexities of that run in the figure

Run time: full: not measured, no GPU could be had. Mini (1,024 training, 256 validation and 1,024 test blocks): 50 generations in 3 h 16 min
on 2 cores of an AMD EPYC, measured with tests running beside it most of the time; undisturbed a generation took two minutes.
Published: test perplexity 115 before fine-tuning, 34 in generation 0, then "only minor degradation", less than in Fig. 1b.
Writes figures/fig1c.png beside what `collapse-jax lm` writes; say it again to resume.
"""

import dataclasses

import shumailov2024 as shared


@dataclasses.dataclass(frozen=True)
class Settings(shared.Settings):
    """Those of all the experiments, and a run to compare with."""

    out: str = "runs/shumailov2024_fig1c"
    beside: str = ""
    """Folder of a run of Fig. 1b, whose mean perplexities are drawn as well."""


def main(settings: Settings) -> None:
    """The run, then the figure."""
    from collapse_jax.records import RunFolder

    other = [RunFolder(settings.beside)] if settings.beside else []
    for run in other:
        run.config()  # refuses what is no run, before any work
    config = shared.config_of(settings, "fig1c")
    folder = shared.run(config, settings.out)
    print(shared.draw(folder, "fig1c", published=settings.scale == "full", beside=other))


if __name__ == "__main__":
    shared.command_line(main, Settings(), __doc__)
