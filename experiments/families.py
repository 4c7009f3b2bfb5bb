"""Families by workflows: what collapses, what only drifts, what widens, in one table.

    python experiments/families.py [--families gaussian,kde] [--out runs/families]
    python experiments/families.py --redraw --out runs/families  only the figure, from families.csv

Run time: 153 CPU-seconds, compilation included (measured; 6.5 minutes of wall time on 2 cores
shared with seven other programs).
Every family starts from a known real distribution and is refitted for 100 generations with M = 50
points per training set; mix has 10% fresh real data. Each cell is the median over chains of one
measure at generation 100 relative to generation 0, and a word by a fixed rule. For a diversity
(variance, heterozygosity, scale, vocabulary ...): collapses below 0.5, declines below 0.9, stays up
to 1.1, widens above. For an error (distance to the real distribution): bounded if it is at most
1.25 times that at generation 50 and 10 times the first, otherwise it grows.
Published: replace loses the real distribution in every family (Shumailov et al. 2024); accumulate
bounds the error (Gerstgrasser et al. 2024), but not for kernels of fixed width, which widen like a
harmonic sum (theory.kernel_density). All cells have the same random numbers (one key): they differ
only by family and workflow, and their errors are not independent. Writes families.csv and
figures/families.png (and .pdf), and prints Markdown. Other experiments cover the language models
and the autoencoder.
"""

import dataclasses
import pathlib
from typing import NamedTuple

from collapse_jax.app.script import run_script
from collapse_jax.errors import InputError

FLOWS = ("replace", "accumulate", "accumulate_subsample", "mix")


class Row(NamedTuple):
    """A line of the table.

    make(cj) -> (estimator, source). measure: a metric; error: whether it is a distance to the
    truth.
    """

    make: object
    measure: str
    error: bool = False
    chains: int = 1000


def by_example(name, **options):
    """The family of a name, with the model of its example as the truth.

    options: replace those of the example's estimator.
    """

    def make(cj):
        family = cj.families()[name]
        estimator, params = family.example()
        return family.factory(**options) if options else estimator, cj.sources.population(
            estimator, params
        )

    return make


def standard_normal(name, **options):
    """The family of a name on a standard normal in one dimension."""
    return lambda cj: (cj.families()[name].factory(**options), cj.sources.normal([0.0], [[1.0]]))


def zipf_blocks(cj):
    """Bigrams of 500 words with Zipf's frequencies, as 2,000 blocks of 20 independent words."""
    import numpy as np

    rng, rank = np.random.default_rng(0), np.arange(1, 501)
    blocks = rng.choice(500, size=(2000, 20), p=1 / rank / np.sum(1 / rank)).astype(np.int32)
    return cj.estimators.ngram(2, 500, 20), cj.sources.dataset(blocks)


def two_components(cj):
    """Two components fitted to one standard normal in the plane, as in the paper's notebook."""
    import numpy as np

    return cj.estimators.gmm(2, 2), cj.sources.normal(np.zeros(2), np.eye(2))


ROWS = {
    "gaussian": Row(standard_normal("gaussian", dim=1), "variance"),
    "gaussian, ddof=0": Row(standard_normal("gaussian", dim=1, ddof=0), "variance"),
    "gaussian_mean (known variance)": Row(
        by_example("gaussian_mean"), "squared_wasserstein2", error=True
    ),
    "categorical": Row(by_example("categorical"), "heterozygosity"),
    "categorical, smoothing=1": Row(
        by_example("categorical", num_categories=6, smoothing=1.0), "heterozygosity"
    ),
    "bernoulli": Row(by_example("bernoulli"), "variance"),
    "poisson": Row(by_example("poisson"), "rate"),
    "exponential": Row(by_example("exponential"), "mean"),
    "pareto": Row(by_example("pareto"), "kl_real_to_model", error=True),
    "uniform": Row(by_example("uniform"), "maximum"),
    "gmm, two components": Row(two_components, "variance", chains=100),
    "kde, h=0.5": Row(standard_normal("kde", dim=1, bandwidth=0.5), "variance", chains=200),
    "kde, Scott": Row(standard_normal("kde", dim=1, bandwidth="scott"), "variance", chains=200),
    "linear_regression": Row(by_example("linear_regression"), "test_error", error=True),
    "logistic_regression": Row(
        by_example("logistic_regression"), "excess_log_loss", error=True, chains=200
    ),
    "ngram, bigram": Row(zipf_blocks, "vocabulary", chains=50),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the table."""

    families: str = ""
    """Only the rows whose names begin so, with commas; all by default."""
    sample_size: int = 50
    generations: int = 100
    most_chains: int = 1000
    seed: int = 0
    out: str = "runs/families"
    redraw: bool = False
    """Draw the figure again from OUT/families.csv and simulate nothing."""

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        for name in ("sample_size", "generations", "most_chains"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.rows():
            raise InputError(
                f"families is {self.families!r}; it must begin like some of {'; '.join(ROWS)}"
            )

    def rows(self) -> dict[str, Row]:
        """The rows that are asked for."""
        return {
            name: row
            for name, row in ROWS.items()
            if name.startswith(tuple(self.families.split(",")))
        }


def measured(cj, row: Row, flow: str, settings: Settings):
    """Medians [3] of one cell, at generation 0, halfway, and at the last."""
    import jax
    import numpy as np

    estimator, source = row.make(cj)
    workflow = cj.workflows.mix(0.9, 0.0, 0.1) if flow == "mix" else getattr(cj.workflows, flow)()
    process = cj.generational_process(estimator, source, workflow, sample_size=settings.sample_size)
    record = [0, settings.generations // 2, settings.generations]
    options = {
        "generations": settings.generations,
        "chains": min(row.chains, settings.most_chains),
        "record": record,
    }
    trace = cj.simulate(process, jax.random.key(settings.seed), metrics=(row.measure,), **options)
    return np.median(trace[row.measure], axis=0)[[0, -2, -1]]


def verdict(row: Row, first: float, halfway: float, last: float) -> str:
    """The word of a cell, by the rule of the docstring."""
    ratio = last / first
    if row.error:
        return "bounded" if last <= 1.25 * halfway and ratio <= 10 else "grows"
    return (
        "collapses"
        if ratio < 0.5
        else "declines"
        if ratio < 0.9
        else "stays"
        if ratio <= 1.1
        else "widens"
    )


def read(path) -> dict:
    """(family, workflow) -> (its row of families.csv, the last median over the first)."""
    import csv

    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    last = list(rows[0])[-2]
    return {
        (row["family"], row["workflow"]): (row, float(row[last]) / float(row["generation_0"]))
        for row in rows
    }


def draw(out) -> pathlib.Path:
    """OUT/figures/families.png from OUT/families.csv: the word and the ratio of every cell.

    A cell's colour is the ratio's logarithm. Diversities above, where both less and more than 1
    lose the truth; errors below. Returns the path.
    """
    from collapse_jax.app.plots import style
    from collapse_jax.runs.folder import RunFolder

    cells = read(pathlib.Path(out) / "families.csv")
    names = list(dict.fromkeys(family for family, _ in cells))
    diversities, errors = (
        [name for name in names if ROWS[name].error == error] for error in (False, True)
    )
    looks = ((diversities, "RdBu", (-1, 1)), (errors, "Purples", (0, 2)))
    blocks = [block for block in looks if block[0]]
    heights = [len(block) for block, *_ in blocks]
    fig, axes = style.figure(
        len(blocks),
        1,
        width=8,
        height=(0.34 * sum(heights) + 0.9) / len(blocks),
        height_ratios=heights,
    )
    for axis, (block, colours, ends) in zip(axes[:, 0], blocks, strict=True):
        image = draw_block(axis, cells, block, colours, ends)
        axis.tick_params(length=0, bottom=False, labelbottom=False, labeltop=axis is axes[0, 0])
        draw_bar(fig, axis, image, len(block), ends)
    last = list(next(iter(cells.values()))[0])[-2].replace("_", " ")
    said = "the same random numbers in all cells"
    fig.suptitle(f"Median over chains at {last} over that at generation 0; {said}", fontsize=9)
    return style.save(fig, RunFolder(pathlib.Path(out)), "families")


def draw_block(axis, cells, block, colours, ends):
    """The cells of one kind of measure; the image.

    ends: log10 of the extreme colours.
    """
    import matplotlib
    import numpy as np

    low, high = ends
    ratios = np.array([[cells[name, flow][1] for flow in FLOWS] for name in block])
    with np.errstate(divide="ignore"):
        shown = np.clip(np.log10(ratios), low, high)
    colour_map = matplotlib.colormaps[colours].resampled(25)
    image = axis.imshow(shown, cmap=colour_map, vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(ratios):
        verdict = cells[block[row], FLOWS[column]][0]["verdict"]
        draw_cell(axis, row, column, f"{verdict} {in_words(value)}", shown[row, column], ends)
    labels = [f"{name.split(' (')[0]}: {ROWS[name].measure}".replace("_", " ") for name in block]
    flow_labels = ["replace", "accumulate", "accumulate, subsample", "mix, 10% real"]
    axis.set_yticks(range(len(block)), labels, fontsize=7.5)
    axis.set_xticks(range(len(FLOWS)), flow_labels, fontsize=7.5)
    axis.spines[:].set_visible(False)
    return image


def draw_cell(axis, row, column, text, shown, ends):
    """The text of a cell, white on dark colours."""
    from collapse_jax.app.plots import style

    low, high = ends
    far = (shown - (low + high) / 2) / (high - low) * 2 if low < 0 else shown / high
    colour = "white" if abs(far) > 0.6 else style.INK
    axis.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)


def in_words(value):
    """A ratio with three digits."""
    return f"{float(f'{value:.3g}'):,g}" if value < 1e4 else f"{value:.2e}".replace("e+0", "e")


def draw_bar(fig, axis, image, rows, ends):
    """The scale of the colours beside a block."""
    low, high = ends
    powers = range(low, high + 1)
    extend = "both" if low else "max"
    bar = fig.colorbar(image, ax=axis, ticks=powers, pad=0.02, aspect=4 * rows, extend=extend)
    bar.ax.set_yticklabels([f"{10.0**power:g}" for power in powers], fontsize=7)
    label = "error over its first" if low == 0 else "diversity over its first"
    bar.set_label(label, fontsize=7.5)


def main(settings: Settings) -> None:
    """The table, cell by cell, and the figure."""
    settings.check()
    if settings.redraw:
        print(draw(settings.out))
        return
    import csv

    from rich.console import Console
    from rich.progress import track

    import collapse_jax as cj

    cells = [(name, flow) for name in settings.rows() for flow in FLOWS]
    found = {}
    for name, flow in track(cells, "cells", console=Console(stderr=True), transient=True):
        medians = measured(cj, ROWS[name], flow, settings)
        found[name, flow] = (medians[0], medians[-1], verdict(ROWS[name], *medians))
    out = pathlib.Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "families.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            [
                "family",
                "workflow",
                "measure",
                "generation_0",
                f"generation_{settings.generations}",
                "verdict",
            ]
        )
        rows.writerows(
            [name, flow, ROWS[name].measure, *cell] for (name, flow), cell in found.items()
        )
    print(
        f"| family | measure | {' | '.join(FLOWS[:-1])} | mix, 10% real "
        f"|\n|---|---|{'---|' * len(FLOWS)}"
    )
    for name in settings.rows():
        words = [
            f"{found[name, flow][2]} ({found[name, flow][1] / found[name, flow][0]:.3g})"
            for flow in FLOWS
        ]
        print(f"| {name} | {ROWS[name].measure} | {' | '.join(words)} |")
    print("\nAll cells have the same random numbers: their errors are not independent.")
    print(f"\n{draw(settings.out)}")


if __name__ == "__main__":
    run_script(main, __doc__)
