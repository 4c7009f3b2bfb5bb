"""Trackers: fakes of the three packages' interfaces, and TensorBoard's own if it is there."""

import json
import sys
import types

import numpy as np
import pytest

from collapse_jax.app import trackers
from collapse_jax.app.cli import main
from collapse_jax.app.trackers import check_trackers, tracked
from collapse_jax.drivers.run import Watcher
from collapse_jax.errors import InputError
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder

SETTINGS = {"command": "lm", "epochs": 2}
LOSSES = {"train_loss_by_epoch": np.array([3.0, 2.0]), "valid_loss_by_epoch": np.array([4.0, 3.5])}


class Fake:
    """What the packages offer: calls are kept in `calls`, and the network can be cut."""

    def __init__(self):
        self.calls, self.cut = [], False

    def _call(self, *call):
        if self.cut:
            raise ConnectionError("the network is unreachable\nand more")
        self.calls.append(call)

    # trackio, and W&B up to the run that it returns.
    def init(self, **options):
        self._call("init", options)
        return types.SimpleNamespace(
            define_metric=lambda name, **options: self._call("define", name, options),
            log=lambda values: self._call("log", values),
            finish=lambda: self._call("finish"),
        )

    def log(self, values, step=None):
        self._call("log", values, step)

    def finish(self):
        self._call("finish")

    # tensorboardX
    def SummaryWriter(self, folder):
        self._call("init", folder)
        return types.SimpleNamespace(
            add_text=lambda *call: self._call("text", *call),
            add_scalar=lambda *call: self._call("scalar", *call),
            flush=lambda: None,
            close=lambda: self._call("finish"),
        )


@pytest.fixture
def fake(monkeypatch):
    fake = Fake()
    for package, _ in trackers.TRACKERS.values():
        monkeypatch.setitem(sys.modules, package, fake)
    return fake


def row(seed, generation):
    return {"chain": seed, "generation": generation, "test_perplexity": 10.0 + generation,
            "best_epoch": 1, "fit_device_peak_mib": None, "seconds": 0.5}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A run folder with 2 seeds of generations 0 and 1."""
    folder = RunFolder(tmp_path / "run")
    for seed in range(2):
        checkpoints = Checkpoints(folder.checkpoints / f"chain_{seed}")
        for generation in range(2):
            checkpoints.save(generation, {"x": np.zeros(1)}, row(seed, generation), LOSSES)
        checkpoints.close()
    return folder


def send(folder, names, places, said=None):
    """What the watcher beneath was called with."""
    seen = []
    under = Watcher(
        end=lambda chain, generation, row: seen.append((chain, generation)),
        say=(said if said is not None else []).append,
    )
    with tracked(folder, SETTINGS, names, under, places[0][0]) as watcher:
        for seed, generation in places:
            watcher.begin(seed, generation)
            watcher.end(seed, generation, row(seed, generation))
    return seen


def test_wandb_gets_a_run_for_each_seed_with_its_axes(fake, folder, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "collapse")
    places = [(0, 0), (0, 1), (1, 0)]
    assert send(folder, ["wandb"], places) == places
    begun = [call[1] for call in fake.calls if call[0] == "init"]
    assert [run["name"] for run in begun] == ["run seed 0", "run seed 1"]
    assert {run["group"] for run in begun} == {"run"} and len({run["id"] for run in begun}) == 2
    first = begun[0]
    assert first["project"] == "collapse" and first["config"] == SETTINGS
    assert first["resume"] == "allow" and first["dir"] == str(folder.path)
    axes = [call[1:] for call in fake.calls if call[0] == "define"][:4]
    assert ("generation/*", {"step_metric": "generation"}) in axes
    assert ("epoch/*", {"step_metric": "epoch"}) in axes
    logged = [call[1] for call in fake.calls if call[0] == "log"]
    assert logged[0] == {"epoch": 0, "epoch/train_loss": 3.0, "epoch/valid_loss": 4.0}
    assert logged[2] == {"generation": 0, "generation/test_perplexity": 10.0,
                         "generation/best_epoch": 1.0, "generation/seconds": 0.5}  # fmt: skip
    # Epochs are counted on.
    assert logged[4]["epoch"] == 3 and logged[5]["generation/test_perplexity"] == 11.0
    names = [call[0] for call in fake.calls]
    assert names.count("finish") == 2 and names[-1] == "finish"


def test_trackio_gets_steps(fake, folder):
    send(folder, ["trackio"], [(1, 0), (1, 1)])
    (begun,) = [call[1] for call in fake.calls if call[0] == "init"]
    assert begun["name"].startswith("run seed 1 ") and begun["project"] == "collapse-jax"
    logged = (call[1:] for call in fake.calls if call[0] == "log")
    steps = [(next(iter(values)), step) for values, step in logged]
    assert steps == [
        ("epoch/train_loss", 0), ("epoch/train_loss", 1), ("generation/test_perplexity", 0),
        ("epoch/train_loss", 2), ("epoch/train_loss", 3), ("generation/test_perplexity", 1),
    ]  # fmt: skip


def test_nothing_is_sent_twice_and_what_was_not_sent_is(fake, folder):
    send(folder, ["wandb"], [(0, 0)])
    (first,) = [call[1]["id"] for call in fake.calls if call[0] == "init"]
    fake.calls.clear()
    send(folder, ["wandb", "trackio"], [(0, 0), (0, 1)])
    begun = [call[1] for call in fake.calls if call[0] == "init"]
    assert begun[0]["id"] == first
    by_wandb = [call[1] for call in fake.calls if call[0] == "log" and len(call) == 2]
    by_trackio = [call[1] for call in fake.calls if call[0] == "log" and len(call) == 3]
    assert len(by_wandb) == 3 and len(by_trackio) == 6


def test_a_tracker_that_fails_does_not_end_the_run(fake, folder):
    said, seen = [], []
    under = Watcher(end=lambda *call: seen.append(call[:2]), say=said.append)
    with tracked(folder, SETTINGS, ["wandb"], under) as watcher:
        watcher.end(0, 0, row(0, 0))
        fake.cut = True
        watcher.end(0, 1, row(0, 1))
        watcher.end(1, 0, row(1, 0))
    assert seen == [(0, 0), (0, 1), (1, 0)]
    assert said == ["wandb: the network is unreachable; the run continues without it; the same "
                    "command sends the rest later"]  # fmt: skip
    fake.cut = False
    fake.calls.clear()
    send(folder, ["wandb"], [(0, 0), (0, 1)])
    assert [call[1].get("generation") for call in fake.calls if call[0] == "log"] == [None, None, 1]


def test_one_that_does_not_begin_is_one_line_before_any_work(fake, folder):
    fake.cut = True
    with pytest.raises(InputError, match=r"track is 'wandb', which could not be opened \(the net"):
        send(folder, ["wandb"], [(0, 0)])


def test_records_whose_checkpoints_are_gone_are_sent_without_losses(fake, tmp_path):
    send(RunFolder(tmp_path / "run"), ["wandb"], [(0, 0)])
    assert [next(iter(call[1])) for call in fake.calls if call[0] == "log"] == ["generation"]


@pytest.mark.parametrize("names", [[], ["tensorboard"]])
def test_other_processes_of_a_job_send_nothing(fake, folder, monkeypatch, names):
    monkeypatch.setattr(trackers.distributed, "is_first", lambda: not names)
    assert send(folder, names, [(0, 0)]) == [(0, 0)] and fake.calls == []


def test_tensorboard_by_a_fake(fake, folder):
    send(folder, ["tensorboard"], [(0, 1)])
    assert fake.calls[0] == ("init", str(folder.path / "tensorboard" / "seed_0"))
    assert ("scalar", "epoch/valid_loss", 3.5, 3) in fake.calls
    assert ("scalar", "generation/test_perplexity", 11.0, 1) in fake.calls


def test_tensorboard_by_its_own_files(folder):
    """Read back by the protocol buffers of the package, past each record's length and checksums."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto import event_pb2

    send(folder, ["tensorboard"], [(0, 0), (0, 1)])
    (path,) = (folder.path / "tensorboard" / "seed_0").iterdir()
    data, place, found = path.read_bytes(), 0, {}
    while place < len(data):
        size = int.from_bytes(data[place : place + 8], "little")
        event = event_pb2.Event.FromString(data[place + 12 : place + 12 + size])
        for value in event.summary.value:
            if not value.HasField("tensor"):
                found[value.tag, event.step] = value.simple_value
        place += 16 + size
    assert found["generation/test_perplexity", 1] == 11.0
    assert [found["epoch/train_loss", step] for step in range(4)] == [3.0, 2.0, 3.0, 2.0]


def test_names_are_checked(monkeypatch):
    with pytest.raises(InputError, match=r"track is 'wand'; .* \(did you mean 'wandb'\?\)"):
        check_trackers("wand")
    assert check_trackers(()) == ()

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(trackers.importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"package tensorboardX; run pip install 'coll.*rd\]"):
        check_trackers(("tensorboard", "wandb"))


def test_the_command_sends_what_it_makes_and_what_is_done(
    fake, monkeypatch, write_inputs, tmp_path, capsys
):
    monkeypatch.setattr("collapse_jax.app.plots.draw_run", lambda folder: [])
    inputs = write_inputs(tmp_path)
    arguments = (
        f"lm --corpus {inputs / 'text.txt'} --model {inputs / 'model'} --block-length 8 "
        "--train-blocks 8 --valid-blocks 4 --test-blocks 4 --batch-size 8 --epochs 1 --seeds 1 "
        f"--generations 0 --decoding greedy --examples 1 --out {tmp_path / 'run'}"
    ).split()
    main([*arguments, "--track", "wandb"])
    (recorded,) = RunFolder(tmp_path / "run").rows()
    logged = [call[1] for call in fake.calls if call[0] == "log"]
    assert logged[-1]["generation/test_perplexity"] == recorded["test_perplexity"]
    assert "track" not in json.loads((tmp_path / "run" / "config.json").read_text())
    fake.calls.clear()
    main([*arguments, "--track", "trackio"])
    assert "are done" in capsys.readouterr().out
    assert [call[2] for call in fake.calls if call[0] == "log"] == [0, 0]
