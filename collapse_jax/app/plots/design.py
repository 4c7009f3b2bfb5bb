"""Chains of a 2 x 2 x 2 design by generation: all cells, and the effect of each factor."""

import csv
import itertools
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from collapse_jax.app.plots import style
from collapse_jax.metrics.factorial import effects
from collapse_jax.runs.folder import RunFolder

Cell = tuple[int, int, int]
"""Whether each of three factors is on: 0 or 1."""
CELLS: tuple[Cell, ...] = tuple(itertools.product((0, 1), (0, 1), (0, 1)))
# One per main effect, then one per interaction of two.
_COLOURS = (style.THEORY, "#2a9d8f", style.INK, "#8a4fbf", "#e08e2b", style.BAND)
# How many entries of a legend the width of so many columns holds.
_ENTRIES = {1: 1, 2: 3, 3: 3}


def effects_of(cells: Mapping[Cell, np.ndarray], names: tuple[str, ...]) -> dict:
    """Returns `factorial.effects` of medians over chains.

    Args:
        cells: [chains, generations] of each cell.
        names: Of the three factors.
    """
    medians = [np.median(cells[cell], 0) for cell in CELLS]
    return effects(np.reshape(medians, (2, 2, 2, -1)), names)


def write_cells(
    results: Mapping[tuple[str, str], Mapping[Cell, np.ndarray]],
    names: Iterable[str],
    path: str | os.PathLike,
) -> None:
    """Writes every number as a row of a CSV file: title, label, cell, chain, generation, value.

    Args:
        results: As for `draw_design`.
        names: Of the three factors.
        path: The file.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["title", "label", *names, "chain", "generation", "value"])
        for key, cells in results.items():
            for cell, values in cells.items():
                rows.writerows(
                    [*key, *cell, *place, value] for place, value in np.ndenumerate(values)
                )


def draw_design(
    results: Mapping[tuple[str, str], Mapping[Cell, np.ndarray]],
    factors: Mapping[str, tuple[str, str]],
    folder: RunFolder,
    name: str,
    linear_below: Mapping[str, float],
) -> pathlib.Path:
    """Draws a column per measure, with rows for the second factor off, on, and all effects.

    Colour shows the first factor, the line style the third. Curves are medians over chains, with a
    band from 25 to 75%.

    Args:
        results: (title, label of the axis) -> cell -> [chains, generations].
        factors: Name -> (words for off, words for on), three of them.
        folder: Where figures/NAME.png is saved.
        name: Of the figure.
        linear_below: Label -> the value up to which its axis is linear (shaded); beyond it the axis
            is logarithmic. An axis without a value is linear.

    Returns:
        The path of the PNG.
    """
    fig, axes = style.figure(3, len(results), width=3.4, height=2.5)
    _, panels, _ = factors.values()
    for column, ((title, label), cells) in zip(axes.T, results.items(), strict=True):
        linear = linear_below.get(label)
        _draw_cells(column[:2], cells, factors, label, linear)
        _draw_effects(column[2], effects_of(cells, tuple(factors)), linear)
        _shade(column, linear)
        _draw_zero(column[2])
        _dress(column, title, (*panels, "effects, interactions"))
    places: Any = ("outside upper center", "outside lower center")
    for axis, place, heading in (
        (axes[0, 0], places[0], "median and 25 to 75% of chains"),
        (axes[2, 0], places[1], "effects on the median"),
    ):
        fig.legend(
            *axis.get_legend_handles_labels(),
            loc=place,
            title=heading,
            title_fontsize=8,
            ncols=_ENTRIES.get(len(results), 6),
            fontsize=8,
            frameon=False,
        )
    return style.save(fig, folder, name)


def _draw_cells(axes, cells, factors, label, linear):
    """Draws two panels with the same limits: the second factor off and on."""
    samples, _, fits = factors.values()
    for (first, second, third), values in cells.items():
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)  # [generations]
        colour = (style.BAND, style.THEORY)[first]
        generation = np.arange(len(median))
        axes[second].fill_between(generation, low, high, color=colour, alpha=0.13, lw=0)
        axes[second].plot(
            median,
            label=f"{samples[first]}, {fits[third]}",
            color=colour,
            ls=("-", "--")[third],
            lw=1.6,
        )
    _scale(axes, linear)
    lows, highs = zip(*(axis.get_ylim() for axis in axes), strict=True)
    for axis in axes:
        axis.set_ylim(min(lows), max(highs))
        axis.set_ylabel(label, fontsize=8)


def _draw_effects(axis, by_factors, linear):
    """Draws main effects and interactions (dotted); by_factors: names -> [generations]."""
    _scale([axis], linear)
    shown = {names: values for names, values in by_factors.items() if len(names) in (1, 2)}
    for colour, (names, values) in zip(_COLOURS, shown.items(), strict=True):
        line = "-" if len(names) == 1 else ":"
        axis.plot(values, ls=line, color=colour, lw=1.6, label=" x ".join(names))


def _shade(axes, linear):
    """Shades the linear part of logarithmic axes."""
    if linear is None:
        return
    for axis in axes:
        axis.set_ylim(axis.get_ylim())  # stays as it is, whatever is drawn from here on
        axis.axhspan(-linear, linear, color=style.REAL, alpha=0.07, lw=0)


def _draw_zero(axis):
    axis.axhline(0, color=style.REAL, lw=0.6)
    axis.set_ylabel("effect", fontsize=8)
    axis.set_xlabel("generation (0: fitted to real data)", fontsize=8)


def _scale(axes, linear):
    for axis in axes if linear is not None else ():
        axis.set_yscale("symlog", linthresh=linear, linscale=0.8)


def _dress(column, title, headings):
    from matplotlib.ticker import MaxNLocator

    for axis, heading in zip(column, headings, strict=True):
        axis.set_title(f"{title}: {heading}", fontsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
