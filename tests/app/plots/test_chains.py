"""The figures of simulated chains.

Medians and bands of all, a mean only beside its exact value and as long as the chains hold it.
"""

import dataclasses

import numpy as np
import pytest
import xarray
from rich.console import Console

from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.laws import chains_for_means, expected_means
from collapse_jax.app.plots import chains, style
from collapse_jax.theory import monte_carlo

pytestmark = pytest.mark.usefixtures("quick_compile")
CONFIG = SimulateConfig(sample_size=20, generations=60, chains=500).resolved()


def panel(config, name, values):
    """The axis of a metric's panel for values [chains, generations]."""
    results = xarray.Dataset(
        {name: (("chain", "generation"), values)}, coords={"generation": np.arange(values.shape[1])}
    )
    axis = style.figure()[1][0, 0]
    chains.draw_panel(axis, config, results, name)
    return axis


def lines_of(axis):
    return {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}


def draws(shape=(500, 61), seed=0):
    return np.exp(np.random.default_rng(seed).standard_normal(shape))


def test_the_mean_ends_where_the_chains_are_too_few():
    values = draws()
    lines = lines_of(panel(CONFIG, "variance", values))
    needed = monte_carlo.runs_for_expected_variance(np.arange(61), 20, 0.05)
    last = int(np.sum(needed <= 500)) - 1
    assert 0 < last < 60
    drawn = lines[f"mean of 500 chains (to generation {last}: within 5%)"]
    np.testing.assert_allclose(drawn.get_ydata(), values.mean(0)[: last + 1])
    assert drawn.get_linestyle() == ":" and lines["exact mean"].get_linestyle() == "--"
    np.testing.assert_array_equal(lines["exact mean"].get_ydata(), 1)
    np.testing.assert_allclose(lines["median"].get_ydata(), np.median(values, 0))


def test_a_mean_that_all_chains_hold_is_drawn_whole():
    lines = lines_of(panel(CONFIG, "log_variance", np.log(draws())))
    assert len(lines["mean of 500 chains"].get_ydata()) == 61
    np.testing.assert_allclose(
        lines["exact mean"].get_ydata(), expected_means(CONFIG, np.arange(61))["log_variance"]
    )


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (CONFIG, "mean"),
        (SimulateConfig(gamma=0.1, chains=500).resolved(), "log_variance"),
        (SimulateConfig(family="kde", chains=500).resolved(), "variance"),
    ],
)
def test_no_mean_without_its_exact_value(config, name):
    axis = panel(config, name, draws())
    assert set(lines_of(axis)) == {"median"} and len(axis.collections) == 2


def test_too_few_chains_for_any_mean():
    """M = 20 needs (1 + 2/19 - 1) / .05^2 = 42 chains for the first fit."""
    lines = lines_of(panel(dataclasses.replace(CONFIG, chains=41), "variance", draws((41, 61))))
    assert set(lines) == {"median", "exact mean", "exact 5, 50, 95%"}


def test_chains_that_a_mean_needs():
    generation = np.arange(4)
    one = chains_for_means(CONFIG, generation)["variance"]
    np.testing.assert_allclose(one, ((1 + 2 / 19) ** (generation + 1.0) - 1) / 0.05**2)
    # three directions share the work: Var(tr W) = 2 d / (M - 1), E = d for the first fit
    three = chains_for_means(dataclasses.replace(CONFIG, dim=3), generation, 0.1)["variance"]
    assert three[0] == pytest.approx(2 / (3 * 19) / 0.1**2) and np.all(np.diff(three) > 0)
    for ddof in (0, 1):
        assert np.all(
            np.isinf(
                chains_for_means(
                    dataclasses.replace(CONFIG, ddof=ddof, dim=2), np.array([100_000])
                )["variance"]
            )
        )
    assert chains_for_means(SimulateConfig(workflow="accumulate").resolved(), generation) == {}


def test_means_of_a_grid_have_a_row_of_their_own(tmp_path, monkeypatch):
    """Sample sizes 5 and 200: medians above with their bands, below the means.

    The mean of the small one ends where its chains no longer hold it.
    """
    drawn = []
    monkeypatch.setattr(
        style, "save", lambda made, folder, name: drawn.append(made) or tmp_path / name
    )
    config = SimulateConfig(
        sample_size=(5, 200),
        generations=12,
        chains=400,
        metrics=("mean", "variance", "log_variance"),
    )
    with open(tmp_path / "console.txt", "w", encoding="utf-8") as file:
        results = run_simulate(config, tmp_path / "run", Console(file=file)).results()
    above, below = np.reshape(drawn[0].axes, (2, 3))
    assert all(len(axis.lines) == 2 and len(axis.collections) == 2 for axis in above)
    np.testing.assert_allclose(
        above[1].lines[0].get_ydata(), results["variance_quantile"].sel(sample_size=5, quantile=0.5)
    )
    assert [axis.get_visible() for axis in below] == [False, True, True]
    held = int(np.sum(monte_carlo.runs_for_expected_variance(np.arange(13), 5, 0.05) <= 400))
    assert [len(line.get_ydata()) for line in below[1].lines] == [13, held, 13, 13] and held < 13
    np.testing.assert_allclose(
        below[1].lines[3].get_ydata(), results["variance_mean"].sel(sample_size=200)
    )
    said = [text.get_text() for text in below[1].get_legend().get_texts()]
    assert said == ["exact mean", "mean of the chains, where it is accurate to 5%"]
    assert [text.get_text() for text in below[2].get_legend().get_texts()] == [
        "exact mean",
        "mean of the chains",
    ]
    assert below[1].get_ylim() == above[1].get_ylim()


def test_a_grid_without_exact_means_has_one_row(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        style, "save", lambda made, folder, name: drawn.append(made) or tmp_path / name
    )
    config = SimulateConfig(sample_size=(5, 20), generations=2, chains=10, metrics=("mean",))
    with open(tmp_path / "console.txt", "w", encoding="utf-8") as file:
        run_simulate(config, tmp_path / "run", Console(file=file))
    assert len(drawn[0].axes) == 1
    assert "median, 5 to 95% of chains" == drawn[0].axes[0].get_legend().get_title().get_text()


def test_what_hardly_changes_looks_like_it():
    config = SimulateConfig(family="categorical", workflow="accumulate", chains=50, generations=3)
    low, high = panel(
        config, "support", np.where(np.arange(50)[:, None] < 1, 9.0, np.full((50, 4), 10.0))
    ).get_ylim()
    assert high - low >= 0.19 and low < 10 < high
    values = np.linspace(0.87, 0.9, 200).reshape(50, 4)
    low, high = panel(config, "heterozygosity", values).get_ylim()
    assert high - low < 0.04
