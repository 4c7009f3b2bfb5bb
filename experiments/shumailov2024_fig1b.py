"""Fig. 1b of Shumailov et al. 2024: OPT-125m fine-tuned on its predecessor's text alone.

    python experiments/shumailov2024_fig1b.py
        OPT-125m and WikiText-2 from the hub, 5 seeds, generations 0 to 9
    python experiments/shumailov2024_fig1b.py --scale mini
        a 5.3 M-parameter OPT on part of WikiText-2, on the CPU
    python experiments/shumailov2024_fig1b.py --protocol released-code
    python experiments/shumailov2024_fig1b.py --precision bfloat16
        faster on a GPU; docs/speed.md has its effect on the numbers

Run time: full: not measured, no GPU was available. Mini (1,024 training, 256 validation and 1,024
test blocks): 50 generations in 2 h 51 min on 2 cores of an AMD EPYC, measured with tests running
beside it most of the time; without other load a generation takes about a minute. Published: test
perplexity 115 before fine-tuning, 34 in generation 0, then 20 to 28 points more (54 to 62); in the
histograms the training sets move to the left under the generation-0 model, and a longer right tail
appears. A third party's rerun of the released code, one seed: 36.5, then 61.1, then 43 to 49 in
generations 2 to 9. Writes figures/fig1b.png in addition to the files of `collapse-jax lm`; the same
command again resumes the run.
"""

import shumailov2024 as shared

from collapse_jax.app.script import run_script


def main(settings: shared.Settings = shared.Settings(out="runs/shumailov2024_fig1b")) -> None:
    """The run, then the figure."""
    folder = shared.run(shared.config_of(settings, "fig1b"), settings.out)
    print(shared.draw(folder, "fig1b", published=settings.scale == "full"))


if __name__ == "__main__":
    run_script(main, __doc__)
