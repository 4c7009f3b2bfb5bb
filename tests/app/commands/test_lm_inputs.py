"""What `lm` reads from outside: said in lines, as it is meant, and held together."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from collapse_jax.app.commands import lm as lm_file
from collapse_jax.app.commands import text_blocks
from collapse_jax.app.commands.lm_ingredients import prepare
from collapse_jax.app.commands.pretrain_materials import model_config
from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.pretrain import PretrainConfig
from collapse_jax.errors import InputError
from collapse_jax.models.lm import corpus
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.placement import Placement


@pytest.fixture
def inputs(tmp_path, write_inputs):
    """model/ with its tokenizer, and text.txt."""
    write_inputs(tmp_path, dropout=0.1)
    return tmp_path


def lm(folder, **changes):
    small = {"corpus": str(folder / "text.txt"), "model": str(folder / "model"), "block_length": 8}
    return LMConfig(**(small | changes)).settings()


def change(path, **values):
    """Changes entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_no_dropout_is_none_of_any_kind(inputs):
    change(inputs / "model" / "config.json", attention_dropout=0.2, layerdrop=0.3)
    own = prepare(lm(inputs)).model.config
    assert (own.dropout, own.attention_dropout, own.layerdrop) == (0.1, 0.2, 0.3)
    none = prepare(lm(inputs, dropout=0.0)).model.config
    assert (none.dropout, none.attention_dropout, none.layerdrop) == (0, 0, 0)
    other = prepare(lm(inputs, dropout=0.5)).model.config
    assert (other.dropout, other.attention_dropout, other.layerdrop) == (0.5, 0.2, 0.3)


def test_what_is_read_is_said_and_blocks_are_whole(inputs):
    plain = prepare(lm(inputs)).blocks
    file = inputs / "model" / "tokenizer.json"
    cut = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    change(file, truncation=cut)
    (inputs / "text").mkdir()
    rows = (inputs / "text.txt").read_text().splitlines(keepends=True)
    for name, part in (("a.train", rows[:48]), ("a.valid", rows[48:54]), ("a.test", rows[54:])):
        (inputs / "text" / f"{name}.txt").write_text("".join(part))
    (inputs / "text" / "latest.txt").write_text("no split\n")
    said = []
    blocks = prepare(lm(inputs, corpus=str(inputs / "text")), say=said.append).blocks
    assert [part.tolist() for part in blocks] == [part.tolist() for part in plain]
    tokenizer, text = said
    assert "truncation to 4 tokens, which is switched off" in tokenizer
    assert "train: a.train.txt, 48 rows" in text and "left out: latest.txt" in text


def test_a_path_of_another_working_folder_is_named(inputs, monkeypatch):
    """What the run read at "model" is no hub name now, nor a file that is missing."""
    monkeypatch.chdir(inputs)
    settings = lm(inputs, corpus="text.txt", model="model")
    run = RunFolder.open("run", settings.config, inputs=prepare(settings).inputs).path.resolve()
    (inputs / "deep").mkdir()
    monkeypatch.chdir(inputs / "deep")
    for changes, name in (
        ({"model": "model"}, "model"),
        ({"model": "../model", "corpus": "text.txt"}, "corpus"),
    ):
        with pytest.raises(InputError) as caught:
            prepare(lm(inputs, **changes), run=run)
        assert str(caught.value).startswith(f"{name} is ")
        assert f"give its new path by --{name}" in str(caught.value)
    prepare(lm(inputs, model="../model", corpus="../text.txt"), run=run)


def test_a_tokenizer_of_another_model_is_refused(inputs):
    other = inputs / "other"
    other.mkdir()
    files = corpus.tokenizer_files("train:400", ["other text " * 9])
    for name, text in files.items():
        (other / name).write_text(text)
    with pytest.raises(InputError, match="encodes text differently from the model's own"):
        prepare(lm(inputs, tokenizer=str(other)))
    prepare(lm(inputs, tokenizer="embedded"))  # the same one by another name
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<s>"}
    (inputs / "model" / "tokenizer_config.json").write_text(json.dumps(names))
    with pytest.raises(InputError, match="ends a text with id 0, but eos_token_id"):
        prepare(lm(inputs))


def test_a_pretrained_model_ends_a_text_as_its_tokenizer_does():
    """Not with the id that some other tokenizer has for it, which would be a word of this one."""
    plain = corpus.load_tokenizer("embedded")
    config = PretrainConfig()
    for special, wanted in (
        ({}, (2, 2, 1)),
        (plain.special, (2, 2, 1)),
        ({"eos_token": 0}, (2, 0, 0)),
        ({"eos_token": 0, "pad_token": 3}, (2, 0, 3)),
    ):
        made = model_config(config, plain._replace(special=special))
        assert (made.bos_token_id, made.eos_token_id, made.pad_token_id) == wanted


def test_a_run_that_goes_on_does_not_tokenise(inputs, monkeypatch):
    """The command keeps the blocks in the run folder, and looks there first."""
    settings, cut, fitted = lm(inputs, seeds=1), [], []

    def run_lm(settings, folder, ingredients, **more):
        fitted.append(ingredients)

    def stream_blocks(*arguments):
        cut.append(arguments)
        return corpus.stream_blocks(*arguments)

    monkeypatch.setattr(lm_file, "run_lm", run_lm)
    monkeypatch.setattr(text_blocks, "stream_blocks", stream_blocks)
    for times in (3, 0):
        cut.clear()
        lm_file._open_and_run(
            settings, str(inputs / "run"), Console(file=io.StringIO()), Placement(), (), set()
        )
        assert len(cut) == times
    first, again = (made.blocks for made in fitted)
    assert [part.tolist() for part in first] == [part.tolist() for part in again]
    assert all(isinstance(part, np.memmap) for part in again)
    kept = sorted(path.name for path in (inputs / "run" / "tokens").iterdir())
    assert kept == ["blocks.json", "test.npy", "train.npy", "valid.npy"]
