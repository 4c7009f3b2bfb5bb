"""Why E[variance] stays while almost every run loses its variance, and how many chains show it.

    python experiments/mean_and_typical_path.py [--out runs/mean_and_typical_path] [--chains
    1000000] [--sample-size 100]

Run time: 20 CPU-seconds, compilation included (measured; 60 seconds of wall time on 2 cores shared
with seven other programs), 0.6 GiB of memory.

A Gaussian in one dimension is refitted to M = 100 of its own points (replace, ddof = 1). Shown are:
- the mean of its variance over 100, 10^4 and 10^6 chains (for the first two the median over all
  groups of that size), the exact mean 1, the median and the 5 to 95% band;
- W2^2 to the real distribution, whose mean grows by 1/M per generation while its median settles at
  5/3 (theory.wasserstein);
- the number of chains that a mean within 5% needs (theory.monte_carlo), by generation for several
  M.
Both panels show the chains of one key, and the smaller numbers of chains are parts of the largest.
Expected at generations 100, 500, 1,000: median variance .361, .00626, .0000394; chains needed
2.6e3, 9.0e6, 2.0e11; half of the mean comes from 7.7%, .075%, .00036% of the chains; mean W2^2
1.46, 6.45, 11.9. Measured at 500, 1,000, 2,000: mean variance of 10^6 chains .914, .551, .0475, of
100 chains .384, .0452, .000144; median W2^2 1.43, 1.61, 1.66.
Prints a table as Markdown; writes figures/mean_and_typical_path.png and
figures/chains_for_a_mean.png (and .pdf).
"""

import pathlib

from collapse_jax.app.script import run_script

# The standard error of an average over its exact value.
RELATIVE_ERROR = 0.05


def simulated(cj, size, generations, chains, metric):
    """(generations [recorded], metric [chains, recorded]) of the refitted Gaussian.

    Some 41 generations are recorded.
    """
    import jax

    process = cj.generational_process(
        cj.estimators.gaussian(1, ddof=1),
        cj.sources.normal([0.0], [[1.0]]),
        cj.workflows.replace(),
        sample_size=size,
    )
    record = range(0, generations + 1, max(generations // 40, 1))
    trace = cj.simulate(
        process,
        jax.random.key(0),
        generations=generations,
        chains=chains,
        metrics=(metric,),
        record=record,
    )
    return trace.generations, trace[metric]


def sample_means(log_variance, numbers):
    """Number of chains -> the average variance [recorded] of so many, in float64.

    It is the median over the groups that the chains make.
    """
    import numpy as np

    def of_groups(column, number):
        groups = column[: len(column) // number * number]
        return np.exp(groups, dtype=np.float64).reshape(-1, number).mean(1)

    return {
        number: np.array([np.median(of_groups(column, number)) for column in log_variance.T])
        for number in numbers
    }


def draw_variance(axis, generation, means, size, chains):
    """Median, band and exact mean by theory; sample means by simulation of so many chains."""
    import numpy as np

    from collapse_jax.app.plots import style
    from collapse_jax.theory import gaussian

    low, median, high = np.exp(
        gaussian.log_variance_quantile([0.05, 0.5, 0.95], generation, size, ddof=1)
    ).T
    axis.fill_between(
        generation, low, high, color=style.BAND, alpha=0.15, lw=0, label="5 to 95% of chains"
    )
    axis.plot(generation, median, color=style.BAND, lw=1.8, label="median")
    axis.plot(
        generation,
        gaussian.expected_variance(generation, size, ddof=1),
        color=style.THEORY,
        lw=1.4,
        ls="--",
        label="exact mean",
    )
    for (number, mean), colour in zip(
        means.items(), ("#b5b5b5", "#7a7a7a", style.INK), strict=False
    ):
        groups = f" (median of {chains // number:,} such)" if chains > number else ""
        axis.plot(
            generation,
            mean,
            color=colour,
            lw=1.1,
            ls=":",
            marker=".",
            ms=3,
            label=f"mean of {number:,} chains{groups}",
        )
    axis.set_yscale("log")
    axis.set_ylim(1e-8, 1e2)
    axis.set_ylabel("variance (truth: 1)", fontsize=8)


def draw_distance(axis, generation, distances, size):
    """Median and band of simulated W2^2, its exact mean, and the median's limit for large M."""
    import numpy as np

    from collapse_jax.app.plots import style
    from collapse_jax.theory import wasserstein

    low, median, high = np.quantile(distances, [0.05, 0.5, 0.95], axis=0)
    every = np.arange(generation[-1] + 1)
    exact = wasserstein.expected_squared_wasserstein2(every, size, ddof=1)
    settled = wasserstein.settled_squared_wasserstein2_quantile(0.5, ddof=1)
    axis.fill_between(
        generation,
        low,
        high,
        color=style.BAND,
        alpha=0.15,
        lw=0,
        label=f"5 to 95% of {len(distances):,} chains",
    )
    axis.plot(generation, median, color=style.BAND, lw=1.8, label="median")
    axis.axhline(
        settled, color=style.BAND, lw=1, ls="-.", label="where the median settles, M → ∞: 5/3"
    )
    axis.plot(every, exact, color=style.THEORY, lw=1.4, ls="--", label="exact mean")
    axis.set_yscale("log")
    axis.set_ylim(1e-2, 50)
    style.plain_ticks(axis.yaxis)
    axis.set_ylabel("squared Wasserstein-2 distance to the truth", fontsize=8)


def draw_needed(axis, generations):
    """Chains that an average variance within 5% needs, by generation for several M."""
    import numpy as np

    from collapse_jax.app.plots import style
    from collapse_jax.theory import monte_carlo

    sizes = (10, 30, 100, 300, 1_000)
    every = np.unique(np.geomspace(1, generations, 200).round().astype(int))
    for size, colour in zip(sizes, style.generation_colours(len(sizes)), strict=True):
        shown = every[every < 15 * size]  # beyond, the number leaves the axis
        needed = monte_carlo.runs_for_expected_variance(shown, size, RELATIVE_ERROR)
        axis.plot(shown, needed, color=colour, lw=1.6, label=f"M = {size:,}")
        half = monte_carlo.runs_for_expected_variance(size // 2, size, RELATIVE_ERROR)
        axis.plot(
            [size // 2],
            [half],
            color=colour,
            marker="o",
            ms=5,
            label="generation M/2" if size == sizes[-1] else None,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(1, 1e12)
    axis.set_ylabel("chains for a mean variance within 5%", fontsize=8)


def figures(folder, curves, later, distances, size, chains):
    """Saves both figures; their paths. curves: (generation, `sample_means`)."""
    from collapse_jax.app.plots import style

    fig, axes = style.figure(1, 2, width=5, height=3.9)
    draw_variance(axes[0, 0], *curves, size, chains)
    draw_distance(axes[0, 1], later, distances, size)
    for axis, place in zip(axes[0], ("lower left", "lower right"), strict=True):
        axis.set_xlabel("generation (0: fitted to real data)", fontsize=8)
        axis.legend(fontsize=6.5, frameon=False, loc=place)
    fig.suptitle(f"Gaussian refitted to M = {size:,} of its own points, ddof = 1", fontsize=9)
    yield style.save(fig, folder, "mean_and_typical_path")
    fig, axes = style.figure(1, 1, width=5, height=3.6)
    draw_needed(axes[0, 0], 10_000)
    axes[0, 0].set_xlabel("generation (0: fitted to real data)", fontsize=8)
    axes[0, 0].legend(fontsize=6.5, frameon=False)
    yield style.save(fig, folder, "chains_for_a_mean")


def cells(mark, size, generation, means, later, distances):
    """A row of the table: what theory and the chains say of generation `mark`."""
    import numpy as np

    from collapse_jax.theory import gaussian, monte_carlo, wasserstein

    quantiles = gaussian.log_variance_quantile([0.05, 0.5, 0.95], mark, size, ddof=1)
    low, median, high = np.exp(quantiles)
    averages = [
        f"{mean[generation == mark][0]:.3g}" if mark in generation else ""
        for mean in means.values()
    ]
    share = monte_carlo.share_that_carries_the_mean(mark, size, 0.5)
    needed = monte_carlo.runs_for_expected_variance(mark, size, RELATIVE_ERROR)
    middle = f"{np.median(distances[:, later == mark]):.3g}" if mark in later else ""
    exact = wasserstein.expected_squared_wasserstein2(mark, size, ddof=1)
    row = [f"{mark:,}", "1", f"{median:.3g} ({low:.3g} to {high:.3g})", *averages]
    return [*row, f"{share:.3g}", f"{needed:.3g}", middle, f"{exact:.3g}"]


def main(
    out: str = "runs/mean_and_typical_path",
    chains: int = 1_000_000,
    sample_size: int = 100,
    generations: int = 2_000,
) -> list[pathlib.Path]:
    """The simulations, two figures, and a table; the paths of the figures.

    Args:
        out: Folder of the figures.
        chains: Of the largest sample mean.
        sample_size: Points a generation, M.
        generations: The last generation.
    """
    import collapse_jax as cj

    numbers = sorted({min(chains, number) for number in (100, 10_000, chains)})
    generation, log_variance = simulated(cj, sample_size, generations, chains, "log_variance")
    means = sample_means(log_variance, numbers)
    fewer = min(chains, 100_000)
    later, distances = simulated(cj, sample_size, generations, fewer, "squared_wasserstein2")
    folder = cj.RunFolder(pathlib.Path(out))
    paths = [*figures(folder, (generation, means), later, distances, sample_size, chains)]
    averages = " | ".join(f"mean of {number:,}" for number in numbers)
    print(
        f"| generation | exact mean | median (5 to 95%) | {averages} | half of the mean in | "
        "chains for 5% | median W2^2 | exact mean W2^2 |"
    )
    print("|" + "---|" * (7 + len(numbers)))
    for mark in (0, 10, 50, 100, 200, 500, 1_000, 2_000):
        if mark <= generations:
            row = cells(mark, sample_size, generation, means, later, distances)
            print(f"| {' | '.join(row)} |")
    print("\n".join(map(str, paths)))
    return paths


if __name__ == "__main__":
    run_script(main, __doc__)
