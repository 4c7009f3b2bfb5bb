"""The run folder: what is written, what is refused, and that every file says the same."""

import csv
import datetime
import errno
import gc
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import signal
import subprocess
import sys

import filelock
import jax
import numpy as np
import pytest

from collapse_jax.app.config import LMConfig, SimulateConfig
from collapse_jax.runs.environment import environment
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.results import results_of

CONFIG = LMConfig(seed=3, corpus="embedded")


@pytest.fixture
def folder(tmp_path):
    return RunFolder.open(tmp_path / "deep" / "run", CONFIG)


def contents(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# Opening.


def test_a_new_folder_holds_its_settings_and_its_surroundings(folder):
    assert folder.config() == CONFIG
    assert json.loads((folder.path / "config.json").read_text())["command"] == "lm"
    assert sorted(os.listdir(folder.path)) == [
        ".lock",
        "config.json",
        "environment.json",
        "figures",
    ]
    assert folder.rows() == [] and folder.results() is None


def test_the_same_run_may_be_opened_again_and_may_grow(folder):
    RunFolder.open(folder.path, CONFIG)
    RunFolder.open(folder.path, LMConfig(seed=3, corpus="embedded", generations=30, seeds=2))
    assert folder.config().generations == 30
    assert folder.config().seeds == 5
    for said in ("ends", "all"):
        RunFolder.open(folder.path, LMConfig(seed=3, corpus="embedded", checkpoints=said))
        assert folder.config().checkpoints == said


def test_a_new_process_knows_the_settings_of_every_command(folder):
    code = f"import collapse_jax as cj; print(cj.RunFolder({str(folder.path)!r}).config().seed)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "3\n", done.stderr


OTHER_PROCESS = """
import sys
from collapse_jax.runs.folder import RunFolder
folder = RunFolder(sys.argv[1])
folder.path.mkdir(parents=True, exist_ok=True)
folder.lock()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def in_use(tmp_path):
    """A folder that another process holds, and that process."""
    path = tmp_path / "held"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", OTHER_PROCESS, path], **pipes) as other:
        assert other.stdout.readline() == "locked\n"
        yield path, other
        other.kill()


def test_a_folder_that_another_process_is_at_work_on_is_refused(in_use, refused):
    path, _ = in_use
    for call in (RunFolder.open, lambda path, config: RunFolder(path).check(config)):
        assert (
            refused(call, path, CONFIG)
            == f"{path} is in use by another process; wait until it ends, or choose another --out"
        )
    assert os.listdir(path) == [".lock"]


def test_a_killed_process_keeps_no_folder(in_use):
    path, other = in_use
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert RunFolder.open(path, CONFIG).config() == CONFIG


def test_an_opened_folder_is_kept_from_other_processes(folder):
    code = f"from collapse_jax.runs.folder import RunFolder; RunFolder({str(folder.path)!r}).lock()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "is in use by another process" in done.stderr


def test_a_folder_is_free_again_once_nobody_holds_it(tmp_path):
    path = RunFolder.open(tmp_path / "run", CONFIG).path
    gc.collect()
    code = (
        f"from collapse_jax.runs.folder import RunFolder; RunFolder({str(path)!r}).lock(); "
        "print('mine')"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
        ).stdout
        == "mine\n"
    )


def test_a_file_system_without_locks_is_no_hindrance_and_a_full_one_is(
    tmp_path, monkeypatch, refused
):
    for number, usable in ((errno.ENOLCK, True), (errno.ENOSPC, False)):

        def acquire(*arguments, number=number, **options):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
        if usable:
            RunFolder.open(tmp_path / "run", CONFIG)
        else:
            assert "cannot be written (No space left on device)" in refused(
                RunFolder.open, tmp_path / "full", CONFIG
            )


def test_an_empty_folder_may_be_used(tmp_path):
    assert RunFolder.open(tmp_path, CONFIG).config() == CONFIG


def test_other_settings_are_refused_and_named(folder, refused):
    before = contents(folder.path)
    text = refused(RunFolder.open, folder.path, LMConfig(seed=4, corpus="embedded", num_beams=2))
    assert (
        "seed: 3 there, 4 here" in text
        and "num_beams: 5 there, 2 here" in text
        and "corpus" not in text
    )
    assert "another kind (lm)" in refused(RunFolder.open, folder.path, SimulateConfig())
    assert contents(folder.path) == before


def test_a_folder_that_is_no_run_is_refused(tmp_path, refused):
    (tmp_path / "thesis.tex").write_text("do not touch")
    assert "exists and is not a run folder" in refused(RunFolder.open, tmp_path, CONFIG)
    assert "exists and is not a run folder" in refused(
        RunFolder.open, tmp_path / "thesis.tex", CONFIG
    )
    assert "has no config.json" in refused(RunFolder(tmp_path).config)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_folder_that_cannot_be_written(tmp_path, refused):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run", tmp_path / "file" / "a" / "b"):
        assert "cannot be written" in refused(RunFolder.open, path, CONFIG)
        assert "cannot be written" in refused(RunFolder(path).check, CONFIG)
    assert os.listdir(tmp_path) == ["file"]


def test_too_little_room_leaves_nothing_behind(tmp_path, refused):
    text = refused(RunFolder.open, tmp_path / "run", CONFIG, 2**70)
    assert "GiB left, but this run needs about" in text and os.listdir(tmp_path) == []
    RunFolder.open(tmp_path / "run", CONFIG, 1)


def test_check_writes_nothing(tmp_path, folder, refused):
    RunFolder(tmp_path / "new").check(CONFIG)
    folder.check(CONFIG)
    assert not (tmp_path / "new").exists()
    assert "seed" in refused(folder.check, LMConfig(corpus="embedded"))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"command": "lm", "sed": 1}', '{"command": "lm", "seed": "1"}', b"\xff\xfe"],
)
def test_a_damaged_config_is_refused(folder, text, refused):
    (folder.path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "config.json" in refused(RunFolder.open, folder.path, CONFIG)


def test_environment(folder, monkeypatch):
    monkeypatch.setattr("sys.argv", [os.path.join("bin", "collapse-jax"), "lm", "--seeds", "2"])
    said = environment()
    assert json.loads(json.dumps(said)) == said
    assert said["command"] == ["collapse-jax", "lm", "--seeds", "2"]
    assert said["python"] == platform.python_version() and said["cpu_count"] == os.cpu_count()
    assert (
        said["devices"] == [str(device) for device in jax.devices()]
        and said["jax_enable_x64"] == jax.config.jax_enable_x64
    )
    for name in ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "collapse-jax"):
        assert said["packages"][name] == importlib.metadata.version(name)
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(said["time"])
    assert 0 <= age.total_seconds() < 300
    assert json.loads((folder.path / "environment.json").read_text()).keys() == said.keys()


# Rows.

ROWS = [
    {"chain": 1, "generation": 0, "perplexity": 1.5},
    {"chain": 0, "generation": 1, "perplexity": math.nan, "seconds": 2.0},
    {"chain": 0, "generation": 0, "perplexity": 1 / 3, "only_first": 7},
]


def test_rows_are_sorted_and_both_files_say_the_same(folder):
    folder.write_rows(ROWS)
    found = folder.rows()
    assert [(row["chain"], row["generation"]) for row in found] == [(0, 0), (0, 1), (1, 0)]
    assert found[0] == ROWS[2] and found[2] == ROWS[0] and math.isnan(found[1]["perplexity"])
    with open(folder.path / "metrics.csv", newline="") as lines:
        table = list(csv.DictReader(lines))
    assert list(table[0]) == ["chain", "generation", "perplexity", "only_first", "seconds"]
    for row, line in zip(found, table, strict=True):
        assert {name: repr(float(value)) for name, value in row.items()} == {
            k: repr(float(v)) for k, v in line.items() if v
        }
    folder.write_rows(ROWS[:1])
    assert folder.rows() == ROWS[:1]


def test_a_crash_in_mid_write_leaves_the_old_file(folder, monkeypatch):
    folder.write_text("note.txt", "old")

    def crash(self, target):
        raise RuntimeError("power cut")

    monkeypatch.setattr(pathlib.Path, "replace", crash)
    with pytest.raises(RuntimeError):
        folder.write_text("note.txt", "new")
    with pytest.raises(RuntimeError):
        folder.write_results(results_of({(0, 0): {"a": np.array(1.0)}}))
    assert (folder.path / "note.txt").read_text() == "old" and folder.results() is None


def test_write_text_makes_folders_and_keeps_unicode(folder):
    folder.write_text("samples/seed_0.jsonl", "naïve ☃\n")
    assert (folder.samples / "seed_0.jsonl").read_bytes() == "naïve ☃\n".encode()
    assert [file.name for file in folder.samples.iterdir()] == ["seed_0.jsonl"]


# Arrays.


def test_results_have_an_axis_for_chains_and_one_for_generations(folder):
    values = np.random.default_rng(0).normal(size=(2, 3))
    arrays = {
        (c, g): {"scalar": values[c, g], "ragged": np.arange(2 + g) + 10.0 * c}
        for c in range(2)
        for g in range(3)
    }
    arrays[0, 0]["matrix"] = np.arange(6).reshape(2, 3)
    del arrays[1, 2]  # not there yet
    folder.write_results(results_of(arrays))
    found = folder.results()
    assert found["scalar"].dims == ("chain", "generation") and found["matrix"].dims == (
        "chain",
        "generation",
        "matrix_0",
        "matrix_1",
    )
    assert found["chain"].values.tolist() == [0, 1] and found["generation"].values.tolist() == [
        0,
        1,
        2,
    ]
    expected = values.copy()
    expected[1, 2] = np.nan
    np.testing.assert_array_equal(found["scalar"], expected)  # float64, so exactly
    np.testing.assert_array_equal(found["ragged"].sel(chain=1, generation=1), [10, 11, 12, np.nan])
    np.testing.assert_array_equal(found["ragged"].sel(chain=0, generation=2), [0, 1, 2, 3])
    np.testing.assert_array_equal(
        found["matrix"].sel(chain=0, generation=0), [[0, 1, 2], [3, 4, 5]]
    )
    assert np.isnan(found["matrix"].sel(chain=1)).all()
    assert [file.name for file in folder.path.glob(".*.partial")] == []


def test_results_carry_what_made_them(tmp_path):
    xarray = pytest.importorskip("xarray")
    config = SimulateConfig(sample_size=7)
    folder = RunFolder.open(tmp_path / "run", config)
    folder.write_results(xarray.Dataset({"x": ("generation", [1.0])}))
    attributes = folder.results().attrs
    assert json.loads(attributes["settings"])["sample_size"] == 7
    made = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert attributes["git_commit"] == (made["git_commit"] or "not known")
    assert json.loads(attributes["packages"]) == made["packages"]
