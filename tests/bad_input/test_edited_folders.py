"""Run folders that somebody edited, or made to harm: made again or refused in one line."""

import json
import os
import shutil
import zipfile

import jax
import numpy as np
import pytest

from collapse_jax.core import workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import FitInfo
from collapse_jax.drivers.run import Watcher, run
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.runs.archives import load_arrays, save_arrays
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.scratch import FileScratch

KEY = jax.random.key(3)
ONE = "checkpoints/chain_0/1"


def mean(state):
    return state.params


def call(folder, say=print):
    """Generations 0 to 2 of a family that needs no compiler."""

    def fit(key, params, data):
        return np.float32(np.mean(data.x)), FitInfo.exact()

    def sample(key, params, n):
        return params + np.asarray(jax.random.normal(key, (n,)))

    def init(key, data):
        return np.zeros((), np.float32)

    def observe(first, state, info):
        return {"around": np.arange(3.0) + float(state.params)}

    process = generational_process(
        estimator(fit, sample, init=init, traceable=False),
        sources.dataset(np.arange(8.0)),
        workflows.replace(),
        sample_size=4,
    )
    watcher = Watcher(say=say)
    return run(
        process,
        KEY,
        generations=2,
        folder=folder,
        metrics=mean,
        observe=observe,
        watcher=watcher,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edited") / "whole"
    return folder, call(folder)


@pytest.fixture
def folder(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    yield tmp_path / "run"
    assert os.listdir(tmp_path / "outside") == ["precious"]
    assert (tmp_path / "outside" / "precious").read_text() == "x"


def removed(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path


def as_file(name, text="zzz"):
    return lambda folder: removed(folder / name).write_text(text)


def as_folder(name):
    return lambda folder: removed(folder / name).mkdir()


def as_link(name):
    return lambda folder: removed(folder / name).symlink_to(folder.parent / "outside")


def list_as_record(folder):
    (folder / ONE / "record" / "metadata").write_text("[1, 2]")
    shutil.rmtree(folder / ONE / "checksums")


def state_of_zeros(folder):
    """5 MB in the place of a number; packed, it takes no room."""
    other = Checkpoints(folder.parent / "other")
    state = {"generation": np.int32(1), "params": np.zeros(5_000_000, np.uint8)}
    other.save(1, state, {}, {})
    other.close()
    shutil.copytree(
        folder.parent / "other" / "1" / "state", folder / ONE / "state", dirs_exist_ok=True
    )
    for name in ("checkpoints/chain_0/2", "results.nc"):
        removed(folder / name)


# name: (what is done to the folder, words of the lines that are said meanwhile, "" for none)
MADE_AGAIN = {
    "a generation is a file": (as_file(ONE), ""),
    "a state is a file": (as_file(f"{ONE}/state"), ""),
    "a generation leads out": (as_link(ONE), "chain_0/1 is damaged"),
    "a generation is empty": (as_folder(f"{ONE}0"), "chain_0/10 is damaged"),
    "a number beyond all": (as_folder("checkpoints/chain_0/" + "9" * 20), "9 is damaged"),
    "a negative number": (as_folder("checkpoints/chain_0/-1"), ""),
    "a record is a list": (list_as_record, "chain_0/1 is damaged (record is not an object)"),
    "another chain's": (
        lambda folder: shutil.copytree(
            folder / "checkpoints/chain_0", folder / "checkpoints/chain_7"
        ),
        "its record is not that of chain 7, generation 0",
    ),
    "another generation's": (
        lambda folder: shutil.copytree(folder / ONE, removed(folder / "checkpoints/chain_0/2")),
        "its record is not that of chain 0, generation 2",
    ),
    "huge and sparse": (state_of_zeros, "its header claims 4.8 MiB"),
    "foreign rows": (
        as_file("metrics.jsonl", '{"chain": 5, "generation": 7, "mean": 1}\n'),
        "",
    ),
    "a row beyond all": (
        as_file("metrics.jsonl", '{"chain": 0, "generation": ' + "9" * 4000 + "}\n"),
        "",
    ),
    "results of something else": (as_file("results.nc"), ""),
    "versions are a number": (as_file("environment.json", '{"versions": 3, "earlier": 5}'), ""),
}


@pytest.mark.parametrize("name", MADE_AGAIN)
def test_what_was_edited_is_made_again_with_the_same_numbers(name, whole, folder):
    harm, words = MADE_AGAIN[name]
    harm(folder)
    said = []
    found = call(folder, said.append)
    for metric, values in whole[1].items():
        np.testing.assert_array_equal(found[metric], values)
    assert bool(said) == bool(words) and words in " ".join(said), said
    assert all("\n" not in line for line in said)
    rows = RunFolder(folder).rows("chain", "generation")
    assert [(row["chain"], row["generation"]) for row in rows] == [(0, 0), (0, 1), (0, 2)]
    results = RunFolder(folder).results()
    np.testing.assert_array_equal(results["mean"].values, whole[1]["mean"])


REFUSED = {
    "a chain is a file": (as_file("checkpoints/chain_0"), "chain_0 is not a folder"),
    "checkpoints is a file": (as_file("checkpoints"), "chain_0 is not a folder"),
    "a chain leads out": (as_link("checkpoints/chain_0"), "chain_0 is a link to"),
    "rows that are none": (as_file("metrics.jsonl", '{"chain": 0}\n'), "metrics.jsonl is damaged"),
    "not a number": (
        as_file("metrics.jsonl", '{"chain": 0, "generation": NaN}\n'),
        "metrics.jsonl is damaged",
    ),
    "rows are a folder": (as_folder("metrics.jsonl"), "metrics.jsonl is damaged"),
    "the environment is a list": (as_file("environment.json", "[]"), "environment.json is damaged"),
    "a deep environment": (as_file("environment.json", "[" * 10**5), "environment.json is damaged"),
    "the environment is a folder": (as_folder("environment.json"), "environment.json is damaged"),
    "another precision": (as_file("environment.json", '{"jax_enable_x64": NaN}'), "jax_enable_x64"),
    "a description is a folder": (as_folder("made_of.json"), "made_of.json is damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_again_is_refused_in_one_line(name, folder):
    harm, words = REFUSED[name]
    harm(folder)
    with pytest.raises(InputError) as error:
        call(folder)
    assert words in str(error.value) and str(folder) in str(error.value)


def test_every_field_of_an_edited_config_is_one_line(tmp_path):
    import dataclasses

    from collapse_jax.app.config import LMConfig, SimulateConfig

    values = ["1e999", "NaN", "1" + "0" * 400, "[" * 500 + "]" * 500, '"\\ud800"', "[NaN]", "{}"]
    for kind in (LMConfig, SimulateConfig):
        for field in dataclasses.fields(kind):
            for value in values:
                text = f'{{"command": "{kind.command}", "{field.name}": {value}}}'
                (tmp_path / "config.json").write_text(text)
                try:
                    RunFolder(tmp_path).config()
                except InputError as error:
                    assert "\n" not in str(error)


# Archives of arrays.


def bomb(path, kind=zipfile.ZIP_DEFLATED, shape=(10**10,)):
    """An array of 10^10 zeros: packed, or said to be that long and not there."""
    header = json.dumps({"descr": "|u1", "fortran_order": False, "shape": list(shape)})
    header = header.replace("false", "False").replace("[", "(").replace("]", ",)")
    text = header.encode().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", kind) as archive:
        content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
        archive.writestr("a.npy", content + bytes(10**6))


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA])
def test_an_archive_takes_no_more_memory_than_the_disk(kind, tmp_path):
    bomb(tmp_path / "fit.npz", kind)
    with pytest.raises(ValueError, match=r"is packed|claims the shape"):
        load_arrays(tmp_path / "fit.npz")
    said = []
    assert FileScratch(tmp_path, said.append).load("fit", "settings") is None
    assert len(said) == 1 and "is damaged" in said[0] and "starts over" in said[0]


def test_an_archive_gives_what_was_saved(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "empty": np.zeros((0, 4)), "scalar": np.array(2)}
    save_arrays(tmp_path / "a.npz", arrays)
    found = load_arrays(tmp_path / "a.npz")
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
