"""How every figure looks, and how it is saved."""

import pathlib

import matplotlib
import numpy as np

from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.folder import RunFolder

INK, REAL, THEORY, BAND = "#222222", "#7a7a7a", "#d1495b", "#3a6ea5"


def figure(rows: int = 1, columns: int = 1, width: float = 4.6, height: float = 3.4, **subplots):
    """A matplotlib figure and its axes [rows, columns], without pyplot's global state."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False, **subplots)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return made, axes


def figure_3d(width: float = 5.6, height: float = 4.4):
    """A matplotlib figure with one axis in space."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height))
    axis = made.add_axes((0.0, 0.07, 0.88, 0.88), projection="3d")
    axis.tick_params(labelsize=7)
    return made, axis


def seeds(axis, generation, values, colour, label: bool | str | None = None) -> None:
    """A thin line a seed of `values` [seeds, generations], their mean, and a band of one standard
    deviation around it.

    nan is what is not there: a generation counts the seeds that have reached it. label: of the
    mean; True says what is drawn.
    On a log axis the band ends at four fifths of the lowest seed where it would go on to zero.
    """
    from matplotlib.ticker import MaxNLocator

    values = np.asarray(values, float)
    reached = np.isfinite(values).any(0)
    generation, values = np.asarray(generation)[reached], values[:, reached]
    if not generation.size:
        return
    several = np.isfinite(values).sum(0).max() > 1
    if label is True:
        label = f"mean of {len(values)} seeds ± standard deviation" if several else None
    mean = np.nanmean(values, axis=0)
    if several:
        deviation = np.sqrt(
            np.nansum((values - mean) ** 2, 0) / np.maximum(np.isfinite(values).sum(0) - 1, 1)
        )
        low = (
            np.maximum(mean - deviation, 0.8 * np.nanmin(values))
            if axis.get_yscale() == "log"
            else mean - deviation
        )
        axis.fill_between(generation, low, mean + deviation, color=colour, alpha=0.2, lw=0)
        axis.plot(generation, values.T, color=colour, lw=0.6, alpha=0.6)
    axis.plot(generation, mean, color=colour, lw=1.8, marker="o", ms=3.5, label=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def generation_colours(count: int) -> list:
    """One colour a generation, from dark to light."""
    return [matplotlib.colormaps["viridis"](0.9 * i / max(count - 1, 1)) for i in range(count)]


def plain_ticks(axis, long: float = 1e4) -> None:
    """Labels 1, 2, 5, 10 ... on a logarithmic axis, more on a short one, powers of ten alone where
    its ends are `long` times apart.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = (
        (1, 1.5, 2, 3, 4, 5, 6, 8) if high < 6 * low else (1, 2, 5) if high < long * low else (1,)
    )
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure, folder: RunFolder, name: str) -> pathlib.Path:
    """Writes figures/NAME.png and .pdf; the path of the PNG."""
    for suffix in ("png", "pdf"):
        with atomic(folder.figures / f"{name}.{suffix}") as temporary:
            metadata = {"CreationDate": None} if suffix == "pdf" else None
            figure.savefig(temporary, dpi=160, format=suffix, metadata=metadata)
        # The layout of the first stays; laying out again takes longer than drawing.
        figure.set_layout_engine("none")
    return folder.figures / f"{name}.png"
