"""Curves of many points are thinned before they are drawn, and no peak is lost."""

import numpy as np
import pytest
import xarray

from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.plots import chains, thin
from collapse_jax.app.plots.grid import draw as draw_grid
from collapse_jax.drivers.summary import QUANTILES
from collapse_jax.runs.folder import RunFolder


def test_short_curves_are_drawn_whole():
    assert thin.kept(np.zeros(5_000)) == slice(None)
    assert thin.caption(5_000, 5_000) == ""
    assert thin.smooth(400) == slice(None)


def test_smooth_curves_keep_their_ends():
    places = thin.smooth(1_000_003)
    assert len(places) == 400 and (np.diff(places) > 0).all()
    assert places[0] == 0 and places[-1] == 1_000_002


def test_ends_and_extremes_stay():
    points = 1_000_003
    rng = np.random.default_rng(0)
    first, pair = rng.normal(size=points), rng.normal(size=(points, 2))
    peaks = {7: 50.0, 500_000: -60.0, 500_001: 70.0, points - 2: -80.0}
    for place, height in peaks.items():
        first[place] = height
    pair[123_456, 1] = 90.0
    pair[[0, 5, 400_000], 0] = np.nan, np.inf, -np.inf
    places = thin.kept(first, pair)
    assert len(places) < 2 + 600 * 2 * 3 + 1 and (np.diff(places) > 0).all()
    assert {0, points - 1, 123_456, *peaks} <= set(places.tolist())
    # Whatever the stretch, its extremes are there: none is more than a stretch from the next.
    assert np.diff(places).max() <= 2 * points / 600 + 1
    flat = thin.kept(np.zeros(points))
    assert flat[0] == 0 and flat[-1] == points - 1 and 600 < len(flat) < 1300
    assert len(thin.kept(np.full(points, np.nan))) < 1300
    said = thin.caption(len(places), points)
    assert said.startswith(f"\nthinned: {len(places):,} of 1,000,003 recorded generations")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, instead of their files."""
    figures = []
    monkeypatch.setattr(
        "collapse_jax.app.plots.style.save", lambda fig, folder, name: figures.append(fig)
    )
    return figures


def points_of(axis):
    lines = max(len(line.get_xdata()) for line in axis.lines)
    bands = max(len(band.get_paths()[0].vertices) for band in axis.collections)
    return max(lines, bands // 2)


def test_figures_of_many_generations(drawn, tmp_path):
    count = 60_000
    values = np.random.default_rng(1).normal(1, 0.01, (1, count)).astype(np.float32)
    values[0, 37_777] = 3
    results = xarray.Dataset(
        {"log_variance": (("chain", "generation"), values)}, {"generation": np.arange(count)}
    )
    config = SimulateConfig(
        metrics=("log_variance",), generations=count - 1, chains=1, sample_size=10**6
    )
    chains.draw(RunFolder(tmp_path), config, results)
    grid = SimulateConfig(
        metrics=("log_variance",), generations=count - 1, chains=1, sample_size=(10**6, 10**7)
    )
    both = np.concatenate([values, values + 1]).astype(float)
    statistics = {
        "log_variance_mean": (("sample_size", "generation"), both),
        "log_variance_quantile": (
            ("sample_size", "generation", "quantile"),
            np.broadcast_to(both[..., None], (*both.shape, len(QUANTILES))),
        ),
    }
    draw_grid(
        RunFolder(tmp_path), grid, xarray.Dataset(statistics, {"generation": np.arange(count)})
    )
    assert len(drawn) == 2
    for figure in drawn:
        assert "of 60,000 recorded generations are drawn" in figure.get_suptitle()
        axis = figure.axes[0]
        assert points_of(axis) < 12_000
        highest = max(np.nanmax(line.get_ydata()) for line in axis.lines)
        assert highest == pytest.approx(3 if figure is drawn[0] else 4)
        assert axis.lines[0].get_xdata()[-1] == count - 1


def test_a_whole_figure_says_nothing(drawn, tmp_path):
    results = xarray.Dataset(
        {"log_variance": (("chain", "generation"), np.zeros((2, 9)))}, {"generation": np.arange(9)}
    )
    config = SimulateConfig(metrics=("log_variance",), generations=8, chains=2)
    chains.draw(RunFolder(tmp_path), config, results)
    assert "thinned" not in drawn[0].get_suptitle()
