"""Chains of a 2 x 2 x 2 design by generation: all cells, and what each factor adds."""

import csv
import itertools

import numpy as np

from collapse_jax.app.plots import style
from collapse_jax.metrics.factorial import effects

CELLS = tuple(itertools.product((0, 1), repeat=3))
# One a main effect, then one an interaction of two.
_COLOURS = (style.THEORY, "#2a9d8f", style.INK, "#8a4fbf", "#e08e2b", style.BAND)


def effects_of(cells: dict, names) -> dict:
    """`factorial.effects` of medians over chains; cells: (0 or 1, 0 or 1, 0 or 1) -> [chains,
    generations].
    """
    return effects(np.reshape([np.median(cells[cell], 0) for cell in CELLS], (2, 2, 2, -1)), names)


def write_cells(results: dict, names, path) -> None:
    """Every number as a row of a CSV file: title, label, the cell's factors, chain, generation,
    value.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["title", "label", *names, "chain", "generation", "value"])
        for key, cells in results.items():
            for cell, values in cells.items():
                rows.writerows(
                    [*key, *cell, *place, value] for place, value in np.ndenumerate(values)
                )


def draw_design(results: dict, factors: dict, folder, name: str, linear_below: dict):
    """A column a measure; rows: the second factor off, on, and the effects. Saved under figures/;
    the path of the PNG.

    results: (title, label of the axis) -> cells as in `effects_of`. factors: three, name -> (how
    off, how on); the first is told by colour, the second by row, the third by line. linear_below:
    label -> the value up to which the axis is linear (shaded), beyond it
    is logarithmic; the axis of a label that is not there is linear all along. Median and 25 to 75%
    of chains.
    """
    from matplotlib.ticker import MaxNLocator

    made, axes = style.figure(3, len(results), width=3.4, height=2.5)
    samples, panels, fits = factors.values()
    for column, ((title, label), cells) in zip(axes.T, results.items(), strict=True):
        for (first, second, third), values in cells.items():
            low, median, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
            options = {
                "color": (style.BAND, style.THEORY)[first],
                "ls": ("-", "--")[third],
                "lw": 1.6,
            }
            column[second].fill_between(
                np.arange(len(median)), low, high, color=options["color"], alpha=0.13, lw=0
            )
            column[second].plot(median, label=f"{samples[first]}, {fits[third]}", **options)
        if label in linear_below:
            for axis in column:
                axis.set_yscale("symlog", linthresh=linear_below[label], linscale=0.8)
        ends = [axis.get_ylim() for axis in column[:2]]
        for axis in column[:2]:
            axis.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
            axis.set_ylabel(label, fontsize=8)
        shown = {
            chosen: values
            for chosen, values in effects_of(cells, tuple(factors)).items()
            if len(chosen) in (1, 2)
        }
        for colour, (chosen, values) in zip(_COLOURS, shown.items(), strict=True):
            column[2].plot(
                values,
                ls="-" if len(chosen) == 1 else ":",
                color=colour,
                lw=1.6,
                label=" x ".join(chosen),
            )
        for axis in column if label in linear_below else ():
            axis.set_ylim(axis.get_ylim())  # stays as it is, whatever is drawn from here on
            axis.axhspan(
                -linear_below[label], linear_below[label], color=style.REAL, alpha=0.07, lw=0
            )
        column[2].axhline(0, color=style.REAL, lw=0.6)
        column[2].set_ylabel("effect on it", fontsize=8)
        column[2].set_xlabel("generation (0: fitted to the truth)", fontsize=8)
        for axis, said in zip(column, (*panels, "effects, interactions"), strict=True):
            axis.set_title(f"{title}: {said}", fontsize=9)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    beside = {1: 1, 2: 3, 3: 3}.get(
        len(results), 6
    )  # entries that the width of so many columns holds
    for axis, place, said in (
        (axes[0, 0], "upper", "median and 25 to 75% of chains"),
        (axes[2, 0], "lower", "effects on the median"),
    ):
        options = {
            "loc": f"outside {place} center",
            "title": said,
            "title_fontsize": 8,
            "ncols": beside,
            "fontsize": 8,
            "frameon": False,
        }
        made.legend(*axis.get_legend_handles_labels(), **options)
    return style.save(made, folder, name)
