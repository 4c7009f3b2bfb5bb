"""Text in: what each kind of file gives, how blocks are cut, and one line for whatever cannot be
read.
"""

import gzip
import hashlib
import json
import lzma
import sys
import types

import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.lm import corpus as corpus_file
from collapse_jax.models.lm.corpus import (
    TextTokenizer,
    blocks_of,
    embedded_corpus,
    fingerprint,
    load_corpus,
    load_tokenizer,
    read_rows,
    stream_rows,
    tokenizer_files,
    training_files,
    training_rows,
)

ROWS = [" = Title = \n", "", " First paragraph , with cécé . \n", "", "no newline at the end"]
LINES = " = Title = \n \n First paragraph , with cécé . \n\nno newline at the end"
BYTES = TextTokenizer(
    "bytes",
    lambda rows: [[2, *row.encode()] for row in rows],
    lambda ids: bytes(ids[1:]).decode(),
    256,
)


@pytest.fixture(scope="module")
def opt_tokenizer(shared):
    return load_tokenizer(str(shared / "opt-tokenizer"))


# Blocks, held against counts published with the data (protocols.md).


@pytest.mark.parametrize(
    ("file", "rows", "blocks", "tokens"),
    [
        ("wiki.valid.raw.xz", 3760, 3920, 251_049),
        ("wiki.test.raw.xz", 4358, 4491, 287_645),
        ("train.txt.xz", 36_718, 38_403, 2_459_198),
    ],
)
def test_block_counts_of_wikitext(shared, opt_tokenizer, file, rows, blocks, tokens):
    text = read_rows(shared / "wikitext-2" / file)
    counted = []

    def encode(batch):
        encoded = opt_tokenizer.encode(batch)
        counted.append(sum(map(len, encoded)))
        return encoded

    found = blocks_of(text, opt_tokenizer._replace(encode=encode))
    assert (len(text), found.shape, found.dtype, sum(counted)) == (
        rows,
        (blocks, 64),
        np.int32,
        tokens,
    )
    assert found[0, 0] == 2 and found.max() < 50_265


def test_every_row_begins_with_end_of_text(opt_tokenizer):
    rows = ["", " A few words . \n", "Hello world"]
    encoded = opt_tokenizer.encode(rows)
    assert encoded[0] == [2] and encoded[2] == [2, 31414, 232]  # the ids of transformers' own tests
    assert [opt_tokenizer.decode(ids) for ids in encoded] == ["</s>" + row for row in rows]


def test_blocks_are_cut_by_shard_and_by_thousand_rows():
    """4,010 rows of 3 tokens: shards of 1003, 1003, 1002, 1002 rows, batches of 1000 and the rest,
    7 tokens a block.
    """
    rows = [f"{i % 10}{i // 10 % 10}" for i in range(4010)]
    expected = []
    start = 0
    for shard in (1003, 1003, 1002, 1002):
        for first, last in ((start, start + 1000), (start + 1000, start + shard)):
            tokens = [token for row in rows[first:last] for token in (2, ord(row[0]), ord(row[1]))]
            expected += [tokens[i : i + 7] for i in range(0, len(tokens) - 6, 7)]
        start += shard
    np.testing.assert_array_equal(blocks_of(rows, BYTES, 7), expected)


@pytest.mark.parametrize("length", [1, 0, -3])
def test_a_block_has_at_least_two_tokens(length, refused):
    assert f"block_length is {length}" in refused(blocks_of, ["abc"], BYTES, length)


def test_less_text_than_one_block(refused):
    assert "shorter than one block of 64 tokens" in refused(blocks_of, ["abc"], BYTES)
    assert "shorter than one block" in refused(blocks_of, [], BYTES)
    assert blocks_of(["a" * 63], BYTES).shape == (1, 64)
    assert "shorter" in refused(
        blocks_of, ["a" * 20] * 4, BYTES, 22
    )  # 84 tokens, but 21 in each shard


# The embedded corpus and its tokenizer.


def test_embedded_corpus():
    corpus = load_corpus("embedded")
    assert corpus == embedded_corpus()
    words = sum(len(row.split()) for rows in corpus for row in rows)
    if sys.version_info[:2] == (3, 11):
        assert words == 65_501
    else:
        assert 50_000 < words < 150_000
    assert all(
        row.endswith("\n") and row.count("\n") == 1 and row.strip()
        for rows in corpus
        for row in rows
    )
    assert len(corpus.train) > len(corpus.valid) > 0 and len(corpus.test) > 0


@pytest.mark.parametrize(
    "text", ["def f(x):\n    return x ** 2\n", "", "naïve façade ☃ 你好\t!\n", " a  b "]
)
def test_embedded_tokenizer_round_trip(text):
    tokenizer = load_tokenizer("embedded")
    (ids,) = tokenizer.encode([text])
    assert ids[0] == 2 and 2 not in ids[1:] and max(ids) < tokenizer.vocab_size == 2048
    assert tokenizer.decode(ids) == "</s>" + text
    assert tokenizer.decode(np.array(ids[1:], np.int32)) == text


def test_embedded_tokenizer_does_compress():
    rows = embedded_corpus().test
    ids = load_tokenizer("embedded").encode(rows)
    assert sum(map(len, ids)) < 0.45 * sum(len(row.encode()) for row in rows)


# Files.


@pytest.fixture
def files(tmp_path):
    """The same rows in every kind of file."""
    import pyarrow
    import pyarrow.parquet

    jsonl = "".join(
        json.dumps({"text": row, "more": 1}) + "\n" for row in LINES.splitlines(keepends=True)
    )
    found = {}
    for name, text in (("a.txt", LINES), ("a.raw", LINES), ("a.jsonl", jsonl)):
        found[name] = tmp_path / name
        found[name].write_bytes(text.encode())
        for suffix, compress in ((".xz", lzma.compress), (".gz", gzip.compress)):
            found[name + suffix] = tmp_path / (name + suffix)
            found[name + suffix].write_bytes(compress(text.encode()))
    found["a.parquet"] = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"n": range(5), "text": LINES.splitlines(keepends=True)}), found["a.parquet"]
    )
    return found


def test_every_kind_of_file_gives_the_same_rows(files):
    assert {name: read_rows(path) for name, path in files.items()} == dict.fromkeys(files, ROWS)


def test_carriage_returns_and_odd_separators_stay(tmp_path):
    (tmp_path / "a.txt").write_bytes("a\r\nb\x0cc\u2028d\n".encode())
    assert read_rows(tmp_path / "a.txt") == ["a\r\n", "b\x0cc\u2028d\n"]


def test_a_single_file_is_cut_eight_one_one(tmp_path):
    rows = [f"row {i}\n" for i in range(25)]
    (tmp_path / "a.txt").write_text("".join(rows))
    assert tuple(load_corpus(str(tmp_path / "a.txt"))) == (rows[:20], rows[20:22], rows[22:])


def test_folder_takes_raw_files_only_where_there_is_no_other(tmp_path):
    for name in (
        "wiki.train.raw",
        "train.txt",
        "wiki.valid.raw",
        "validation.txt",
        "wiki.test.raw",
        "README.md",
        "test.py",
    ):
        (tmp_path / name).write_text(name + "\n")
    assert tuple(load_corpus(str(tmp_path))) == (
        ["train.txt\n"],
        ["validation.txt\n"],
        ["wiki.test.raw\n"],
    )


def test_folder_of_wikitext(shared):
    corpus = load_corpus(str(shared / "wikitext-2"))
    assert [len(rows) for rows in corpus] == [36_718, 3_760, 4_358]
    assert all(any("<unk>" in row for row in rows) for rows in corpus)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"caf\xe9\n", "cannot be read"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text"\n',
            "each line must be a JSON object with a field 'text'",
        ),
        ("a.jsonl", b'{"content": "a"}\n', "each line must be a JSON object with a field 'text'"),
        ("a.jsonl", b'["text"]\n', "each line must be a JSON object with a field 'text'"),
        ("a.jsonl", b'{"text": 5}\n', "each 'text' must be a string"),
        ("a.jsonl", b'{"text": null}\n', "each 'text' must be a string"),
        ("a.txt.gz", gzip.compress(b"words " * 999, mtime=0)[:-15], "cannot be read"),
        ("a.txt.gz", gzip.compress(b"words " * 999, mtime=0)[:12] + b"\xff" * 30, "cannot be read"),
        ("a.txt.gz", b"no gzip at all", "cannot be read"),
        ("a.txt.xz", lzma.compress(b"words " * 999)[:-15], "cannot be read"),
        ("a.txt.xz", b"no xz at all", "cannot be read"),
        ("a.parquet", b"PAR1 no parquet", "cannot be read as parquet"),
    ],
    ids=[str(number) for number in range(12)],
)
def test_damaged_files(tmp_path, capfd, name, content, says, refused):
    (tmp_path / name).write_bytes(content)
    text = refused(load_corpus, str(tmp_path / name))
    assert says in text and str(tmp_path / name) in text
    assert capfd.readouterr() == ("", "")


def test_parquet_without_text(tmp_path, refused):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"txt": ["a"]}), tmp_path / "column.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "numbers.parquet")
    assert "column 'text'" in refused(read_rows, tmp_path / "column.parquet")
    assert "must be a string" in refused(read_rows, tmp_path / "numbers.parquet")


def test_missing_and_empty(tmp_path, refused):
    assert "is neither a file nor a folder" in refused(load_corpus, str(tmp_path / "nowhere"))
    assert "has no train file" in refused(load_corpus, str(tmp_path))
    for name, text in (("train.txt", "a\n"), ("valid.txt", " \n\n"), ("test.txt", "a\n")):
        (tmp_path / name).write_text(text)
    assert "its valid split is empty" in refused(load_corpus, str(tmp_path))
    (tmp_path / "test.txt").unlink()
    assert "has no test file" in refused(load_corpus, str(tmp_path))
    (tmp_path / "empty.txt").write_text("")
    assert "its train split is empty" in refused(load_corpus, str(tmp_path / "empty.txt"))


# Pretraining reads a stream.


@pytest.mark.parametrize("suffix", ["", ".xz"])
def test_rows_come_one_by_one(tmp_path, suffix, refused):
    """The first rows are there although the file is damaged further on."""
    text = "".join(f"row {i} of many\n" for i in range(200_000)).encode()
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(
        lzma.compress(text, preset=0)[:-40] if suffix else text[:2_000_000] + b"\xe9\n" + text
    )
    rows = stream_rows(path)
    assert [next(rows) for _ in range(3)] == [
        "row 0 of many\n",
        "row 1 of many\n",
        "row 2 of many\n",
    ]
    assert "cannot be read" in refused(list, rows)


def test_files_of_a_pretraining_corpus(tmp_path, refused):
    for name in ("b.txt", "a.jsonl", "notes.md", "works.tsv"):
        (tmp_path / name).write_text(json.dumps({"text": f"row of {name}"}) + "\n")
    assert [path.name for path in training_files(str(tmp_path))] == ["a.jsonl", "b.txt"]
    assert list(training_rows(str(tmp_path))) == ["row of a.jsonl", '{"text": "row of b.txt"}\n']
    assert training_files(str(tmp_path / "b.txt")) == [tmp_path / "b.txt"]
    (tmp_path / "wiki.train.raw").write_text("raw\n")
    (tmp_path / "valid.txt").write_text("valid\n")
    assert list(training_rows(str(tmp_path))) == ["raw\n"]
    assert list(training_rows("embedded")) == embedded_corpus().train
    (tmp_path / "c.jsonl").write_text('{"text": "no", "story": "yes"}\n')
    assert list(training_rows(str(tmp_path / "c.jsonl"), "story")) == ["yes"]
    for source in ("embedded", str(tmp_path / "b.txt")):
        with pytest.raises(InputError, match="text_column is 'story', but corpus"):
            list(training_rows(source, "story"))
    (tmp_path / "none").mkdir()
    assert "has no text file" in refused(training_files, str(tmp_path / "none"))
    assert "is neither a file nor a folder" in refused(training_files, str(tmp_path / "nowhere"))


def test_fingerprints_change_with_the_text(tmp_path):
    (tmp_path / "a.txt").write_text("abc\n")
    assert (
        fingerprint(str(tmp_path / "a.txt"))
        == fingerprint(str(tmp_path))
        == [["a.txt", 4, hashlib.sha256(b"abc\n").hexdigest()]]
    )
    (tmp_path / "a.txt").write_text("abd\n")
    assert fingerprint(str(tmp_path)) == [["a.txt", 4, hashlib.sha256(b"abd\n").hexdigest()]]
    assert fingerprint("embedded")[0][1] == sum(
        len(row.encode()) for row in embedded_corpus().train
    )


def test_corpus_from_the_hub_is_by_name_and_can_fail(monkeypatch, refused):
    asked = []

    def load_dataset(*name):
        asked.append(name)
        return {split: {"text": [f" {split} \n", ""]} for split in ("train", "validation", "test")}

    datasets = types.SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    assert tuple(load_corpus("wikitext-2-raw-v1")) == (
        [" train \n", ""],
        [" validation \n", ""],
        [" test \n", ""],
    )
    assert asked == [("Salesforce/wikitext", "wikitext-2-raw-v1")]

    def offline(*name):
        raise ConnectionError("first line\nsecond line")

    datasets.load_dataset = offline
    assert "cannot be loaded from the hub" in refused(load_corpus, "wikitext-103-v1")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install datasets" in refused(load_corpus, "wikitext-2-raw-v1")


# Tokenizers.


def test_tokenizer_folders(tmp_path, monkeypatch, refused):
    corpus_file._train_embedded().save(str(tmp_path / "tokenizer.json"))
    saved, trained = load_tokenizer(str(tmp_path)), load_tokenizer("embedded")
    rows = embedded_corpus().valid[:50]
    assert saved.encode(rows) == trained.encode(rows) and saved.vocab_size == trained.vocab_size
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "tokenizer.json cannot be read" in refused(load_tokenizer, str(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    assert "contains neither tokenizer.json nor vocab.json" in refused(
        load_tokenizer, str(tmp_path)
    )
    (tmp_path / "vocab.json").write_text("not json")
    assert "cannot be loaded" in refused(load_tokenizer, str(tmp_path))


def write_tokenizer(folder, files):
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return load_tokenizer(str(folder))


def test_a_trained_tokenizer(tmp_path):
    rows = ["low lower lowest\n"] * 20 + ["naïve\n"]
    tokenizer = write_tokenizer(tmp_path / "small", tokenizer_files("train:263", rows))
    assert tokenizer.vocab_size == 263
    (ids,) = tokenizer.encode(["low lower"])
    # 4 special entries, 256 bytes, then the three most frequent pairs: l+o, lo+w, and a space in
    # front of it.
    assert (
        ids[:2] == [2, tokenizer.encode(["low"])[0][1]]
        and tokenizer.decode([260]) == "lo"
        and tokenizer.decode([261]) == "low"
    )
    assert tokenizer.decode([262]) == " low" and ids[2] == 262 and ids[0] == 2
    assert tokenizer.decode(tokenizer.encode(["naïve ☃"])[0]) == "</s>naïve ☃"
    assert tokenizer_files("train:263", iter(rows)) == tokenizer_files("train:263", rows)
    with pytest.raises(InputError, match="cannot be read"):
        tokenizer_files("train:300", stream_rows(tmp_path / "nowhere"))


def test_tokenizer_files_are_those_of_the_source(tmp_path, shared):
    rows = embedded_corpus().valid[:50]
    again = write_tokenizer(tmp_path / "embedded", tokenizer_files("embedded"))
    assert (
        again.encode(rows) == load_tokenizer("embedded").encode(rows) and again.vocab_size == 2048
    )
    files = tokenizer_files(str(shared / "opt-tokenizer"))
    assert set(files) == {"vocab.json", "merges.txt", "tokenizer_config.json"}
    assert write_tokenizer(tmp_path / "opt", files).encode(["Hello world"]) == [[2, 31414, 232]]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("train:259", "it must have at least 260 entries"),
        ("train:many", "it must be a folder, 'embedded', or 'train:N'"),
        ("facebook/opt-125m", "it must be a folder, 'embedded', or 'train:N'"),
    ],
)
def test_tokenizers_that_pretraining_does_not_take(source, says, refused):
    text = refused(tokenizer_files, source)
    assert text.startswith(f"tokenizer is '{source}'") and says in text


def test_tokenizer_of_a_hub_name_without_network(monkeypatch, refused):
    class AutoTokenizer:
        @staticmethod
        def from_pretrained(name, trust_remote_code):
            assert trust_remote_code is False
            raise OSError(f"{name} is not a local folder\nand the hub does not answer")

    monkeypatch.setitem(
        sys.modules, "transformers", types.SimpleNamespace(AutoTokenizer=AutoTokenizer)
    )
    assert "'facebook/opt-125m' cannot be loaded (OSError)" in refused(
        load_tokenizer, "facebook/opt-125m"
    )
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "pip install transformers" in refused(load_tokenizer, "facebook/opt-125m")
