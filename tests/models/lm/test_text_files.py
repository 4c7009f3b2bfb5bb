"""Rows of one file: what other people's files hold, and one line for a row that is no text."""

import gzip
import json

import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.lm.corpus import TextTokenizer, blocks_of, load_tokenizer, read_rows


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.json", '[{"text": "x"},\n {"text": "y \\ud83d\\ude00"}]', ["x", "y 😀"]),
        ("a.json", '\n{"text": "x"}\n{"text": "y"}\n', ["x", "y"]),
        ("A.JSONL", '{"text": "x"}\n', ["x"]),
        ("a.jsonl", '\ufeff{"text": "x"}\n', ["x"]),
        ("a.TXT", "\ufeffx\n\ufeffy\n", ["x\n", "\ufeffy\n"]),
        ("wiki.train.tokens", " = x = \n \n", [" = x = \n", ""]),
        ("notes", "x\n", ["x\n"]),
    ],
)
def test_rows(tmp_path, name, content, rows):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_rows(tmp_path / name) == rows
    (tmp_path / f"{name}.GZ").write_bytes(gzip.compress(content.encode()))
    assert read_rows(tmp_path / f"{name}.GZ") == rows


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": "y\\ud800"}\n', "line 2: its text has \\ud800"),
        ("a.json", b'[{"text": "x"}, {"text": "\\udfff"}]', "entry 2: its text has \\udfff"),
        ("a.jsonl", b'{"text": "x"}\n\n{"text": null}\n', "line 3: contains None"),
        ("a.jsonl", b'{"content": "x", "id": 1}\n', "line 1: each line must be a JSON object"),
        ("a.jsonl", b'{"content": "x", "id": 1}\n', "this one has 'content', 'id'"),
        ("a.json", b'[{"text": "x"}, 3]', "entry 2: each entry of the array must be a JSON object"),
        ("a.json", b'{"data": [{"text": "x"}]}', "this one has 'data'"),
        ("a.txt", "x\ny\n".encode("utf-16"), "it must be text in UTF-8"),
        ("a.txt", "x\ny\n".encode("utf-16-le"), "line 1: contains the character NUL"),
        ("a.txt", "x\nÿ\n".encode("latin-1"), "it must be text in UTF-8"),
        ("a.csv", b"text,label\nx,1\n", "is a .csv file"),
        ("a.TSV.gz", gzip.compress(b"x\t1\n", mtime=0), "is a .tsv file"),
        ("a.txt.bz2", b"BZh9", "is a .bz2 file"),
    ],
)
def test_rows_that_are_no_text(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_rows(tmp_path / name)
    text = str(caught.value)
    assert says in text and str(tmp_path / name) in text and "\n" not in text


def test_a_row_of_parquet_that_is_no_text_is_named(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["x", None]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="row 2: contains None"):
        read_rows(tmp_path / "a.parquet")


@pytest.mark.parametrize("row", ["half \ud800", None, 3])
def test_rows_from_python_that_are_no_text(row):
    with pytest.raises(InputError, match="tokenizer 'embedded', row 1: "):
        load_tokenizer("embedded").encode(["x", row])


def test_one_text_is_not_a_list_of_its_characters():
    tokenizer = load_tokenizer("embedded")
    for call in (tokenizer.encode, lambda rows: blocks_of(rows, tokenizer, 4)):
        with pytest.raises(InputError, match="one text, 'abcd'"):
            call("abcd")


def test_ids_below_zero_are_no_blocks():
    odd = TextTokenizer("odd", lambda rows: [[2, -1, 3] for _ in rows], str, 9)
    with pytest.raises(InputError, match="'odd' gives id -1; 0 is the smallest"):
        blocks_of(["a"] * 9, odd, 4)


def test_escapes_of_whole_characters_are_read(tmp_path):
    """Only a text with half a pair is refused, not one that writes its characters as pairs."""
    rows = ["\U0001f600 and \\ud800", "\ud7ff \ue000 \uffff"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    assert read_rows(tmp_path / "a.jsonl") == rows
