"""The language-model experiments.

Each says what it takes, and makes what it promises, with a tiny model on the embedded text.
"""

import dataclasses
import importlib
import json
import lzma
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.app.commands.lm_ingredients import prepare
from collapse_jax.app.commands.lm_loop import workflow_of
from collapse_jax.app.config import LMConfig
from collapse_jax.app.script import run_script
from collapse_jax.core import points
from collapse_jax.core.types import FitInfo
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("quick_compile")
SCRIPTS = ("fig1b", "fig1c", "repetition_penalty", "example_texts")
SMALL = {
    "corpus": "embedded",
    "model": "random:tiny",
    "block_length": 8,
    "train_blocks": 12,
    "valid_blocks": 4,
    "test_blocks": 4,
    "epochs": 1,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "decode_batch": 4,
    "seeds": 2,
    "generations": 2,
}


@pytest.fixture(autouse=True)
def on_path(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def script(name):
    return importlib.import_module(f"shumailov2024_{name}")


def shared_part():
    return importlib.import_module("shumailov2024")


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(root, name):
    """The docstring: command, run time, published numbers; and every option of all of them.

    Nothing heavy is imported for it.
    """
    file = root / "experiments" / f"shumailov2024_{name}.py"
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']\ntry:\n    runpy.run_path({str(file)!r}, "
        "run_name='__main__')\nfinally:\n    print('HEAVY', sorted({'jax', 'matplotlib', "
        "'transformers'} & set(sys.modules)))"
    )
    path = os.pathsep.join([str(root), str(root / "experiments")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0 and "HEAVY []" in done.stdout, done.stderr + done.stdout[-300:]
    for word in (f"experiments/shumailov2024_{name}.py", "Run time:", "Published:"):
        assert word in done.stdout
    for option in ("scale", "protocol", "seeds", "generations", "out", "corpus", "model"):
        assert f"--{option} " in done.stdout


def test_fig1b(runs, capsys):
    settings = shared_part().Settings(out=str(runs / "fig1b"), **SMALL)
    script("fig1b").main(settings)
    folder = RunFolder(runs / "fig1b")
    assert str(folder.figures / "fig1b.png") in capsys.readouterr().out.replace("\n", "")
    assert (folder.figures / "fig1b.png").stat().st_size > 10_000
    assert len(folder.rows()) == 6
    expected = LMConfig(**SMALL).resolved()
    assert folder.config() == expected and (
        expected.preset,
        expected.protocol,
        expected.real_fraction,
    ) == ("fig1b", "paper", 0.0)


@pytest.mark.slow
def test_fig1c_beside_fig1b(runs):
    module = script("fig1c")
    settings = module.Settings(
        out=str(runs / "fig1c"), protocol="released-code", beside=str(runs / "fig1b"), **SMALL
    )
    module.main(settings)
    folder = RunFolder(runs / "fig1c")
    assert (folder.figures / "fig1c.png").is_file() and len(folder.rows()) == 6
    assert folder.config() == LMConfig(preset="fig1c", protocol="released-code", **SMALL).resolved()
    with pytest.raises(InputError, match="is not a run folder"):
        module.main(dataclasses.replace(settings, beside=str(runs / "nowhere")))
    rows = json.loads((runs / "fig1c" / "real_alone.json").read_text())
    assert [(row["seed"], row["blocks"]) for row in rows] == [(0, 8), (1, 8)]


@pytest.mark.parametrize(
    ("protocol", "share"),
    [("paper", 0.1), ("paper", 0.5), ("released-code", 0.1), ("released-code", 0.7)],
)
@pytest.mark.parametrize("count", [5, 12, 45])
def test_the_control_has_as_many_real_blocks_as_a_generation(protocol, share, count):
    config = LMConfig(
        preset="fig1c", protocol=protocol, real_fraction=share, batch_size=4
    ).resolved()
    # Real points are the even numbers, what a model makes of them is odd.
    made_of = lambda key, params, n: 2 * jnp.arange(n) + 1  # noqa: E731
    model = cj.estimator(
        lambda key, params, data: (points.filled(data), FitInfo(True, 0, 0.0)),
        made_of,
        init=lambda key, data: points.filled(data),
        continued=lambda key, params, x: x + 1,
        traceable=False,
    )
    process = cj.generational_process(
        model,
        cj.sources.dataset(2 * jnp.arange(count)),
        workflow_of(config.settings()),
        sample_size=count,
    )
    first, _ = process.init(jax.random.key(0))
    x = np.asarray(process.step(jax.random.key(1), first)[0].params)
    assert len(x) == count and (x % 2 == 0).sum() == script("fig1c").kept_blocks(config, count)


def test_the_control_is_a_fit_to_real_blocks_and_not_done_again(tmp_path):
    module = script("fig1c")
    config = LMConfig(preset="fig1c", real_fraction=0.5, **{**SMALL, "epochs": 3, "seeds": 1})
    folder, said = RunFolder(tmp_path), []
    (one,) = module.real_alone(config, folder, said.append)
    assert one["blocks"] == 6 and len(said) == 1
    assert module.real_alone(config, folder, said.append) == [one] and len(said) == 1
    both = module.real_alone(dataclasses.replace(config, seeds=2), folder, said.append)
    assert (
        both[0] == one and both[1]["test_perplexity"] != one["test_perplexity"] and len(said) == 2
    )
    (tmp_path / "real_alone.json").write_text("[{")
    with pytest.raises(InputError, match=r"real_alone\.json is damaged; delete it"):
        module.real_alone(config, folder, said.append)
    none = dataclasses.replace(config, real_fraction=0.01)
    assert (
        module.real_alone(none, RunFolder(tmp_path / "none"), said.append) == [] and len(said) == 2
    )
    model, pretrained, _, blocks, *_ = prepare(config.settings())
    untrained = float(np.exp(cj.lm.mean_loss(model, pretrained, blocks.test).mean()))
    assert one["test_perplexity"] < untrained
    assert module.real_alone(
        dataclasses.replace(config, learning_rate=0.0, final_learning_rate=0.0),
        RunFolder(tmp_path / "still"),
        said.append,
    )[0]["test_perplexity"] == pytest.approx(untrained, rel=1e-5)


@pytest.mark.slow
def test_repetition_penalty(runs, capsys):
    module = script("repetition_penalty")
    module.main(module.Settings(out=str(runs / "penalty"), **SMALL))
    folders = {penalty: RunFolder(runs / "penalty" / f"penalty_{penalty}") for penalty in (1, 2)}
    assert {penalty: folder.config().repetition_penalty for penalty, folder in folders.items()} == {
        1: 1.0,
        2: 2.0,
    }
    assert all(len(folder.rows()) == 6 for folder in folders.values())
    assert (runs / "penalty" / "figures" / "repetition_penalty.png").is_file()
    at_2 = {
        penalty: np.mean(
            [row["test_perplexity_mean"] for row in folder.rows() if row["generation"] == 2]
        )
        for penalty, folder in folders.items()
    }
    said = capsys.readouterr().out
    assert (
        f"{at_2[1]:.2f}" in said and f"{at_2[2]:.2f}" in said and f"{at_2[2] / at_2[1]:.2f}" in said
    )


@pytest.mark.slow
def test_example_texts(runs, capsys):
    """Of the run of Fig. 1b where that is there: nothing is fitted again."""
    pytest.importorskip("collapse_jax.app.commands.examples")
    settings = shared_part().Settings(out=str(runs / "fig1b"), **SMALL)
    script("fig1b").main(settings)
    before = (runs / "fig1b" / "metrics.jsonl").read_bytes()
    capsys.readouterr()
    script("example_texts").main(settings)
    assert (
        "are done" in capsys.readouterr().out
        and (runs / "fig1b" / "metrics.jsonl").read_bytes() == before
    )
    texts = [
        (runs / "fig1b" / "samples" / f"examples_seed_{seed}.md").read_text() for seed in (0, 1)
    ]
    assert all(text.count("Input: ") == 4 and text.count("\n| 2 | ") == 4 for text in texts)


def test_scales():
    """Full leaves everything but text and model to the protocol.

    Mini is another size of the same; what is given goes first.
    """
    shared = shared_part()
    full = shared.config_of(shared.Settings(), "fig1c")
    assert full == LMConfig(preset="fig1c") and (full.seeds, full.generations) == (5, 9)
    given = {"corpus": "embedded", "model": "random:tiny"}
    mini = shared.config_of(
        shared.Settings(scale="mini", protocol="released-code", learning_rate=1e-3, **given),
        "fig1b",
    )
    assert (mini.learning_rate, mini.batch_size, mini.protocol, mini.corpus) == (
        1e-3,
        32,
        "released-code",
        "embedded",
    )
    plain = shared.config_of(shared.Settings(scale="mini", **given), "fig1b")
    changed = {
        name for name, value in vars(plain).items() if value != getattr(LMConfig(**given), name)
    }
    assert changed == {"train_blocks", "valid_blocks", "test_blocks", "batch_size", "learning_rate"}
    assert plain.learning_rate == 3e-4


def test_scale_laptop(tmp_path, shared):
    """It asks for the model, and splits the raw text by articles, each in one place."""
    module, out = shared_part(), str(tmp_path / "run")
    with pytest.raises(InputError, match=r"give --model FOLDER/SmolLM2-135M-Instruct\.Q4_1\.gguf"):
        module.config_of(module.Settings(scale="laptop", out=out), "fig1b")
    config = module.config_of(
        module.Settings(scale="laptop", out=out, model="random:tiny", seeds=3), "fig1c"
    )
    assert (config.train_blocks, config.blocks_from, config.seeds) == (128, "spread", 3)
    held_out = importlib.import_module("wikitext_held_out")
    parts = {
        name: (tmp_path / "wikitext-2-held-out" / f"{name}.txt").read_bytes().decode()
        for name in ("train", "valid", "test")
    }
    raw = lzma.open(held_out.WIKITEXT / "wiki.valid.raw.xz").read().decode()
    assert parts["test"] == lzma.open(held_out.WIKITEXT / "wiki.test.raw.xz").read().decode()
    pieces = held_out.articles(raw)
    assert "".join(pieces) == raw and len(pieces) == 60
    assert parts["valid"] == "".join(pieces[3::4])
    assert sorted(parts["train"] + parts["valid"]) == sorted(raw)
    # A title stands between empty lines; those of sections have more signs.
    for piece in pieces:
        assert piece.lstrip().startswith("= ") and piece.count("\n \n = ") == piece.count(
            "\n \n = ="
        )


def test_what_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    shared = shared_part()
    missing = tmp_path / "missing"
    monkeypatch.setitem(shared.SCALES, "mini", shared.SCALES["mini"] | {"corpus": str(missing)})
    monkeypatch.setattr(sys, "argv", ["x", "--scale", "mini", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as caught:
        run_script(script("fig1b").main, "")
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said == (
        f"error: corpus is {str(missing)!r}, which is not there; give --corpus, or --scale full "
        "for those of the hub\n"
    )
    assert list(tmp_path.iterdir()) == []
