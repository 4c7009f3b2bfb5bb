"""A convolutional VAE, trained in each generation on the output of its predecessor's decoder.

Shumailov et al. 2024, notebook on MNIST.

    python experiments/shumailov2024_vae.py --scale full
        MNIST, 647,081 parameters, 30 epochs, generations 0 to 4, 5 seeds
    python experiments/shumailov2024_vae.py --scale mini
        12,800 images of MNIST, 16 channels instead of 64, else the same; 3 seeds
    python experiments/shumailov2024_vae.py --scale digits
        scikit-learn's 8x8 digits, needs no download; 3 seeds

Run time: full: not measured; 35,250 steps of 256 images per seed, for a GPU. mini: 22,500 steps in
total at 0.06 CPU-seconds, so estimated 25 minutes on 2 free CPU cores. digits: 1 min 46 s on 2
cores under much other load, half of it compilation. MNIST is read from ../shared/data/mnist beside
the repository, or else from the hub. The same command again resumes the run.

Published: 100 images of each generation through the encoder of generation 0, standard deviation of
all entries of their latent means: .6736 .6076 .5273 .4681 .4329 for generations 0 to 4 (their means
.004 .038 .028 .052 .056), one run; final training loss per image in nats: 98.9 on the real images,
then 123.4, 135.3, 144.2, 152.3, 158.8. The loss rises because grey images have a higher minimum
loss.

As in the released code, a generated training set is drawn again for every batch. No finite set is
ever refitted, so the shrinking standard deviation says nothing about sampling error, the cause that
the paper's text puts first; --draws finite draws each generation's images once. The training data
are the decoder's MEANS, without the pixel noise of its likelihood, so even the best fit cannot
reproduce its data. In the linear analogue (probabilistic PCA of noise s^2, any amount of data) the
variance of each direction falls by s^2 per generation until it is 0. --gives bernoulli trains on
draws of the model itself.

Measured on the digits (2 CPU cores, jax 0.10.2, 3 seeds), standard deviation for generations 0 to 4
under encoder 0:
    means      .627 .430 .180 .095 .094  (one image is left; .09: spread of its six latent means)
    bernoulli  .711 .688 .657 .647 .628
Pixel noise contributes to the second row (by how much was not measured). It does not affect the
bound on real test images, which falls from -24.5 nats to -26.6 with means (no information is left
in the latents), and to -25.4 with bernoulli: more slowly, and still falling.
"""

import dataclasses
import json
import pathlib
from typing import Literal

from collapse_jax.app.script import run_script
from collapse_jax.errors import InputError

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
SCALES = {
    "full": {
        "images": None,
        "sample_size": 60_000,
        "capacity": 64,
        "latent": 20,
        "epochs": 30,
        "batch_size": 256,
        "seeds": 5,
    },
    "mini": {
        "images": None,
        "sample_size": 12_800,
        "capacity": 16,
        "latent": 20,
        "epochs": 30,
        "batch_size": 256,
        "seeds": 3,
    },
    "digits": {
        "images": "digits",
        "sample_size": 1_500,
        "capacity": 16,
        "latent": 6,
        "epochs": 40,
        "batch_size": 64,
        "seeds": 3,
    },
}
DEVIATION = (0.6736, 0.6076, 0.5273, 0.4681, 0.4329)
MEAN = (0.004, 0.038, 0.028, 0.052, 0.056)
LOSS = (98.9, 123.4, 135.3, 144.2, 152.3, 158.8)
MAY_GROW = ("seeds", "generations")
# Images of each generation that the figures show, and that are put through the encoder of
# generation 0 for the scatter.
SHOWN, SCATTERED = 16, 500


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is left out is the scale's."""

    scale: Literal["full", "mini", "digits"] = "full"
    out: str = "runs/shumailov2024_vae"
    """Folder of the run; the same command again resumes it."""
    seeds: int | None = None
    generations: int = 4
    """The last generation; generation 0 is the network fitted to real images."""
    seed: int = 0
    gives: Literal["means", "bernoulli"] = "means"
    """What a decoder's images are: its means (as released), or draws of black and white pixels."""
    draws: Literal["fresh", "finite"] = "fresh"
    """Whether generated images are drawn anew for every batch (as released) or once a
    generation."""
    beside: str | None = None
    """Folder of a finished run of this script, whose means go into the figure of the deviation."""
    real_fraction: float = 0.0
    """Share of real images in every training set."""
    quality: bool = False
    """Whether 1,000 images are compared with real test images: precision, recall, coverage, the
    share in the tail and the sliced Wasserstein distance are recorded."""
    images: str | None = None
    """"digits", a folder with MNIST's IDX files, or a data set of the hub."""
    sample_size: int | None = None
    capacity: int | None = None
    latent: int | None = None
    epochs: int | None = None
    batch_size: int | None = None

    def resolved(self) -> "Settings":
        """With everything that the scale gives."""
        given = {
            name: value for name, value in dataclasses.asdict(self).items() if value is not None
        }
        filled = SCALES[self.scale] | given
        return Settings(
            **filled
            | {"images": filled["images"] or (str(DATA) if DATA.is_dir() else "ylecun/mnist")}
        )


def main(settings: Settings) -> None:
    """Runs or resumes, draws the figures, and prints a table."""
    import jax

    import collapse_jax as cj
    from collapse_jax.models import vae

    settings = settings.resolved()
    if settings.beside and cj.RunFolder(settings.beside).results() is None:
        raise InputError(f"beside is {settings.beside!r}, which holds no results of a run")
    folder = opened(settings)
    images = vae.load_images(settings.images)
    if settings.sample_size > len(images.train):
        raise InputError(
            f"sample_size is {settings.sample_size}, but {settings.images} has {len(images.train)} "
            "images to train on"
        )
    cj.run(
        process_of(settings, images.train),
        jax.random.key(settings.seed),
        generations=settings.generations,
        chains=settings.seeds,
        folder=folder,
        metrics=(
            *("mean", "variance", "latent_deviation_to_first", "latent_mean_to_first"),
            *quality_of(settings, images),
        ),
        observe=observer(settings, images),
        watcher=cj.Watcher(end=report),
        states="ends",
    )
    results = folder.results()
    print(table(results, settings))
    for path in draw(folder, results, settings):
        print(f"figure: {path}")


def estimator_of(settings: Settings, height: int, width: int):
    import collapse_jax as cj
    from collapse_jax.models import vae

    return cj.estimators.vae(
        height,
        width,
        capacity=settings.capacity,
        latent=settings.latent,
        training=vae.VAETraining(settings.epochs, settings.batch_size),
        gives=settings.gives,
        draws=settings.draws,
    )


def process_of(settings: Settings, images):
    """The process on the first `sample_size` images [n, height, width], real at any scale."""
    import collapse_jax as cj

    workflow, real = cj.workflows.replace(), settings.real_fraction
    if real:
        workflow = cj.workflows.mix(round(1 - real, 12), 0, real, random_counts=False)
    return cj.generational_process(
        estimator_of(settings, *images.shape[1:]),
        cj.sources.dataset(images[: settings.sample_size]),
        workflow,
        sample_size=settings.sample_size,
        remember_first=True,
    )


def quality_of(settings: Settings, images):
    """What compares 1,000 images with real test images, if asked for."""
    import collapse_jax as cj

    if not settings.quality:
        return ()
    real = images.test[:1000]
    sample = estimator_of(settings, *real.shape[1:]).sample
    names = ("precision", "recall", "coverage", "sliced_wasserstein", "tail_share")
    return cj.metrics.against(real, sample, names, draws=len(real))


def observer(settings: Settings, images):
    """What is recorded of a generation beside its metrics; images: train and test."""
    import jax
    import jax.numpy as jnp

    from collapse_jax.models import vae

    height, width = images.train.shape[1:]
    estimator = estimator_of(settings, height, width)
    model = vae.VAE(height, width, settings.capacity, settings.latent)
    test = jnp.asarray(images.test[:1000])

    def observe(first, state, info):
        samples = estimator.sample(jax.random.key(2), state.params, SCATTERED)
        return {
            "loss": info.fit.loss,
            "train_loss": info.fit.detail["train_loss"],
            "real_test_elbo": jnp.mean(vae.elbo(model, state.params, jax.random.key(3), test)),
            "samples": samples[:SHOWN],
            "latent_means": vae.encode(model, first.params.encoder, samples)[0],
        }

    return observe


def report(chain, generation, row):
    """Prints a line for a finished generation."""
    print(
        f"seed {chain}, generation {generation}: deviation {row['latent_deviation_to_first']:.4f}, "
        f"loss {row['loss']:.1f}, {row['seconds']:.0f} s",
        flush=True,
    )


def opened(settings: Settings):
    """The run folder with settings.json; refuses another run's.

    Seeds and generations may grow.
    """
    from collapse_jax.runs.folder import RunFolder

    folder, ours = RunFolder(settings.out), dataclasses.asdict(settings)
    del ours["out"], ours["beside"]
    file = folder.path / "settings.json"
    if file.is_file():
        there = json.loads(file.read_text())
        there = {"quality": False} | there  # which older runs do not name
        differing = [
            f"{name}: {there.get(name)} there, {value} here"
            for name, value in ours.items()
            if there.get(name) != value
        ]
        differing = [one for one in differing if not one.startswith(MAY_GROW)]
        if differing:
            raise InputError(
                f"{folder.path} holds a run with other settings ({'; '.join(differing)}); choose "
                "another --out"
            )
    elif folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
        raise InputError(f"{folder.path} exists and is not a run folder; choose another --out")
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_text("settings.json", json.dumps(ours, indent=2) + "\n")
    return folder


def table(results, settings: Settings) -> str:
    """Mean and deviation over seeds by generation, beside the published numbers."""
    lines = [
        "generation  deviation under gen. 0    published  mean under gen. 0  published  loss "
        "(nats)       published  ELBO of real test"
    ]
    for place, generation in enumerate(results["generation"].values):
        parts = [f"{generation:10d}"]
        shown = (
            ("latent_deviation_to_first", DEVIATION, ".4f", 22),
            ("latent_mean_to_first", MEAN, ".3f", 17),
            ("loss", LOSS, ".1f", 16),
        )
        for name, published, form, width in shown:
            values = results[name].sel(generation=generation).values
            spread = f" ± {values.std(ddof=1):{form}}" if len(values) > 1 else ""
            parts.append(f"{f'{values.mean():{form}}{spread}':>{width}}")
            known = settings.scale != "digits" and place < len(published)
            parts.append(f"{published[place] if known else '':>9}")
        parts.append(f"{results['real_test_elbo'].sel(generation=generation).values.mean():17.1f}")
        lines.append("  ".join(parts))
    return "\n".join(lines)


def draw(folder, results, settings: Settings) -> list[pathlib.Path]:
    """Figures of images, of latents under generation 0's encoder, and of the latents' deviation."""
    return [
        draw_samples(folder, results),
        draw_latents(folder, results),
        draw_deviation(folder, results, settings),
    ]


def draw_samples(folder, results):
    """A row a generation: what the decoder of seed 0 makes of the same latents."""
    from collapse_jax.app.plots import style

    samples = results["samples"].sel(chain=0).values
    made, axes = style.figure(len(samples), 1, width=7, height=0.62)
    for row, axis, generation in zip(
        samples, axes[:, 0], results["generation"].values, strict=True
    ):
        count, height, width = row.shape
        axis.imshow(
            row.transpose(1, 0, 2).reshape(height, count * width),
            cmap="gray_r",
            vmin=0,
            vmax=1,
            aspect="equal",
        )
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        axis.set_ylabel(f"gen. {generation}", rotation=0, ha="right", va="center", fontsize=8)
    made.suptitle(
        "Images of seed 0 by generation, from the same latents (0: fitted to real images)",
        fontsize=9,
    )
    return style.save(made, folder, "samples")


def draw_latents(folder, results):
    """Latent means of each generation's images under generation 0's encoder.

    Along the two main directions of generation 0's.
    """
    import numpy as np

    from collapse_jax.app.plots import style

    latents = results["latent_means"].sel(chain=0).values
    centre = latents[0].mean(0)
    directions = np.linalg.svd(latents[0] - centre, full_matrices=False)[2][:2]
    points = (latents - centre) @ directions.T
    limit = 1.05 * np.abs(points).max()
    made, axes = style.figure(1, len(points), width=2.2, height=2.8, sharex=True, sharey=True)
    colours = style.generation_colours(len(points))
    for axis, here, generation, colour in zip(
        axes[0], points, results["generation"].values, colours, strict=True
    ):
        axis.scatter(*points[0].T, s=3, color="#cccccc", lw=0)
        axis.scatter(*here.T, s=3, color=colour, lw=0)
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit))
        axis.set_title(f"generation {generation}", fontsize=8)
    made.supxlabel("along the first principal direction of generation 0", fontsize=8)
    axes[0, 0].set_ylabel("along the second", fontsize=8)
    title = (
        f"Latent means of {latents.shape[1]} images under the generation-0 encoder, seed 0 (grey: "
        "generation 0)"
    )
    made.suptitle(title, fontsize=9)
    return style.save(made, folder, "latents")


def draw_deviation(folder, results, settings: Settings):
    """Deviation of the latent means, and the training loss, by generation.

    A line per seed, their mean, and the published run.
    """
    from collapse_jax.app.plots import style
    from collapse_jax.runs.folder import RunFolder

    made, axes = style.figure(1, 2, width=4.2)
    other = RunFolder(settings.beside).results() if settings.beside else None
    generation = results["generation"].values
    panels = (
        ("latent_deviation_to_first", DEVIATION, "deviation of latent means, encoder 0"),
        ("loss", LOSS, "training loss (nats an image)"),
    )
    for axis, (name, published, label) in zip(axes[0], panels, strict=True):
        style.seeds(axis, generation, results[name].values, style.BAND, label=True)
        if settings.beside:
            style.seeds(
                axis,
                other["generation"].values,
                other[name].values,
                style.INK,
                label=pathlib.Path(settings.beside).name,
            )
        if settings.scale != "digits":
            known = published[: len(generation)]
            axis.plot(
                generation[: len(known)],
                known,
                color=style.THEORY,
                ls="--",
                marker="s",
                ms=3,
                lw=1.2,
                label="published, one run",
            )
        axis.set_xlabel("generation (0: fitted to real images)", fontsize=8)
        axis.set_ylabel(label, fontsize=8)
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=7, frameon=False)
    sizes = (
        f"{settings.sample_size:,} images, {settings.capacity} channels, {settings.epochs} epochs, "
        f"{settings.draws} {settings.gives}"
    )
    made.suptitle(f"VAE trained on its predecessor's images: {sizes}", fontsize=9)
    return style.save(made, folder, "deviation")


if __name__ == "__main__":
    run_script(main, __doc__)
