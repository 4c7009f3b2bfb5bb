"""Fig. 1c of Shumailov et al. 2024: as Fig. 1b, with 10 epochs and 10% real text.

10% of the original blocks are in every training set.

    python experiments/shumailov2024_fig1c.py
        OPT-125m and WikiText-2 from the hub, 5 seeds, generations 0 to 9
    python experiments/shumailov2024_fig1c.py --scale mini
        a 5.3 M-parameter OPT on part of WikiText-2, on the CPU
    python experiments/shumailov2024_fig1c.py --beside runs/shumailov2024_fig1b
        with the perplexities of that run in the figure

Run time: full: not measured, no GPU was available. Mini (1,024 training, 256 validation and 1,024
test blocks): 50 generations in 3 h 16 min on 2 cores of an AMD EPYC, measured with tests running
beside it most of the time; without other load a generation took two minutes. Published: test
perplexity 115 before fine-tuning, 34 in generation 0, then "only minor degradation", less than in
Fig. 1b.
Control (`--real-alone`): the model is fitted in the same way to the same share of real text and
nothing else. If a generation ends above the control, the generated text did harm; below it, the
generated text was useful. `collapse-jax lm --preset fig1c --control kept` fits such a control in
every generation. Writes figures/fig1c.png and real_alone.json in addition to the files of
`collapse-jax lm`; the same command again resumes the run.
"""

import dataclasses

import shumailov2024 as shared

from collapse_jax.app.config.lm.kept import kept_blocks
from collapse_jax.app.script import run_script

# What the key of the control is folded with: a number that no seed counts up to, and not that of
# the examples.
CONTROL = 2**32 - 2


@dataclasses.dataclass(frozen=True)
class Settings(shared.Settings):
    """Those of all the experiments, a run to compare with, and the control."""

    out: str = "runs/shumailov2024_fig1c"
    beside: str = ""
    """Folder of a run of Fig. 1b, whose mean perplexities are drawn as well."""
    real_alone: bool = True
    """Also fit the share of real text that is kept and nothing else, once a seed, and draw the mean
    of the perplexities."""


def real_alone(config, folder, say=print) -> list[dict]:
    """Perplexities of the test text, a row per seed, of the model fitted to real blocks alone.

    The pretrained model is fitted to a random `real_fraction` of the real blocks. As many blocks as
    the run keeps in each generation; no row where that is none. What real_alone.json in the folder
    holds is not done again. Raises `InputError` for one that cannot be read.
    """
    import jax
    import numpy as np

    from collapse_jax.app.commands.lm_ingredients import prepare
    from collapse_jax.app.config.lm import PERPLEXITY_WORDS, TEST_PERPLEXITY
    from collapse_jax.errors import InputError
    from collapse_jax.models.lm import fine_tune, mean_loss
    from collapse_jax.runs import strict_json

    settings, path = config.settings(), folder.path / "real_alone.json"
    config = settings.config
    try:
        rows = strict_json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except ValueError:
        raise InputError(f"{path} is damaged; delete it, and the control is made again") from None
    if len(rows) >= config.seeds:
        return rows[: config.seeds]
    model, pretrained, _, blocks, *_ = prepare(settings)
    kept = kept_blocks(config, len(blocks.train))
    control_key = jax.random.fold_in(jax.random.key(config.seed), np.uint32(CONTROL))
    for seed in range(len(rows), config.seeds if kept else 0):
        choice, fit = jax.random.split(jax.random.fold_in(control_key, seed))
        chosen = np.sort(np.asarray(jax.random.permutation(choice, len(blocks.train))[:kept]))
        fitted, result = fine_tune(
            model, pretrained, blocks.train[chosen], blocks.valid, settings.fine_tune, fit
        )
        loss = mean_loss(model, fitted, blocks.test)
        row = {"seed": seed, "blocks": kept, "best_epoch": result.best_epoch}
        rows.append(
            row
            | {
                "test_perplexity": float(np.exp(loss.mean())),
                "test_perplexity_mean": float(np.exp(loss).mean()),
            }
        )
        folder.write_text("real_alone.json", strict_json.dumps(rows, indent=1) + "\n")
        name = TEST_PERPLEXITY[config.protocol]
        say(
            f"seed {seed}: test perplexity {rows[-1][name]:.2f}, {PERPLEXITY_WORDS[name]}, by "
            f"{kept} real blocks alone"
        )
    return rows


def main(settings: Settings = Settings()) -> None:
    """The run, the control, then the figure."""
    from collapse_jax.runs.folder import RunFolder

    other = [RunFolder(settings.beside)] if settings.beside else []
    for run in other:
        run.config()  # refuses what is no run, before any work
    config = shared.config_of(settings, "fig1c")
    folder = shared.run(config, settings.out)
    alone = real_alone(config, folder) if settings.real_alone else []
    print(
        shared.draw(
            folder, "fig1c", published=settings.scale == "full", beside=other, real_alone=alone
        )
    )


if __name__ == "__main__":
    run_script(main, __doc__)
