"""Which file of a folder is which split: whole words of names, and one line for whatever is not
clear.
"""

import gzip
import logging
import lzma

import pytest

from collapse_jax.models.lm.corpus import (
    fingerprint,
    load_corpus,
    load_tokenizer,
    tell_training,
    training_files,
)


@pytest.fixture
def folder(tmp_path):
    """folder(*names) writes a file into each of them that holds its name, and gives the folder."""

    def make(*names, **contents):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = contents.get(name, f"text of {name}\n").encode()
            pack = {".xz": lzma.compress, ".gz": gzip.compress}.get(path.suffix.lower(), bytes)
            path.write_bytes(pack(text))
        return str(tmp_path)

    return make


def read(source):
    """The names of the files that each split was read from, by what they hold; and what was said.

    One line is said.
    """
    said = []
    corpus = load_corpus(source, said.append)
    (line,) = said
    assert "\n" not in line
    names = {
        split: [row.removeprefix("text of ").strip() for row in rows]
        for split, rows in corpus._asdict().items()
    }
    return names, line


@pytest.mark.parametrize(
    "train, valid, test",
    [
        ("devanagari.train.txt", "devanagari.valid.txt", "devanagari.test.txt"),
        ("01_train_latest.txt", "02_valid_latest.txt", "03_test_latest.txt"),
        ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
        ("TRAIN.TXT", "Val.Txt", "TEST.TXT.GZ"),
        ("train.json", "val.json", "test.json"),
        ("train².txt", "val(1).txt", "test_é.txt"),
        ("train.raw", "dev.raw", "test.raw"),
        ("contest-train.txt", "latest_dev.txt", "trainspotting.test.txt.xz"),
        ("train/part1.txt", "validation/x.txt", "Test/y.txt"),
    ],
)
def test_names_that_are_clear(folder, train, valid, test):
    names = (train, valid, test)
    texts = {name: f'{{"text": "text of {name}"}}' for name in names if name.endswith(".json")}
    found, line = read(folder(*names, **texts))
    assert found == {"train": [train], "valid": [valid], "test": [test]}
    assert "left out" not in line
    length = len(f"text of {train}") + (not train.endswith(".json"))
    assert f"1 rows, {length} characters" in line


def test_words_within_words_are_left_out_and_said(folder):
    source = folder("train.txt", "valid.txt", "test.txt", "invalid_rows.txt", "latest.txt", "a.md")
    found, line = read(source)
    assert found == {"train": ["train.txt"], "valid": ["valid.txt"], "test": ["test.txt"]}
    assert line.endswith("left out: a.md, invalid_rows.txt, latest.txt")


def test_a_raw_file_is_left_out_where_there_is_another(folder):
    """WikiText comes both ways, with its rare words replaced and raw."""
    kinds = ("train", "valid", "test")
    source = folder(*(f"wiki.{kind}.{end}" for kind in kinds for end in ("tokens", "raw")))
    found, line = read(source)
    assert found == {kind: [f"wiki.{kind}.tokens"] for kind in kinds}
    assert line.endswith("left out: wiki.test.raw, wiki.train.raw, wiki.valid.raw")


def test_what_lies_about_is_no_text(folder):
    """Backups of editors, hidden files, what Finder writes, a text about the text, a folder."""
    source = folder(
        *("train.txt", "valid.txt", "test.txt", "train.txt~", "#train.txt#", "train.txt.bak"),
        *(".train.txt", "._valid.txt", "README.txt", "train/notes.md", "more/train.txt"),
    )
    found, line = read(source)
    assert found == {"train": ["train.txt"], "valid": ["valid.txt"], "test": ["test.txt"]}
    assert "README.txt" in line and "more/" in line and "train.txt~" in line and "._" not in line


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["train-valid-test.txt"], ["'train-valid-test.txt' names train and valid and test"]),
        (["train.txt", "test_train_split.txt"], ["'test_train_split.txt' names train and test"]),
        (["train.txt", "train.txt.xz"], ["train.txt, train.txt.xz", "train split"]),
        (["train.txt", "train.jsonl"], ["train.jsonl, train.txt"]),
        (["train.txt", "train/a.txt"], ["train/, train.txt"]),
        (["train.txt", "train copy.txt"], ["train copy.txt, train.txt"]),
        (["train_crawl.txt", "train_wiki.txt"], ["train_crawl.txt, train_wiki.txt"]),
        (["train-v1.txt", "train-v2.txt"], ["train-v1.txt, train-v2.txt"]),
        (["wiki2.train.txt", "wiki103.train.txt"], ["wiki103.train.txt, wiki2.train.txt"]),
        (["train.txt", "dev.txt", "valid.txt"], ["dev.txt, valid.txt"]),
        (["train-00000-of-00003.txt", "train-00002-of-00003.txt"], ["2 of 3 shards"]),
        (["train/a.txt", "train/test.txt"], ["train", "test.txt names another split"]),
        (["train/a.txt", "train/a.txt.gz"], ["train/a.txt, train/a.txt.gz"]),
        (["train².txt.md", "valid.txt"], ["no train file", "left out: train².txt.md"]),
        (["traindata.txt", "valid.txt", "test.txt"], ["no train file", "left out: traindata.txt"]),
    ],
)
def test_names_that_are_not_clear(folder, names, says, refused):
    source = folder(*names)
    text = refused(load_corpus, source)
    assert all(word in text for word in says) and source in text


def test_shards_are_read_in_the_order_of_their_numbers(folder):
    shards = [f"train-{i}.txt" for i in range(1, 12)]
    hashed = [f"valid-0000{i}-of-00002-{word}.txt" for i, word in ((0, "f0e"), (1, "0ab"))]
    parts = [f"test/part{i}.txt" for i in (2, 10)]
    found, line = read(folder(*shards, *hashed, *parts))
    assert found == {"train": shards, "valid": hashed, "test": parts}
    assert "11 files" in line and "11 rows" in line


def test_an_empty_shard_is_a_part_that_is_missing(folder, refused):
    source = folder("train-1.txt", "train-2.txt", "valid.txt", "test.txt", **{"train-2.txt": "\n"})
    assert "train-2.txt is empty" in refused(load_corpus, source)


def test_links(folder, tmp_path, refused):
    source = folder("train.txt", "test.txt")
    (tmp_path / "valid.txt").symlink_to(tmp_path / "gone.txt")
    text = refused(load_corpus, source)
    assert "valid.txt is a link to a file that does not exist" in text
    (tmp_path / "valid.txt").unlink()
    (tmp_path / "valid.txt").symlink_to(tmp_path / "test.txt")
    assert "valid and test contain the same text" in read(source)[1]


def test_text_that_two_splits_share_is_said(folder):
    long, other = (
        "a row of more than forty characters, of train\n",
        "another row, as long as that\n",
    )
    line = read(
        folder(
            *("train.txt", "valid.txt", "test.txt"),
            **{"train.txt": long + other * 2, "valid.txt": long + "x" * 50, "test.txt": other},
        )
    )[1]
    assert line.endswith(
        "1 of the 2 different rows of 40 characters or more in valid also occur in train"
    )


def test_line_ends_of_one_split(folder):
    line = read(folder("train.txt", "valid.txt", "test.txt", **{"valid.txt": "a\r\nb\r\n"}))[1]
    assert line.endswith("only valid has lines that end in a carriage return")


def test_without_a_listener_only_what_matters_is_logged(folder, caplog):
    source = folder("train.txt", "valid.txt", "test.txt")
    with caplog.at_level(logging.INFO):
        load_corpus(source)
        load_corpus(folder("notes.txt"))
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert "left out: notes.txt" in caplog.records[1].message


@pytest.mark.parametrize("source", ["", 5, None])
def test_what_is_no_name_of_a_text(source, refused):
    """An empty name would be the folder that one stands in."""
    assert refused(load_corpus, source).startswith(f"corpus is {source!r}; it must be")
    assert refused(load_tokenizer, source).startswith(f"tokenizer is {source!r}; it must be")


def test_a_path_is_a_name(folder, tmp_path):
    folder("train.txt", "valid.txt", "test.txt")
    assert load_corpus(tmp_path, lambda line: None) == load_corpus(str(tmp_path), lambda line: None)


# What pretraining reads.


def told(source):
    said = []
    tell_training(source, said.append)
    (line,) = said
    return line


def test_pretraining_reads_a_train_split_or_everything(folder, tmp_path):
    source = folder("a.txt", "b.txt", "README.txt", ".hidden.txt", "pictures/x.png")
    assert [path.name for path in training_files(source)] == ["a.txt", "b.txt"]
    assert "2 files, 28 bytes: a.txt, b.txt; left out: README.txt, pictures/" in told(source)
    folder("train.txt", "test.txt")
    assert [path.name for path in training_files(source)] == ["train.txt"]
    assert "1 file, 18 bytes: train.txt; left out: README.txt, a.txt, b.txt" in told(source)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["the-train-to-london.txt", "moby-dick.txt"], "moby-dick.txt none"),
        (["a.txt", "test.txt"], "has no train file, but test.txt"),
        (["a.txt", "a.txt.xz"], "one text twice"),
    ],
)
def test_pretraining_refuses_what_is_not_clear(folder, names, says, refused):
    assert says in refused(training_files, folder(*names))


def test_pretraining_reads_no_text_twice(folder, refused):
    source = folder("a.txt", "b.txt", "c.txt", **{"c.txt": "text of a.txt\n"})
    assert "a.txt, c.txt have the same content" in refused(fingerprint, source)
