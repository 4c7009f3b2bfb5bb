"""What a run made can be used: `load_generation`, `evaluate`, `export`.

Run folders are made here from models on disk, which takes no fit; one run of a second is real.
"""

import functools
import json
import os
import pathlib
import runpy
import shutil
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

import collapse_jax as cj
from collapse_jax.app.cli import main
from collapse_jax.app.commands import lm_model, other_text
from collapse_jax.app.config import LMConfig, SimulateConfig
from collapse_jax.app.generations import SavedModels
from collapse_jax.core.types import State
from collapse_jax.errors import InputError
from collapse_jax.estimators.causal_lm import CausalLMParams
from collapse_jax.models.lm.corpus import blocks_of
from collapse_jax.models.lm.weights import load
from collapse_jax.runs import made_of
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder

FIXTURES = pathlib.Path(__file__).parents[2] / "models" / "lm"
FAMILIES = FIXTURES / "fixtures" / "families"
# A fused projection, shared keys, norms everywhere.
QUICK = ("gpt2", "llama3", "gemma3")
WORDS = [f"w{number}" for number in range(40)]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

pytestmark = pytest.mark.usefixtures("quick_compile")


def write_tokenizer(folder, with_class=True):
    """A tokenizer of 44 words and marks, which begins each text with </s>, as OPT's does."""
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", 2)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    if with_class:
        values = {"tokenizer_class": "PreTrainedTokenizerFast"} | SPECIAL
        (folder / "tokenizer_config.json").write_text(json.dumps(values))


def write_text(path, rows=30, seed=0):
    random = np.random.default_rng(seed)
    text = [" ".join(random.choice(WORDS, size=random.integers(1, 12))) for _ in range(rows)]
    path.write_text("\n".join(text) + "\n")
    return [row + "\n" for row in text]


def changed(params, seed):
    """Parameters near others: those of a generation."""
    leaves, structure = jax.tree.flatten(params)
    random = np.random.default_rng(seed)
    noise = [0.1 * random.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    return structure.unflatten([leaf + more for leaf, more in zip(leaves, noise, strict=True)])


def make_run(out, model, seeds=1, generations=1, **settings):
    """A run folder with a model for each seed and generation: {(seed, generation): params}."""
    config = LMConfig(model=str(model), seeds=seeds, generations=generations, **settings)
    folder, made = RunFolder.open(out, config.resolved(), say=lambda line: None), {}
    params = load(model)[1]
    for seed in range(seeds):
        checkpoints = Checkpoints(folder.checkpoints / f"chain_{seed}")
        for generation in range(generations + 1):
            made[seed, generation] = changed(params, 10 * seed + generation)
            lm = CausalLMParams(made[seed, generation], {}, jnp.asarray(generation + 1))
            state = State(jnp.asarray(generation), lm, ())
            row = {"chain": seed, "generation": generation}
            checkpoints.save(generation, state, row, {"tokens": np.zeros((1, 2), np.int32)})
        checkpoints.close()
    return made


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """model/ (a Llama 3 of two layers) with its tokenizer, other.txt and folder/test.txt, ..."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copytree(FAMILIES / "llama3", folder / "model")
    write_tokenizer(folder / "model")
    write_text(folder / "other.txt", rows=60)
    (folder / "folder").mkdir()
    for seed, split in enumerate(("train", "valid", "test"), 1):
        write_text(folder / "folder" / f"{split}.txt", seed=seed)
    return folder


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    """(folder, params by (seed, generation)) of a run of 2 seeds and generations 0 and 1."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, make_run(out, inputs / "model", seeds=2, block_length=6)


def stopped(capfd, *arguments):
    """The one line with which a command ends."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, arguments)))
    error = capfd.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and error.startswith("error: ")
    return error


def files_of(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "evaluations" not in path.parts
    }


# Loading.


def test_a_generation_is_loaded_as_it_was_saved(run, inputs):
    out, made = run
    for (seed, generation), params in made.items():
        found = cj.load_generation(out, generation, seed)
        assert jax.tree.all(jax.tree.map(np.array_equal, found.params, params))
    before = cj.load_generation(str(out), "pretrained")
    assert jax.tree.all(jax.tree.map(np.array_equal, before.params, load(inputs / "model")[1]))
    assert before.tokenizer.encode(["w0 w1"]) == [[2, 4, 5]]
    assert before.model.switches.family == "llama"


def test_reading_leaves_a_run_that_goes_on_alone(run):
    """A half-written checkpoint of another process stays, and so does everything else."""
    out, _ = run
    begun = out / "checkpoints" / "chain_0" / "2.orbax-checkpoint-tmp"
    begun.mkdir()
    (begun / "part").write_text("x")
    before = files_of(out)
    saved = SavedModels(out)
    assert saved.seeds() == [0, 1] and saved.generations(0) == [0, 1]
    saved.params(1, 0)
    assert files_of(out) == before
    shutil.rmtree(begun)


def test_what_is_not_there_is_named(run, tmp_path, inputs):
    out, _ = run
    for generation, seed, words in (
        (7, 0, "no parameters of generation 7 of seed 0; it has those of generations 0, 1"),
        (0, 5, "no parameters of seed 5; seeds 0, 1 have"),
        (1.5, 0, "generation is 1.5; it must be a whole number from 0, or 'pretrained'"),
        (True, 0, "generation is True; it must be"),
        (0, "0", "seed is '0'; it must be an integer of at least 0"),
    ):
        with pytest.raises(InputError, match=words):
            cj.load_generation(out, generation, seed)
    with pytest.raises(InputError, match="is not a run folder"):
        cj.load_generation(tmp_path, 0)
    with pytest.raises(InputError, match="run is 5; it must be the path of a run folder"):
        cj.load_generation(5, 0)
    make_run(tmp_path / "ends", inputs / "model", generations=2, checkpoints="ends")
    Checkpoints(tmp_path / "ends" / "checkpoints" / "chain_0").drop_state(1)
    with pytest.raises(InputError, match=r"generations 0, 2 \(it keeps only generation 0"):
        cj.load_generation(tmp_path / "ends", 1)
    RunFolder.open(tmp_path / "chains", SimulateConfig().resolved(), say=lambda line: None)
    with pytest.raises(InputError, match="contains a run of simulate; it must be a run of lm"):
        cj.load_generation(tmp_path / "chains", 0)


def test_a_model_that_moved_is_named_and_one_that_changed_is_refused(tmp_path, inputs):
    model = tmp_path / "model"
    shutil.copytree(inputs / "model", model)
    make_run(tmp_path / "run", model)
    config = RunFolder(tmp_path / "run").config()
    made_of.write(tmp_path / "run", lm_model.model_of_run(config)[3])
    model.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=f"the model of the run in {tmp_path / 'run'}: "):
        cj.load_generation(tmp_path / "run", 0)
    there = {"model": str(tmp_path / "moved")}
    cj.load_generation(tmp_path / "run", 0, **there)
    model, params = load(tmp_path / "moved")
    cj.lm.save(tmp_path / "moved", model, changed(params, 5))
    with pytest.raises(
        InputError, match=r"model at .* changed since .* give the new paths by --model and"
    ):
        cj.load_generation(tmp_path / "run", 0, **there)


def test_a_damaged_checkpoint_is_one_line(tmp_path, inputs):
    make_run(tmp_path / "run", inputs / "model")
    state = tmp_path / "run" / "checkpoints" / "chain_0" / "1" / "state"
    for path in state.rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    with pytest.raises(InputError, match=r"is damaged .* repeat the command of the run"):
        cj.load_generation(tmp_path / "run", 1)
    cj.load_generation(tmp_path / "run", 0)


# Another text.


@functools.cache
def applied(model):
    return jax.jit(lambda params, tokens: model.apply({"params": params}, tokens))


def log_probs(model, params, blocks):
    """[blocks, length - 1], of each token after those before it, by a softmax of NumPy."""
    logits = np.asarray(applied(model)(params, jnp.asarray(blocks)), np.float64)
    logits -= logits.max(-1, keepdims=True)
    table = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.take_along_axis(table[:, :-1], blocks[:, 1:, None], -1)[..., 0]


def read_evaluation(out):
    newest = max((out / "evaluations").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return newest, json.loads(newest.read_text())


def test_blocks_of_another_text(run, inputs, capsys):
    out, made = run
    before = files_of(out)
    main(["evaluate", str(out), "--corpus", str(inputs / "other.txt")])
    said = capsys.readouterr().out
    assert files_of(out) == before
    path, found = read_evaluation(out)
    rows = (inputs / "other.txt").read_text().splitlines(keepends=True)
    model, pretrained, tokenizer = cj.load_generation(out, "pretrained")
    blocks = blocks_of(rows, tokenizer, 6)
    every = {(None, "pretrained"): pretrained} | made
    assert [(row["seed"], row["generation"]) for row in found["rows"]] == list(every)
    # A word-level tokenizer puts a space between words, and its special tokens have no bytes.
    texts = [" ".join(WORDS[i - 4] for i in block[1:] if i != 2) for block in blocks]
    sizes = 5 * len(blocks), sum(map(len, texts))
    assert (found["tokens"], found["bytes"]) == sizes
    for row in found["rows"]:
        params = every[row["seed"], row["generation"]]
        losses = -log_probs(model, params, blocks).mean(1)
        np.testing.assert_allclose(row["loss"], losses.mean(), rtol=1e-5)
        np.testing.assert_allclose(row["perplexity"], np.exp(losses.mean()), rtol=1e-5)
        np.testing.assert_allclose(row["perplexity_mean"], np.exp(losses).mean(), rtol=1e-5)
        bits = losses.sum() * 5 / np.log(2) / found["bytes"]
        np.testing.assert_allclose(row["bits_per_byte"], bits, rtol=1e-5)
    assert str(path) in said and f"{len(blocks)} blocks of 6 tokens" in said
    mean = np.mean([row["perplexity"] for row in found["rows"] if row["generation"] == 1])
    assert f"{mean:.2f} ±" in said and "(paper)" in said and "(released code)" in said


def test_what_was_scored_is_not_scored_again(run, inputs, monkeypatch):
    out, _ = run
    few = ["evaluate", str(out), "--corpus", str(inputs / "other.txt"), "--blocks", "3"]
    main([*few, "--generation", "0", "--seed", "1"])
    path, first = read_evaluation(out)
    scored = []
    monkeypatch.setattr(
        other_text, "mean_loss", lambda *_, **__: scored.append(1) or np.array([1.0, 2.0, 3.0])
    )
    main([*few, "--generation", "0,1", "--seed", "1"])
    assert len(scored) == 1 and read_evaluation(out)[0] == path
    assert read_evaluation(out)[1]["rows"][0] == first["rows"][0]
    path.write_text("{")
    main([*few, "--generation", "0,1", "--seed", "1"])
    assert len(scored) == 3
    main([*few, "--generation", "last", "--seed", "1"])  # the same as 1
    assert len(scored) == 3
    main([*few, "--generation", "1", "--seed", "1", "--block-length", "7"])
    assert len(scored) == 4 and read_evaluation(out)[0] != path


@pytest.mark.parametrize("stride", [3, None])
def test_a_window_scores_every_token_once(run, inputs, stride):
    out, made = run
    more = "" if stride is None else f" --stride {stride}"
    main(
        f"evaluate {out} --corpus {inputs / 'folder'} --generation 1 --seed 0 --context-length 8"
        f"{more}".split()
    )
    _, found = read_evaluation(out)
    model, _, tokenizer = cj.load_generation(out, "pretrained")
    rows = (inputs / "folder" / "test.txt").read_text().splitlines(keepends=True)
    tokens = np.array([token for row in tokenizer.encode(rows) for token in row])
    # Token by token, in the first window that holds it; what stands right of it is not seen.
    step = stride or 4
    begins = np.arange(0, len(tokens), step)
    padded = np.pad(tokens, (0, 8))
    windows = -log_probs(model, made[0, 1], padded[begins[:, None] + np.arange(8)])
    firsts = [int(np.argmax(begins + 8 > place)) for place in range(1, len(tokens))]
    expected = np.mean(
        [windows[at, place - begins[at] - 1] for place, at in enumerate(firsts, start=1)]
    )
    (row,) = found["rows"]
    np.testing.assert_allclose(row["loss"], expected, rtol=1e-5)
    assert "perplexity_mean" not in row
    assert f"each token after {8 - step} to 7 others" in found["scored"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--generation", "x"], "'all', 'last', 'pretrained' or numbers with commas"),
        (["--generation", "0,9"], "no parameters of generation 9 of seed 0"),
        (["--seed", "3"], "no parameters of seed 3; seeds 0, 1 have"),
        (["--corpus", "nowhere"], "corpus 'nowhere' is neither a file nor a folder"),
        (["--corpus", "EMPTY"], "is empty; it must hold text"),
        (["--blocks", "9999"], "blocks is 9999, but"),
        (["--block-length", "1"], "block_length is 1; it must be at least 2"),
        (["--block-length", "65"], "blocks of 65 tokens exceed max_position_embeddings"),
        (
            ["--stride", "4"],
            "stride is 4 without a sliding window; give the length of the window, --context-length",
        ),
        (["--context-length", "8", "--stride", "8"], "stride is 8 with context_length 8; it must"),
        (["--context-length", "8", "--blocks", "2"], "blocks is 2 with context_length 8"),
        (["--context-length", "999"], "context_length is 999; this model has"),
        (["--model", "nowhere"], "the model of the run in"),
    ],
)
def test_a_mistake_of_evaluate_is_one_line(run, inputs, tmp_path, capfd, more, words):
    (tmp_path / "empty.txt").write_text("\n")
    more = [str(tmp_path / "empty.txt") if word == "EMPTY" else word for word in more]
    corpus = [] if "--corpus" in more else ["--corpus", inputs / "other.txt"]
    before = set((run[0] / "evaluations").glob("*"))
    assert words in stopped(capfd, "evaluate", run[0], *corpus, *more)
    assert set((run[0] / "evaluations").glob("*")) == before


def test_the_text_of_a_real_run_has_the_perplexity_that_was_recorded(write_inputs, tmp_path):
    """Also of a precision and a dropout that the run had."""
    inputs = write_inputs(tmp_path)
    corpus, out = f"--corpus {inputs / 'text.txt'}", tmp_path / "run"
    sizes = "--block-length 8 --train-blocks 4 --valid-blocks 2 --test-blocks 3 --batch-size 4"
    more = "--seeds 1 --generations 0 --epochs 1 --examples 0 --precision bfloat16"
    with mock.patch("collapse_jax.app.plots.draw_run", lambda folder: []):
        main(f"lm {corpus} --model {inputs / 'model'} {sizes} {more} --out {out}".split())
    main(f"evaluate {out} {corpus} --split test --blocks 3".split())
    (recorded,) = RunFolder(tmp_path / "run").rows()
    before, after = read_evaluation(tmp_path / "run")[1]["rows"]
    for ours, theirs in (
        ("perplexity", "test_perplexity"),
        ("perplexity_mean", "test_perplexity_mean"),
    ):
        assert after[ours] == recorded[theirs] and before[ours] == recorded[f"pretrained_{theirs}"]


# As a folder of Hugging Face.


def check_with_torch(folder, run):
    """Logits of transformers on torch, and its tokenizer, are those of the run."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, params, tokenizer = run
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = np.random.default_rng(0).integers(3, 40, (2, 9))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    found = np.asarray(model.apply({"params": params}, jnp.asarray(tokens)))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    text = "w3 w17 the quick  brown\n"
    opened = transformers.AutoTokenizer.from_pretrained(folder)
    assert opened(text)["input_ids"] == tokenizer.encode([text])[0]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(folder.name, marks=() if folder.name in QUICK else pytest.mark.slow)
        for folder in sorted(FAMILIES.iterdir())
    ],
)
def test_every_family_is_exported(name, tmp_path):
    shutil.copytree(FAMILIES / name, tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    made = make_run(tmp_path / "run", tmp_path / "model", generations=0)
    (tmp_path / "to").mkdir()  # an empty one may be there
    main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "to")])
    model, params = load(tmp_path / "to")
    assert model == load(tmp_path / "model")[0]
    assert jax.tree.all(jax.tree.map(np.array_equal, params, made[0, 0]))
    origin = json.loads((tmp_path / "to" / "collapse_jax.json").read_text())
    assert (origin["generation"], origin["seed"]) == (0, 0)
    assert sorted(os.listdir(tmp_path)) == ["model", "run", "to"]
    check_with_torch(tmp_path / "to", cj.load_generation(tmp_path / "run", 0))


def test_a_run_that_began_from_gguf_is_exported(tmp_path):
    pytest.importorskip("gguf")
    write = runpy.run_path(str(FIXTURES / "test_gguf.py"))["write"]
    width = load(FAMILIES / "llama3")[0].config.hidden_size
    random = np.random.default_rng(0).normal(size=(262, width)).astype(np.float32)
    changes = {"token_embd.weight": random, "output.weight": None, "rope_freqs.weight": None}
    write(tmp_path / "model.gguf", "llama2", changes=changes)
    make_run(tmp_path / "run", tmp_path / "model.gguf", generations=0)
    main(["export", str(tmp_path / "run"), "--generation", "0", "--to", str(tmp_path / "to")])
    values = json.loads((tmp_path / "to" / "tokenizer_config.json").read_text())
    assert values["eos_token"] == "</s>"
    check_with_torch(tmp_path / "to", cj.load_generation(tmp_path / "run", 0))


def test_a_tokenizer_that_transformers_would_build_anew_keeps_its_ids(tmp_path):
    """Beside an OPT's config.json and without a class, it would be made GPT-2's."""
    shutil.copytree(FAMILIES / "opt_350m", tmp_path / "model")
    write_tokenizer(tmp_path / "words", with_class=False)
    make_run(tmp_path / "run", tmp_path / "model", generations=0, tokenizer=str(tmp_path / "words"))
    main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "to")])
    transformers = pytest.importorskip("transformers")
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "to")
    assert opened("w0 w1 nothing")["input_ids"] == [2, 4, 5, 3]


def test_half_the_room_in_bfloat16(run, tmp_path, capsys):
    out, made = run
    arguments = ["export", str(out), "--generation", "0", "--seed", "1", "--dtype", "bfloat16"]
    main([*arguments, "--to", str(tmp_path / "new" / "to")])
    assert "generation 0 of seed 1 of" in capsys.readouterr().out
    params = load(tmp_path / "new" / "to")[1]
    expected = jax.tree.map(
        lambda leaf: np.asarray(jnp.asarray(leaf).astype(jnp.bfloat16), np.float32), made[1, 0]
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, params, expected))
    main(["export", str(out), "--generation", "pretrained", "--to", str(tmp_path / "before")])
    assert (tmp_path / "before" / "model.safetensors").is_file()


def test_a_mistake_of_export_is_one_line(run, tmp_path, capfd):
    out, taken = run[0], tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("x")
    for more, words in (
        (["--to", taken], "which contains thesis.tex; give a new folder or an empty one"),
        (["--to", taken / "thesis.tex"], "which is not a folder"),
        (["--to", taken / "thesis.tex" / "to"], "to is"),
        (["--to", tmp_path / "to", "--generation", "x"], "generation is 'x'; it must be a number"),
        (["--to", tmp_path / "to", "--seed", "9"], "no parameters of seed 9"),
    ):
        assert words in stopped(capfd, "export", out, *more)
    assert os.listdir(tmp_path) == ["taken"] and os.listdir(taken) == ["thesis.tex"]
