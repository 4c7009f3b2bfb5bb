"""More values on the axes of a grid that was begun: new points alone are simulated."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.config.grown_axes import grew, merged
from collapse_jax.drivers import grids
from collapse_jax.errors import InputError
from collapse_jax.runs.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("quick_compile")
FEW = SimulateConfig(
    family="exponential", sample_size=(5, 20), metrics=("mean",), generations=2, chains=3, chunk=2
)
MORE = dataclasses.replace(FEW, sample_size=(5, 8, 20, 6))
SIZES = list(MORE.sample_size)


@pytest.fixture
def simulated(tmp_path, monkeypatch):
    """simulated(config, name, **changes) -> (the folder, what was said, points simulated)."""
    monkeypatch.setattr("collapse_jax.app.plots.draw_run", lambda folder: [])
    run, done = grids.simulate_chunks, []

    def counted(process, key, plan):
        done.append(len(plan.names))
        return run(process, key, plan)

    monkeypatch.setattr(grids, "simulate_chunks", counted)

    def call(config, name="run", part=None, **changes):
        done.clear()
        with open(tmp_path / "said", "w", encoding="utf-8") as file:
            console = Console(file=file, width=500)
            config = dataclasses.replace(config, **changes)
            folder = run_simulate(config, tmp_path / name, console, part=part)
        return folder, (tmp_path / "said").read_text(), sum(done)

    return call


def means(folder):
    return folder.results()["mean_mean"]


def without_keys(folder):
    """Makes its checkpoints those of a version that named points by numbers alone."""
    checkpoints = Checkpoints(folder.checkpoints / "grid")
    record, arrays = checkpoints.restore_record(0)
    del record["keys"]
    checkpoints.delete(0)
    checkpoints.save(0, {"points": np.array(2)}, record, arrays)
    checkpoints.close()


def test_new_points_alone_are_simulated(simulated):
    """The old ones stay bit for bit, and stay where their values are left out."""
    folder, _, count = simulated(FEW)
    old = means(folder)
    assert count == 2
    folder, said, count = simulated(MORE)
    assert count == 2 and "4 points of 3 chains, 2 points kept, 2 new" in said
    assert means(folder)["sample_size"].values.tolist() == SIZES
    np.testing.assert_array_equal(means(folder).sel(sample_size=[5, 20]), old)
    assert len(folder.rows()) == 4 * 3 and folder.config().sample_size == MORE.sample_size
    _, said, count = simulated(FEW)
    assert count == 0 and "has 4 points, of which 2 are asked for, and keeps them all" in said
    _, _, count = simulated(MORE, sample_size=(20, 6, 8, 5))  # in another order
    assert count == 0 and folder.config().sample_size == MORE.sample_size


def test_folders_of_older_versions_and_parts(simulated, tmp_path):
    folder, _, _ = simulated(FEW)
    old = means(folder)
    shutil.copytree(folder.path, tmp_path / "parts")
    without_keys(folder)
    whole = means(simulated(MORE, "whole")[0])
    folder, _, count = simulated(MORE)
    assert count == 2
    np.testing.assert_array_equal(means(folder).sel(sample_size=[5, 20]), old)
    np.testing.assert_allclose(means(folder), whole, rtol=2e-5)
    counts = [simulated(MORE, "parts", part=(part, 2))[2] for part in (1, 2)]
    assert counts == [0, 2]  # points 5 and 20, which are there; and 8 and 6
    folder, _, count = simulated(MORE, "parts")
    assert count == 0
    np.testing.assert_allclose(means(folder), whole, rtol=2e-5)


def test_a_damaged_numbering_is_refused(simulated):
    folder, _, _ = simulated(FEW)
    (folder.checkpoints / "points.json").write_text("{")
    with pytest.raises(InputError, match=r"points.json is damaged .* which points are there"):
        simulated(MORE)


def resolved(**settings):
    return dataclasses.replace(FEW, **settings).resolved()


def test_what_is_refused():
    with pytest.raises(
        InputError, match=r"sample_size has 8, which are new in run, but .* lacks 20,"
    ):
        merged(resolved(), resolved(sample_size=(5, 8)), "run")
    near = {"gamma": (0.1 + 0.2, 0.5)}, {"gamma": (0.3, 0.5, 0.1)}
    with pytest.raises(InputError, match=r"gamma has 0.3 and 0.30000000000000004, in run and here"):
        merged(*(resolved(**one) for one in near), "run")
    for other in ({"seed": 3}, {"sample_size": 5}, {"alpha": 0.5, "gamma": (0.5, 0.25)}):
        assert merged(resolved(), resolved(**other), "run") == resolved(**other)
    assert not grew(resolved(sample_size=5), resolved())
    with pytest.raises(InputError, match="gamma is nan"):
        resolved(gamma=(0.1, float("nan"))).check()


def test_axes_that_grow():
    """One value becomes an axis, and options are written as they were."""
    mixed, more = resolved(gamma=0.5), resolved(gamma=(0.25, 0.5))
    for saved, given in ((mixed, more), (resolved(), resolved(sample_size=(20, 5, 7)))):
        assert grew(saved, given) and not grew(given, saved)
        assert merged(given, saved, "run") == given
    assert not grew(resolved(), more)  # another workflow
    student = SimulateConfig(family="student_t", grid=("df=4,5",), metrics=("mean",))
    saved, given = student.resolved(), dataclasses.replace(student, grid=("df=4.0,5,6",))
    assert merged(saved, given.resolved(), "run").grid == ("df=4,5,6",)
    assert json.dumps(merged(given.resolved(), saved, "run").grid) == '["df=4.0,5,6"]'
