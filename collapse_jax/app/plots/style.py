"""How every figure looks, and how it is saved."""

import pathlib
import re
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np

from collapse_jax.errors import visible
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

INK, REAL, THEORY, BAND = "#222222", "#7a7a7a", "#d1495b", "#3a6ea5"


def figure(
    rows: int = 1, columns: int = 1, width: float = 4.6, height: float = 3.4, **subplots: Any
) -> tuple["Figure", np.ndarray]:
    """A matplotlib figure and its axes [rows, columns], without pyplot's global state.

    Args:
        width: Of one panel, in inches.
        height: Of one panel, in inches.
        **subplots: More arguments of `Figure.subplots`.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **subplots)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return fig, axes


def figure_3d(width: float = 5.6, height: float = 4.4) -> tuple["Figure", "Axes3D"]:
    """A matplotlib figure with one axis in space."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height))
    axis: Any = fig.add_axes((0.0, 0.07, 0.88, 0.88), projection="3d")
    axis.tick_params(labelsize=7)
    return fig, axis


def finite(values: np.ndarray) -> np.ndarray:
    """Values of any shape, with nan in the place of infinity: matplotlib leaves nan out."""
    return np.where(np.isfinite(values), values, np.nan)


def seeds(
    axis: "Axes",
    generation: Any,
    values: Any,
    colour: Any,
    label: bool | str | None = None,
) -> None:
    """Draws a thin line per seed, their mean, and a band of one standard deviation around it.

    On a logarithmic axis the band ends at four fifths of the lowest seed, not at zero.

    Args:
        generation: [generations].
        values: [seeds, generations]; a generation counts the seeds that are not nan there.
        label: Of the mean; True describes what is drawn.
    """
    from matplotlib.ticker import MaxNLocator

    values = np.asarray(values, float)
    reached = np.isfinite(values).any(0)
    generation, values = np.asarray(generation)[reached], values[:, reached]
    if not generation.size:
        return
    counts = np.isfinite(values).sum(0)
    several = counts.max() > 1
    if label is True:
        label = f"mean of {len(values)} seeds ± standard deviation" if several else None
    mean = np.nanmean(values, axis=0)
    if several:
        deviation = np.sqrt(np.nansum((values - mean) ** 2, 0) / np.maximum(counts - 1, 1))
        low = mean - deviation
        if axis.get_yscale() == "log":
            low = np.maximum(low, 0.8 * np.nanmin(values))
        axis.fill_between(generation, low, mean + deviation, color=colour, alpha=0.2, lw=0)
        axis.plot(generation, values.T, color=colour, lw=0.6, alpha=0.6)
    axis.plot(generation, mean, color=colour, lw=1.8, marker="o", ms=3.5, label=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def generation_colours(count: int) -> list:
    """One colour per generation, from dark to light."""
    return [matplotlib.colormaps["viridis"](0.9 * i / max(count - 1, 1)) for i in range(count)]


def plain_ticks(axis: "Axis", long: float = 1e4) -> None:
    """Labels 1, 2, 5, 10, ... on a logarithmic axis; more of them on a short one.

    Args:
        long: An axis whose ends are so many times apart has powers of ten alone.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps = (1,)
    if high < 6 * low:
        steps = (1, 1.5, 2, 3, 4, 5, 6, 8)
    elif high < long * low:
        steps = (1, 2, 5)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def literal(fig: "Figure") -> None:
    """Makes titles, labels and legends show what is written, whatever it is.

    Names come from files and from others' packages: "$x$" is no formula, "%" begins no comment of
    TeX, and control characters are drawn as their escapes. Line breaks stay. Ticks are left alone,
    since their formatters write formulas: names on them pass through `tick_name`.
    """
    from matplotlib.axis import Axis, Tick
    from matplotlib.text import Text

    of_ticks = [text for tick in fig.findobj(Tick) for text in (tick.label1, tick.label2)]
    of_ticks += [axis.get_offset_text() for axis in fig.findobj(Axis)]
    for text in set(fig.findobj(Text)) - set(of_ticks):
        text.set_text(visible(text.get_text(), keep="\n"))
        text.set_parse_math(False)
        text.set_usetex(False)


def tick_name(name: str) -> str:
    """A name for a tick, drawn as it is written; a formatter reads a dollar as a formula's end."""
    return visible(str(name)).replace("$", r"\$")


def save(fig: "Figure", folder: RunFolder, name: str) -> pathlib.Path:
    """Writes figures/NAME.png and .pdf, with texts as `literal` has them; the path of the PNG.

    A metric's name may be part of the file's: what is no letter, digit, dot, dash or space in it
    becomes "_", so that the file lies in figures/.
    """
    literal(fig)
    name = re.sub(r"[^\w. -]", "_", name)
    for suffix in ("png", "pdf"):
        with atomic(folder.figures / f"{name}.{suffix}") as temporary:
            metadata = {"CreationDate": None} if suffix == "pdf" else None
            fig.savefig(temporary, dpi=160, format=suffix, metadata=metadata)
        # The layout of the first stays; laying out again takes longer than drawing.
        fig.set_layout_engine("none")
    return folder.figures / f"{name}.png"
