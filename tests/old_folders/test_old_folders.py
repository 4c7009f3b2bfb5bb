"""Run folders of version 0.1.0, stopped half-way: they open, plot, resume and end as they would.

`make.py` beside this file made them, and the records of the same runs that nobody stopped.
"""

import pathlib
import runpy
import tarfile

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.app.cli import main
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.scratch import FileScratch

HERE = pathlib.Path(__file__).parent
# What old code gives on other processors, too: integers exactly, floats to their rounding.
ROUNDING = 2e-5
# A fine-tuned model adds that of some steps of Adam.
ROUNDING_OF_FITS = 1e-4
MAKE = runpy.run_path(str(HERE / "make.py"))
SIMULATIONS = {name: arguments for name, (arguments, _) in MAKE["SIMULATIONS"].items()}
# What is measured anew on each machine.
MEASURED = ("seconds", "_mib")


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """unpacked(name): an archive in the working directory, to which its settings are relative."""

    def unpack(name):
        with tarfile.open(HERE / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
        monkeypatch.chdir(tmp_path)

    return unpack


# What the old code did not record of a language model.
LATER = {
    "different_sequences",
    "example_entropy",
    "gain_lost",
    "gradient_norm",
    "mtld",
    "optimiser_steps",
    "real_8_grams",
    "test_bits_per_byte",
    "test_entropy",
    "train_entropy_own",
    "unigram_js",
    "unigram_kl",
    "yules_k",
    "zipf_exponent",
}


def assert_same_records(ours, theirs, rtol, later=frozenset(), since=0):
    """Two folders hold the same results.nc and rows; counts exactly, floats to a rounding.

    Ours holds the columns `later` too, in the rows of generations from `since` on.
    """
    assert set(ours.results().variables) == set(theirs.results().variables) | later
    for name, expected in theirs.results().variables.items():
        found = ours.results()[name]
        assert found.dims == expected.dims and found.dtype == expected.dtype, name
        _assert_close(found.values, expected.values, rtol, name)
    assert len(ours.rows()) == len(theirs.rows())
    for found, expected in zip(ours.rows(), theirs.rows(), strict=True):
        has_later = found["generation"] >= since if later else False
        assert set(found) & later == (later if has_later else set())
        assert [name for name in found if name not in later] == list(expected)
        for name, value in expected.items():
            if not name.endswith(MEASURED):
                _assert_close(found[name], value, rtol, name)


def _assert_close(found, expected, rtol, name):
    found, expected = np.asarray(found), np.asarray(expected)
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol / 10, err_msg=name)
    else:
        np.testing.assert_array_equal(found, expected, err_msg=name)


def assert_draws(capsys):
    """`plot` draws stopped/, and every file that it names is there."""
    capsys.readouterr()
    main(["plot", "stopped"])
    drawn = capsys.readouterr().out
    figures = list(pathlib.Path("stopped/figures").glob("*.png"))
    assert figures and all(path.name in drawn for path in figures)


@pytest.fixture
def saved(monkeypatch):
    """Grows by (folder, generation) with each checkpoint that is written."""
    written, save = [], Checkpoints.save

    def saving(self, generation, *rest):
        written.append((self.folder.name, generation))
        return save(self, generation, *rest)

    monkeypatch.setattr(Checkpoints, "save", saving)
    return written


def on_disk():
    """(folder, generation) of each checkpoint in stopped/."""
    folders = pathlib.Path("stopped/checkpoints").glob("*/[0-9]*")
    return {(path.parent.name, int(path.name)) for path in folders}


@pytest.mark.parametrize("name", SIMULATIONS)
def test_a_simulation_goes_on(unpacked, capsys, saved, name):
    """What was saved stays as it is, and the rest is what the old code made."""
    unpacked(name)
    assert RunFolder("stopped").config().command == "simulate"
    assert not pathlib.Path("stopped/results.nc").exists()
    before = on_disk()
    main(["simulate", *SIMULATIONS[name].split(), "--out", "stopped"])
    assert "damaged" not in capsys.readouterr().out
    assert before and saved and min(saved) > max(before)
    assert_same_records(RunFolder("stopped"), RunFolder("whole"), ROUNDING)
    assert_draws(capsys)


def test_a_grid_goes_on_with_the_streams_that_it_began_with(unpacked, capsys):
    """Common numbers at all points, which was all that there was; a grid of today has others."""
    unpacked("grid")
    arguments = SIMULATIONS["grid"].split()
    with pytest.raises(SystemExit):
        main(["simulate", *arguments, "--streams", "independent", "--out", "stopped"])
    assert "streams: common there, independent here" in capsys.readouterr().err
    for streams in ((), (), ("--streams", "common")):
        main(["simulate", *arguments, *streams, "--out", "stopped"])
        said = capsys.readouterr().out
        assert ("stopped started with common random numbers" in said) == (not streams)
        assert "the same random numbers at all points" in " ".join(said.split())
        assert RunFolder("stopped").config().streams == "common"
    common = RunFolder("stopped").results()
    assert common.attrs["streams"] == "common"
    main(["simulate", *arguments, "--out", "new"])
    assert "began" not in capsys.readouterr().out
    independent = RunFolder("new").results()
    assert independent.attrs["streams"] == "independent"
    differences = np.diff(np.stack([common["variance_mean"], independent["variance_mean"]]), axis=0)
    assert np.abs(differences).min() > 1e-6


@pytest.mark.parametrize("name", ["chains", "points"])
def test_a_simulation_grows(unpacked, name):
    """More generations than the old call asked for change none of those that it did."""
    unpacked(name)
    longer = SIMULATIONS[name].replace("--generations 8", "--generations 11")
    main(["simulate", *longer.split(), "--out", "stopped"])
    ours, theirs = RunFolder("stopped").results(), RunFolder("whole").results()
    assert ours.sizes["generation"] == 12
    for variable, expected in theirs.data_vars.items():
        _assert_close(ours[variable].values[:, :9], expected.values, ROUNDING, variable)


@pytest.mark.parametrize("name", SIMULATIONS)
def test_other_settings_are_refused(unpacked, capsys, name):
    unpacked(name)
    with pytest.raises(SystemExit):
        main(["simulate", *SIMULATIONS[name].split(), "--seed", "1", "--out", "stopped"])
    assert "seed: 0 there, 1 here" in capsys.readouterr().err


def test_a_language_model_goes_on_within_a_generation(unpacked, capsys, saved, monkeypatch):
    """Seed 0 generation 1 goes on after its first epoch, from the files in unfinished/."""
    unpacked("lm")
    assert_draws(capsys)
    used, load = [], FileScratch.load

    def loading(self, name, made_of):
        arrays = load(self, name, made_of)
        if arrays is not None:
            used.append(name.split("-")[0])
        return arrays

    monkeypatch.setattr(FileScratch, "load", loading)
    main(["lm", *MAKE["LM"].split(), "--out", "stopped"])
    said = capsys.readouterr().out
    assert "starts over" not in said and "damaged" not in said
    assert set(used) == {"fit", "tokens"}
    assert saved == [("chain_0", 1), ("chain_0", 2)]
    assert not pathlib.Path("stopped/unfinished").exists()
    folders = RunFolder("stopped"), RunFolder("whole")
    assert_same_records(*folders, ROUNDING_OF_FITS, LATER, since=1)
    assert np.isnan(folders[0].results()["gain_lost"].sel(chain=0).values).tolist() == [1, 0, 0]
    for path in pathlib.Path("whole/samples").iterdir():
        assert (pathlib.Path("stopped/samples") / path.name).read_text() == path.read_text()
    main(["lm", *MAKE["LM"].split(), "--out", "stopped"])
    assert "all 3 generations of stopped are done" in capsys.readouterr().out


def test_a_run_from_python_goes_on(unpacked, capsys, saved):
    """Stopped in its second chain; its states hold points."""
    unpacked("run")
    process = cj.generational_process(
        cj.estimators.gaussian(2, by="points"),
        cj.sources.normal([0.0, 1.0], [[1.0, 0.5], [0.5, 2.0]]),
        cj.workflows.mix(0.5, 0.25, 0.25),
        sample_size=8,
    )
    options = {"generations": 2, "chains": 2, "metrics": ("mean", "log_determinant")}
    trace = cj.run(process, jax.random.key(3), folder="stopped", **options)
    assert "damaged" not in capsys.readouterr().out
    assert saved == [("chain_1", 1), ("chain_1", 2)]
    assert_same_records(RunFolder("stopped"), RunFolder("whole"), ROUNDING)
    for name, values in trace.items():
        _assert_close(values, RunFolder("whole").results()[name].values, ROUNDING, name)
