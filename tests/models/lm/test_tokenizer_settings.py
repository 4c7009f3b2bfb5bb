"""A tokenizer encodes as AutoTokenizer does, whatever its files say, and alike at each call."""

import json
import types

import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.lm import corpus as corpus_file
from collapse_jax.models.lm.corpus import (
    TextTokenizer,
    blocks_of,
    embedded_corpus,
    load_tokenizer,
    tokenizer_files,
)
from collapse_jax.models.lm.opt import OPTConfig
from collapse_jax.models.lm.tokenizer_fit import check_tokenizer

FAST = {"tokenizer_class": "PreTrainedTokenizerFast"} | corpus_file._SPECIAL
TEXTS = ["Hello <pad> world  naïve <|endoftext|> <mask>\n", "", " x "]
TRUNCATION = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 300},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 1,
    "pad_type_id": 0,
    "pad_token": "<pad>",
}
FLAGS = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}


@pytest.fixture(scope="module")
def plain():
    return json.loads(corpus_file._train_embedded().to_str())


@pytest.fixture
def write(tmp_path, plain):
    """write(changes of tokenizer.json, others by name) gives the folder."""

    def make(changes, **others):
        file = plain | changes
        if "dropout" in changes:
            file = plain | {"model": plain["model"] | {"dropout": changes["dropout"]}}
        (tmp_path / "tokenizer.json").write_text(json.dumps(file))
        for name, values in others.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(values))
        return str(tmp_path)

    return make


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"truncation": TRUNCATION}, "truncation to 9 tokens"),
        ({"padding": PADDING}, "padding"),
        ({"truncation": TRUNCATION, "padding": PADDING}, "truncation to 9 tokens and padding"),
        ({"dropout": 0.5}, "a dropout of merges of 0.5"),
    ],
)
def test_blocks_are_those_of_the_tokenizer_without_its_settings(write, changes, says):
    rows, said = embedded_corpus().valid[:20], []
    tokenizer = load_tokenizer(write(changes), said.append)
    blocks = blocks_of(rows, tokenizer, 16)
    np.testing.assert_array_equal(blocks, blocks_of(rows, load_tokenizer("embedded"), 16))
    np.testing.assert_array_equal(blocks, blocks_of(rows, tokenizer, 16))
    (line,) = said
    assert f"its file asks for {says}, which is switched off" in line


def test_without_a_listener_what_was_switched_off_is_logged(write, caplog):
    load_tokenizer(write({"padding": PADDING}))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    load_tokenizer(write({}))
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("changes", "others"),
    [
        ({}, {"tokenizer_config": FAST}),
        ({"normalizer": {"type": "Lowercase"}}, {"tokenizer_config": FAST}),
        (
            {"normalizer": {"type": "Lowercase"}},
            {"tokenizer_config": {"tokenizer_class": "GPT2Tokenizer"} | FAST},
        ),
        ({"truncation": TRUNCATION}, {"tokenizer_config": FAST | {"mask_token": "<mask>"}}),
        ({"dropout": 0.9}, {"tokenizer_config": FAST | {"split_special_tokens": True}}),
        (
            {},
            {
                "tokenizer_config": FAST
                | {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}
            },
        ),
        ({}, {"tokenizer_config": FAST | {"extra_special_tokens": ["world"]}}),
        (
            {},
            {
                "tokenizer_config": FAST
                | {"added_tokens_decoder": {"2048": {"content": "naïve", "special": False} | FLAGS}}
            },
        ),
        ({}, {"tokenizer_config": FAST, "added_tokens": {"<mask>": 2048}}),
        ({}, {"special_tokens_map": {"mask_token": "<mask>"}}),
    ],
)
def test_ids_are_those_of_auto_tokenizer(write, changes, others):
    transformers = pytest.importorskip("transformers")
    folder = write(changes, **others)
    tokenizer = load_tokenizer(folder, lambda line: None)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.backend_tokenizer.model.dropout = None
    assert tokenizer.encode(TEXTS) == [theirs(text)["input_ids"] for text in TEXTS]
    assert tokenizer.encode(TEXTS) == tokenizer.encode(TEXTS)
    assert tokenizer.vocab_size == len(theirs)
    named = ("bos_token", "eos_token", "pad_token", "unk_token")
    ids = {name: getattr(theirs, f"{name}_id") for name in named}
    assert dict(tokenizer.special) == {name: id for name, id in ids.items() if id is not None}


def test_what_needs_transformers_says_why(write, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    load_tokenizer(write({}, tokenizer_config=FAST, config={"model_type": "opt"}))
    with pytest.raises(InputError, match=r"add_bos_token is False.*pip install transformers"):
        load_tokenizer(write({}, tokenizer_config=FAST | {"add_bos_token": False}))
    with pytest.raises(InputError, match=r"tokenizer_config\.json must hold one JSON object"):
        load_tokenizer(write({}, tokenizer_config=[]))


def test_added_tokens_are_copied_with_a_tokenizer(write):
    pytest.importorskip("transformers")
    folder = write({}, tokenizer_config=FAST, added_tokens={"<mask>": 2048})
    assert json.loads(tokenizer_files(folder)["added_tokens.json"]) == {"<mask>": 2048}


# Tokenizer and model.


def bytes_from(first, special):
    """A tokenizer that numbers bytes from `first` on."""
    return TextTokenizer(
        f"from {first}",
        lambda rows: [[first + byte for byte in row.encode()] for row in rows],
        lambda ids: bytes(id - first for id in ids).decode(),
        256 + first,
        types.MappingProxyType(special),
    )


def test_a_tokenizer_of_another_model():
    config = OPTConfig(vocab_size=300, hidden_size=8, num_attention_heads=2)
    good = bytes_from(4, {"eos_token": 2, "pad_token": 0})
    check_tokenizer(good, config)
    check_tokenizer(bytes_from(4, {}), config, bytes_from(4, {}))
    for other, own, says in (
        (bytes_from(50, {}), None, "has 306 entries, more than the model's vocabulary of 300"),
        (bytes_from(4, {"eos_token": 0}), None, "ends a text with id 0, but eos_token_id"),
        (bytes_from(5, {}), good, "encodes text differently from the model's own, 'from 4'"),
    ):
        with pytest.raises(InputError, match=says):
            check_tokenizer(other, config, own)
