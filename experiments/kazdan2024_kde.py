"""Kernel density estimates refitted to their own samples: blobs, circles, moons, swiss roll.

After Kazdan et al. 2024 (arXiv 2410.16713).

    python experiments/kazdan2024_kde.py
        M = 100, 20 chains, 100 generations, three bandwidths, three workflows
    python experiments/kazdan2024_kde.py --sample-sizes 10,32,100,316,1000 --chains 100  their sweep

Run time: 8 minutes on 2 shared cores of an AMD EPYC (6 minutes of CPU).
Published: the held-out loss grows from generation to generation under replace, stays level under
accumulate, and grows slowly under accumulate_subsample. Derived (theory.kernel_density): with a
kernel of fixed width h the variance of the points grows under replace while it is below (M - 1)
h^2, and by h^2 (harmonic numbers) under accumulate. So these models do not shrink, they blur.
Every curve has the same key: chain c draws the same real points for every bandwidth and workflow,
so differences between curves are less noisy than the curves.
Needs scikit-learn (pip install -e ".[toys]"). Writes loss.png, points.png and losses.csv into
--out.
"""

import dataclasses
import pathlib

from collapse_jax.app.script import run_script
from collapse_jax.errors import InputError

SHAPES = ("blobs", "circles", "moons", "swiss_roll")
FLOWS = ("replace", "accumulate", "accumulate_subsample")
# Real points to draw from, and how many more the density is tried on.
REAL, HELD_OUT = 20_000, 500


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the sweep; every shape, bandwidth and workflow is run at every sample size."""

    sample_sizes: str = "100"
    """With commas; the figures are of the last."""
    bandwidths: str = "0.1,0.5,1"
    chains: int = 20
    generations: int = 100
    seed: int = 0
    out: str = "runs/kazdan2024_kde"

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        for name, kind in (("sample_sizes", int), ("bandwidths", float)):
            try:
                least = min(self.numbers(name, kind))
            except ValueError:
                least = 0
            if least <= 0:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; it must be positive numbers with commas "
                    "between them"
                )
        for name in ("chains", "generations"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def numbers(self, name: str, kind) -> list:
        """The numbers of a setting with commas."""
        return [kind(word) for word in getattr(self, name).split(",")]


def real_points(shape: str, seed: int):
    """[REAL + HELD_OUT, d] points of a shape, each coordinate with mean 0 and deviation 1."""
    try:
        from sklearn import datasets
    except ImportError:
        raise InputError(
            'the shapes are scikit-learn\'s; install them with: pip install -e ".[toys]"'
        ) from None

    make = {
        "blobs": lambda n: datasets.make_blobs(n, centers=3, random_state=seed),
        "circles": lambda n: datasets.make_circles(n, noise=0.05, factor=0.5, random_state=seed),
        "moons": lambda n: datasets.make_moons(n, noise=0.05, random_state=seed),
        "swiss_roll": lambda n: datasets.make_swiss_roll(n, noise=0.1, random_state=seed),
    }
    x = make[shape](REAL + HELD_OUT)[0]
    return (x - x.mean(0)) / x.std(0)


def process_of(x, bandwidth: float, flow: str, sample_size: int):
    """The generational process of one curve; x: [REAL + HELD_OUT, d]."""
    import jax
    import jax.numpy as jnp

    import collapse_jax as cj

    estimator = cj.estimators.kde(x.shape[1], bandwidth, held_out=x[REAL:])
    real = jnp.asarray(x[:REAL], jnp.result_type(float))

    def permuted(key, n):
        """As `dataset` drew few of many when the figures were made."""
        return real[jax.random.permutation(key, REAL)[:n]]

    return cj.generational_process(
        estimator,
        cj.sources.dataset(x[:REAL])._replace(sample=permuted),
        getattr(cj.workflows, flow)(),
        sample_size=sample_size,
    )


def main(settings: Settings) -> None:
    """The sweep, a table, and the figures."""
    settings.check()
    points = {shape: real_points(shape, settings.seed) for shape in SHAPES}

    import csv

    import jax
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    import collapse_jax as cj

    keys = [
        (size, shape, bandwidth, flow)
        for size in settings.numbers("sample_sizes", int)
        for shape in SHAPES
        for bandwidth in settings.numbers("bandwidths", float)
        for flow in FLOWS
    ]
    losses, console = {}, Console()
    for size, shape, bandwidth, flow in track(keys, "curves", console=console, transient=True):
        process = process_of(points[shape], bandwidth, flow, size)
        options = {"generations": settings.generations, "chains": settings.chains, "record": "log"}
        trace = cj.simulate(
            process, jax.random.key(settings.seed), metrics=("held_out_log_likelihood",), **options
        )
        losses[size, shape, bandwidth, flow] = -trace["held_out_log_likelihood"], trace.generations
    out = pathlib.Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "losses.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["sample_size", "shape", "bandwidth", "workflow", "generation", "chain", "loss"]
        )
        for key, (values, generations) in losses.items():
            rows.writerows(
                [*key, g, chain, value]
                for chain, line in enumerate(values)
                for g, value in zip(generations, line, strict=True)
            )
    console.print(
        table_of({key: np.median(values, axis=0)[[0, -1]] for key, (values, _) in losses.items()})
    )
    last = settings.numbers("sample_sizes", int)[-1]
    print(
        draw_losses(
            {key[1:]: value for key, value in losses.items() if key[0] == last},
            settings,
            last,
            out / "loss.png",
        )
    )
    print(draw_points(points["moons"], settings, last, out / "points.png"))


def table_of(ends: dict):
    """A table of the median loss at the first and the last generation, workflow by workflow."""
    from rich.table import Table

    table = Table(
        "M",
        "shape",
        "bandwidth",
        "generation 0",
        *FLOWS,
        title="median held-out loss (nats a point), last generation",
    )
    for size, shape, bandwidth, flow in ends:
        if flow == FLOWS[0]:
            here = [ends[size, shape, bandwidth, one] for one in FLOWS]
            table.add_row(
                str(size),
                shape,
                f"{bandwidth:g}",
                f"{here[0][0]:.3f}",
                *(f"{one[1]:.3f}" for one in here),
            )
    return table


def draw_losses(losses: dict, settings: Settings, size: int, path):
    """Median and 5 to 95% of the held-out loss by generation.

    A row a shape, a column a workflow, a colour a bandwidth.
    """
    import numpy as np

    from collapse_jax.app.plots import style

    made, axes = style.figure(
        len(SHAPES), len(FLOWS), width=3.3, height=2.2, sharey="row", sharex=True
    )
    colours = dict(
        zip(
            settings.numbers("bandwidths", float),
            (style.BAND, style.THEORY, "#2a9d8f", style.INK, style.REAL),
            strict=False,
        )
    )
    for row, shape in zip(axes, SHAPES, strict=True):
        for axis, flow in zip(row, FLOWS, strict=True):
            for bandwidth, colour in colours.items():
                values, generations = losses[shape, bandwidth, flow]
                low, median, high = np.quantile(values, [0.05, 0.5, 0.95], axis=0)
                axis.fill_between(generations, low, high, color=colour, alpha=0.2, lw=0)
                axis.plot(generations, median, color=colour, lw=1.4, label=f"h = {bandwidth:g}")
            axis.set_xscale("symlog", linthresh=1)
            axis.set_xlim(left=0)
        if all(values.min() > 0 for (one, *_), (values, _) in losses.items() if one == shape):
            for axis in row:
                axis.set_yscale("log")
                style.plain_ticks(axis.yaxis)
        row[0].set_ylabel(f"{shape}\nheld-out loss (nats)", fontsize=8)
    for axis, flow in zip(axes[0], FLOWS, strict=True):
        axis.set_title(flow, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("generation (0: fitted to real data)", fontsize=8)
    axes[0, 0].legend(fontsize=7, frameon=False)
    made.suptitle(
        f"Kernel density estimates, M = {size}, {settings.chains} chains, the same random numbers "
        "for every curve: median, 5 to 95%",
        fontsize=9,
    )
    made.savefig(path, dpi=110)
    return path


def draw_points(x, settings: Settings, size: int, path):
    """Points that the model of one chain makes of the moons, by generation; a row a workflow.

    The bandwidth is the smallest.
    """
    import jax
    import numpy as np

    from collapse_jax.app.plots import style

    shown = sorted(
        {
            0,
            min(3, settings.generations),
            min(10, settings.generations),
            min(30, settings.generations),
            settings.generations,
        }
    )
    made, axes = style.figure(len(FLOWS), len(shown), width=2.0, height=1.9)
    for row, flow in zip(axes, FLOWS, strict=True):
        process = process_of(x, min(settings.numbers("bandwidths", float)), flow, size)
        chain = jax.random.fold_in(jax.random.key(settings.seed), 0)
        start, step = (
            jax.jit(lambda key, process=process: process.init(key, settings.generations)[0]),
            jax.jit(process.step),
        )
        state, columns = start(jax.random.fold_in(chain, 0)), iter(row)
        for generation in range(settings.generations + 1):
            if generation > 0:
                state, _ = step(jax.random.fold_in(chain, generation), state)
            if generation in shown:
                drawn = np.asarray(process.estimator.sample(chain, state.params, 500))
                axis = next(columns)
                axis.plot(
                    *drawn.T, ".", ms=1.5, color=style.REAL if generation == 0 else style.BAND
                )
                axis.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
                if flow == FLOWS[0]:
                    axis.set_title(f"generation {generation}", fontsize=8)
        row[0].set_ylabel(flow, fontsize=8)
    made.savefig(path, dpi=110)
    return path


if __name__ == "__main__":
    run_script(main, __doc__)
