"""Blocks of a run's corpus: those of `blocks_of`, made once, as far as needed, never held whole."""

import json
import tracemalloc

import numpy as np
import pytest

from collapse_jax.app.commands import text_blocks
from collapse_jax.app.commands.text_blocks import OTHERS, blocks_of_corpus, keep_blocks
from collapse_jax.app.config import LMConfig
from collapse_jax.errors import InputError
from collapse_jax.models.lm import texts
from collapse_jax.models.lm.block_file import read_blocks, write_blocks
from collapse_jax.models.lm.corpus import TextTokenizer, blocks_of, load_corpus

SPLITS = ("train", "valid", "test")


class Counting:
    """A tokenizer of bytes that counts the rows it encodes."""

    def __init__(self, identity="bytes"):
        self.rows = 0
        self.tokenizer = TextTokenizer("bytes", self.encode, str, 256, identity=identity)

    def encode(self, rows):
        self.rows += len(rows)
        return [[2, *row.encode()] for row in rows]


@pytest.fixture
def corpus(tmp_path):
    """A text whose training part has three batches of rows in some of its four shards."""
    lines = (f"{number} {'word ' * (number % 7)}\n" for number in range(13_000))
    (tmp_path / "text.txt").write_text("".join(lines))
    return str(tmp_path / "text.txt")


def config_of(corpus, **changes):
    return LMConfig(corpus=corpus, block_length=16, **changes)


def read(config, counting, **more):
    return blocks_of_corpus(config, counting.tokenizer, 256, say=lambda line: None, **more)


def expected(config, split, wanted, blocks_from):
    """As before there was a file: all blocks of all rows, then the wanted ones."""
    rows = getattr(load_corpus(config.corpus, lambda line: None), split)
    blocks = blocks_of(rows, Counting().tokenizer, config.block_length)
    if blocks_from == "start" or not wanted:
        return blocks[: wanted or None]
    return blocks[(2 * np.arange(wanted) + 1) * len(blocks) // (2 * wanted)]


@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize(
    ("wanted", "blocks_from"), [(0, "start"), (700, "start"), (5, "start"), (700, "spread")]
)
def test_blocks_are_those_of_the_whole_text(corpus, monkeypatch, is_held, wanted, blocks_from):
    if not is_held:
        monkeypatch.setattr(texts, "MOST_HELD", 1000)
    config = config_of(corpus, train_blocks=wanted, blocks_from=blocks_from)
    found = read(config, Counting()).blocks
    assert tuple(found) == SPLITS
    for split in SPLITS:
        wanted_here = wanted if split == "train" else 0
        right = expected(config, split, wanted_here, blocks_from)
        assert found[split].dtype == np.int32 and np.array_equal(found[split], right)


def test_no_more_is_tokenised_than_needed(corpus):
    counting = Counting()
    read(config_of(corpus, train_blocks=5, valid_blocks=5, test_blocks=5), counting)
    assert counting.rows == 1000 + 325 + 325  # a batch of each; the held-out shards have 325 rows
    counting = Counting()
    read(config_of(corpus), counting)
    assert counting.rows == 13_000


def test_a_run_tokenises_once(corpus, tmp_path):
    config, run = config_of(corpus, train_blocks=700), tmp_path / "run"
    first = Counting()
    made = read(config, first, run=run)
    assert first.rows and not run.exists()
    run.mkdir()
    keep_blocks(run, config, first.tokenizer, made.blocks, made.digests)
    again = Counting()
    found = read(config, again, run=run)
    assert again.rows == 0 and found.digests == made.digests
    for split in SPLITS:
        assert isinstance(found.blocks[split], np.memmap)
        assert np.array_equal(found.blocks[split], made.blocks[split])
    before = (run / "tokens" / "train.npy").stat().st_mtime_ns
    keep_blocks(run, config, first.tokenizer, found.blocks, found.digests)
    assert (run / "tokens" / "train.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize("what", ["text", "tokenizer", "length", "number", "bytes", "about"])
def test_blocks_of_something_else_are_made_again(corpus, tmp_path, what):
    config, run = config_of(corpus, train_blocks=700), tmp_path / "run"
    made = read(config, Counting())
    run.mkdir()
    keep_blocks(run, config, Counting().tokenizer, made.blocks, made.digests)
    counting = Counting("other" if what == "tokenizer" else "bytes")
    file = run / "tokens" / ("blocks.json" if what == "about" else "train.npy")
    if what == "text":
        with open(corpus, "a") as text:
            text.write("more\n")
    elif what in ("bytes", "about"):
        content = bytearray(file.read_bytes())
        content[-9] ^= 1
        file.write_bytes(content if what == "bytes" else content[:-20])
    elif what == "length":
        config = LMConfig(corpus=corpus, block_length=8, train_blocks=700)
    elif what == "number":
        config = config_of(corpus, train_blocks=701)
    found = read(config, counting, run=run)
    assert counting.rows > 0
    right = expected(config, "train", config.train_blocks, "start")
    assert np.array_equal(found.blocks["train"], right)


def test_a_tokenizer_that_is_not_known_by_all_is_not_trusted(corpus, tmp_path):
    config = config_of(corpus)
    made = read(config, Counting(""))
    keep_blocks(tmp_path, config, Counting("").tokenizer, made.blocks, made.digests)
    assert not (tmp_path / "tokens").exists()


def test_a_killed_write_leaves_nothing_that_counts(tmp_path, monkeypatch):
    blocks = {"train": np.zeros((3, 4), np.int32)}
    write_blocks(tmp_path, blocks, {"text": "a"})
    (tmp_path / "blocks.json").unlink()
    assert read_blocks(tmp_path, {"text": "a"}) is None
    write_blocks(tmp_path, blocks, {"text": "a"})
    assert read_blocks(tmp_path, {"text": "b"}) is None
    assert np.array_equal(read_blocks(tmp_path, {"text": "a"})["train"], blocks["train"])


def test_a_control_of_real_text_gets_the_other_blocks(corpus):
    """Those that are not trained on, in their order."""
    for blocks_from in ("start", "spread"):
        config = config_of(corpus, train_blocks=700, blocks_from=blocks_from)
        object.__setattr__(config, "control", "real")
        found = read(config, Counting()).blocks
        every, chosen = expected(config, "train", 0, "start"), range(700)
        if blocks_from == "spread":
            chosen = [(2 * i + 1) * len(every) // 1400 for i in range(700)]
        others = sorted(set(range(len(every))) - set(chosen))
        assert np.array_equal(found[OTHERS], every[others])
        assert np.array_equal(found["train"], every[list(chosen)])


def test_what_cannot_be_is_one_line(corpus):
    for changes, says in (
        ({"valid_blocks": 10**6}, "valid_blocks is 1000000, but the corpus has"),
        ({"text_column": "text"}, "text_column is 'text', but corpus file"),
    ):
        with pytest.raises(InputError, match=says):
            read(config_of(corpus, **changes), Counting())
    with pytest.raises(InputError, match="gives ids up to 119, but the model's vocabulary has 100"):
        blocks_of_corpus(config_of(corpus), Counting().tokenizer, 100, say=lambda line: None)
    with pytest.raises(InputError, match="shorter than one block of 100000 tokens"):
        read(LMConfig(corpus=corpus, block_length=100_000), Counting())


def test_a_large_text_is_not_held(tmp_path, monkeypatch):
    """2 MB of text in half of that, of which a batch of 1,000 rows takes most."""
    monkeypatch.setattr(texts, "MOST_HELD", 1 << 16)
    line = "some words of a line that comes again and again, as long as it may be\n" * 3
    (tmp_path / "text.txt").write_text("".join(f"{i} {line}" for i in range(10_000)))
    size = (tmp_path / "text.txt").stat().st_size

    def encode(rows):
        return [np.frombuffer(row.encode(), np.uint8)[::40].tolist() for row in rows]

    tokenizer = TextTokenizer("some bytes", encode, str, 256)
    tracemalloc.start()
    try:
        blocks_of_corpus(
            config_of(str(tmp_path / "text.txt")), tokenizer, 256, say=lambda line: None
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 2e6 and peak < size / 2


def test_settings_that_decide_are_among_the_settings():
    names = {*text_blocks._DECISIVE}
    assert names <= set(json.loads(json.dumps(vars(LMConfig()))))
