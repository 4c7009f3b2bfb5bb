"""What the figures of early warnings and of sweeps hold."""

import numpy as np

from collapse_jax.app.plots.warning import hysteresis_figure, warning_figure
from collapse_jax.drivers.warning.early_warning import early_warning
from collapse_jax.drivers.warning.hysteresis import Hysteresis, Sweep
from collapse_jax.drivers.warning.loops import Limit
from collapse_jax.drivers.warning.rates import Estimate


def test_leads_and_curves():
    rng = np.random.default_rng(8)
    place, noise = np.arange(30), 0.1 * rng.normal(size=(4, 50, 30))
    at = rng.integers(15, 25, (50, 1))
    falls = {"loss": 9.0 * (place >= at) + noise[0], "own $x$": 3.0 * (place >= at - 4) + noise[1]}
    stays = {"loss": noise[2], "own $x$": noise[3]}
    found = early_warning(falls, stays, loss="loss", threshold=5.0, indicators="level")
    leads, curves, further = warning_figure(found).axes
    drawn = [line.get_xdata() for line in leads.get_lines() if line.get_marker() == "o"]
    assert [float(x[0]) for x in drawn] == [0.0, 4.0]  # the earliest on top
    labels = curves.get_legend_handles_labels()[1]
    assert [label.split(":")[0] for label in labels] == ["loss", "own $x$"]
    assert further.get_xscale() == "log" and len(further.containers) == 2
    alone = early_warning(
        falls, loss="loss", threshold=5.0, indicators="level", limits={"own $x$": 1.5}
    )
    assert len(warning_figure(alone).axes) == 1


def test_loops():
    setting = np.linspace(0, 1, 5)
    sweep = Sweep(
        4, setting, setting, 2 * setting, 0 * setting, 0 * setting, np.array([-0.5]),
        Estimate(-0.5, np.nan),
    )  # fmt: skip
    found = Hysteresis("entropy", 0.0, 1.0, (sweep,), Limit(0, -np.inf, np.inf, 1, 1), "undecided")
    loops, areas = hysteresis_figure(found, "real share").axes
    out, back = loops.get_lines()
    np.testing.assert_allclose(back.get_ydata(), 2 * out.get_ydata())
    assert areas.get_title() == "undecided" and "real share" in loops.get_xlabel()
