"""Texts of the hub by name, of which no test calls the real one, and local files of their kind."""

import json
import sys
import types

import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.lm import texts
from collapse_jax.models.lm.corpus import load_corpus, read_rows
from collapse_jax.models.lm.texts import StreamedRows, open_text
from collapse_jax.runs.made_of import of_texts


def rows(name, count):
    return [f"{name} {number}\n" for number in range(count)]


@pytest.fixture
def hub(monkeypatch):
    """Stands for the package datasets: `hub.holds[arguments]`, and the calls that it got."""
    holds, asked = {}, []

    def load_dataset(*where, **more):
        asked.append((where, more))
        found = holds[(*where, *more.values())]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return types.SimpleNamespace(holds=holds, asked=asked)


def refused(call, *args):
    with pytest.raises(InputError) as caught:
        call(*args)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


THREE = {name: {"text": rows(name, 4)} for name in ("train", "validation", "test")}


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("wikitext-2-raw-v1", ("Salesforce/wikitext", "wikitext-2-raw-v1")),
        ("wikitext-103-v1", ("Salesforce/wikitext", "wikitext-103-v1")),
        ("someone/else", ("someone/else",)),
        ("someone/else:part-2", ("someone/else", "part-2")),
    ],
)
def test_names(hub, name, where):
    hub.holds[where] = THREE
    assert [list(part) for part in load_corpus(name)] == [
        rows("train", 4),
        rows("validation", 4),
        rows("test", 4),
    ]
    assert hub.asked == [(where, {})]


def test_a_text_without_a_test_split_gives_half_of_its_validation(hub):
    """TinyStories has two splits."""
    parts = {"train": {"text": rows("train", 5)}, "validation": {"text": rows("valid", 5)}}
    hub.holds[("roneneldan/TinyStories",)] = parts
    said = []
    corpus = load_corpus("tinystories", said.append)
    assert corpus == (rows("train", 5), rows("valid", 5)[:2], rows("valid", 5)[2:])
    assert "valid: half of the hub's validation, 2 rows" in said[0]
    assert "test: half of the hub's validation, 3 rows" in said[0]
    hub.holds[("one/only",)] = {"train": {"text": rows("train", 20)}}
    corpus = load_corpus("one/only", said.append)
    assert corpus == (rows("train", 16), rows("train", 18)[16:], rows("train", 20)[18:])
    assert "valid: part of the hub's train, 2 rows" in said[1]
    hub.holds[("no/train",)] = {"test": {"text": rows("test", 3)}}
    assert "the hub has no train split, but test" in refused(load_corpus, "no/train")


def test_columns(hub):
    """XSum's is "document"; of several without "text" the line lists those that hold text."""
    part = {"document": ["a long text\n"], "summary": ["short\n"], "likes": [3]}
    hub.holds[("EdinburghNLP/xsum",)] = dict.fromkeys(("train", "validation", "test"), part)
    assert load_corpus("xsum").train == ["a long text\n"]
    assert load_corpus("xsum", None, "summary").train == ["short\n"]
    hub.holds[("some/texts",)] = hub.holds[("EdinburghNLP/xsum",)]
    assert refused(load_corpus, "some/texts") == (
        "corpus 'some/texts' has no column 'text'; it has 'document', 'summary', 'likes'; give one "
        "of 'document', 'summary' as text_column"
    )
    assert "row 1 of train: contains 3" in refused(load_corpus, "some/texts", None, "likes")


def test_data_sets_that_were_programs_are_read_as_the_hub_converted_them(hub):
    hub.holds[("EdinburghNLP/xsum",)] = RuntimeError("Dataset scripts are no longer supported")
    parts = {name: {"document": rows(name, 2)} for name in THREE}
    hub.holds[("EdinburghNLP/xsum", "refs/convert/parquet")] = parts
    assert load_corpus("xsum").test == rows("test", 2)
    hub.holds[("some/texts",)] = RuntimeError("another\nerror")
    assert "cannot be loaded from the hub (RuntimeError)" in refused(load_corpus, "some/texts")


@pytest.fixture
def parquet(tmp_path):
    """A function that writes the splits of a text with columns as the hub's files have them."""
    import pyarrow
    import pyarrow.parquet

    def write(columns, kind="parquet"):
        for split in THREE:
            table = {name: [f"{split} {name}"] for name in columns}
            if kind == "jsonl":
                line = json.dumps({name: values[0] for name, values in table.items()})
                (tmp_path / f"{split}.jsonl").write_text(line + "\n")
                continue
            file = tmp_path / f"{split}-00000-of-00001.parquet"
            pyarrow.parquet.write_table(pyarrow.table(table | {"n": [1]}), file)
        return str(tmp_path)

    return write


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_column_of_local_files(parquet, kind):
    folder = parquet(["document", "summary"], kind)
    assert load_corpus(folder, None, "summary").valid == ["validation summary"]
    text = refused(load_corpus, folder)
    assert "'document', 'summary'" in text
    assert text.endswith("give one of 'document', 'summary' as text_column")
    assert "'colour'" in refused(load_corpus, folder, None, "colour")


def test_plain_text_has_no_columns(tmp_path):
    (tmp_path / "text.txt").write_text("a\n")
    for source in (str(tmp_path / "text.txt"), "embedded"):
        text = refused(load_corpus, source, None, "text")
        assert "text_column is 'text', but corpus " in text and text.endswith("columns; give None")
    assert read_rows(tmp_path / "text.txt") == ["a\n"]


def test_a_large_text_is_streamed_and_the_same(tmp_path, monkeypatch):
    """Its rows, its splits, its hashes and what is said of it."""
    path, said = tmp_path / "text.txt", []
    lines = [f"a line of some forty characters, number {number}\n" for number in range(107)]
    path.write_text("".join([*lines, lines[3], "\n", lines[5]]))
    for source in (path, tmp_path / "folder"):
        held = open_text(str(source), said.append) if source == path else None
        (tmp_path / "folder").mkdir(exist_ok=True)
        for split, part in (held or open_text(str(path), said.append)).rows.items():
            (tmp_path / "folder" / f"{split}.txt").write_text("".join(part))
    for source in (path, tmp_path / "folder"):
        held = open_text(str(source), said.append)
        with monkeypatch.context() as patch:
            patch.setattr(texts, "MOST_HELD", 60)
            streamed = open_text(str(source), said.append)
        assert said[-1] == said[-2] and "also occur in train" in said[-1]
        assert streamed.digests == held.digests
        assert held.digests == {split: of_texts(part) for split, part in held.rows.items()}
        for split, part in streamed.rows.items():
            assert isinstance(part, StreamedRows) and isinstance(held.rows[split], list)
            assert len(part) == len(held.rows[split])
            assert list(part) == list(part) == [row if row.strip() else "" for row in part]
            assert list(part) == held.rows[split]
            assert list(part[2:5]) == held.rows[split][2:5]
            assert list(part[2:9][1:3]) == held.rows[split][3:5]
