"""Jobs of two processes have the numbers of one, also after kills and restarts.

Restarts have another number of processes.

The slow ones: python -m pytest -m slow tests/runs/test_distributed.py -n 0 (some ten minutes on two
cores).
"""

import dataclasses
import shutil
import time

import jax
import numpy as np
import pytest

from collapse_jax.app.cli import main
from collapse_jax.app.config import Devices
from collapse_jax.errors import InputError
from collapse_jax.models.lm import corpus
from collapse_jax.runs import distributed
from collapse_jax.runs.folder import RunFolder

CATEGORICAL = (
    "simulate --family categorical --num-categories 40 --sample-size 20 --chains 101 --chunk 10"
).split()
GAUSSIAN = "simulate --sample-size 20 --chains 50 --chunk 1 --record 20000".split()


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collapse_jax.app.plots.draw_run", lambda folder: [])
        yield


def assert_same_results(found, wanted, rtol=2e-5, atol=1e-6):
    """Counts bit for bit; floats up to `rtol`.

    A share of the chains or rows is another shape, which XLA may fuse differently.
    """
    found, wanted = (RunFolder(path).results() for path in (found, wanted))
    names = {name for name in wanted.data_vars if not name.endswith("_mib")}
    assert {name for name in found.data_vars if not name.endswith("_mib")} == names
    for name in names:
        if name in ("support", "best_epoch"):
            np.testing.assert_array_equal(found[name], wanted[name])
        else:
            np.testing.assert_allclose(
                found[name], wanted[name], rtol=rtol, atol=atol, err_msg=name
            )


@pytest.mark.slow
def test_two_processes_of_eight_devices_and_one_alone_go_on_with_each_others_runs(tmp_path, jobs):
    said = jobs.finished(jobs.cli(*CATEGORICAL, "--generations", 30, "--out", tmp_path / "run"))
    assert "2 processes, 16 devices" in said[0] and "generation 30" in said[0]
    assert "generation" not in said[1], "process 1 prints nothing of its own"
    assert RunFolder(tmp_path / "run").rows()[-1]["generation"] == 30
    main([*CATEGORICAL, "--generations", "40", "--out", str(tmp_path / "run")])
    main([*CATEGORICAL, "--generations", "40", "--out", str(tmp_path / "whole")])
    assert_same_results(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"devices": 0}, ["devices is 0", "at least 1"]),
        ({"devices": 10**6}, ["devices is 1000000", "give at most that"]),
        ({"coordinator": "here:1"}, ["coordinator is here:1", "num_processes, process_id"]),
        ({"process_id": 1}, ["process_id is 1", "coordinator, num_processes"]),
        (
            {"coordinator": "here", "num_processes": 2, "process_id": 0},
            ["coordinator is 'here'", "HOST:PORT"],
        ),
        (
            {"coordinator": "here:99999", "num_processes": 2, "process_id": 0},
            ["coordinator is 'here:99999'", "HOST:PORT"],
        ),
        (
            {"coordinator": "here:1", "num_processes": 0, "process_id": 0},
            ["num_processes is 0", "at least 1"],
        ),
        (
            {"coordinator": "here:1", "num_processes": 2, "process_id": 2},
            ["process_id is 2", "0 to 1"],
        ),
        (
            {"coordinator": "here:1", "num_processes": 2, "process_id": -1},
            ["process_id is -1", "0 to 1"],
        ),
    ],
)
def test_wrong_devices_are_named_in_one_line(change, words):
    with pytest.raises(InputError) as error:
        distributed.start(dataclasses.replace(Devices(), **change))
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_wrong_devices_end_the_command_before_anything_is_written(tmp_path, capsys):
    for command in ("simulate", "lm", "pretrain"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--devices", "1000000", "--out", str(tmp_path / "run")])
        assert ended.value.code == 2 and "devices is 1000000" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_alone_every_collective_is_a_plain_one():
    array = np.arange(6).reshape(2, 3)
    assert (
        distributed.processes() == 1
        and distributed.is_first()
        and distributed.share(7) == (0, 7)
        and distributed.largest(5) == 5
    )
    assert (
        distributed.concatenated(array) is array and distributed.first_then_others(lambda: 3) == 3
    )
    np.testing.assert_array_equal(distributed.to_host(jax.numpy.asarray(array)), array)
    with pytest.raises(InputError, match="as it is"):
        distributed.on_first(lambda: (_ for _ in ()).throw(InputError("as it is")))


def test_shares_are_contiguous_and_cover_everything(monkeypatch):
    for count in (3, 7, 10**9):
        monkeypatch.setattr(distributed, "processes", lambda: 3)
        shares = []
        for number in range(3):
            monkeypatch.setattr(distributed, "process", lambda number=number: number)
            shares.append(distributed.share(count))
        assert [first for first, _ in shares] == [0, *(end for _, end in shares[:-1])] and shares[
            -1
        ][1] == count
        assert (
            max(end - first for first, end in shares) - min(end - first for first, end in shares)
            <= 1
        )
    with pytest.raises(InputError, match="2 chains for 3 processes"):
        distributed.share(2)


@pytest.mark.slow
def test_what_process_0_finds_wrong_ends_all_with_one_line(tmp_path, jobs):
    """Another run's settings: only process 0 looks, and both soon end with 2 and the same words."""
    main([*CATEGORICAL, "--generations", "1", "--out", str(tmp_path / "run")])
    began = time.monotonic()
    with jobs.started(
        jobs.cli(*CATEGORICAL, "--generations", 1, "--seed", 7, "--out", tmp_path / "run"),
        devices=1,
    ) as processes:
        said = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], said
    assert all("seed: 0 there, 7 here" in one and "Traceback" not in one for one in said)
    assert time.monotonic() - began < 150


def when_saved(folder, processes, at_least, seconds=250):
    """Waits until a checkpoint of chains of at least this generation is there.

    All processes must run meanwhile.
    """
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and all(process.poll() is None for process in processes):
        done = [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()]
        if done and max(done) >= at_least:
            return
        time.sleep(0.02)
    raise AssertionError(
        [process.communicate()[0] for process in processes if process.poll() is not None]
        or "nothing was saved"
    )


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_job_and_any_number_goes_on(tmp_path, jobs, victim):
    """kill -9 of either: the other says so and ends within a minute.

    One process goes on with a copy, and two with the other.
    """
    long = [*GAUSSIAN, "--generations", "400000", "--out"]
    with jobs.started(jobs.cli(*long, tmp_path / "run"), devices=2) as processes:
        when_saved(tmp_path / "run" / "checkpoints" / "chains", processes, 20000)
        processes[victim].kill()
        killed = time.monotonic()
        said, _ = processes[1 - victim].communicate(timeout=100)
        assert time.monotonic() - killed < 60, said
        assert processes[1 - victim].returncode not in (0, None)
        assert "another process of this job ended" in said or "another task died" in said, said
    assert RunFolder(tmp_path / "run").rows() == []
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    jobs.finished(jobs.cli(*long, tmp_path / "run"), processes=1, devices=1)
    jobs.finished(jobs.cli(*long, tmp_path / "copy"), processes=2, devices=4)
    jobs.finished(jobs.cli(*long, tmp_path / "whole"), processes=1, devices=1)
    # 400,000 generations add up their roundings: where two programs differ at all, the scale has
    # walked that far.
    for name in ("run", "copy"):
        assert_same_results(tmp_path / name, tmp_path / "whole")


@pytest.mark.slow
def test_a_grid_on_two_processes(tmp_path, jobs):
    arguments = "simulate --sample-size 10,30 --gamma 0,0.2 --chains 31 --generations 20".split()
    jobs.finished(jobs.cli(*arguments, "--out", tmp_path / "run"), devices=2)
    main([*arguments, "--out", str(tmp_path / "whole")])
    assert_same_results(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_statistics_over_the_chains_of_two_processes(tmp_path, jobs):
    """Each reduces its 128 or 129 chains in tiles of two sizes; one process goes on alone."""
    arguments = [
        "257" if word == "101" else word
        for word in [*CATEGORICAL, "--keep", "summary", "--generations"]
    ]
    jobs.finished(jobs.cli(*arguments, 20, "--out", tmp_path / "run"), devices=4)
    main([*arguments, "30", "--out", str(tmp_path / "run")])
    main([*arguments, "30", "--out", str(tmp_path / "whole")])
    assert_same_results(tmp_path / "run", tmp_path / "whole")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, write_inputs):
    """Arguments of a small run of the language model that draws at random wherever it can."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    said = [
        "lm",
        "--corpus",
        str(folder / "text.txt"),
        "--model",
        str(folder / "model"),
        "--seeds",
        "1",
    ]
    said += (
        "--block-length 8 --train-blocks 32 --valid-blocks 5 --test-blocks 5 --batch-size 16 "
        "--epochs 2 --learning-rate 1e-2"
    ).split()
    return [
        *said,
        *"--decoding sampling --decode-batch 16 --workflow accumulate_subsample --start first "
        "--generations".split(),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [[], ["--shard-parameters"]], ids=["whole parameters", "cut parameters"]
)
def test_the_language_model_on_two_processes_and_on_one(tmp_path, jobs, tiny, options):
    """Generations 0 and 1 on 2 processes of 8 devices, 2 on one of one device.

    test_devices.py has the tolerance's reason.
    """
    jobs.finished(jobs.cli(*tiny, 1, "--out", tmp_path / "run", *options), seconds=500)
    main([*tiny, "2", "--out", str(tmp_path / "run")])
    main([*tiny, "2", "--out", str(tmp_path / "whole")])
    assert_same_results(tmp_path / "run", tmp_path / "whole", rtol=2e-4, atol=2e-5)
    texts = [
        [path.read_text() for path in sorted((tmp_path / name / "samples").iterdir())]
        for name in ("run", "whole")
    ]
    assert texts[0] == texts[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [[], ["--shard-parameters"]], ids=["whole parameters", "cut parameters"]
)
def test_pretraining_on_two_processes_and_on_one(tmp_path, jobs, options):
    (tmp_path / "text.txt").write_text("".join(corpus.embedded_corpus().train[:200]))
    sizes = (
        "--hidden-size 8 --num-hidden-layers 1 --num-attention-heads 2 --ffn-dim 16 "
        "--max-position-embeddings 16 --block-length 16"
    )
    said = [
        "pretrain",
        "--corpus",
        str(tmp_path / "text.txt"),
        *sizes.split(),
        "--batch-size",
        "16",
    ]
    said += (
        "--warmup-steps 2 --evaluate-every 10 --save-every 10 --held-out-windows 5 --steps 20 --out"
    ).split()
    jobs.finished(jobs.cli(*said, tmp_path / "run", *options), seconds=500)
    main([*said, str(tmp_path / "whole")])
    for ours, theirs in zip(
        *(RunFolder(tmp_path / name).rows() for name in ("run", "whole")), strict=True
    ):
        np.testing.assert_allclose(ours["held_out_loss"], theirs["held_out_loss"], rtol=2e-4)
        np.testing.assert_allclose(ours["train_loss"], theirs["train_loss"], rtol=2e-4)
