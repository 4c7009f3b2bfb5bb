"""`--dry-run` of lm and pretrain: times from measured pieces, and nothing written."""

import json
import subprocess
import sys

import jax
import pytest

from collapse_jax.app.cli import main
from collapse_jax.app.commands import lm_dry_run, pretrain_dry_run
from collapse_jax.models.lm import corpus
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.weights import save_opt

CONFIG = OPTConfig(
    vocab_size=2048,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=16,
    dropout=0.0,
)
LM = (
    "lm --corpus text.txt --model model --block-length 8 --train-blocks 20 --valid-blocks 6 "
    "--test-blocks 7 --batch-size 8 --epochs 5 --learning-rate 0.01 --num-beams 2 --seeds 2 "
    "--generations 2 --examples 0"
)
PRETRAIN = (
    "pretrain --corpus text.txt --hidden-size 8 --num-hidden-layers 1 --num-attention-heads 2 "
    "--ffn-dim 16 --block-length 8 --batch-size 4 --steps 40 --warmup-steps 4 --evaluate-every 15"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a text and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "text.txt").write_text("".join(corpus.embedded_corpus().train[:60]))
    return tmp_path


@pytest.fixture
def model(here):
    save_opt(here / "model", OPT(CONFIG), init_params(CONFIG, jax.random.key(0)))
    corpus._train_embedded().save(str(here / "model" / "tokenizer.json"))


def said(words, capsys):
    main([*words.split(), "--dry-run", "--out", "run"])
    return capsys.readouterr().out


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("rates", "words"),
    [
        # 20 blocks in batches of 8 are 3 steps, in 5 epochs, 3 generations and 2 seeds.
        ((0.0, 1.0, 0.0, 0.0), "1.5 minutes to run"),
        # 20 blocks are made for generations 1 and 2.
        ((7.0, 0.0, 0.5, 0.0), "47 s: 7 s to compile what was timed, 40 s to run"),
        # 6 blocks after each of 5 epochs, 7 of the test text, and 20 under two models.
        ((0.0, 0.0, 0.0, 0.1), "46 s to run"),
    ],
)
def test_what_a_language_model_takes(here, rates, words, capsys, monkeypatch):
    peaks = {"fit_peak_mib": 300.0, "generate_peak_mib": 200.0, "score_peak_mib": 100.0}
    timed = lm_dry_run._Rates(*rates, peaks)
    monkeypatch.setattr(lm_dry_run, "_timed", lambda *arguments: timed)
    text = said(LM, capsys)
    for part in ("2 seeds, generations 0 to 2; nothing was written", words, "fit 300 MiB"):
        assert part in text, text
    for part in ("checkpoints/", "6 of 67 KiB models", "in run", "results.nc", "samples/"):
        assert part in text, text
    assert sorted(path.name for path in here.iterdir()) == ["model", "text.txt"]


@pytest.mark.slow
def test_a_dry_run_of_the_embedded_model_times_every_stage(here):
    """By the entry point in a process of its own: nothing is replaced."""
    words = (
        "lm --corpus embedded --model embedded --block-length 16 --train-blocks 8 --valid-blocks 2 "
        "--test-blocks 2 --batch-size 4 --epochs 1 --generations 1 --seeds 1 --decoding sampling "
        "--dry-run --out run"
    )
    entry = "from collapse_jax.app.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", entry, *words.split()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for part in ("generations 0 to 1; nothing was written", "to compile", "checkpoints/"):
        assert part in done.stdout, done.stdout
    assert [path.name for path in here.iterdir()] == ["text.txt"]


def test_what_pretraining_takes(here, capsys, monkeypatch):
    monkeypatch.setattr(pretrain_dry_run, "_timed", lambda *arguments: (9.0, 2.0, 10.0))
    monkeypatch.setattr(pretrain_dry_run.time, "perf_counter", lambda: 0.0)  # of reading
    text = said(PRETRAIN, capsys)
    # 40 steps, and scores after 15, 30 and the last.
    for part in ("2 minutes: 9 s to compile, 1.8 minutes to run", "40 steps of 4 x 8 tokens"):
        assert part in text, text
    assert "nothing was written" in text and "in run" in text
    assert [path.name for path in here.iterdir()] == ["text.txt"]


@pytest.mark.slow
@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("words", [LM, PRETRAIN])
def test_pieces_are_timed(here, words, capsys):
    before = {path.name for path in here.iterdir()}
    text = said(words, capsys)
    assert "to compile" in text and "MiB" in text
    assert {path.name for path in here.iterdir()} == before
    main([*words.split(), "--out", "run"])
    assert json.loads((here / "run" / "config.json").read_text())
    assert "(the run there is resumed)" in said(words, capsys)
