"""One run made by several calls, each with seeds of its own: `collapse-jax lm --only-seeds`."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from collapse_jax.app.cli import main
from collapse_jax.app.config import SimulateConfig
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

COSTS = ("seconds",)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "collapse_jax.app.plots.draw_run", lambda folder: drawn.append(folder) or []
    )
    return drawn


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, write_inputs):
    """Arguments of a run of three seeds."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    said = [
        "lm",
        "--corpus",
        str(folder / "text.txt"),
        "--model",
        str(folder / "model"),
        "--seeds",
        "3",
        "--generations",
        "1",
    ]
    said += (
        "--block-length 8 --train-blocks 12 --valid-blocks 4 --test-blocks 4 --batch-size 4 "
        "--epochs 2 --learning-rate 1e-2"
    ).split()
    return [*said, *"--decoding sampling --decode-batch 4 --examples 2 --out".split()]


def contents(path):
    """What two runs must agree in: rows without their costs, results, samples."""
    folder = RunFolder(path)
    rows = [
        {
            name: value
            for name, value in row.items()
            if name not in COSTS and not name.endswith("_mib")
        }
        for row in folder.rows()
    ]
    return rows, {
        name: folder.results()[name].values
        for name in folder.results()
        if not name.endswith("_mib")
    }


def test_calls_for_seeds_make_the_run_of_one_call(tiny, tmp_path, undrawn, capsys):
    main([*tiny, str(tmp_path / "whole")])
    assert len(undrawn) == 1
    capsys.readouterr()
    main([*tiny, str(tmp_path / "run"), "--only-seeds", "2"])
    said = capsys.readouterr().out
    assert (
        "seed 2 generation 1" in said
        and "seed 0 generation" not in said
        and "seed 2 of 3 done" in said
    )
    main([*tiny, str(tmp_path / "run"), "--only-seeds", "2"])
    folder = RunFolder(tmp_path / "run")
    assert folder.rows() == [] and folder.results() is None and len(undrawn) == 1, (
        "what others make beside it is not for it to record"
    )
    assert not folder.samples.exists()
    main([*tiny, str(tmp_path / "run"), "--only-seeds", "0,1"])
    made = {path: path.stat().st_mtime_ns for path in folder.checkpoints.glob("chain_*/*")}
    capsys.readouterr()
    main([*tiny, str(tmp_path / "run")])
    assert {
        path: path.stat().st_mtime_ns for path in folder.checkpoints.glob("chain_*/*")
    } == made, "nothing is made again"
    rows, results = contents(tmp_path / "run")
    wanted_rows, wanted = contents(tmp_path / "whole")
    assert rows == wanted_rows and set(results) == set(wanted) and len(rows) == 6
    for name in wanted:
        np.testing.assert_array_equal(results[name], wanted[name], err_msg=name)
    names = [
        sorted(
            str(one.relative_to(path)) for one in path.rglob("*") if "checkpoints" not in one.parts
        )
        for path in (tmp_path / "run", tmp_path / "whole")
    ]
    assert names[0] == names[1]
    for path in (tmp_path / "whole" / "samples").iterdir():
        assert path.read_bytes() == (tmp_path / "run" / "samples" / path.name).read_bytes()


@pytest.mark.slow
def test_a_part_that_was_stopped_goes_on(tiny, tmp_path, monkeypatch):
    """Within its generation, by the same call or not at all; others do not touch what it left."""
    from collapse_jax.models.lm import finetune

    main([*tiny, str(tmp_path / "whole"), "--only-seeds", "1"])
    calls, run_steps = [], finetune.run_steps

    class Killed(BaseException):
        pass

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return run_steps(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(finetune, "run_steps", killed)
        main([*tiny, str(tmp_path / "run"), "--only-seeds", "1"])
    left = list((tmp_path / "run" / "unfinished").rglob("*.npz"))
    assert left
    main([*tiny, str(tmp_path / "run"), "--only-seeds", "0"])
    assert all(path.exists() for path in left)
    main([*tiny, str(tmp_path / "run"), "--only-seeds", "1"])
    assert not any(path.exists() for path in left)
    for one in ("run", "whole"):
        main([*tiny, str(tmp_path / one)])
    assert contents(tmp_path / "run")[0] == contents(tmp_path / "whole")[0]


HOLDS = """
import sys
from collapse_jax.runs.folder import RunFolder
folder = RunFolder(sys.argv[1], tuple(map(int, sys.argv[2:])))
folder.lock()
print("held", flush=True)
sys.stdin.read()
"""


def holding(path, *part):
    """A process at work on a folder, or on a part of it, until its input is closed."""
    arguments = [sys.executable, "-c", HOLDS, str(path), *map(str, part)]
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[3],
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_who_may_be_at_work_together(tmp_path, monkeypatch):
    monkeypatch.setattr("collapse_jax.runs.locks._PATIENCE_SECONDS", 0.3)
    with holding(tmp_path, 0, 2):
        RunFolder(tmp_path, (1, 3)).lock()
        with pytest.raises(InputError, match=r"chain 2 of .* is in use by another process"):
            RunFolder(tmp_path, (1, 2)).lock()
        with pytest.raises(InputError, match="is in use by another process"):
            RunFolder(tmp_path).lock()
    with holding(tmp_path), pytest.raises(InputError, match="is in use by another process"):
        RunFolder(tmp_path, (1,)).lock()
    RunFolder(tmp_path).lock()
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


def test_parts_that_begin_at_the_same_time(tmp_path, monkeypatch):
    """What one writes first is no foreign folder to the other, and its settings count as soon as
    they are there.
    """
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.1.partial").touch()
    RunFolder.open(tmp_path, SimulateConfig(seed=1), part=(0,))
    late = tmp_path / "late"
    first = RunFolder.open(late, SimulateConfig(seed=1), part=(0,))
    monkeypatch.setattr(
        RunFolder, "_check", lambda self, *arguments: None
    )  # as if it had looked before the first one wrote
    with pytest.raises(InputError, match=r"other settings \(seed: 1 there, 2 here\)"):
        RunFolder.open(late, SimulateConfig(seed=2), part=(1,))
    assert first.config().seed == 1


@pytest.mark.parametrize("only", ["3", "-1", "0,0", "0,1,2,7"])
def test_seeds_that_are_not_there_are_refused(tiny, tmp_path, capsys, only):
    with pytest.raises(SystemExit) as ended:
        main([*tiny, str(tmp_path / "run"), "--only-seeds", only])
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err
        == f"error: only_seeds is {only}; it must be different integers from 0 to 2\n"
    )
    assert not (tmp_path / "run").exists()
