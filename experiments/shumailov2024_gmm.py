"""Gaussian mixtures refitted to their own samples: squared L2 distance, and scatter plots.

The notebook experiment of Shumailov et al. 2024.

    python experiments/shumailov2024_gmm.py --scale mini
        N = 500, 1,000, 10^4: 100 chains of 2,050 generations
    python experiments/shumailov2024_gmm.py                  N = 500 to 200,000, the same

One 2-D cluster N(0, I) is fitted by two full-covariance components: EM to a tolerance of 1e-5 (at
most 2,000 steps), k-means start in each generation, floor 1e-6. Each generation is fitted to fresh
samples of its predecessor alone.
Chain c has the same key for every N, so errors of the curves are not independent.
Run time: mini: 57 CPU-seconds for N = 500 and 1,000 (measured on 2 shared cores of an AMD EPYC),
and about 190 for N = 10^4 (estimated from 31 for 16 chains): a few minutes on 2 free cores. Full:
one to two hours on them, estimated from 95 ns per point and fit.
Published: the squared L2 distance between the densities of generation n and generation 0 is about
7e2, 2e2, 0.4, 1e-2, 1e-3 near generation 2,000 for N = 500, 1,000, 10^4, 5*10^4, 2*10^5, one run
each. The notebook prints 536.28 for a run of N = 1,000, whose component standard deviations go from
.902, .888 to .0100, .0112.
Measured, median (5 to 95% of chains) at generation 2,050: 421 (227 to 675), 155 (34 to 331), and
0.20 (0.09 to 0.33; 16 chains). At generation 2,000 the published values for N = 500 and 1,000 are
within 5 to 95% of chains (164 to 780, 32 to 319); 0.4 is above all 16 (at most 0.31). The printed
536 is not typical of N = 1,000 (at most 485 in 100 chains) but common at N = 500 (23% are above
it).
The curve of N = 500 levels off because of the floor, which adds 1e-6 to each variance in every
generation: with 1e-9 its median at generation 2,050 is 3e5 (24 chains), and the variance continues
to fall. So the end of that curve only shows the value of scikit-learn's reg_covar.
Writes figures/distance.png and figures/scatter.png, and distances_N.npz, under --out. An N whose
file exists is not computed again.
"""

import pathlib
from typing import Literal

import numpy as np

from collapse_jax.app.script import run_script

SCALES = {"full": (500, 1000, 10_000, 50_000, 200_000), "mini": (500, 1000, 10_000)}
PUBLISHED = {500: 7e2, 1000: 2e2, 10_000: 0.4, 50_000: 1e-2, 200_000: 1e-3}
SCATTERS = (0, 50, 100, 150, 200, 350, 2000)
METRICS = ("log_squared_l2_to_first", "component_deviations", "smallest_weight", "log_variance")


def process(size):
    """Two components fitted to N(0, I) through `size` points."""
    import collapse_jax as cj

    return cj.generational_process(
        cj.estimators.gmm(2, 2, tolerance=1e-5, floor=1e-6, steps=2000),
        cj.sources.normal([0.0, 0.0], np.eye(2)),
        cj.workflows.replace(),
        sample_size=size,
        remember_first=True,
    )


def chains_of(size, generations, chains, file):
    """name -> [chain, recorded, ...] of chains of this sample size, from the file if it exists."""
    import jax

    import collapse_jax as cj
    from collapse_jax.runs.atomic import atomic

    if not file.is_file():
        recorded = [
            *range(0, generations + 1, max(generations // 200, 1)),
            *(g for g in SCATTERS if g <= generations),
        ]
        trace = cj.simulate(
            process(size),
            jax.random.key(0),
            generations=generations,
            chains=chains,
            metrics=(*METRICS, weights_of, means_of, factors_of),
            record=recorded,
            chunk=20,
            progress=lambda generation: print(f"N = {size:,}: generation {generation}", flush=True),
        )
        with atomic(file) as temporary, open(temporary, "wb") as opened:
            np.savez_compressed(opened, generations=trace.generations, **dict(trace))
    with np.load(file) as held:
        found = dict(held)
    if found["generations"][-1] != generations or len(found["log_squared_l2_to_first"]) != chains:
        raise SystemExit(f"error: {file} holds another run; give another --out")
    return found


def weights_of(state):
    """Weights [2] of the newest model."""
    return state.params.weights


def means_of(state):
    """Means [2, 2] of the newest model."""
    return state.params.means


def factors_of(state):
    """Cholesky factors [2, 2, 2] of the newest model."""
    return state.params.factors


def draw_distance(results, folder):
    """Median and bands of the squared L2 distance to generation 0; the path of the PNG."""
    from collapse_jax.app.plots import style

    made, axes = style.figure(1, 1, width=6.4, height=4.2)
    axis = axes[0, 0]
    for colour, (size, held) in zip(
        style.generation_colours(len(results)), results.items(), strict=True
    ):
        generation, distance = (
            held["generations"][1:],
            np.exp(held["log_squared_l2_to_first"][:, 1:].astype(float)),
        )
        low, lower, median, upper, high = np.quantile(
            distance, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0
        )
        axis.fill_between(generation, low, high, color=colour, alpha=0.12, lw=0)
        axis.fill_between(generation, lower, upper, color=colour, alpha=0.25, lw=0)
        axis.plot(
            generation, median, color=colour, lw=1.5, label=f"N = {size:,} ({len(distance)} chains)"
        )
        if size in PUBLISHED:
            axis.plot(
                2000,
                PUBLISHED[size],
                marker="D",
                ms=6,
                mfc=colour,
                mec=style.THEORY,
                mew=1.4,
                ls="",
            )
    axis.plot(
        [],
        [],
        marker="D",
        ms=6,
        mfc="none",
        mec=style.THEORY,
        mew=1.4,
        ls="",
        label="published, one run each",
    )
    axis.set_yscale("log")
    style.plain_ticks(axis.yaxis)
    axis.set_xlabel("generation (0: fitted to real data)", fontsize=8)
    axis.set_ylabel("squared L2 distance to the fit of generation 0", fontsize=8)
    axis.set_title(
        "Two components on one blob: median, 25 to 75% and 5 to 95% of chains\n"
        "(the same random numbers for every N)",
        fontsize=9,
    )
    axis.legend(fontsize=7, frameon=False)
    return style.save(made, folder, "distance")


def draw_scatter(results, folder, chain=0):
    """What one chain samples at some generations, a row per sample size; the path of the PNG."""
    import jax

    from collapse_jax.app.plots import style
    from collapse_jax.estimators.gmm import GMMParams, sample

    shown = [g for g in SCATTERS if all(g in held["generations"] for held in results.values())]
    made, axes = style.figure(
        len(results), len(shown), width=1.5, height=1.7, sharex=True, sharey=True
    )
    for row, (size, held) in zip(axes, results.items(), strict=True):
        for axis, generation in zip(row, shown, strict=True):
            place = int(np.flatnonzero(held["generations"] == generation)[0])
            params = GMMParams(
                *(held[name][chain, place] for name in ("weights_of", "means_of", "factors_of"))
            )
            x = np.asarray(sample(jax.random.key(generation), params, min(size, 2000)))
            axis.plot(*x.T, ".", ms=2, color=style.BAND, alpha=0.6, mew=0)
            axis.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
            axis.set_title(f"generation {generation}", fontsize=8)
        row[0].set_ylabel(f"N = {size:,}", fontsize=8)
    made.suptitle("Samples of one chain: two components that began on one blob", fontsize=9)
    return style.save(made, folder, "scatter")


def table(results):
    """The lines of a Markdown table: published values beside ours near generation 2,000."""
    columns = (
        "N",
        "published squared L2",
        "ours at the end, median (5 to 95%)",
        "median component deviations",
        "median smallest weight",
    )
    yield "| " + " | ".join(columns) + " |"
    yield "|---|---|---|---|---|"
    for size, held in results.items():
        low, median, high = np.exp(
            np.quantile(held["log_squared_l2_to_first"][:, -1].astype(float), [0.05, 0.5, 0.95])
        )
        large, small = np.median(held["component_deviations"][:, -1], axis=0)
        published = f"{PUBLISHED[size]:g}" if size in PUBLISHED else ""
        weight = np.median(held["smallest_weight"][:, -1])
        yield (
            f"| {size:,} | {published} | {median:.3g} ({low:.3g} to {high:.3g}) | {large:.3g}, "
            f"{small:.3g} | {weight:.3g} |"
        )


def main(
    scale: Literal["full", "mini"] = "full",
    generations: int = 2050,
    chains: int = 100,
    out: str = "runs/shumailov2024_gmm",
) -> None:
    """The chains of each sample size of a scale, the table, and both figures."""
    from collapse_jax.runs.folder import RunFolder

    folder = RunFolder(out)
    results = {
        size: chains_of(size, generations, chains, pathlib.Path(out) / f"distances_{size}.npz")
        for size in SCALES[scale]
    }
    print(*table(results), sep="\n")
    print(draw_distance(results, folder))
    print(draw_scatter(results, folder))


if __name__ == "__main__":
    run_script(main, __doc__)
