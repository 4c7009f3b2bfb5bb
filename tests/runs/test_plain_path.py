"""Folders with any name that the file system allows, for every reader and writer of runs."""

import os
import pathlib

import jax
import numpy as np
import pytest

from collapse_jax.app.cli import main
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.plain_path import plain_path

NAMES = (
    "runs/[2026-11-30] a",
    "back\\slash",
    "st*ar",
    "st**ar",
    "qu?st",
    "{a,b}",
    "[",
    "[!a]",
    "-lead",
    "sp ace ",
    "ünï☃",
    "a%20b#c:d",
    "gs:",
    "s3:/x",
    "~nobody-of-this-name",
    "new\nline",
    "$HOME;|&'\"",
    "x.orbax-checkpoint-tmp",
    "7",
    "n" * 250,
    os.fsdecode(b"bad\xff"),
)
STATE = {"a": np.arange(6.0).reshape(2, 3), "b": np.int32(4)}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_checkpoint_comes_back_from_a_folder_of_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    checkpoints = Checkpoints(name, say=said.append)
    checkpoints.save(0, STATE, {"x": 1.5}, {"v": np.arange(3)})
    checkpoints.close()
    again = Checkpoints(name, say=said.append)
    state = again.restore_state(0, STATE)
    record, arrays = again.restore_record(0)
    np.testing.assert_array_equal(state["a"], STATE["a"])
    assert record == {"x": 1.5} and arrays["v"].tolist() == [0, 1, 2] and said == []
    assert (tmp_path / name / "0" / "state").is_dir()
    again.close()


def test_a_path_that_is_plain_stays_and_a_link_goes_with_its_owner(tmp_path):
    class Owner:
        pass

    owner = Owner()
    assert plain_path(tmp_path, owner) == tmp_path
    (tmp_path / "[a]").mkdir()
    link = plain_path(tmp_path / "[a]", owner)
    assert os.path.samefile(link, tmp_path / "[a]") and "[" not in os.fspath(link)
    del owner
    assert not os.path.lexists(link) and (tmp_path / "[a]").is_dir()


def test_a_simulation_goes_on_and_is_drawn_in_such_a_folder(tmp_path, monkeypatch, capsys):
    """Through a link, and by a path that is relative to another folder the second time."""
    import collapse_jax.app.plots as plots

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "draw_run", lambda folder: [])
    command = "simulate --sample-size 5 --chains 4 --chunk 2 --metrics variance".split()
    out = pathlib.Path("runs/[2026-11-30] *a\\b")
    main([*command, "--generations", "3", "--out", str(out)])
    pathlib.Path("link").symlink_to(out, target_is_directory=True)
    monkeypatch.chdir(tmp_path / "runs")
    main([*command, "--generations", "5", "--out", "../link/"])
    said = capsys.readouterr().out
    assert "damaged" not in said and "starts over" not in said
    monkeypatch.chdir(tmp_path)
    main([*command, "--generations", "5", "--out", "plain"])
    wanted, found = RunFolder("plain").results(), RunFolder(out).results()
    np.testing.assert_array_equal(found["variance"].values, wanted["variance"].values)
    main([*command, "--generations", "5", "--out", str(out)])
    assert "all 6 generations of" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    main(["plot", str(out)])
    assert list((out / "figures").glob("*.png"))


def test_a_run_goes_on_where_it_was_begun_after_the_working_directory_changed(
    tmp_path, monkeypatch
):
    import collapse_jax as cj

    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    process = cj.generational_process(
        cj.estimators.gaussian(1),
        cj.sources.normal(0.0, 1.0),
        cj.workflows.replace(),
        sample_size=5,
    )

    def observe(first, state, info):
        os.chdir(tmp_path / "other")
        return {}

    cj.run(process, jax.random.key(0), generations=1, folder="run", observe=observe, metrics="mean")
    assert os.listdir(tmp_path / "other") == []
    assert len(RunFolder(tmp_path / "run").rows()) == 2
