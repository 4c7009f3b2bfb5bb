"""Figures of simulated chains: quantile bands and the median; the mean apart, and only beside its
exact value; theory on top.

Why: docs/mean-and-typical-path.md.
"""

import numpy as np

from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.laws import chains_for_means, expected_means, expected_quantiles, label
from collapse_jax.app.plots import style
from collapse_jax.drivers.summary import summarise
from collapse_jax.runs.folder import RunFolder

LABELS = {
    "variance": "variance (trace / d)",
    "log_variance": "log variance (log-determinant / d)",
    "heterozygosity": "heterozygosity 1 - sum p²",
    "entropy": "entropy (nats)",
    "support": "support (categories alive)",
    "mean": "mean",
}
# Of its middle: what hardly changes should look like it.
_NARROWEST = 0.02


def draw(folder: RunFolder, config: SimulateConfig, results) -> object:
    """One panel a metric, by generation; the path of the PNG."""
    names = [name for name in config.resolved().metrics if is_scalar(results, name)]
    made, axes = style.figure(1, max(len(names), 1))
    for axis, name in zip(axes[0], names, strict=False):
        draw_panel(axis, config, results, name)
    made.suptitle(title(config), fontsize=9)
    return style.save(made, folder, "chains")


def is_scalar(results, name: str) -> bool:
    """Whether a run's results hold a metric as one number a chain, or a summary of such."""
    return f"{name}_quantile" in results or (name in results and results[name].ndim == 2)


def draw_overview(folder: RunFolder, parts: list[RunFolder]) -> object:
    """The quickstart's figure: a row for each family, a column for each workflow; the path of the
    PNG.
    """
    configs = {part.config(): part.results() for part in parts}
    families = sorted({config.family for config in configs}, reverse=True)
    made, axes = style.figure(
        len(families),
        max(sum(config.family == family for config in configs) for family in families),
        sharey="row",
    )
    for row, family in zip(axes, families, strict=True):
        of_family = sorted(
            (config for config in configs if config.family == family),
            key=lambda config: config.workflow != "replace",
        )
        for axis, config in zip(row, of_family, strict=False):
            # The first of its metrics that has a closed form.
            known = expected_means(config, 0)
            name = next(name for name in config.resolved().metrics if name in known)
            draw_panel(axis, config, configs[config], name)
            axis.set_title(title(config), fontsize=8)
    return style.save(made, folder, "chains_against_theory")


def title(config: SimulateConfig) -> str:
    """Family, workflow, sample size and number of chains in a line."""
    config = config.resolved()
    workflow = (
        f"mix({config.alpha:g}, {config.beta:g}, {config.gamma:g})"
        if config.workflow == "mix"
        else config.workflow
    )
    return f"{label(config)}, {workflow}, M = {config.sample_size}, {config.chains:,} chains"


def draw_panel(axis, config: SimulateConfig, results, name: str) -> None:
    """Quantile bands and the median of the chains, what theory expects of them, and, where theory
    knows the mean, both means.
    """
    generation = results["generation"].values
    if name in results:
        statistics = summarise(results[name].values, len(results[name]))
        mean, quantile = statistics["mean"][0], statistics["quantile"][0]
    else:
        mean, quantile = results[f"{name}_mean"].values, results[f"{name}_quantile"].values
    low, lower, median, upper, high = np.where(np.isfinite(quantile), quantile, np.nan).T
    axis.fill_between(
        generation, low, high, color=style.BAND, alpha=0.15, lw=0, label="5 to 95% of chains"
    )
    axis.fill_between(
        generation, lower, upper, color=style.BAND, alpha=0.3, lw=0, label="25 to 75%"
    )
    axis.plot(generation, median, color=style.BAND, lw=1.6, label="median")
    quantiles = expected_quantiles(config, generation, [0.05, 0.5, 0.95]).get(name)
    for position, curve in enumerate(quantiles if quantiles is not None else ()):
        axis.plot(
            generation,
            curve,
            color=style.THEORY,
            lw=0.8,
            label="exact 5, 50, 95%" if position == 0 else None,
        )
    draw_means(axis, config, generation, name, mean)
    dress(axis, config, name, median)
    axis.legend(fontsize=6, frameon=False)


def draw_means(axis, config: SimulateConfig, generation, name: str, mean, colour=style.INK) -> list:
    """The exact mean of a metric (dashed) and the chains' own (dotted), this one no further than so
    many chains can hold it; the lines.

    mean: [generations], the chains'. Without an exact mean nothing is drawn: nobody could see
    whether the chains are too few.
    """
    expected = expected_means(config, generation).get(name)
    if expected is None:
        return []
    lines = axis.plot(generation, expected, color=style.THEORY, lw=1.2, ls="--", label="exact mean")
    held = np.isfinite(mean) & (chains_for_means(config, generation).get(name, 0) <= config.chains)
    last = len(held) if held.all() else int(np.argmin(held))
    if last:  # 0 where even generation 0 needs more chains
        until = "" if last == len(held) else f" (to generation {generation[last - 1]}: within 5%)"
        said = f"mean of {config.chains:,} chains{until}"
        lines += axis.plot(generation[:last], mean[:last], color=colour, lw=1.4, ls=":", label=said)
    return lines


def dress(axis, config: SimulateConfig, name: str, drawn) -> None:
    """Scales and labels of an axis that shows the metric `name` by generation; drawn: its curves,
    all of one metric.
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
