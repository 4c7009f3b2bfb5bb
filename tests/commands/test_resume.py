"""A run that is killed, or that breaks between two of its files, ends as if nothing had happened."""

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

from collapse_jax.cli import main
from collapse_jax.commands import observe
from collapse_jax.lm import corpus
from collapse_jax.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.lm.weights import save_opt
from collapse_jax.records import RunFolder

CONFIG = OPTConfig(
    vocab_size=2048, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, max_position_embeddings=16, dropout=0.1,
    init_std=0.3,
)  # fmt: skip
PROGRAM = "import sys; from collapse_jax.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """Without figures, which take longer than such a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collapse_jax.plots.draw_run", lambda folder: [])
        yield


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """arguments(out): a run of 2 seeds and 3 generations that draws at random wherever it can."""
    folder = tmp_path_factory.mktemp("inputs")
    save_opt(folder / "model", OPT(CONFIG), init_params(CONFIG, jax.random.key(0)))
    corpus._train_embedded().save(str(folder / "model" / "tokenizer.json"))
    (folder / "text.txt").write_text("".join(corpus.embedded_corpus().train[:60]))
    said = ["lm", "--corpus", str(folder / "text.txt"), "--model", str(folder / "model"), "--seeds", "2", "--generations", "2"]
    said += "--block-length 8 --train-blocks 24 --valid-blocks 5 --test-blocks 5 --batch-size 8 --epochs 2 --learning-rate 1e-2".split()
    said += "--decoding sampling --decode-batch 1 --workflow accumulate_subsample --start first".split()
    return lambda out: [*said, "--out", str(out)]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """The run that nobody stops."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    main(arguments(out))
    return out


@pytest.fixture
def cut(whole, tmp_path):
    """cut(chain, generation): a copy of the run as it stood when this was the newest generation on disk."""

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
            left = [line for line in examples.read_text().splitlines(True) if (c, json.loads(line)["generation"]) <= (chain, generation)]
            examples.write_text("".join(left))
        folder = RunFolder(out)
        folder.write_rows([row for row in folder.rows() if (row["chain"], row["generation"]) <= (chain, generation)])
        return out

    return copy


def assert_same_run(out, whole):
    """The same rows (but for the seconds), samples and arrays, and no file more."""
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in RunFolder(path).rows()] for path in (out, whole)]
    assert rows[0] == rows[1] and len(rows[0]) == 6
    names = [sorted(str(file.relative_to(path)) for file in path.rglob("*")) for path in (out, whole)]
    seen = [[name for name in found if not name.startswith("checkpoints")] for found in names]
    assert seen[0] == seen[1]
    for sample in (whole / "samples").iterdir():
        assert (out / "samples" / sample.name).read_bytes() == sample.read_bytes()
    ours, theirs = RunFolder(out).results(), RunFolder(whole).results()
    assert ours.identical(theirs)
    assert all(np.isfinite(theirs[name].values[:, 1:]).any() for name in theirs if name != "pretrained_test_perplexity")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_killed_in_mid_generation(arguments, whole, tmp_path):
    out = tmp_path / "killed"
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}  # nothing compiled: generation 1 takes a while
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments(out)], stdout=log, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + 120
            while not (out / "metrics.jsonl").is_file() and process.poll() is None and time.monotonic() < deadline:
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

    class PowerCut(BaseException):
        pass

    def cut_off(*arguments, **options):
        raise PowerCut

    out = cut(1, 0)
    with monkeypatch.context() as patch:
        if when == "before the samples":
            patch.setattr(observe, "write_samples", cut_off)
        else:
            patch.setattr(RunFolder, "write_results" if when == "before the arrays" else "write_rows", cut_off)
        with pytest.raises(PowerCut):
            main(arguments(out))
    assert (out / "checkpoints" / "chain_1" / "1").is_dir() and len(RunFolder(out).rows()) == 4
    saved = {file: file.stat().st_mtime_ns for file in (out / "checkpoints" / "chain_1" / "1").rglob("*")}
    main(arguments(out))
    assert_same_run(out, whole)
    assert saved == {file: file.stat().st_mtime_ns for file in (out / "checkpoints" / "chain_1" / "1").rglob("*")}  # not made again


def test_records_that_are_gone_are_written_again(arguments, whole, tmp_path):
    out = tmp_path / "bare"
    shutil.copytree(whole, out)
    for name in ("metrics.jsonl", "metrics.csv", "results.nc"):
        (out / name).unlink()
    shutil.rmtree(out / "samples")
    main(arguments(out))
    assert_same_run(out, whole)


def test_an_unfinished_checkpoint_is_ignored(arguments, whole, cut):
    """What a kill in mid-save leaves: Orbax's folder under its temporary name, with some of its files."""
    out = cut(1, 1)
    half = out / "checkpoints" / "chain_1" / "2.orbax-checkpoint-tmp"
    shutil.copytree(whole / "checkpoints" / "chain_1" / "2", half)
    shutil.rmtree(half / "state")
    (half / "_CHECKPOINT_METADATA").unlink()
    main(arguments(out))
    assert (out / "checkpoints" / "chain_1" / "2" / "state").is_dir()
    assert_same_run(out, whole)
