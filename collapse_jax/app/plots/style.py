"""The style of every figure, and how figures are saved."""

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
    """Returns a matplotlib figure and its axes [rows, columns], without pyplot's global state.

    Args:
        width: Of one panel, in inches.
        height: Of one panel, in inches.
        **subplots: Other arguments of `Figure.subplots`.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **subplots)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return fig, axes


def figure_3d(width: float = 5.6, height: float = 4.4) -> tuple["Figure", "Axes3D"]:
    """Returns a matplotlib figure with one 3D axis."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height))
    axis: Any = fig.add_axes((0.0, 0.07, 0.88, 0.88), projection="3d")
    axis.tick_params(labelsize=7)
    return fig, axis


def finite(values: np.ndarray) -> np.ndarray:
    """Returns values of any shape, with infinity replaced by nan, which matplotlib leaves out."""
    return np.where(np.isfinite(values), values, np.nan)


def seeds(
    axis: "Axes",
    generation: Any,
    values: Any,
    colour: Any,
    label: bool | str | None = None,
) -> None:
    """Draws a thin line per seed, their mean, and a band of one standard deviation.

    On a logarithmic axis the band ends at four fifths of the lowest seed instead of zero.

    Args:
        generation: [generations].
        values: [seeds, generations]; a generation counts the seeds that are not nan there.
        label: Label of the mean; True uses a description of the curves.
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
    """Returns one colour per generation, from dark to light."""
    return [matplotlib.colormaps["viridis"](0.9 * i / max(count - 1, 1)) for i in range(count)]


def plain_ticks(axis: "Axis", long: float = 1e4) -> None:
    """Sets labels 1, 2, 5, 10, ... on a logarithmic axis; a short axis has more labels.

    Args:
        long: An axis whose ends differ by at least this factor has only powers of ten.
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
    """Makes titles, labels and legends show their text literally.

    Names may come from files and third-party packages. "$x$" is not read as a formula, "%" not as a
    TeX comment, and control characters are drawn as escapes. Line breaks stay. Ticks are not
    changed, since their formatters write formulas: use `tick_name` for names.
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
    """Returns a name for a tick, drawn literally; a formatter would read "$" as a formula."""
    return visible(str(name)).replace("$", r"\$")


def save(fig: "Figure", folder: RunFolder, name: str) -> pathlib.Path:
    """Writes figures/NAME.png and .pdf with `literal` texts; returns the path of the PNG.

    A metric's name may be part of the file name. Characters other than letters, digits, dots,
    dashes and spaces become "_", so that the file stays in figures/.
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
