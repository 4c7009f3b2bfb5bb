"""What a run reads is part of it: other text, weights, tokens or code under the same name."""

import json
import shutil
import sys

import numpy as np
import pytest

from collapse_jax.app.cli import main
from collapse_jax.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("quick_compile")
LM = (
    "lm --block-length 8 --train-blocks 24 --valid-blocks 5 --test-blocks 5 --batch-size 8 "
    "--epochs 1 --learning-rate 1e-2 --decoding greedy --decode-batch 12 --seeds 1 --examples 0"
).split()


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    import collapse_jax.app.plots as plots

    monkeypatch.setattr(plots, "draw_run", lambda folder: [])


def lm(folder, generations=1, inputs="inputs", out="run", **options):
    places = {"corpus": folder / inputs / "text.txt", "model": folder / inputs / "model"} | options
    words = [word for name, value in places.items() for word in (f"--{name}", str(value))]
    main([*LM, *words, "--generations", str(generations), "--out", str(folder / out)])


@pytest.fixture
def refused(capsys):
    """refused(call, *arguments, **options) -> the one line that the command line ends with."""

    def check(call, *arguments, **options):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            call(*arguments, **options)
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.count("\n") == 1, said
        return said

    return check


@pytest.fixture(scope="module")
def begun(tmp_path_factory, write_inputs):
    """A folder with inputs/ and a run of generations 0 and 1."""
    import collapse_jax.app.plots as plots

    folder = tmp_path_factory.mktemp("begun")
    write_inputs(folder / "inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw_run", lambda folder: [])
        lm(folder)
    return folder


@pytest.fixture
def copy(begun, tmp_path):
    """A copy of it, whose settings and inputs say where it lies now."""
    shutil.copytree(begun, tmp_path / "copy")
    path = tmp_path / "copy" / "run" / "config.json"
    path.write_text(path.read_text().replace(str(begun), str(tmp_path / "copy")))
    return tmp_path / "copy"


def other_text(inputs):
    path = inputs / "text.txt"
    path.write_text(path.read_text().replace("the", "teh"))


def last_row(inputs):
    """In no block that is used, but in the text."""
    path = inputs / "text.txt"
    path.write_text(path.read_text()[:-2] + "\n")


def other_weights(inputs):
    from safetensors.numpy import load_file, save_file

    path = inputs / "model" / "model.safetensors"
    weights = load_file(path)
    name = sorted(weights)[0]
    weights[name] = weights[name] + np.float32(1e-3)
    save_file(weights, path, {"format": "pt"})


def other_dropout(inputs):
    path = inputs / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dropout": 0.2}))


def other_tokenizer(inputs):
    path = inputs / "model" / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["merges"] = values["model"]["merges"][:-1]
    path.write_text(json.dumps(values))


CHANGES = {
    other_text: "the corpus at {}/text.txt changed since the run in {} began: file text.txt, 1 of",
    last_row: "the corpus at ",
    other_weights: "the model at {}/model changed since the run in {} began: file model.safetens",
    other_dropout: "the model at {}/model changed since the run in {} began: file config.json, 1 ",
    other_tokenizer: "file tokenizer.json, 1 of",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_other_inputs_under_the_same_path_are_refused(copy, refused, change):
    """Where there is something left to do, and where all is done."""
    change(copy / "inputs")
    words = CHANGES[change].format(copy / "inputs", copy / "run")
    before = (copy / "run" / "metrics.jsonl").read_bytes()
    for generations in (2, 1):
        assert words in refused(lm, copy, generations)
    assert (copy / "run" / "metrics.jsonl").read_bytes() == before


def test_the_same_inputs_elsewhere_go_on(copy, capsys, refused):
    (copy / "inputs").rename(copy / "moved")
    lm(copy, inputs="moved")
    assert "all 2 generations of" in capsys.readouterr().out
    other_text(copy / "moved")
    assert "the corpus at" in refused(lm, copy, inputs="moved")


def test_an_older_folder_goes_on_and_keeps_its_inputs_from_then_on(copy, capsys, refused):
    (copy / "run" / "made_of.json").unlink()
    (copy / "run" / "results.nc").unlink()
    lm(copy)
    said = capsys.readouterr().out
    assert "was started without hashes of its inputs; those of corpus, tokenizer, " in said
    other_text(copy / "inputs")
    assert "the corpus at" in refused(lm, copy)


def test_done_means_that_every_generation_is_there(begun, copy, capsys):
    wanted = RunFolder(begun / "run").rows()
    for harm in ("checkpoint", "row", "results"):
        run = copy / "run"
        if harm == "checkpoint":
            shutil.rmtree(run / "checkpoints" / "chain_0" / "0")
        elif harm == "row":
            text = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
            (run / "metrics.jsonl").write_text(text[1])
        else:
            folder = RunFolder(run)
            folder.write_results(folder.results().isel(generation=slice(1)))
        lm(copy)
        assert "are done" not in capsys.readouterr().out
        found = RunFolder(run).rows()
        for name in ("test_perplexity", "train_perplexity_first_median"):
            assert [row[name] for row in found] == [row[name] for row in wanted]
        lm(copy)
        assert "all 2 generations of" in capsys.readouterr().out


def test_settings_of_a_run_folder(copy, capsys, tmp_path):
    """`--config RUN` means its config.json."""
    main(["lm", "--config", str(copy / "run"), "--out", str(copy / "run")])
    assert "all 2 generations of" in capsys.readouterr().out


def test_the_environment_keeps_its_history(copy, capsys, monkeypatch, refused):
    import jax

    path = copy / "run" / "environment.json"
    first = json.loads(path.read_text())
    edited = first | {"versions": first["versions"] | {"jax": "0.0.1"}, "device_kind": "abacus"}
    path.write_text(json.dumps(edited))
    (copy / "run" / "results.nc").unlink()
    lm(copy)
    said = capsys.readouterr().out
    assert "made with other versions or devices (jax 0.0.1 there, " in said
    assert "device_kind abacus there, " in said
    (copy / "run" / "results.nc").unlink()
    lm(copy)
    now = json.loads(path.read_text())
    assert [entry["versions"]["jax"] for entry in now["earlier"]] == ["0.0.1", jax.__version__]
    assert now["time"] >= first["time"] and "earlier" not in now["earlier"][1]
    jax.config.update("jax_threefry_partitionable", not jax.config.jax_threefry_partitionable)
    try:
        assert "jax_threefry_partitionable = " in refused(lm, copy)
    finally:
        jax.config.update("jax_threefry_partitionable", not jax.config.jax_threefry_partitionable)


# Families of others.

FAMILY = """
import jax, collapse_jax as cj
def shifted():
    def fit(key, params, data):
        return data.x.mean() + SHIFT, cj.FitInfo.exact()
    def sample(key, params, n):
        return params + jax.random.normal(key, (n,))
    def init(key, data):
        return data.x.mean()
    return cj.estimator(fit, sample, init=init)
def example():
    return shifted(), jax.numpy.zeros(())
shifted.example = example
"""


def test_code_of_others_families_is_part_of_a_simulation(tmp_path, monkeypatch, refused, capsys):
    from collapse_jax.estimators import registry

    file = tmp_path / "others_family.py"
    monkeypatch.syspath_prepend(tmp_path)
    command = ["simulate", "--family", "shifted", "--sample-size", "5", "--chains", "3"]
    command += ["--generations", "2", "--out", str(tmp_path / "run"), "--metrics", "mean"]

    def called(shift):
        file.write_text(f"SHIFT = {shift}\n{FAMILY}")
        sys.modules.pop("others_family", None)
        import importlib

        importlib.invalidate_caches()
        module = importlib.import_module("others_family")
        family = registry.Family(module.shifted, module.example)
        monkeypatch.setitem(registry._REGISTERED, "shifted", family)
        main(command)

    called(0.5)
    called(0.5)
    assert "all 3 generations of" in capsys.readouterr().out
    assert "the code of family shifted at" in refused(called, 0.25)
    sys.modules.pop("others_family", None)
