"""Figures of a grid: trajectories for one varying setting, phase diagrams for two."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np

from collapse_jax.app.commands.tables import streams_in_words
from collapse_jax.app.config.simulate import FIELDS_OF_FAMILIES, SimulateConfig
from collapse_jax.app.laws import expected_means, given_options
from collapse_jax.app.plots import style, thin
from collapse_jax.app.plots.chains import LABELS, draw_means, dress, is_scalar
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

_MOST_PANELS, _MOST_CURVES, _FEWEST_FOR_CONTOURS = 9, 8, 4
# Values so many times apart go on a logarithmic axis.
_FAR_APART = 20
# Cells of a panel that a PDF holds as shapes; of more it holds an image.
_MOST_PATHS = 5_000
_NAMES = {"sample_size": "sample size M", "num_categories": "categories K", "dim": "dimensions d"}


def draw(
    folder: RunFolder, config: SimulateConfig, results: "xarray.Dataset"
) -> list[pathlib.Path]:
    """Draws trajectories if one setting varies, else a phase diagram for each metric.

    A phase diagram shows the last two settings; each value of the others has a panel.

    Returns:
        The paths of the PNGs.
    """
    names = [name for name in config.metrics if is_scalar(results, name)]
    if len(config.axes()) == 1:
        return [_trajectories(folder, config, results, names)]
    return [_phase_diagram(folder, config, results, name) for name in names]


def _trajectories(folder, config, results, names):
    """Draws a column per metric: medians with bands, and below them means with exact values."""
    ((setting, values),) = config.axes().items()
    shown = np.linspace(0, len(values) - 1, min(len(values), _MOST_CURVES))
    shown = np.unique(shown.round().astype(int))
    colours = style.generation_colours(len(shown))
    generation, points = results["generation"].values, config.points()
    known = any(
        name in expected_means(points[place], generation[:1]) for name in names for place in shown
    )
    fig, axes = style.figure(1 + known, len(names), sharex=True, sharey="col")
    drawn = []
    for axis, name in zip(axes[0], names, strict=True):
        quantiles = results[f"{name}_quantile"].values
        for colour, place in zip(colours, shown, strict=True):
            at = thin.kept(quantiles[place])
            low, _, median, _, high = style.finite(quantiles[place][at]).T
            axis.fill_between(generation[at], low, high, color=colour, alpha=0.15, lw=0)
            label = f"{setting} {values[place]}"
            axis.plot(generation[at], median, color=colour, lw=1.4, label=label)
            drawn.append(len(median))
        dress(axis, config, name, quantiles[shown])
        axis.legend(fontsize=6, frameon=False, title="median, 5 to 95% of chains", title_fontsize=6)
    curves = {place: (points[place], colour) for colour, place in zip(colours, shown, strict=True)}
    for axis, name in zip(axes[1] if known else (), names, strict=False):
        _means(axis, results, name, curves)
    said = thin.caption(max(drawn, default=len(generation)), len(generation))
    fig.suptitle(title(config) + said, fontsize=9)
    return style.save(fig, folder, "trajectories")


def _means(axis, results, name, curves):
    """Draws means that have an exact value; the panel is hidden if there is none."""
    generation, lines = results["generation"].values, []
    for place, (point, colour) in curves.items():
        mean = results[f"{name}_mean"].values[place]
        at = thin.kept(mean)
        lines += draw_means(axis, point, generation[at], name, mean[at], colour)
    if not lines:
        axis.set_visible(False)
        return
    axis.set_xlabel("generation (0: fitted to real data)", fontsize=8)
    axis.set_ylabel(f"mean {LABELS.get(name, name)}", fontsize=8)
    of_chains = [line for line in lines if line.get_linestyle() == ":"]
    is_cut = any(line.get_xdata()[-1] < generation[-1] for line in of_chains)
    label = "mean of the chains" + ", where it is accurate to 5%" * is_cut
    handles = [lines[0], *of_chains[:1]]
    axis.legend(handles, ["exact mean", label][: len(handles)], fontsize=6, frameon=False)


def _phase_diagram(folder, config, results, name):
    """Draws the median over chains at the last generation, with contours of the exact mean."""
    settings = config.axes()
    *outer, rows, columns = settings.items()  # (name, values) each
    shape = tuple(map(len, settings.values()))
    median = results[f"{name}_quantile"].sel(quantile=0.5).isel(generation=-1).values
    median, last = style.finite(median), results["generation"].values[-1:]
    exact = _exact_means(config, name, last).reshape(shape)
    places = list(itertools.product(*(range(len(values)) for _, values in outer)))[:_MOST_PANELS]
    across = min(len(places), 3)
    fig, panels = style.figure(-(-len(places) // across), across)
    levels = {"vmin": np.nanmin(median), "vmax": np.nanmax(median)}
    has_contours = False
    for panel, place in itertools.zip_longest(panels.flat, places):
        if place is None:
            panel.set_axis_off()
            continue
        x, y = positions(columns[1]), positions(rows[1])
        image = draw_cells(panel, x, y, median[place], **levels)
        if np.isfinite(exact[place]).all() and min(len(x), len(y)) >= _FEWEST_FOR_CONTOURS:
            lines = panel.contour(x, y, exact[place], colors=style.THEORY, linewidths=0.8)
            panel.clabel(lines, fontsize=6)
            has_contours = True
        dress_axes(panel, columns, rows)
        fixed = (
            f"{setting} {values[i]}" for (setting, values), i in zip(outer, place, strict=True)
        )
        panel.set_title(", ".join(fixed), fontsize=8)
        fig.colorbar(image, ax=panel).set_label(f"median {LABELS.get(name, name)}", fontsize=8)
    legend = "; colour: median, red lines: exact mean" * has_contours
    fig.suptitle(f"{title(config)}\ngeneration {last[0]}{legend}", fontsize=8)
    return style.save(fig, folder, f"phase_{name}")


def _exact_means(config, name, last):
    """The exact mean at each point [points]; nan if it is unknown or not informative.

    With ddof = 1 a few chains dominate the mean of the variance, which is then not informative
    about the median.
    """
    if (name, given_options(config).get("ddof")) == ("variance", 1):
        return np.full(len(config.points()), np.nan)
    return np.array(
        [expected_means(point, last).get(name, [np.nan])[0] for point in config.points()]
    )


def draw_cells(
    axis: "Axes", x: np.ndarray, y: np.ndarray, values: np.ndarray, **levels: float
) -> "QuadMesh":
    """Draws values [len(y), len(x)] as cells around their positions."""
    # Each cell of a vector image is a path of its own.
    many = values.size > _MOST_PATHS
    cells: Any = {"cmap": matplotlib.colormaps["viridis"], "rasterized": many, **levels}
    return axis.pcolormesh(_edges(x), _edges(y), values, **cells)


def positions(values: Sequence) -> np.ndarray:
    """Returns the positions of values on an axis: numbers at their values, names at 0, 1, ..."""
    return np.arange(len(values)) if isinstance(values[0], str) else np.array(values, float)


def dress_axes(panel: "Axes", columns: tuple[str, Sequence], rows: tuple[str, Sequence]) -> None:
    """Sets scales, ticks and labels; columns, rows: (name, values) of the settings on x and y."""
    for (name, values), axis in zip((columns, rows), "xy", strict=True):
        if isinstance(values[0], str):
            names = list(map(style.tick_name, values))
            panel.set(**{f"{axis}ticks": range(len(values)), f"{axis}ticklabels": names})
        elif _is_logarithmic(np.array(values, float)):
            panel.set(**{f"{axis}scale": "log"})
        getattr(panel, f"set_{axis}label")(_NAMES.get(name, name), fontsize=8)


def _is_logarithmic(values):
    return values.min() > 0 and values.max() > _FAR_APART * values.min()


def _edges(values):
    """Borders [n + 1] between cells whose centres are `values` [n]."""
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    logarithmic = _is_logarithmic(values)
    centres = np.log(values) if logarithmic else values
    middle = (centres[1:] + centres[:-1]) / 2
    edges = np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
    return np.exp(edges) if logarithmic else edges


def title(config: SimulateConfig) -> str:
    """Returns the settings common to all points, with a second line on random numbers."""
    of_family = (name for name, family in FIELDS_OF_FAMILIES.items() if family == config.family)
    fixed = [
        f"{name} {getattr(config, name)}"
        for name in ("workflow", *of_family, "sample_size")
        if name not in config.axes()
    ]
    family = " ".join([config.family, *config.options])
    chains = f"{config.chains:,} chains per point"
    return ", ".join([family, *fixed, chains]) + f"\n{streams_in_words(config)}"
