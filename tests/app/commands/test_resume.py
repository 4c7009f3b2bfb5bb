"""A run that is killed, or breaks between two of its files, ends as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from collapse_jax.app.cli import main
from collapse_jax.app.commands import observe
from collapse_jax.models.lm import corpus, decode, finetune, score
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.weights import save_opt
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.scratch import FileScratch

CONFIG = OPTConfig(
    vocab_size=2048,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=16,
    dropout=0.1,
    init_std=0.3,
)
PROGRAM = "import sys; from collapse_jax.app.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """Without figures, which take longer than such a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collapse_jax.app.plots.draw_run", lambda folder: [])
        yield


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """arguments(out): a run of 2 seeds and 3 generations that draws at random wherever it can."""
    folder = tmp_path_factory.mktemp("inputs")
    save_opt(folder / "model", OPT(CONFIG), init_params(CONFIG, jax.random.key(0)))
    corpus._train_embedded().save(str(folder / "model" / "tokenizer.json"))
    (folder / "text.txt").write_text("".join(corpus.embedded_corpus().train[:60]))
    said = [
        "lm",
        "--corpus",
        str(folder / "text.txt"),
        "--model",
        str(folder / "model"),
        "--seeds",
        "2",
        "--generations",
        "2",
    ]
    said += (
        "--block-length 8 --train-blocks 24 --valid-blocks 5 --test-blocks 5 --batch-size 8 "
        "--epochs 2 --learning-rate 1e-2"
    ).split()
    said += (
        "--decoding sampling --decode-batch 1 --workflow accumulate_subsample --start first".split()
    )
    return lambda out: [*said, "--out", str(out)]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """The run that nobody stops."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    main(arguments(out))
    return out


@pytest.fixture
def cut(whole, tmp_path):
    """cut(chain, generation): a copy of the run as it stood when this was the newest generation on
    disk.
    """

    def copy(chain, generation):
        out = tmp_path / "cut"
        shutil.copytree(whole, out)
        for c in range(2):
            for g in range(3):
                if (c, g) > (chain, generation):
                    shutil.rmtree(out / "checkpoints" / f"chain_{c}" / str(g))
                    (out / "samples" / f"seed_{c}_generation_{g}.jsonl").unlink()
            if c > chain:
                shutil.rmtree(out / "checkpoints" / f"chain_{c}")
            examples = out / "samples" / f"examples_seed_{c}.jsonl"
            left = [
                line
                for line in examples.read_text().splitlines(True)
                if (c, json.loads(line)["generation"]) <= (chain, generation)
            ]
            examples.write_text("".join(left))
        folder = RunFolder(out)
        folder.write_rows(
            [
                row
                for row in folder.rows()
                if (row["chain"], row["generation"]) <= (chain, generation)
            ]
        )
        return out

    return copy


class PowerCut(BaseException):
    pass


def cut_off(*arguments, **options):
    raise PowerCut


class Counted:
    """A function that counts its calls, and fails at one of them."""

    def __init__(self, function, fails_at=None):
        self.function, self.calls, self.fails_at = function, 0, fails_at

    def __call__(self, *arguments, **options):
        self.calls += 1
        if self.calls == self.fails_at:
            raise PowerCut
        return self.function(*arguments, **options)


@pytest.fixture
def counted(monkeypatch):
    """counted(place, name, fails_at=None) -> the `Counted` that now stands there."""

    def put(place, name, fails_at=None):
        found = getattr(place, name)
        monkeypatch.setattr(place, name, Counted(getattr(found, "function", found), fails_at))
        return getattr(place, name)

    return put


def numbers(row):
    """A row without what it cost in time and memory."""
    return {
        name: value
        for name, value in row.items()
        if name != "seconds" and not name.endswith("_mib")
    }


def state_of(path, chain, generation):
    """The saved leaves, by name."""
    checkpoints = Checkpoints(path / "checkpoints" / f"chain_{chain}")
    found = checkpoints._restore(generation, "state")
    checkpoints.close()
    return {name: np.asarray(leaf) for name, leaf in found.items()}


def assert_same_run(out, whole):
    """The same rows (but for what they cost), samples and arrays, and no file more."""
    rows = [[numbers(row) for row in RunFolder(path).rows()] for path in (out, whole)]
    assert rows[0] == rows[1] and len(rows[0]) == 6
    names = [
        sorted(str(file.relative_to(path)) for file in path.rglob("*")) for path in (out, whole)
    ]
    seen = [[name for name in found if not name.startswith("checkpoints")] for found in names]
    assert seen[0] == seen[1]
    for sample in (whole / "samples").iterdir():
        assert (out / "samples" / sample.name).read_bytes() == sample.read_bytes()
    ours, theirs = RunFolder(out).results(), RunFolder(whole).results()
    # Settings are among the attributes, and one run keeps all checkpoints.
    assert ours.drop_attrs().identical(theirs.drop_attrs())
    assert all(
        np.isfinite(theirs[name].values[:, 1:]).any()
        for name in theirs
        if not name.startswith("pretrained_test_")
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.slow
def test_killed_in_mid_generation(arguments, whole, tmp_path):
    out = tmp_path / "killed"
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")
    }  # nothing compiled: generation 1 takes a while
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments(out)],
            stdout=log,
            stderr=log,
            env=environment,
        )
        try:
            deadline = time.monotonic() + 120
            while (
                not (out / "metrics.jsonl").is_file()
                and process.poll() is None
                and time.monotonic() < deadline
            ):
                time.sleep(0.01)
            time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert [row["generation"] for row in RunFolder(out).rows()] == [0]
    assert not (out / "checkpoints" / "chain_0" / "1").exists()
    main(arguments(out))
    assert_same_run(out, whole)


@pytest.mark.parametrize("where", [(0, 0), (0, 2), (1, 1)])
def test_stopped_after_any_generation(arguments, whole, cut, where):
    out = cut(*where)
    main(arguments(out))
    assert_same_run(out, whole)


@pytest.mark.parametrize("when", ["before the samples", "before the arrays", "before the rows"])
def test_broken_between_checkpoint_and_records(arguments, whole, cut, monkeypatch, when):
    """Seed 1 generation 1 is saved, and then the program ends before its records are written."""

    out = cut(1, 0)
    with monkeypatch.context() as patch:
        if when == "before the samples":
            patch.setattr(observe, "write_samples", cut_off)
        else:
            patch.setattr(
                RunFolder, "write_results" if when == "before the arrays" else "write_rows", cut_off
            )
        with pytest.raises(PowerCut):
            main(arguments(out))
    assert (out / "checkpoints" / "chain_1" / "1").is_dir() and len(RunFolder(out).rows()) == 4
    saved = {
        file: file.stat().st_mtime_ns for file in (out / "checkpoints" / "chain_1" / "1").rglob("*")
    }
    main(arguments(out))
    assert_same_run(out, whole)
    assert saved == {
        file: file.stat().st_mtime_ns for file in (out / "checkpoints" / "chain_1" / "1").rglob("*")
    }  # not made again


def test_records_that_are_gone_are_written_again(arguments, whole, tmp_path):
    out = tmp_path / "bare"
    shutil.copytree(whole, out)
    for name in ("metrics.jsonl", "metrics.csv", "results.nc"):
        (out / name).unlink()
    shutil.rmtree(out / "samples")
    main(arguments(out))
    assert_same_run(out, whole)


def test_an_unfinished_checkpoint_is_ignored(arguments, whole, cut):
    """What a kill in mid-save leaves: Orbax's folder under its temporary name, with some of its
    files.
    """
    out = cut(1, 1)
    half = out / "checkpoints" / "chain_1" / "2.orbax-checkpoint-tmp"
    shutil.copytree(whole / "checkpoints" / "chain_1" / "2", half)
    shutil.rmtree(half / "state")
    (half / "_CHECKPOINT_METADATA").unlink()
    main(arguments(out))
    assert (out / "checkpoints" / "chain_1" / "2" / "state").is_dir()
    assert_same_run(out, whole)


# Within a generation. Seed 1 generation 1 takes 24 batches of one prompt, and 2 epochs of one
# compiled call and one validation each;
# the examples of a generation are one more batch.


# When: (what fails, at which call, calls of the second run for generations 1 and 2: epochs,
# batches)
WITHIN = {
    "in the first epoch": ((finetune, "run_steps"), 1, (2 + 2, 1 + 25)),
    "in the second epoch": ((finetune, "run_steps"), 2, (1 + 2, 1 + 25)),
    "while validating": ((score, "_mean_loss"), 2, (1 + 2, 1 + 25)),
    "while generating": ((decode, "_generate_batch"), 11, (2 + 2, 15 + 25)),
    "while scoring": ((score, "_mean_loss"), 3, (0 + 2, 1 + 25)),
    "while saving": ((Checkpoints, "save"), None, (0 + 2, 1 + 25)),
    "when saved": ((FileScratch, "clear"), None, (0 + 2, 0 + 25)),
}


@pytest.mark.parametrize(
    "when", [pytest.param(when, marks=() if "ing" in when else pytest.mark.slow) for when in WITHIN]
)
def test_cut_off_within_a_generation(arguments, whole, cut, counted, monkeypatch, when):
    out = cut(1, 0)
    monkeypatch.setattr(decode, "_SAVE_SECONDS", 0.0)
    (place, name), call, expected = WITHIN[when]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, cut_off if call is None else Counted(getattr(place, name), call))
        with pytest.raises(PowerCut):
            main(arguments(out))
    assert len(RunFolder(out).rows()) == 4 and any((out / "unfinished").iterdir())
    epochs, batches = counted(finetune, "run_steps"), counted(decode, "_generate_batch")
    main(arguments(out))
    assert (epochs.calls, batches.calls) == expected
    assert_same_run(out, whole)
    for generation in (1, 2):
        ours, theirs = (state_of(path, 1, generation) for path in (out, whole))
        assert ours.keys() == theirs.keys()
        assert all(
            np.array_equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype
            for name in ours
        )


@pytest.mark.parametrize("harm", ["truncated", "of another run"])
def test_unfinished_work_that_cannot_be_used(
    arguments, whole, cut, counted, monkeypatch, capsys, harm
):
    """The newest epoch and some tokens are spoilt: one line each, and they are made again."""
    out = cut(1, 0)
    monkeypatch.setattr(decode, "_SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "run_steps", Counted(finetune.run_steps, 2))
        with pytest.raises(PowerCut):
            main(arguments(out))
    (fit,) = (out / "unfinished").glob("fit-*.npz")
    (tokens,) = (out / "unfinished").glob("tokens-*-20.npz")
    for path in (fit, tokens):
        if harm == "of another run":
            np.savez(path, made_of=np.array("something else"), tokens=np.zeros((1, 8), np.int32))
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    capsys.readouterr()
    epochs, batches = counted(finetune, "run_steps"), counted(decode, "_generate_batch")
    main(arguments(out))
    said = [line for line in capsys.readouterr().out.splitlines() if "starts over" in line]
    assert len(said) == 2 and str(tokens) in said[0] and str(fit) in said[1]
    assert (epochs.calls, batches.calls) == (2 + 2, 5 + 25)
    assert_same_run(out, whole)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_killed_while_an_epoch_is_written(arguments, whole, cut):
    """kill -9 with half of a file written under its temporary name, the second epoch being the one
    that is lost.
    """
    out = cut(1, 0)
    program = (
        "import os, signal, sys\nimport numpy as np\nfrom collapse_jax.app.cli import "
        "main\nsavez = np.savez\n"
        "def half(file, **arrays):\n"
        "    savez(file, **arrays)\n"
        "    if 'best.0' in arrays:\n"
        "        file.truncate(file.tell() // 2)\n"
        "        file.flush()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "np.savez = half\nmain(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments(out)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = sorted(path.name.split("-")[0] for path in (out / "unfinished").iterdir())
    assert left == [".fit", "fit", "tokens"]
    main(arguments(out))
    assert_same_run(out, whole)


# Fewer checkpoints.


@pytest.mark.parametrize("where", [(0, 0), (1, 1)])
def test_only_the_ends_stay(arguments, whole, cut, where):
    """Begun with all, and gone on with the ends: their states alone stay, and no number changes."""
    out = cut(*where)
    main([*arguments(out), "--checkpoints", "ends"])
    assert RunFolder(out).config().checkpoints == "ends"
    for chain in range(2):
        assert [
            (out / "checkpoints" / f"chain_{chain}" / str(g) / "state").exists() for g in range(3)
        ] == [True, False, True]
    assert_same_run(out, whole)


@pytest.mark.parametrize("when", ["before it is saved", "while the old one goes"])
def test_cut_off_while_checkpoints_are_exchanged(arguments, whole, tmp_path, monkeypatch, when):
    """Seed 0 generation 2 takes the place of generation 1."""
    out = tmp_path / "ends"
    said = [*arguments(out), "--checkpoints", "ends"]
    save = Checkpoints.save

    def half(self, generation):
        (self._step_folder(generation) / "state" / "_METADATA").unlink()
        raise PowerCut

    with monkeypatch.context() as patch:
        if when == "before it is saved":
            patch.setattr(
                Checkpoints,
                "save",
                lambda self, g, *rest: cut_off() if g == 2 else save(self, g, *rest),
            )
        else:
            patch.setattr(Checkpoints, "drop_state", half)
        with pytest.raises(PowerCut):
            main(said)
    state = out / "checkpoints" / "chain_0" / "1" / "state"
    assert state.exists()
    main(said)
    assert not state.exists()
    assert_same_run(out, whole)
