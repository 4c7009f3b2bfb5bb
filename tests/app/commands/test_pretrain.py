"""`collapse-jax pretrain` from the command line to a model that others open: records, resumption,
and text that is kept out.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from collapse_jax.app.cli import main
from collapse_jax.app.commands import lm_ingredients, pretrain_materials, pretrain_steps
from collapse_jax.app.config import LMConfig, PretrainConfig
from collapse_jax.models.lm import corpus, token_file
from collapse_jax.models.lm.corpus import load_tokenizer, read_rows
from collapse_jax.models.lm.pretrain import begin
from collapse_jax.models.lm.score import mean_loss
from collapse_jax.models.lm.weights import load_opt
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder

LENGTH = 16


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A text of nine works of 30 rows, and a corpus whose valid and test text quotes the two
    longest of rows 30 to 200.
    """
    folder = tmp_path_factory.mktemp("inputs")
    rows = [row for row in corpus.embedded_corpus().train if len(row) > 60][:270]
    (folder / "text.txt").write_text(
        "".join("".join(rows[i : i + 30]) + "\n" for i in range(0, 270, 30))
    )
    (folder / "other").mkdir()
    first, second = sorted(rows[30:200], key=len)[-2:]
    for split, text in (("train", rows[5]), ("valid", "Not there.\n" + first), ("test", second)):
        (folder / "other" / f"{split}.txt").write_text(text)
    (folder / "short.txt").write_text("a b c\n")
    return folder


@pytest.fixture(scope="module")
def settings(inputs):
    """settings(**changes) -> PretrainConfig of a run of seconds: 40 steps, recorded and saved at
    places that do not meet.
    """
    small = {
        "corpus": str(inputs / "text.txt"),
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "ffn_dim": 16,
        "max_position_embeddings": 32,
        "block_length": LENGTH,
        "batch_size": 4,
        "steps": 40,
        "warmup_steps": 4,
        "learning_rate": 1e-2,
        "held_out": 0.1,
        "held_out_windows": 20,
        "evaluate_every": 15,
        "save_every": 12,
    }
    return lambda **changes: PretrainConfig(**(small | changes))


def call(config, out):
    arguments = ["pretrain", "--out", str(out)]
    for field in dataclasses.fields(config):
        if getattr(config, field.name) != getattr(PretrainConfig(), field.name):
            arguments += ["--" + field.name.replace("_", "-"), str(getattr(config, field.name))]
    main(arguments)


def saved(out, config, step):
    """Parameters and optimiser state of a checkpoint."""
    checkpoints = Checkpoints(Path(out) / "checkpoints")
    model, _ = load_opt(Path(out) / "model")
    template = jax.eval_shape(lambda: begin(model, config.settings().optimiser, jax.random.key(0)))
    state = checkpoints.restore_state(step, template)
    checkpoints.close()
    return state


def assert_equal_trees(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def rows_of(out):
    """All but the speed."""
    return [
        {name: value for name, value in row.items() if name != "tokens_per_second"}
        for row in RunFolder(out).rows()
    ]


@pytest.fixture(scope="module")
def finished(settings, inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    config = settings(exclude=str(inputs / "other"))
    call(config, out)
    return out, config


def still(seen):
    """What stands for `advance` where nothing need be learnt: notes the batches."""

    def advance(model, settings, state, batches, step, *, session):
        seen.append(batches)
        return state, np.ones(len(batches), np.float32)

    return advance


# One run.


def test_the_folder_is_whole(finished):
    out, _ = finished
    names = {
        "config.json",
        "environment.json",
        "made_of.json",
        "counts.json",
        "metrics.jsonl",
        "metrics.csv",
        "tokens",
        "tokenizer",
        "checkpoints",
    }
    assert {path.name for path in out.iterdir()} == names | {"figures", "model", ".lock"}
    assert not [path for path in out.rglob("*") if "partial" in path.name or "saving" in path.name]
    assert all((out / "figures" / name).stat().st_size > 1000 for name in ("loss.png", "loss.pdf"))
    rows = RunFolder(out).rows()
    assert [(row["step"], row["tokens"]) for row in rows] == [(15, 960), (30, 1920), (40, 2560)]
    assert rows[-1]["held_out_loss"] < rows[0]["held_out_loss"] < np.log(2048) + 0.1
    assert rows[0]["learning_rate"] > rows[1]["learning_rate"] > rows[2]["learning_rate"] > 3e-4
    checkpoints = Checkpoints(out / "checkpoints")
    assert checkpoints.generations() == [36, 40]  # the two newest
    checkpoints.close()


def test_held_out_text_is_the_last_work_and_its_loss_that_of_the_model(finished, inputs, settings):
    out, config = finished
    folder, (model, windows) = pretrain_materials.prepare(config.settings(), out)
    rows = read_rows(inputs / "text.txt")
    assert [row for row in rows if not row] == [""] * 9
    last = token_file.flat_tokens(load_tokenizer("embedded"), rows[-31:])
    np.testing.assert_array_equal(
        windows.held_out.reshape(-1), last[: len(last) // LENGTH * LENGTH]
    )
    scored = windows.held_out[np.round(np.linspace(0, len(windows.held_out) - 1, 20)).astype(int)]
    assert folder.rows()[-1]["held_out_loss"] == pytest.approx(
        mean_loss(model, load_opt(out / "model")[1], scored).mean(), rel=1e-6
    )


def test_windows_that_quote_the_other_corpus_are_left_out(finished, inputs, settings):
    out, config = finished
    _, (_, windows) = pretrain_materials.prepare(config.settings(), out)
    rows, tokenizer = read_rows(inputs / "text.txt"), load_tokenizer("embedded")
    run = token_file.SHARED_RUN
    quoted = [
        [id for row in tokenizer.encode(read_rows(inputs / "other" / name)) for id in row]
        for name in ("valid.txt", "test.txt")
    ]
    known = {tuple(ids[i : i + run]) for ids in quoted for i in range(len(ids) - run + 1)}
    flat = windows.train.reshape(-1).tolist()
    hits = [i for i in range(len(flat) - run + 1) if tuple(flat[i : i + run]) in known]
    expected = sorted({place // LENGTH for i in hits for place in range(i, i + run)})
    assert np.flatnonzero(windows.left_out).tolist() == expected and len(expected) >= 6
    counts = json.loads((out / "counts.json").read_text())
    assert counts["left_out_windows"] == len(expected) and counts["train_windows"] == len(
        windows.train
    )
    # The row that only the train text of the other corpus quotes stays.
    (ids,) = tokenizer.encode([rows[5]])
    start = next(i for i in range(len(flat)) if flat[i : i + len(ids)] == ids)
    assert not windows.left_out[start // LENGTH : (start + len(ids)) // LENGTH].any()


def test_left_out_windows_are_not_trained_on(settings, inputs, tmp_path, monkeypatch):
    """Between one and two epochs: every other window is seen once or twice, and those never."""
    seen = []
    monkeypatch.setattr(pretrain_steps, "advance", still(seen))
    config = settings(
        exclude=str(inputs / "other"),
        steps=150,
        evaluate_every=150,
        save_every=150,
        block_length=32,
    )
    folder, materials = pretrain_materials.prepare(config.settings(), tmp_path / "run")
    pretrain_steps.run_pretrain(config.settings(), folder, materials)
    windows = materials.windows
    found = np.concatenate([batch.reshape(-1, 32) for batch in seen])
    usable = windows.train[~windows.left_out]
    assert len(usable) < len(found) == 600 < 2 * len(usable) and windows.left_out.any()
    assert set(map(tuple, found.tolist())) == set(map(tuple, usable.tolist()))


def test_the_model_opens_in_our_own_code(finished):
    out, config = finished
    model, params = load_opt(out / "model")
    assert_equal_trees(params, saved(out, config, 40).params)
    assert (
        model.config.vocab_size == 2048
        and model.config.max_position_embeddings == 32
        and model.config.dropout == 0
    )
    rows = corpus.embedded_corpus().test[:20]
    assert load_tokenizer(str(out / "model")).encode(rows) == load_tokenizer("embedded").encode(
        rows
    )
    config = LMConfig(corpus="embedded", model=str(out / "model"), block_length=LENGTH)
    ingredients = lm_ingredients.prepare(config.settings())
    assert ingredients.tokenizer.vocab_size == 2048 and ingredients.blocks.train.shape[1] == LENGTH
    assert_equal_trees(ingredients.pretrained, params)


def test_the_model_opens_in_transformers(finished):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    out, _ = finished
    theirs, report = transformers.OPTForCausalLM.from_pretrained(
        out / "model", output_loading_info=True
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(out / "model")
    assert (
        not any(report.values())
        and theirs.config.bos_token_id == theirs.config.eos_token_id == tokenizer.eos_token_id == 2
    )
    assert tokenizer.bos_token_id == 2 and tokenizer.pad_token_id == theirs.config.pad_token_id == 1
    text = "The result of the comparison is a truth value, naïve or not.\n"
    ids = tokenizer(text)["input_ids"]
    assert ids == load_tokenizer("embedded").encode([text])[0] and tokenizer.decode(ids[1:]) == text
    model, params = load_opt(out / "model")
    with torch.no_grad():
        loss = theirs(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
    assert mean_loss(model, params, np.array([ids]))[0] == pytest.approx(loss, rel=1e-5)


def test_said_again_nothing_changes(finished, capsys):
    out, config = finished
    before = {
        path: path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and "figures" not in path.parts
    }
    call(config, out)
    assert "all 40 steps of" in capsys.readouterr().out
    assert {
        path: path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and "figures" not in path.parts
    } == before
    (out / "figures" / "loss.png").unlink()
    main(["plot", str(out)])
    assert (
        capsys.readouterr().out.strip() == str(out / "figures" / "loss.png")
        and (out / "figures" / "loss.png").is_file()
    )


# Tokenizers, precision.


def test_a_tokenizer_of_its_own_and_weights_in_half_the_bytes(settings, tmp_path):
    config = settings(tokenizer="train:301", precision="bfloat16", steps=5, evaluate_every=5)
    call(config, tmp_path / "run")
    model, params = load_opt(tmp_path / "run" / "model")
    tokenizer = load_tokenizer(str(tmp_path / "run" / "model"))
    assert tokenizer.vocab_size == 301 and model.config.vocab_size == 304  # the next multiple of 8
    trained = saved(tmp_path / "run", config, 5).params
    assert_equal_trees(
        params, jax.tree.map(lambda x: x.astype("bfloat16").astype("float32"), trained)
    )
    assert not np.array_equal(
        params["embed_tokens"]["embedding"], trained["embed_tokens"]["embedding"]
    )
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert (
        2 * numbers
        < (tmp_path / "run" / "model" / "model.safetensors").stat().st_size
        < 2 * numbers + 4000
    )
    assert json.loads((tmp_path / "run" / "counts.json").read_text())["parameters"] == numbers


# Runs that are stopped.


class Killed(BaseException):
    """Caught by nobody on its way."""


@pytest.mark.parametrize(
    ("where", "call_number", "last_saved"),
    [
        ("write_tokens", 1, None),
        ("advance", 1, None),
        ("advance", 4, 24),  # calls end at steps 12, 15, 24, 30, 36, 40
        ("advance", 6, 36),
        ("save_opt", 1, 40),
    ],
)
@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_numbers(
    finished, tmp_path, monkeypatch, where, call_number, last_saved
):
    whole, config = finished
    step_of = pretrain_materials if where == "write_tokens" else pretrain_steps
    out, calls, original = tmp_path / "run", [], getattr(step_of, where)

    def kill(*given, **options):
        calls.append(1)
        if len(calls) == call_number:
            raise Killed
        return original(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(step_of, where, kill)
        with pytest.raises(Killed):
            call(config, out)
    left = [int(path.name) for path in (out / "checkpoints").glob("[0-9]*")]
    assert max(left, default=None) == last_saved
    encoded = []
    with monkeypatch.context() as patch:
        patch.setattr(
            pretrain_materials,
            "write_tokens",
            lambda *given, **options: (
                encoded.append(1),
                token_file.write_tokens(*given, **options),
            ),
        )
        call(config, out)
    assert len(encoded) == (where == "write_tokens")  # otherwise they were there already
    assert_equal_trees(saved(out, config, 40), saved(whole, config, 40))
    assert rows_of(out) == rows_of(whole) and len(rows_of(out)) == 3
    assert (out / "model" / "model.safetensors").read_bytes() == (
        whole / "model" / "model.safetensors"
    ).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in whole.iterdir()
    )


def test_numbers_do_not_depend_on_how_often_is_saved_or_recorded(
    finished, settings, inputs, tmp_path
):
    whole, config = finished
    other = dataclasses.replace(config, evaluate_every=40, save_every=40)
    call(other, tmp_path / "run")
    assert_equal_trees(saved(tmp_path / "run", other, 40), saved(whole, config, 40))
    assert rows_of(tmp_path / "run")[-1]["held_out_loss"] == rows_of(whole)[-1]["held_out_loss"]


# Mistakes.


@pytest.fixture
def stopped(capfd):
    """stopped(config, out, code) -> the one line on stderr with which the program ends."""

    def run(config, out, code=2):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            call(config, out)
        error = capfd.readouterr().err
        assert caught.value.code == code and error.count("\n") == 1 and "Traceback" not in error, (
            error
        )
        return error.strip()

    return run


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"corpus": "INPUTS/nowhere"}, "nowhere' is neither a file nor a folder"),
        ({"corpus": "INPUTS/short.txt"}, "give at least 32, 2 windows of block_length"),
        (
            {"corpus": "INPUTS/short.txt", "tokenizer": "train:300"},
            "give at least 32, 2 windows of block_length",
        ),
        ({"tokenizer": "INPUTS/nowhere"}, "it must be a folder, 'embedded', or 'train:N'"),
        ({"tokenizer": "INPUTS"}, "contains neither tokenizer.json nor vocab.json"),
        ({"tokenizer": "train:3"}, "at least 260 entries"),
        ({"text_column": "story"}, "text_column is 'story', but corpus file"),
        ({"exclude": "INPUTS/nowhere"}, "nowhere' is neither a file nor a folder"),
        ({"steps": 3}, "warmup_steps is 4; it must be below steps, 3"),
        (
            {"num_attention_heads": 3},
            "hidden_size is 8; it must be a multiple of num_attention_heads, 3",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    settings, inputs, stopped, tmp_path, changes, says
):
    given = {
        name: value.replace("INPUTS", str(inputs)) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    text = stopped(settings(**given), tmp_path / "run")
    assert text.startswith("error: ") and says in text
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_with_its_own_text_alone(settings, inputs, stopped, tmp_path, monkeypatch):
    """Another text under the same name is refused, as are other settings."""
    monkeypatch.setattr(pretrain_steps, "advance", still([]))
    shutil.copytree(inputs, tmp_path / "inputs")
    config = settings(
        corpus=str(tmp_path / "inputs" / "text.txt"),
        exclude=str(tmp_path / "inputs" / "other"),
        steps=12,
        evaluate_every=12,
    )
    with monkeypatch.context() as patch:
        patch.setattr(
            pretrain_steps,
            "save_opt",
            lambda *given: (_ for _ in ()).throw(OSError(28, "No space left on device")),
        )
        assert "No space left" in stopped(config, tmp_path / "run", code=1)
    for changes, says in (
        ({"steps": 24}, "steps: 12 there, 24 here"),
        ({"learning_rate": 0.5}, "learning_rate: 0.01 there, 0.5 here"),
    ):
        assert says in stopped(dataclasses.replace(config, **changes), tmp_path / "run")
    for name, kind in (("text.txt", "corpus"), ("other/test.txt", "text to exclude")):
        path = tmp_path / "inputs" / name
        before = path.read_text()
        path.write_text(before.replace("a", "o"))
        changed = stopped(config, tmp_path / "run")
        assert f"the {kind} at " in changed and "changed since the run in" in changed
        assert f"began: {path.name if kind == 'corpus' else path.stem}, 1 of" in changed
        path.write_text(before)
    call(config, tmp_path / "run")
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_a_run_that_is_done_knows_its_text_and_its_tokens(
    finished, inputs, stopped, tmp_path, capfd
):
    """The same text elsewhere is the same run; other text or tokens under it are not."""
    out, config = finished
    shutil.copytree(out, tmp_path / "run")
    shutil.copytree(inputs, tmp_path / "moved")
    moved = dataclasses.replace(
        config, corpus=str(tmp_path / "moved/text.txt"), exclude=str(tmp_path / "moved/other")
    )
    call(moved, tmp_path / "run")
    assert "all 40 steps of" in capfd.readouterr().out
    for name, kind in (("text.txt", "corpus"), ("other/valid.txt", "text to exclude")):
        path = tmp_path / "moved" / name
        before = path.read_text()
        path.write_text(before + "More.\n")
        assert f"the {kind} at " in stopped(moved, tmp_path / "run")
        path.write_text(before)
    (tmp_path / "run" / "model" / "model.safetensors").unlink()
    tokens = bytearray((tmp_path / "run" / "tokens" / "tokens.bin").read_bytes())
    tokens[100] ^= 1
    (tmp_path / "run" / "tokens" / "tokens.bin").write_bytes(tokens)
    text = stopped(moved, tmp_path / "run")
    assert "the tokens at " in text and "file tokens.bin, 1 of 3" in text


def test_a_text_that_is_all_kept_out(settings, inputs, stopped, tmp_path):
    (tmp_path / "other").mkdir()
    for split in ("train", "valid", "test"):
        shutil.copy(inputs / "text.txt", tmp_path / "other" / f"{split}.txt")
    assert "every window of the corpus shares text with it" in stopped(
        settings(exclude=str(tmp_path / "other")), tmp_path / "run"
    )


def test_a_loss_that_is_no_number_names_the_step(settings, stopped, tmp_path):
    text = stopped(
        settings(learning_rate=1e30, warmup_steps=0, final_share=1.0), tmp_path / "run", code=1
    )
    assert text.startswith("stopped: ") and "at step 1 (learning rate 1e+30)" in text


def test_a_held_out_loss_that_is_no_number_is_no_result(settings, stopped, tmp_path, monkeypatch):
    """A last step that diverges shows in the held-out loss alone: the losses are those before."""
    monkeypatch.setattr(
        "collapse_jax.app.commands.pretrain_steps.mean_loss",
        lambda *_, **__: np.array([1.0, np.nan]),
    )
    text = stopped(settings(steps=5), tmp_path / "run", code=1)
    assert "the held-out loss became nan after step 4; try a smaller learning rate" in text
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert not (tmp_path / "run" / "model" / "model.safetensors").exists()
