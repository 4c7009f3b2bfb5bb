"""How every figure looks, and how it is saved."""

import pathlib

import matplotlib

from collapse_jax.records import RunFolder

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


def generation_colours(count: int) -> list:
    """One colour a generation, from dark to light."""
    return [matplotlib.colormaps["viridis"](0.9 * i / max(count - 1, 1)) for i in range(count)]


def plain_ticks(axis) -> None:
    """Labels 1, 2, 5, 10 ... on a logarithmic axis, powers of ten alone on a long one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e4 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(made, folder: RunFolder, name: str) -> pathlib.Path:
    """Writes figures/NAME.png and .pdf; the path of the PNG."""
    folder.figures.mkdir(parents=True, exist_ok=True)
    for suffix in ("pdf", "png"):
        partial = folder.figures / f".{name}.partial.{suffix}"
        made.savefig(partial, dpi=160, metadata={"CreationDate": None} if suffix == "pdf" else None)
        partial.replace(folder.figures / f"{name}.{suffix}")
    return folder.figures / f"{name}.png"
