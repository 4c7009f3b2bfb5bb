"""Figures of simulated chains: quantile bands and the median, compared with theory.

The mean is drawn only together with its exact value (see docs/mean-and-typical-path.md).
"""

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.laws import chains_for_means, expected_means, expected_quantiles, label
from collapse_jax.app.plots import style, thin
from collapse_jax.drivers.summary import summarise
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

LABELS = {
    "variance": "variance (trace / d)",
    "log_variance": "log variance (log-determinant / d)",
    "heterozygosity": "heterozygosity 1 - sum p²",
    "entropy": "entropy (nats)",
    "support": "support (number of surviving categories)",
    "mean": "mean",
}
# The shortest linear axis, as a share of its middle: what hardly changes looks like it.
_NARROWEST = 0.02


def draw(folder: RunFolder, config: SimulateConfig, results: "xarray.Dataset") -> pathlib.Path:
    """Draws one panel per metric, by generation; returns the path of the PNG."""
    names = [name for name in config.resolved().metrics if is_scalar(results, name)]
    fig, axes = style.figure(1, max(len(names), 1))
    recorded = results.sizes["generation"]
    drawn = [
        draw_panel(axis, config, results, name) for axis, name in zip(axes[0], names, strict=False)
    ]
    fig.suptitle(title(config) + thin.caption(max(drawn, default=recorded), recorded), fontsize=9)
    return style.save(fig, folder, "chains")


def is_scalar(results: "xarray.Dataset", name: str) -> bool:
    """Whether results contain a metric as one number per chain, or a summary of such numbers."""
    return f"{name}_quantile" in results or (name in results and results[name].ndim == 2)


def title(config: SimulateConfig) -> str:
    """Returns family, workflow, sample size and number of chains in one line."""
    config = config.resolved()
    workflow = config.workflow
    if workflow == "mix":
        workflow = f"mix({config.alpha:g}, {config.beta:g}, {config.gamma:g})"
    if config.real_share != 0:
        workflow = f"{workflow}({config.real_share:g})"
    if workflow == "keep_real":
        workflow = f"keep_real({config.synthetic_ratio:g})"
    if config.switch:
        workflow = f"{workflow}, then {config.switch}"
    if config.temperature != 1:
        workflow = f"{workflow} at temperature {config.temperature:g}"
    if config.verifier:
        workflow = f"{workflow}, verifier {config.verifier}"
    several = config.ecosystem_in_words()
    workflow = f"{several}, {workflow}" if several else workflow
    own = "" if config.streams == "common" else ", with the random numbers of this grid point"
    return f"{label(config)}, {workflow}, M = {config.sample_size}, {config.chains:,} chains{own}"


def draw_panel(axis: "Axes", config: SimulateConfig, results: "xarray.Dataset", name: str) -> int:
    """Draws quantile bands and the median of a metric, and its exact values if they are known.

    Returns:
        The number of recorded generations that are drawn: see `plots.thin`.
    """
    generation = results["generation"].values
    if name in results:
        statistics = summarise(results[name].values, len(results[name]))
        mean, quantile = statistics["mean"][0], statistics["quantile"][0]
    else:
        mean, quantile = results[f"{name}_mean"].values, results[f"{name}_quantile"].values
    places = thin.kept(quantile, mean)
    generation, mean, quantile = generation[places], mean[places], quantile[places]
    low, lower, median, upper, high = style.finite(quantile).T  # each [generations]
    band = {"color": style.BAND, "lw": 0}
    axis.fill_between(generation, low, high, alpha=0.15, label="5 to 95% of chains", **band)
    axis.fill_between(generation, lower, upper, alpha=0.3, label="25 to 75%", **band)
    axis.plot(generation, median, color=style.BAND, lw=1.6, label="median")
    legend = "exact 5, 50, 95%"
    at = generation[thin.smooth(len(generation))]
    for curve in expected_quantiles(config, at, [0.05, 0.5, 0.95]).get(name, ()):
        axis.plot(at, curve, color=style.THEORY, lw=0.8, label=legend)
        legend = None
    draw_means(axis, config, generation, name, mean)
    dress(axis, config, name, median)
    axis.legend(fontsize=6, frameon=False)
    return len(generation)


def draw_means(
    axis: "Axes",
    config: SimulateConfig,
    generation: np.ndarray,
    name: str,
    mean: np.ndarray,
    colour: Any = style.INK,
) -> list:
    """Draws the exact mean of a metric (dashed) and that of the chains (dotted); returns the lines.

    The curve of the chains' mean ends where there are too few chains to estimate it. Without an
    exact mean nothing is drawn, since a reader could not see whether there are enough chains.

    Args:
        generation: [generations].
        name: The metric.
        mean: [generations], over chains.
    """
    expected = expected_means(config, generation).get(name)
    if expected is None:
        return []
    lines = axis.plot(generation, expected, color=style.THEORY, lw=1.2, ls="--", label="exact mean")
    needed = chains_for_means(config, generation).get(name, 0)
    held = np.isfinite(mean) & (needed <= config.chains)
    last = len(held) if held.all() else int(np.argmin(held))
    if last:  # 0 where even generation 0 needs more chains
        until = "" if last == len(held) else f" (to generation {generation[last - 1]}: within 5%)"
        label = f"mean of {config.chains:,} chains{until}"
        lines += axis.plot(
            generation[:last], mean[:last], color=colour, lw=1.4, ls=":", label=label
        )
    return lines


def dress(axis: "Axes", config: SimulateConfig, name: str, drawn: np.ndarray) -> None:
    """Sets scales and labels of an axis that shows a metric by generation.

    Args:
        drawn: All curves on the axis, of any shape.
    """
    if name == "variance" and np.all(drawn > 0):
        axis.set_yscale("log")
        style.plain_ticks(axis.yaxis)
    low, high = axis.get_ylim()
    middle = (low + high) / 2
    if axis.get_yscale() == "linear" and high - low < _NARROWEST * abs(middle):
        axis.set_ylim(middle - _NARROWEST * abs(middle) / 2, middle + _NARROWEST * abs(middle) / 2)
    if config.record == "log":
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xlim(left=0)
    axis.set_xlabel("generation (0: fitted to real data)", fontsize=8)
    axis.set_ylabel(LABELS.get(name, name), fontsize=8)
