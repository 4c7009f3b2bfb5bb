"""The figures of early warnings (curves and lead times) and of hysteresis sweeps."""

import math
import pathlib
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from collapse_jax.app.plots import style
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from collapse_jax.drivers.warning.alarms import Alarm
    from collapse_jax.drivers.warning.early_warning import EarlyWarning
    from collapse_jax.drivers.warning.hysteresis import Hysteresis

# Curves that one panel tells apart.
_MOST = 9
_DASHES = {"level": "-", "change": "-.", "variance": "--", "autocorrelation": ":"}
_MARKERS = {"level": "o", "change": "D", "variance": "s", "autocorrelation": "^"}


def draw(folder: RunFolder, found: "EarlyWarning") -> pathlib.Path:
    """Draws the figure into a folder; returns the path of the PNG."""
    return style.save(warning_figure(found), folder, "warning")


def warning_figure(found: "EarlyWarning") -> "Figure":
    """Draws the lead times of all alarms, and ROC curves and AUC by lead of the best ones.

    Without steady chains only lead times are drawn.

    Args:
        found: The result of `cj.early_warning`.
    """
    has_curves = any(len(alarm.curve.false) for alarm in found.alarms)
    colours = _colours(found)
    rows = len(found.alarms)
    height = min(max(3.4, 0.19 * rows + 1.3), 20.0)
    fig, axes = style.figure(columns=3 if has_curves else 1, height=height)
    draw_leads(axes[0, 0], found)
    if has_curves:
        shown = _best(found)
        _draw_curves(axes[0, 1], shown, colours)
        _draw_by_lead(axes[0, 2], shown, colours)
    unit = " times its first value" if found.relative else ""
    way = "rises to" if found.rises else "falls to"
    fig.suptitle(f"{found.loss} {way} {found.threshold:g}{unit}", fontsize=10)
    return fig


def _colours(found):
    """A colour for each metric; the loss is black."""
    names = dict.fromkeys(alarm.metric for alarm in found.alarms)
    others = [name for name in names if name != found.loss]
    if len(others) <= 9:
        palette = [matplotlib.colormaps["tab10"](at) for at in range(10) if at != 7]
    else:
        palette = [
            matplotlib.colormaps["turbo"](0.05 + 0.9 * at / (len(others) - 1))
            for at in range(len(others))
        ]
    return {found.loss: style.INK, **dict(zip(others, palette, strict=False))}


def _best(found) -> "list[Alarm]":
    """The alarm of the loss, and of every other metric the alarm with the largest area."""
    by_metric: dict[str, Alarm] = {}
    for alarm in found.alarms:
        before = by_metric.get(alarm.metric)
        if alarm.metric == found.loss:
            continue
        if before is None or _area(alarm) > _area(before):
            by_metric[alarm.metric] = alarm
    others = sorted(by_metric.values(), key=_area, reverse=True)
    own = [alarm for alarm in found.alarms if alarm.metric == found.loss][:1]
    return [*own, *others[: _MOST - len(own)]]


def _area(alarm):
    value = alarm.curve.area.value
    return -math.inf if math.isnan(value) else value


def _label(alarm):
    return alarm.metric if alarm.indicator == "level" else f"{alarm.metric}, {alarm.indicator}"


def draw_leads(axis: "Axes", found: "EarlyWarning") -> None:
    """Draws median lead times with their intervals; a cross at the left end means no alarm."""
    colours = _colours(found)
    order = found.earliest()[::-1]
    finite = [end for alarm in order for end in alarm.lead if math.isfinite(end)]
    least = min([0.0, *finite])
    left = least - 0.06 * (max([1.0, *finite]) - least)
    for place, alarm in enumerate(order):
        colour, (middle, low, high) = colours[alarm.metric], alarm.lead
        if math.isnan(middle):
            continue
        if math.isfinite(middle):
            low = low if math.isfinite(low) else left
            if math.isfinite(high):  # of five chains or fewer there is no interval
                axis.plot([low, high], [place, place], color=colour, lw=1.2)
            axis.plot(middle, place, color=colour, marker=_MARKERS[alarm.indicator], ms=4)
        else:
            axis.plot(left, place, color=colour, marker="x", ms=4)
    axis.axvline(0, color=style.REAL, lw=0.8, ls=":")
    size = 7 if len(order) <= 45 else 5
    axis.set_yticks(range(len(order)), [style.tick_name(_label(alarm)) for alarm in order])
    axis.tick_params(axis="y", labelsize=size)
    axis.set_ylim(-0.7, len(order) - 0.3)
    axis.set_xlabel("median lead time in generations, 95% interval\n(x: no alarm)", fontsize=8)
    axis.set_title("lead times of the alarms", fontsize=9)


def _draw_curves(axis, shown, colours):
    axis.plot([0, 1], [0, 1], color=style.REAL, lw=0.8, ls=":")
    for alarm in shown:
        area = alarm.curve.area
        error = "" if math.isnan(area.error) else f" ± {area.error:.3f}"
        axis.plot(
            alarm.curve.false, alarm.curve.true, color=colours[alarm.metric], lw=1.3,
            ls=_DASHES[alarm.indicator], label=f"{_label(alarm)}: {area.value:.3f}{error}",
        )  # fmt: skip
    axis.set_xlabel("share of steady chains with an alarm", fontsize=8)
    axis.set_ylabel("share of collapsing chains with an alarm in time", fontsize=8)
    axis.set_title("ROC curves and their areas", fontsize=9)
    axis.legend(fontsize=6, frameon=False, loc="lower right")


def _draw_by_lead(axis, shown, colours):
    for alarm in shown:
        leads = np.array(list(alarm.by_lead))
        if not len(leads):
            continue
        areas = np.array([one.value for one in alarm.by_lead.values()])
        errors = np.nan_to_num(np.array([one.error for one in alarm.by_lead.values()]))
        axis.errorbar(
            leads, areas, 2 * errors, color=colours[alarm.metric], lw=1.2, capsize=1.5,
            ls=_DASHES[alarm.indicator], marker=_MARKERS[alarm.indicator], ms=3,
        )  # fmt: skip
    axis.axhline(0.5, color=style.REAL, lw=0.8, ls=":")
    axis.set_xscale("log")
    leads = sorted({lead for alarm in shown for lead in alarm.by_lead})
    axis.set_xticks(leads, map(str, leads))
    axis.minorticks_off()
    axis.set_xlabel("generations before the crossing", fontsize=8)
    axis.set_ylabel("AUC from the data up to then (± 2 standard errors)", fontsize=8)
    axis.set_title("predictability by lead time", fontsize=9)


def hysteresis_figure(found: "Hysteresis", name: str = "setting") -> "Figure":
    """Draws the sweeps there and back for each length, and the areas between them.

    Args:
        found: The result of `cj.hysteresis`.
        name: Name of the setting.
    """
    fig, axes = style.figure(columns=2)
    loops, areas = axes[0]
    colours = style.generation_colours(len(found.sweeps))
    for sweep, colour in zip(found.sweeps, colours, strict=True):
        loops.plot(sweep.setting, sweep.out, color=colour, lw=1.4, label=f"{sweep.length} each way")
        loops.plot(sweep.setting, sweep.back, color=colour, lw=1.4, ls="--")
    loops.set_xlabel(f"{name} (out —, back - -)", fontsize=8)
    loops.set_ylabel(found.metric, fontsize=8)
    loops.legend(fontsize=7, frameon=False)
    lengths = np.array([sweep.length for sweep in found.sweeps])
    values = np.array([sweep.area.value for sweep in found.sweeps])
    errors = np.nan_to_num(np.array([sweep.area.error for sweep in found.sweeps]))
    areas.errorbar(lengths, values, 2 * errors, color=style.BAND, marker="o", ms=4, lw=1.2)
    areas.axhline(0, color=style.REAL, lw=0.8, ls=":")
    low, high = found.limit.low, found.limit.high
    if math.isfinite(low) and math.isfinite(high):
        areas.axhspan(low, high, color=style.THEORY, alpha=0.15, lw=0)
    areas.set_xscale("log")
    style.plain_ticks(areas.xaxis)
    areas.set_xlabel("generations per direction", fontsize=8)
    areas.set_ylabel(
        "area of the loop (± 2 standard errors)\nband: infinitely slow sweep", fontsize=8
    )
    areas.set_title(found.verdict, fontsize=9)
    return fig
