"""A simulation's folder: more chains, new metrics, parts of a grid, and what is said before."""

import contextlib
import dataclasses
import json

import filelock
import numpy as np
import pytest
from rich.console import Console

import collapse_jax as cj
from collapse_jax.app.cli import main
from collapse_jax.app.commands import begun, grid, measure
from collapse_jax.app.commands.measure import measure_run
from collapse_jax.app.commands.saved_points import points_of_part
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.config import SimulateConfig
from collapse_jax.drivers import grids
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.settings import as_dict

pytestmark = pytest.mark.usefixtures("quick_compile")
SMALL = SimulateConfig(
    family="exponential", sample_size=6, chains=4, generations=3, chunk=2, metrics=("mean",)
)
GRID = dataclasses.replace(SMALL, sample_size=(4, 5, 6), workflow="accumulate", chains=3)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr("collapse_jax.app.plots.draw_run", lambda folder: [])


@pytest.fixture
def simulated(tmp_path):
    """(name, changes of settings) -> (the run folder, what was said)."""

    def call(config, name, part=None, **changes):
        path = tmp_path / f"{name}.txt"
        with open(path, "w", encoding="utf-8") as file:
            console = Console(file=file, width=400)
            config = dataclasses.replace(config, **changes)
            folder = run_simulate(config, tmp_path / name, console, None, part)
        return folder, path.read_text(encoding="utf-8")

    return call


def test_more_chains_and_metrics_of_a_folder(simulated, tmp_path):
    """Old chains stay to the bit, the new ones are those of one longer run; twice on the way."""
    simulated(SMALL, "run")
    folder, _ = simulated(SMALL, "run", chains=6, generations=5)
    whole, _ = simulated(SMALL, "whole", chains=6, generations=5)
    assert folder.results().identical(whole.results()) and folder.rows() == whole.rows()
    assert folder.config() == whole.config()
    before = folder.results()["mean"].values
    with pytest.raises(InputError, match=r"collapse-jax measure .*run --metrics rate adds them"):
        simulated(SMALL, "run", metrics=("mean", "rate"), chains=6, generations=5)
    measured = cj.measure(tmp_path / "run", ["rate", "mean"])
    assert folder.config().metrics == ("mean", "rate")
    np.testing.assert_array_equal(measured["mean"], before)
    np.testing.assert_allclose(measured["rate"] * measured["mean"], 1, rtol=2e-5)
    # The command that the run began with goes on with what was measured, and with its chains.
    folder, said = simulated(SMALL, "run", generations=6)
    assert "also has the metrics rate" in said and "has 6 chains; all of them are kept" in said
    results = folder.results()
    assert results["rate"].shape == (6, 7) and np.isfinite(results["rate"]).all()
    np.testing.assert_array_equal(results["mean"][:, :6], before)


def test_measuring_that_was_killed_is_done_by_the_next_call(simulated, tmp_path, monkeypatch):
    """The settings name the metric already, and the records lack it."""
    simulated(SMALL, "run")

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(measure, "run_chains", killed)
        with pytest.raises(KeyboardInterrupt):
            measure_run(RunFolder(tmp_path / "run"), ("rate",), Console(quiet=True))
    assert "rate" not in RunFolder(tmp_path / "run").results()
    found = cj.measure(tmp_path / "run", ["rate"])
    np.testing.assert_allclose(found["rate"] * found["mean"], 1, rtol=2e-5)


def test_a_table_may_move_after_metrics_were_measured(simulated, tmp_path):
    np.savetxt(tmp_path / "a.csv", np.arange(1.0, 21.0)[:, None], header="age", comments="")
    own = {"data": str(tmp_path / "a.csv"), "columns": ("age",)}
    simulated(SMALL, "run", **own)
    before = cj.measure(tmp_path / "run", ["rate"])
    (tmp_path / "a.csv").rename(tmp_path / "b ü.csv")
    moved = own | {"data": str(tmp_path / "b ü.csv")}
    folder, said = simulated(SMALL, "run", **moved, generations=4)
    assert "also has the metrics rate; they are recorded too" in said
    after = folder.results()
    assert after["rate"].shape == (4, 5)
    np.testing.assert_array_equal(after["rate"][:, :4], before["rate"])
    (tmp_path / "b ü.csv").write_text("age\n3\n4\n")
    with pytest.raises(InputError, match="data"):
        simulated(SMALL, "run", **moved, generations=5)


@pytest.mark.slow
def test_statistics_of_more_chains_and_metrics(simulated, tmp_path):
    """They are made from the seed again, which is said, and equal those of a new run."""
    for name, config in (("summary", dataclasses.replace(SMALL, keep="summary")), ("grid", GRID)):
        simulated(config, name)
        folder, said = simulated(config, name, chains=5)
        assert "to which chains cannot be added: all 5 are simulated from the seed" in said
        both = ("mean", "rate")
        whole, _ = simulated(config, f"whole {name}", chains=5, metrics=both)
        measure_run(folder, ("rate",), Console(quiet=True))
        ours, theirs = folder.results(), whole.results()
        assert set(ours) == set(theirs)
        for variable in theirs:
            np.testing.assert_allclose(ours[variable], theirs[variable], rtol=2e-5)
        assert {"rate_mean", "mean_q05"} <= folder.rows()[0].keys()
    with pytest.raises(InputError, match=r"chains is 9, but the grid in .* has 5"):
        simulated(GRID, "grid", part=(1, 2), chains=9, metrics=both)


def test_parts_of_a_grid_are_gathered(simulated, monkeypatch):
    """Two at once, one of them killed and begun again, one missing: the numbers of one call."""
    whole, _ = simulated(GRID, "whole")
    monkeypatch.setattr(grid, "_BATCH", 3)  # a point a batch
    run, done = grids.simulate_chunks, []

    def killed(process, key, plan):
        done.append(len(plan.names))
        if len(done) == 2:
            raise MemoryError
        return run(process, key, plan)

    monkeypatch.setattr(grids, "simulate_chunks", killed)
    with pytest.raises(MemoryError):
        simulated(GRID, "run", part=(1, 2))
    lock = filelock.FileLock(whole.path.parent / "run" / ".lock_points_2_of_2")  # another process's
    lock.acquire()
    with pytest.raises(InputError, match=r"points 2 of 2 of .*run is in use"):
        simulated(GRID, "run", part=(2, 2))
    _, said = simulated(GRID, "run", part=(1, 2))  # beside the other
    assert "part 1 of 2: 2 of 3 points" in said and "1 of them done" in said
    assert done == [1, 1, 1]  # the finished batch was not run again
    lock.release()
    folder, said = simulated(GRID, "run")
    assert "points 2/2: 1 of 1 are missing; they are simulated now" in said
    assert done == [1, 1, 1, 1]
    assert folder.results().identical(whole.results()) and folder.rows() == whole.rows()
    _, said = simulated(GRID, "run")
    assert "missing" not in said and done == [1, 1, 1, 1]
    parts = [points_of_part((first, 2), 3).tolist() for first in (1, 2)]
    assert parts == [[0, 2], [1]]


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "simulate --family exponential --sample-size 6 --chains 4 --generations 3 --chunk 2"
    main([*words.split(), "--metrics", "mean", "--dry-run", "--out", "run"])
    said = capsys.readouterr().out
    for word in ("nothing was written", "memory", "time", "disk", "results.nc", "checkpoints/"):
        assert word in said, said
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_of_a_folder(tmp_path):
    """Decided from its settings alone, before anything is read or written."""
    folder, said = RunFolder(tmp_path), []
    begun_with = dataclasses.replace(SMALL, metrics=("mean", "rate"), chains=9).resolved()
    (tmp_path / "config.json").write_text(json.dumps(as_dict(begun_with)))
    config, fewer = begun.as_begun(SMALL, SMALL.resolved(), folder, said.append)
    assert (config.metrics, config.chains, fewer) == (("mean", "rate"), 9, 0)
    summary = dataclasses.replace(begun_with, keep="summary")
    (tmp_path / "config.json").write_text(json.dumps(as_dict(summary)))
    more = dataclasses.replace(summary, chains=12)
    assert begun.as_begun(more, more, folder, said.append)[1] == 9
    other = dataclasses.replace(more, seed=3)
    assert begun.as_begun(other, other, folder, said.append)[1] == 0  # refused later


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("simulate --points 1/2", "points is '1/2', but the settings describe a single"),
        ("simulate --gamma 0:1:3 --points 0/2", "points is '0/2'; it must be I/N"),
        ("simulate --gamma 0:1:3 --points 3/2", "points is '3/2'; it must be I/N"),
        ("simulate --gamma 0:1:3 --points 1/4", "points is '1/4', but the grid has 3 points"),
        ("simulate --gamma 0:1", "'0:1' must be A:B:N or log:A:B:N, with N of at least 2"),
        ("simulate --gamma 0:1:3000000", "has 3000000 values; give at most 1000000"),
        ("simulate --sample-size log:0:9:3", "must have two positive ends"),
        ("simulate --gamma 0:1:2000 --beta 0:0.1:2000", "a grid of 4,000,000 points; give at most"),
        ("simulate --family kde --grid bandwidth=1:2", "grid has 'bandwidth=1:2': '1:2' must be"),
        ("measure nothing --metrics mean", "nothing is not a run folder"),
        (
            "measure other --metrics mean",
            "other contains a run of quickstart; measure takes runs of",
        ),
        ("measure run --metrics speed", "metric 'speed' is not offered by this estimator"),
    ],
)
def test_bad_input_is_one_line(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, settings in (
        ("run", as_dict(SMALL.resolved())),
        ("other", {"command": "quickstart"}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(settings))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit), contextlib.suppress(KeyError):
        main(words.split())
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1, said
    assert sorted(tmp_path.rglob("*")) == before
