"""Diffusion, flow matching and a normalizing flow, trained on their own draws for many generations.

    python experiments/denoising.py                     points in the plane, then MNIST's digits
    python experiments/denoising.py --parts points      the points alone
    python experiments/denoising.py --images digits     scikit-learn's 8x8 digits instead of MNIST

Run time of the first command: estimated 4 CPU-minutes on 2 cores, a third of it compilation
(measured in parts, on a shared machine). MNIST is read from ../shared/data/mnist beside the
repository; without it, the small digits are used. The same command again resumes the run.

Points: eight clusters on a ring, 500 points per generation, replace and mix with 20% fresh real
points. Images: diffusion alone, a network of dense layers on 2,000 images, replace. Recorded for
each generation: precision and recall (3 neighbours) and the sliced Wasserstein distance between
1,000 draws and as many held-out real points; for points also the share of draws between the
clusters, beyond 4 of their standard deviations.
"""

import dataclasses
import json
import pathlib
from typing import Literal

from collapse_jax.app.script import run_script

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
FAMILIES = ("diffusion", "flow_matching", "normalizing_flow")
WORKFLOWS = {"replace": 0.0, "mix": 0.2}
BLOBS, DEVIATION, RADIUS = 8, 0.15, 2.0
# Draws behind the metrics, and those that the figures show.
DRAWS, SHOWN_POINTS, SHOWN_IMAGES = 1000, 400, 14
METRICS = ("precision", "recall", "sliced_wasserstein")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run."""

    out: str = "runs/denoising"
    """Folder of the runs; the same command again resumes them."""
    parts: Literal["both", "points", "images"] = "both"
    families: tuple[str, ...] = ("diffusion", "normalizing_flow")
    """Those of points; flow_matching is the third."""
    images: str = ""
    """"digits", or a folder with MNIST's IDX files; by default that of the shared data."""
    generations: int = 6
    """The last generation of points; that of images is half of it."""
    seeds: int = 1
    """Chains of points; there is one of images."""
    steps: int = 1000
    """Of the optimiser in a generation; the normalizing flow has a third."""
    width: int = 256
    """Of the network of images."""
    seed: int = 0


def main(settings: Settings) -> None:
    """Runs or resumes, draws the figures, and prints a table of each part."""
    from collapse_jax.runs.folder import RunFolder

    folder = RunFolder(settings.out)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_text("settings.json", json.dumps(dataclasses.asdict(settings), indent=2) + "\n")
    if settings.parts != "images":
        found = {
            (name, workflow): of_points(settings, name, workflow)
            for name in settings.families
            for workflow in WORKFLOWS
        }
        print(table(found))
        print(f"figure: {draw_points(folder, found)}")
        print(f"figure: {draw_metrics(folder, found)}")
    if settings.parts != "points":
        found = of_images(settings)
        print(table({("diffusion", "replace, images"): found}))
        print(f"figure: {draw_images(folder, found)}")


def ring(count: int, seed: int):
    """count points [count, 2] of the blobs."""
    import numpy as np

    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * rng.integers(BLOBS, size=count) / BLOBS
    centres = RADIUS * np.stack([np.cos(angle), np.sin(angle)], 1)
    return (centres + DEVIATION * rng.normal(size=(count, 2))).astype(np.float32)


def off_the_blobs(x):
    """Share [] of points [n, 2] that are further than 4 deviations from every blob's middle."""
    import jax.numpy as jnp

    angle = 2 * jnp.pi * jnp.arange(BLOBS) / BLOBS
    centres = RADIUS * jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
    apart = jnp.min(jnp.linalg.norm(x[:, None] - centres, axis=2), axis=1)
    return jnp.mean((apart > 4 * DEVIATION).astype(float))


def of_points(settings: Settings, name: str, workflow: str):
    """The results of one family under one workflow."""
    import jax

    import collapse_jax as cj

    options = {"steps": settings.steps, "batch_size": 128, "learning_rate": 5e-3}
    if name == "normalizing_flow":
        options["steps"] = settings.steps // 3
    family = getattr(cj.estimators, name)(2, **options)
    fresh = WORKFLOWS[workflow]
    process = cj.generational_process(
        family,
        cj.sources.dataset(ring(20_000, 1)),
        cj.workflows.mix(1 - fresh, 0.0, fresh) if fresh else cj.workflows.replace(),
        sample_size=500,
    )

    def observe(first, state, info):
        x = family.sample(jax.random.key(3), state.params, DRAWS)
        return {"draws": x[:SHOWN_POINTS], "off": off_the_blobs(x), "loss": info.fit.loss}

    return run(settings, process, ring(DRAWS, 2), f"{name}_{workflow}", observe)


def of_images(settings: Settings):
    """The results of diffusion on images."""
    import jax

    import collapse_jax as cj
    from collapse_jax.models import vae

    name = settings.images or (str(DATA) if DATA.is_dir() else "digits")
    images = vae.load_images(name)
    size = min(2_000, len(images.train))
    family = cj.estimators.diffusion(
        images.train.shape[1:],
        levels=40,
        sampler="ddim",
        width=settings.width,
        steps=settings.steps,
        batch_size=128,
        learning_rate=3e-3,
    )
    process = cj.generational_process(
        family, cj.sources.dataset(images.train), cj.workflows.replace(), sample_size=size
    )

    def observe(first, state, info):
        x = family.sample(jax.random.key(3), state.params, SHOWN_IMAGES)
        return {"draws": x, "loss": info.fit.loss}

    halved = dataclasses.replace(settings, seeds=1, generations=max(1, settings.generations // 2))
    return run(halved, process, images.test[:DRAWS], "images", observe)


def run(settings: Settings, process, real, name: str, observe):
    """Runs or resumes one process in a folder of its own, and gives its results."""
    import jax

    import collapse_jax as cj

    folder = cj.RunFolder(pathlib.Path(settings.out) / name)
    sample = process.estimator.sample
    cj.run(
        process,
        jax.random.key(settings.seed),
        generations=settings.generations,
        chains=settings.seeds,
        folder=folder.path,
        metrics=("variance", *cj.metrics.against(real, sample, METRICS, draws=len(real))),
        observe=observe,
        states="ends",
    )
    return folder.results()


def table(found: dict) -> str:
    """Means over chains at the first, the middle and the last generation."""
    names = ("variance", *METRICS, "off")
    lines = [f"{'family, workflow':34} generation  " + "  ".join(f"{one:>18}" for one in names)]
    for key, results in found.items():
        generations = results["generation"].values
        for generation in generations[[0, len(generations) // 2, -1]]:
            row = results.sel(generation=generation)
            values = [float(row[one].mean()) if one in results else float("nan") for one in names]
            numbers = "  ".join(f"{value:18.4g}" for value in values)
            lines.append(f"{', '.join(key):34} {generation:10d}  {numbers}")
    return "\n".join(lines)


def draw_points(folder, found):
    """Draws of the first chain by generation, a row a family and workflow."""
    from collapse_jax.app.plots import style

    columns = 5
    made, axes = style.figure(len(found), columns, width=1.7, height=1.75, sharex=True, sharey=True)
    for row, (key, results) in zip(axes, found.items(), strict=True):
        generations = results["generation"].values
        shown = [round(i * (len(generations) - 1) / (columns - 1)) for i in range(columns)]
        colours = style.generation_colours(columns)
        for axis, place, colour in zip(row, shown, colours, strict=True):
            x = results["draws"].isel(chain=0, generation=place).values
            axis.scatter(*x.T, s=2, color=colour, lw=0)
            axis.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
            axis.set_title(f"generation {generations[place]}", fontsize=7)
        row[0].set_ylabel(f"{key[0]}\n{key[1]}", fontsize=7)
    made.suptitle("Points drawn from models of their predecessors' points", fontsize=9)
    return style.save(made, folder, "points")


def draw_metrics(folder, found):
    """Precision, recall, distance and the share off the blobs by generation, means over chains."""
    from collapse_jax.app.plots import style

    names = ("precision", "recall", "sliced_wasserstein", "off")
    made, axes = style.figure(1, len(names), width=2.7, height=2.7)
    colours = dict(zip(FAMILIES, style.generation_colours(len(FAMILIES)), strict=True))
    for axis, name in zip(axes[0], names, strict=True):
        for (family, workflow), results in found.items():
            axis.plot(
                results["generation"].values,
                results[name].mean("chain").values,
                color=colours[family],
                ls="-" if workflow == "replace" else "--",
                label=f"{family}, {workflow}",
            )
        axis.set_xlabel("generation", fontsize=8)
        axis.set_title(name.replace("_", " "), fontsize=8)
        axis.set_ylim(bottom=0)
    axes[0, 0].legend(fontsize=5, frameon=False)
    return style.save(made, folder, "metrics")


def draw_images(folder, results):
    """A row a generation: what the same noise becomes."""
    from collapse_jax.app.plots import style

    draws = results["draws"].isel(chain=0).values
    made, axes = style.figure(len(draws), 1, width=7, height=0.62)
    for row, axis, generation in zip(draws, axes[:, 0], results["generation"].values, strict=True):
        count, height, width = row.shape
        strip = row.transpose(1, 0, 2).reshape(height, count * width)
        axis.imshow(strip, cmap="gray_r", vmin=0, vmax=1, aspect="equal")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_ylabel(f"gen. {generation}", rotation=0, ha="right", va="center", fontsize=8)
    made.suptitle("Diffusion on its predecessor's images, from the same noise", fontsize=9)
    return style.save(made, folder, "images")


if __name__ == "__main__":
    run_script(main, __doc__)
