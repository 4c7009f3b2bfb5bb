"""The figure of a collapse profile: the generations at which each definition is met."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.app.plots import style
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from collapse_jax.app.collapse_profile.result import Profile, Verdict

# Met, not met, undecided.
_COLOURS = {1: style.THEORY, 0: "#b9cde0", -1: "#eeeeee"}
_WORDS = {1: "met", 0: "not met", -1: "undetermined"}
_BARS = {"mean": (-0.36, -0.02), "median": (0.02, 0.36)}
# Longer runs have a logarithmic axis, on which the first generations are seen.
_LONG = 50
_LONGEST_NAME = 60


def draw(folder: RunFolder, profile: "Profile") -> pathlib.Path:
    """Draws the figure into a folder; returns the path of the PNG."""
    return style.save(profile_figure(profile), folder, "profile")


def profile_figure(profile: "Profile") -> "Figure":
    """Draws a row for each definition: above the mean over chains, below the typical chain."""
    from matplotlib.patches import Patch

    fig, axes = style.figure(width=11.0, height=4.6)
    axis, clock = axes[0, 0], profile.generations + 1.0
    is_long = clock[-1] > _LONG
    edges = _edges(clock, is_long)
    for place, verdict in enumerate(profile.verdicts):
        _draw_row(axis, place, verdict, edges)
    if is_long:
        axis.set_xscale("log")
        ticks = [tick for tick in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
                 if profile.generations[0] <= tick <= profile.generations[-1]]  # fmt: skip
        axis.set_xticks([tick + 1.0 for tick in ticks], [f"{tick:,}" for tick in ticks])
        axis.minorticks_off()
    else:
        first, last = int(profile.generations[0]), int(profile.generations[-1])
        ticks = np.arange(first, last + 1, max(1, -(-(last - first) // 12)))
        axis.set_xticks(ticks + 1.0, [f"{tick:,}" for tick in ticks])
    axis.set_xlim(edges[0], edges[-1])
    axis.set_ylim(len(profile.verdicts) - 0.5, -0.5)
    titles = [verdict.title for verdict in profile.verdicts]
    axis.set_yticks(range(len(titles)), titles)
    axis.tick_params(axis="y", length=0)
    axis.spines[["left"]].set_visible(False)
    axis.set_xlabel("generation (0: fitted to real data)", fontsize=8)
    axis.set_title(_title(profile), fontsize=9, loc="left")
    handles = [Patch(facecolor=_COLOURS[state], label=_WORDS[state]) for state in (1, 0, -1)]
    fig.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return fig


def _draw_row(axis, place, verdict: "Verdict", edges):
    """Draws the bars of a definition, and at the right its value and threshold."""
    findings = {found.statistic: found for found in verdict.findings()}
    # The mean and the median of one chain are one.
    alone = len(findings) == 2 and verdict.level == 0 and verdict.mean.level == 0  # pyright: ignore
    for statistic, found in findings.items():
        low, high = (-0.36, 0.36) if alone else _BARS[statistic]
        if alone and statistic != verdict.statistic:
            continue
        for first, last, state in _runs(found.states):
            axis.fill_between(
                [edges[first], edges[last + 1]], place + low, place + high,
                color=_COLOURS[state], lw=0,
            )  # fmt: skip
        if not alone:
            axis.text(
                edges[0], place + (low + high) / 2, f" {statistic}", fontsize=6, va="center",
                color=style.INK,
            )  # fmt: skip
    if not findings:
        axis.text(edges[0], place, " no recorded metric measures it" if verdict.definition !=
                  "scaling" else " needs runs with three sample sizes", fontsize=7, va="center",
                  color=style.REAL)  # fmt: skip
    axis.annotate(
        _numbers(verdict), (1.01, place), xycoords=("axes fraction", "data"), fontsize=7,
        va="center", annotation_clip=False,
    )  # fmt: skip


def _runs(states):
    """(first, last, state) of consecutive equal states."""
    cuts = np.flatnonzero(np.diff(states)) + 1
    starts, ends = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(states)]])
    for first, after in zip(starts, ends, strict=True):
        yield int(first), int(after) - 1, int(states[first])


def _edges(clock, is_long):
    """Borders between generations, in numbers of samplings."""
    x = np.log(clock) if is_long else clock
    if len(x) == 1:
        return np.array([clock[0] - 0.5, clock[0] + 0.5])
    between = (x[1:] + x[:-1]) / 2
    ends = [x[0] - (between[0] - x[0]), *between, x[-1] + (x[-1] - between[-1])]
    return np.exp(ends) if is_long else np.array(ends)


def _numbers(verdict):
    """Verdict, and the values of both statistics next to the threshold."""
    from collapse_jax.app.collapse_profile.result import limit_of, shown

    if not verdict.findings():
        return f"{verdict.verdict}"
    parts = [
        f"{shown(found.number)}" + (f" ({found.statistic})" if found.level else "")
        for found in verdict.findings()
        if found.level or found is verdict.findings()[0]
        if not np.isnan(found.number)
    ]
    when = f" at {verdict.first} to {verdict.until}" if verdict.until is not None else ""
    first = f"{verdict.verdict}{when}: " + ", ".join(parts)
    return f"{first}\nif {limit_of(verdict)} {verdict.unit}, {verdict.metric}"


def _title(profile):
    unit = "seed" if profile.kind == "language model" else "chain"
    name = profile.run
    name = name if len(name) <= _LONGEST_NAME else f"...{name[-_LONGEST_NAME:]}"
    count = f"{profile.chains:,} {unit}{'s' * (profile.chains != 1)}"
    return f"Collapse profile of {name}, {count if profile.chains else f'{unit}s unknown'}"
