"""A grid of simulations: the numbers of each point alone, the folder, resuming, and the figures."""

import dataclasses

import jax
import numpy as np
import pytest
from rich.console import Console

from collapse_jax.app.commands import grid
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.commands.simulation import key_of, process_of
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.plots.grid import title as titled
from collapse_jax.drivers import grids
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError
from collapse_jax.runs.settings import from_dict

pytestmark = pytest.mark.usefixtures("quick_compile")

GRID = SimulateConfig(
    sample_size=(5, 20), gamma=(0.0, 0.1, 0.4), generations=4, chains=60, chunk=2, ddof=0
)


@pytest.fixture
def console(tmp_path):
    with open(tmp_path / "console.txt", "w", encoding="utf-8") as file:
        yield Console(file=file, width=120)


@pytest.mark.parametrize(
    "config",
    [
        GRID,
        pytest.param(
            SimulateConfig(family="categorical", sample_size=(1, 7, 30), generations=5, chains=60),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            SimulateConfig(
                family="categorical",
                workflow=("replace", "accumulate"),
                num_categories=(3, 8),
                sample_size=12,
                generations=3,
                chains=60,
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            SimulateConfig(
                workflow="accumulate", sample_size=(3, 12), dim=(1, 2), generations=3, chains=60
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            SimulateConfig(
                beta=(0.0, 0.3), gamma=0.2, sample_size=(6, 9), generations=3, chains=60
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["mix", "categorical sizes", "programs", "accumulate", "points taken back"],
)
def test_every_point_gives_the_numbers_that_it_gives_alone(config, tmp_path, console):
    """With the same streams: only the rounding of another program may differ."""
    results = run_simulate(config, tmp_path / "grid", console).results()
    assert results["generation"].size == config.generations + 1
    points = config.points()
    for number in (0, len(points) - 1):
        point = points[number]
        options = {
            "generations": point.generations,
            "chains": point.chains,
            "metrics": point.metrics,
        }
        alone = simulate(process_of(point), key_of(point), **options)
        where = {name: getattr(point, name) for name in config.axes()}
        for name in config.resolved().metrics:
            if config.family == "gaussian" and point.sample_size == 1:
                continue
            want = alone[name].astype(float).mean(axis=0)
            np.testing.assert_allclose(
                results[f"{name}_mean"].sel(where),
                want,
                rtol=2e-3,
                atol=2e-4,
                err_msg=f"{name} at {where}",
            )


def test_folder_rows_and_figures(tmp_path, console):
    folder = run_simulate(GRID, tmp_path / "run", console)
    assert folder.results()["variance_quantile"].dims == (
        "sample_size",
        "gamma",
        "generation",
        "quantile",
    )
    rows = folder.rows()
    assert len(rows) == 6 * 5 and {(row["sample_size"], row["gamma"]) for row in rows} == {
        (m, g) for m in (5, 20) for g in (0.0, 0.1, 0.4)
    }
    assert {path.name for path in folder.figures.glob("*.png")} == {
        "phase_variance.png",
        "phase_log_variance.png",
    }
    assert folder.config() == GRID.resolved() and from_dict(
        {"command": "simulate", "gamma": [0.0, 0.5]}, "x"
    ).gamma == (0.0, 0.5)
    assert folder.results().attrs["streams"] == "independent"
    assert (
        "60 chains per point, independent random numbers at"
        in (tmp_path / "console.txt").read_text()
    )
    assert "is a range of chains" in " ".join((tmp_path / "console.txt").read_text().split())
    one = run_simulate(dataclasses.replace(GRID, gamma=0.1), tmp_path / "one", console)
    assert {path.name for path in one.figures.glob("*.png")} == {"trajectories.png"}


def test_streams_of_a_point():
    """A point is named by its own settings alone; without a grid the key is that of the seed."""
    points = {(point.sample_size, point.gamma): point for point in GRID.points()}
    assert len(points) == len({point.stream_name() for point in points.values()}) == 6
    named = points[5, 0.1].stream_name()
    for same in (
        dataclasses.replace(GRID, gamma=(-0.0, 0.1), sample_size=(3, 5), chains=9, generations=2),
        dataclasses.replace(GRID, gamma=0.1, sample_size=5, seed=3, metrics=("entropy",)),
        dataclasses.replace(GRID, gamma=0.1, alpha=0.9, sample_size=5, streams="common"),
    ):
        assert named in {point.stream_name() for point in same.points()}
    zero = dataclasses.replace(GRID, gamma=-0.0, workflow="mix", sample_size=5).resolve()
    assert zero.stream_name() == points[5, 0.0].stream_name()
    others = ({"ddof": 1}, {"dim": 2}, {"workflow": "accumulate", "gamma": 0.0}, {"beta": 0.1})
    for other in others:
        other = dataclasses.replace(GRID, **{"gamma": 0.1, "sample_size": 5} | other).resolve()
        assert other.stream_name() not in {point.stream_name() for point in points.values()}

    def words(settings):
        return np.asarray(jax.random.key_data(key_of(settings))).tolist()

    alone = dataclasses.replace(GRID, gamma=0.1, sample_size=5)
    of_seed = np.asarray(jax.random.key_data(jax.random.key(GRID.seed))).tolist()
    assert alone.resolve().streams == "common" and words(alone.resolve()) == of_seed
    assert words(points[5, 0.1]) != of_seed
    assert words(dataclasses.replace(alone, streams="independent").resolve()) == words(
        points[5, 0.1]
    )


def test_what_points_share_is_said():
    assert titled(GRID) == titled(dataclasses.replace(GRID, streams="independent"))
    assert titled(GRID).endswith("60 chains per point\nindependent random numbers at each point")
    common = titled(dataclasses.replace(GRID, streams="common"))
    assert common.endswith("60 chains per point\nthe same random numbers at all points")


@pytest.mark.slow
def test_finished_batches_are_not_run_again(tmp_path, console, monkeypatch):
    whole = run_simulate(GRID, tmp_path / "whole", console).results()
    monkeypatch.setattr(grid, "_BATCH", 2 * GRID.chains)
    calls = []
    original = grids.simulate_chunks

    def stopping(process, key, plan):
        calls.append(len(plan.settings["sample_size"]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(process, key, plan)

    monkeypatch.setattr(grids, "simulate_chunks", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_simulate(GRID, tmp_path / "cut", console)
    resumed = run_simulate(GRID, tmp_path / "cut", console).results()
    assert calls == [2, 2, 2, 2]
    for name in whole:
        np.testing.assert_allclose(resumed[name], whole[name], rtol=1e-5, atol=1e-6)


def test_more_generations_of_a_finished_grid(tmp_path, console):
    """Batches keep no states: those that end earlier are made again, with the same numbers."""
    run_simulate(dataclasses.replace(GRID, generations=2), tmp_path / "grown", console)
    grown = run_simulate(GRID, tmp_path / "grown", console).results()
    whole = run_simulate(GRID, tmp_path / "whole", console).results()
    assert grown["generation"].values.tolist() == [0, 1, 2, 3, 4]
    for name in whole:
        np.testing.assert_allclose(grown[name], whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_more_points_change_no_number(tmp_path, console):
    few = run_simulate(GRID, tmp_path / "few", console).results()
    more = run_simulate(
        dataclasses.replace(GRID, gamma=(0.0, 0.05, 0.1, 0.4), sample_size=(5, 10, 20)),
        tmp_path / "more",
        console,
    ).results()
    for name in few.data_vars:
        np.testing.assert_allclose(
            more[name].sel(sample_size=[5, 20], gamma=[0.0, 0.1, 0.4]),
            few[name],
            rtol=2e-5,
            atol=1e-6,
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample_size": (5, 0)}, ["sample_size", "0"]),
        ({"gamma": (0.1, 1.5)}, ["gamma", "1.5"]),
        ({"alpha": (0.5, 0.9), "gamma": 0.1}, ["alpha + beta + gamma"]),
        ({"workflow": ("replace", "mixed"), "gamma": 0.0}, ["workflow", "mixed"]),
        ({"record": "often"}, ["record", "often", "log"]),
        ({"streams": "shared"}, ["streams", "shared", "independent", "common"]),
        ({"metrics": ("variance", "charm")}, ["charm", "variance"]),
    ],
)
def test_bad_input_is_named_before_anything_is_written(change, words, tmp_path, console):
    with pytest.raises(InputError) as error:
        run_simulate(dataclasses.replace(GRID, **change), tmp_path / "run", console)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words), str(
        error.value
    )
    assert not (tmp_path / "run").exists()
