"""The three sources of error of Shumailov et al. 2024, each switched on and off.

The sources are those of their section "What is model collapse?".

    python experiments/error_sources.py
        8 cells each of a Gaussian, a mixture of two, and a VAE (--families gaussian,gmm: without)

Run time: 1 min 54 s, 163 CPU-seconds, on 2 cores with programs compiled before; 5 min 56 s under
much other load and with nothing compiled. Each source, on | off:

    statistical    each generation is fitted to M points | to the density itself (VAE: to other
                   images of the last decoder in every batch)
    expressivity   the real distribution is outside the family | in it
                   Gaussian: a mixture of two with mean 0 and variance 1 | N(0, 1)
                   GMM of two components: a mixture of three | of two
                   VAE: one latent | four; the real data always comes from a VAE of four latents,
                   fitted to digits, so that all cells are scored on the same images
    approximation  a small budget | the optimum, always from one poor start (VAE: fresh weights)
                   Gaussian: 20 gradient steps | closed form
                   GMM: 26 | 500 steps of EM
                   VAE: 30 | 300 epochs

Measured against the real distribution: KL(real || model). For the VAE: by how much the bound on
held-out real images is below that of the real model, and the standard deviation of the latent means
that the encoder of the real model gives to the model's images. Effects (`factorial.effects`) are
those of medians over chains. All cells have the same random numbers (one key, of --seed), so that
an effect is less noisy than the medians that it is computed from. The VAE's held-out images, the
latents of its bounds and the probes have separate keys, the same for every seed: other seeds train
other networks, but do not draw the test data again.

Published: expressivity error "can only occur at the first generation" in the absence of the other
two (a single Gaussian for a mixture of two, infinite data); statistical error is the primary one;
each of them can make collapse worse or better. Measured (seed 0), KL at generations 0, 20 and 60,
lost bound at 0, 1 and 5, one source alone (the VAE also loses with none of them: 600 steps and an
encoder are not an exact optimum):

                     Gaussian             GMM                  VAE
    none             0     0     0        0     0     0        0.28  0.61  1.70
    statistical      .003  .089  .346     .013  .358  2.22     1.25  2.07  4.47
    expressivity     .083  .083  .083     .041  .041  .041     1.05  1.19  1.76
    approximation    .001  .163  .376     .011  .068  .068     5.00  8.17  12.8
    all three        .086  .302  .606     .052  .370  1.13     4.27  7.49  9.81

The expressivity error arises in the first generation only, as published. Sampling errors are
random, so KL grows in proportion to the generations. The error of a small budget always points to
the same start, so KL grows with the square of the generations (Gaussian: .0012 .0044 .0091) and
then levels off. In late generations the two work against each other: the pull to a fixed start
slows the collapse of the mixture (2.22 without, 1.38 with it).
Needs scikit-learn (pip install -e ".[toys]"). Writes figures/error_sources.png and cells.csv into
--out.
"""

import dataclasses
import pathlib

import numpy as np

from collapse_jax.app.script import run_script
from collapse_jax.errors import InputError

# Name -> how it is off and on, in the order of a cell (1: on).
SOURCES = {
    "statistical": ("infinite sample", "finite sample"),
    "expressivity": ("truth in the family", "truth outside"),
    "approximation": ("optimum", "small budget"),
}
# (weights, means, deviations) of the truth, inside the family and outside it.
TRUTHS = {
    "gaussian": (([1.0], [0.0], [1.0]), ([0.5, 0.5], [-0.85, 0.85], [0.2775**0.5] * 2)),
    "gmm": (
        ([0.6, 0.4], [-1.5, 2.0], [1.0, 0.7]),
        ([0.6, 0.2, 0.2], [-1.5, 1.2, 3.0], [1.0, 0.5, 0.5]),
    ),
}
# Where every optimiser starts. The Gaussian's steps are on (mean, log deviation).
STARTS = {"gaussian": (1.0, 2.0), "gmm": ([0.5, 0.5], [-0.5, 0.5], [2.0, 2.0])}
STEP_SIZE, GRADIENT_STEPS, EM_STEPS = 0.2, 20, (500, 26)
LATENTS, HELD_OUT, PROBES = (4, 1), 1000, 500
KL, BOUND, DEVIATION = "KL(truth || model), nats", "lost bound, nats an image", "latent deviation"
LINEAR_BELOW = {KL: 0.1, BOUND: 1.0}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The last generation is `generations`; generation 0 is fitted to the truth."""

    families: str = "gaussian,gmm,vae"
    sample_size: int = 200
    generations: int = 60
    chains: int = 100
    """Of cells that draw something; the others are deterministic."""
    vae_images: int = 100
    vae_epochs: tuple[int, int] = (300, 30)
    vae_truth_epochs: int = 60
    vae_generations: int = 5
    vae_chains: int = 4
    vae_capacity: int = 4
    seed: int = 0
    out: str = "runs/error_sources"

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        for name in self.families.split(","):
            if name not in (*TRUTHS, "vae"):
                raise InputError(
                    f"families is {self.families!r}; it must be some of {','.join(TRUTHS)},vae"
                )
        for name in (
            "sample_size",
            "generations",
            "chains",
            "vae_images",
            "vae_generations",
            "vae_chains",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


def by_gradient(base, start):
    """A 1-D Gaussian fitted by GRADIENT_STEPS steps on its mean negative log-likelihood.

    start: (mean, deviation) of the first step.
    """
    import jax
    import jax.numpy as jnp

    from collapse_jax.core.types import FitInfo

    def fit(key, params, data):
        # All that the likelihood knows of the data is in the Gaussian that maximises it.
        best, _ = base.fit(key, params, data)
        mean, variance = best.mean[0], jnp.exp(2 * best.log_scale[0])

        def loss(at):
            return at[1] + (variance + (mean - at[0]) ** 2) * jnp.exp(-2 * at[1]) / 2

        begun = (jnp.full_like(mean, start[0]), jnp.full_like(mean, np.log(start[1])))

        def step(_, at):
            slopes = jax.grad(loss)(at)
            return jax.tree.map(lambda value, slope: value - STEP_SIZE * slope, at, slopes)

        place, log_scale = jax.lax.fori_loop(0, GRADIENT_STEPS, step, begun)
        fitted = best._replace(mean=(place,), log_scale=(log_scale,))
        return fitted, FitInfo(
            jnp.asarray(False), jnp.asarray(GRADIENT_STEPS), loss((place, log_scale))
        )

    return fit


def density_process(family: str, cell, settings: Settings):
    """The process of one cell of the Gaussian or the mixture, and its model as a metric.

    The metric is (weights, means, deviations) [3, K].
    """
    import jax.numpy as jnp

    import collapse_jax as cj

    statistical, expressivity, approximation = cell
    weights, means, deviations = (np.asarray(part) for part in TRUTHS[family][expressivity])
    params = cj.estimators.gmm_params(weights, means[:, None], deviations**2)
    truth = cj.estimators.gmm(len(weights), 1)
    if family == "gaussian":
        fitted = cj.estimators.gaussian(1, ddof=0)
        fitted = (
            fitted._replace(fit=by_gradient(fitted, STARTS[family])) if approximation else fitted
        )

        def model(state):
            return jnp.stack(
                [
                    jnp.ones(1),
                    jnp.stack(state.params.mean),
                    jnp.exp(jnp.stack(state.params.log_scale)),
                ]
            )
    else:
        # No tolerance: every fit takes all its steps.
        fitted = cj.estimators.gmm(
            2, 1, "spherical", start="previous", steps=EM_STEPS[approximation], tolerance=0.0
        )
        weights, means, deviations = (np.asarray(part) for part in STARTS[family])
        start, fit = cj.estimators.gmm_params(weights, means[:, None], deviations**2), fitted.fit
        fitted = fitted._replace(
            init=lambda key, data: start, fit=lambda key, params, data: fit(key, start, data)
        )

        def model(state):
            return jnp.stack([state.params.weights, state.params.means[:, 0], state.params.factors])

    source = cj.sources.population(truth, params)
    if not statistical:
        fitted, source = cj.infinite_sample(fitted, truth, params, low=-15.0, high=15.0)
    return cj.generational_process(
        fitted, source, cj.workflows.replace(), sample_size=settings.sample_size
    ), model


def density_cell(family: str, cell, settings: Settings) -> dict:
    """KL(truth || model) of one cell: {KL: float64 [chains, generations + 1]}."""
    import jax

    import collapse_jax as cj

    process, model = density_process(family, cell, settings)
    chains = settings.chains if cell[0] else 1
    trace = cj.simulate(
        process,
        jax.random.key(settings.seed),
        generations=settings.generations,
        chains=chains,
        metrics=(model,),
    )
    found = np.moveaxis(trace["model"].astype(float), 2, 0)
    return {KL: cj.theory.mixture_projection.kl(TRUTHS[family][cell[1]], tuple(found))}


def vae_truth(settings: Settings):
    """(size of the network, its parameters) of a VAE fitted to all training digits: the truth."""
    import jax
    import jax.numpy as jnp

    from collapse_jax.models import vae

    x = jnp.asarray(vae.load_images("digits").train)
    size = vae.VAE(8, 8, settings.vae_capacity, LATENTS[0])
    training = vae.VAETraining(settings.vae_truth_epochs, 50, 5e-3)
    return size, vae.train(size, training, jax.random.key(settings.seed + 1), x, jnp.ones(len(x)))[
        0
    ]


def vae_cell(truth, cell, settings: Settings) -> dict:
    """What one cell of the VAE loses of the bound, and its latent deviation.

    Returns label -> [chains, generations + 1]. truth: of `vae_truth`.
    """
    import jax
    import jax.numpy as jnp

    import collapse_jax as cj
    from collapse_jax.models import vae

    statistical, expressivity, approximation = cell
    size, params = truth

    def family(latent):
        training = vae.VAETraining(settings.vae_epochs[approximation], 50, 5e-3)
        options = {
            "training": training,
            "gives": "bernoulli",
            "draws": "finite" if statistical else "fresh",
        }
        return cj.estimators.vae(8, 8, capacity=settings.vae_capacity, latent=latent, **options)

    fitted, learner = family(LATENTS[expressivity]), size._replace(latent=LATENTS[expressivity])
    held_out = vae.generate(size, params.decoder, jax.random.key(1), HELD_OUT, "bernoulli")
    best = jnp.mean(vae.elbo(size, params, jax.random.key(2), held_out))

    def bound(state):
        return best - jnp.mean(vae.elbo(learner, state.params, jax.random.key(2), held_out))

    def deviation(state):
        made = fitted.sample(jax.random.key(3), state.params, PROBES)
        return jnp.std(vae.encode(size, params.encoder, made)[0])

    source = cj.sources.population(family(LATENTS[0]), params)
    process = cj.generational_process(
        fitted, source, cj.workflows.replace(), sample_size=settings.vae_images
    )
    sizes = {"generations": settings.vae_generations, "chains": settings.vae_chains}
    trace = cj.simulate(process, jax.random.key(settings.seed), metrics=(bound, deviation), **sizes)
    return {BOUND: trace["bound"], DEVIATION: trace["deviation"]}


def table(title: str, cells: dict):
    """A table of one measure at some generations: each source alone, all together, and the effects.

    Medians over chains.
    """
    from rich.table import Table

    from collapse_jax.app.plots.design import effects_of

    medians = {cell: np.median(values, 0) for cell, values in cells.items()}
    shown = sorted({0, 1, (last := len(medians[0, 0, 0]) - 1) // 3, last})
    made = Table("on, and then what each adds; generation:", *map(str, shown), title=title)
    for cell, values in medians.items():
        named = " + ".join(name for name, on in zip(SOURCES, cell, strict=True) if on)
        made.add_row(named or "none", *(f"{values[g]:.4f}" for g in shown))
    made.add_section()
    for chosen, values in effects_of(cells, tuple(SOURCES)).items():
        if chosen:
            made.add_row(" x ".join(chosen), *(f"{values[g]:+.4f}" for g in shown))
    return made


def main(settings: Settings) -> None:
    """All cells, their tables, and the figure."""
    settings.check()

    from rich.console import Console
    from rich.progress import track

    from collapse_jax.app.plots.design import CELLS, draw_design, write_cells
    from collapse_jax.runs.folder import RunFolder

    families, results, console = settings.families.split(","), {}, Console()
    truth = vae_truth(settings) if "vae" in families else None
    for family, cell in track(
        [(family, cell) for family in families for cell in CELLS],
        "cells",
        console=console,
        transient=True,
    ):
        found = (
            vae_cell(truth, cell, settings)
            if family == "vae"
            else density_cell(family, cell, settings)
        )
        for label, values in found.items():
            results.setdefault((family, label), {})[cell] = np.asarray(values)
    for (family, label), cells in results.items():
        console.print(table(f"{family}: {label}", cells))
    print(draw_design(results, SOURCES, RunFolder(settings.out), "error_sources", LINEAR_BELOW))
    write_cells(results, SOURCES, pathlib.Path(settings.out) / "cells.csv")


if __name__ == "__main__":
    run_script(main, __doc__)
