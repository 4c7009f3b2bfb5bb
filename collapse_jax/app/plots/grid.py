"""Figures of a grid of simulations: trajectories over one axis, phase diagrams over two."""

import itertools

import matplotlib
import numpy as np

from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.config.simulate import FIELDS_OF_FAMILIES
from collapse_jax.app.laws import expected_means, given_options
from collapse_jax.app.plots import style
from collapse_jax.app.plots.chains import LABELS, draw_means, dress, is_scalar
from collapse_jax.runs.folder import RunFolder

_MOST_PANELS, _MOST_CURVES, _FEWEST_FOR_CONTOURS = 9, 8, 4
_NAMES = {"sample_size": "sample size M", "num_categories": "categories K", "dim": "dimensions d"}


def draw(folder: RunFolder, config: SimulateConfig, results) -> list:
    """A figure of trajectories where one setting varies; where more do, a phase diagram of the last
    two for each metric; PNG paths.
    """
    names = [name for name in config.metrics if is_scalar(results, name)]
    if len(config.axes()) == 1:
        return [_trajectories(folder, config, results, names)]
    return [_phase_diagram(folder, config, results, name) for name in names]


def _trajectories(folder, config, results, names):
    ((axis_name, values),) = config.axes().items()
    chosen = np.unique(
        np.linspace(0, len(values) - 1, min(len(values), _MOST_CURVES)).round().astype(int)
    )
    colours = style.generation_colours(len(chosen))
    generation = results["generation"].values
    points = config.points()
    known = any(
        name in expected_means(points[place], generation[:1]) for name in names for place in chosen
    )
    made, axes = style.figure(1 + known, len(names), sharex=True, sharey="col")
    for axis, name in zip(axes[0], names, strict=True):
        for colour, place in zip(colours, chosen, strict=True):
            low, _, median, _, high = _finite(results[f"{name}_quantile"].values[place]).T
            axis.fill_between(generation, low, high, color=colour, alpha=0.15, lw=0)
            axis.plot(
                generation, median, color=colour, lw=1.4, label=f"{axis_name} {values[place]}"
            )
        dress(axis, config, name, results[f"{name}_quantile"].values[chosen])
        axis.legend(fontsize=6, frameon=False, title="median, 5 to 95% of chains", title_fontsize=6)
    for axis, name in zip(axes[1] if known else (), names, strict=False):
        _means(
            axis,
            results,
            name,
            {place: (points[place], colour) for colour, place in zip(colours, chosen, strict=True)},
        )
    made.suptitle(_title(config), fontsize=9)
    return style.save(made, folder, "trajectories")


def _means(axis, results, name, shown):
    """A panel of means alone, those that have an exact one; hidden where none has. shown: place in
    the axis -> (its settings, colour).
    """
    generation, lines = results["generation"].values, []
    for place, (point, colour) in shown.items():
        lines += draw_means(
            axis, point, generation, name, results[f"{name}_mean"].values[place], colour
        )
    if not lines:
        axis.set_visible(False)
        return
    axis.set_xlabel("generation (0: fitted to real data)", fontsize=8)
    axis.set_ylabel(f"mean {LABELS.get(name, name)}", fontsize=8)
    of_chains = [line for line in lines if line.get_linestyle() == ":"]
    cut = any(len(line.get_xdata()) < len(generation) for line in of_chains)
    words = "mean of the chains" + ", as long as they hold it to 5%" * cut
    axis.legend(
        [lines[0], *of_chains[:1]],
        ["exact mean", words][: 1 + len(of_chains)],
        fontsize=6,
        frameon=False,
    )


def _phase_diagram(folder, config, results, name):
    """The median over chains at the last generation, a panel for each setting of the axes before
    the last two; contours of the theory.
    """
    axes_of_grid = config.axes()
    *outer, (row_name, rows), (column_name, columns) = axes_of_grid.items()
    shape = tuple(len(values) for values in axes_of_grid.values())
    median = _finite(results[f"{name}_quantile"].sel(quantile=0.5).isel(generation=-1).values)
    last = results["generation"].values[-1:]
    # With ddof = 1 the mean of the variance is carried by a few chains and says nothing of the
    # median.
    exact = (
        np.full(shape, np.nan)
        if (name, given_options(config).get("ddof")) == ("variance", 1)
        else _exact_means(config, name, last).reshape(shape)
    )
    places = list(itertools.product(*(range(len(values)) for _, values in outer)))[:_MOST_PANELS]
    across = min(len(places), 3)
    made, panels = style.figure(-(-len(places) // across), across)
    subtitle = f"generation {last[0]}"
    levels = {"vmin": np.nanmin(median), "vmax": np.nanmax(median)}
    for panel, place in itertools.zip_longest(panels.flat, places):
        if place is None:
            panel.set_axis_off()
            continue
        x, y = (
            np.arange(len(values)) if isinstance(values[0], str) else np.array(values, float)
            for values in (columns, rows)
        )
        image = panel.pcolormesh(
            _edges(x), _edges(y), median[place], cmap=matplotlib.colormaps["viridis"], **levels
        )
        if np.isfinite(exact[place]).all() and min(len(x), len(y)) >= _FEWEST_FOR_CONTOURS:
            lines = panel.contour(x, y, exact[place], colors=style.THEORY, linewidths=0.8)
            panel.clabel(lines, fontsize=6)
            subtitle = f"generation {last[0]}; colour: median, red lines: exact mean"
        for values, set_scale, given in (
            (x, panel.set_xscale, columns),
            (y, panel.set_yscale, rows),
        ):
            if (
                not isinstance(given[0], str)
                and values.min() > 0
                and values.max() > 20 * values.min()
            ):
                set_scale("log")
        for given, set_ticks, labels in (
            (columns, panel.set_xticks, columns),
            (rows, panel.set_yticks, rows),
        ):
            if isinstance(given[0], str):
                set_ticks(range(len(given)), labels)
        panel.set_xlabel(_NAMES.get(column_name, column_name), fontsize=8)
        panel.set_ylabel(_NAMES.get(row_name, row_name), fontsize=8)
        panel.set_title(
            ", ".join(
                f"{axis} {values[i]}" for (axis, values), i in zip(outer, place, strict=True)
            ),
            fontsize=8,
        )
        made.colorbar(image, ax=panel).set_label(f"median {LABELS.get(name, name)}", fontsize=8)
    made.suptitle(f"{_title(config)}\n{subtitle}", fontsize=8)
    return style.save(made, folder, f"phase_{name}")


def _exact_means(config, name, last):
    return np.array(
        [expected_means(point, last).get(name, [np.nan])[0] for point in config.points()]
    )


def _edges(values):
    """Borders between cells whose centres are `values`; on a logarithmic scale where they are
    positive and far apart.
    """
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    logarithmic = values.min() > 0 and values.max() > 20 * values.min()
    centres = np.log(values) if logarithmic else values
    middle = (centres[1:] + centres[:-1]) / 2
    edges = np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
    return np.exp(edges) if logarithmic else edges


def _finite(values):
    return np.where(np.isfinite(values), values, np.nan)


def _title(config):
    family = [name for name, owner in FIELDS_OF_FAMILIES.items() if owner == config.family]
    fixed = [
        f"{name} {getattr(config, name)}"
        for name in ("workflow", *family, "sample_size")
        if name not in config.axes()
    ]
    return ", ".join(
        [" ".join([config.family, *config.options]), *fixed, f"{config.chains:,} chains a point"]
    )
