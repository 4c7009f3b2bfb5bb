"""`cj.read_data`: every file has its right table, or one line that names row and column."""

import datetime
import decimal
import gzip
import re

import jax
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import collapse_jax as cj
from collapse_jax.core.tables import text_files
from collapse_jax.core.tables.read import read_file
from collapse_jax.errors import InputError


def written(tmp_path, name, content):
    """A file of text, of bytes, of an array, or of columns as parquet."""
    path = tmp_path / name
    if isinstance(content, str | bytes):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    elif name.endswith(".npy"):
        np.save(path, content)
    elif name.endswith(".npz"):
        np.savez(path, **content)
    else:
        parquet.write_table(pyarrow.table(content), path)
    return path


# What a file holds, how it is read -> values, names, categories.
RIGHT = {
    "plain": ("a.csv", "a,b\n1,2\n3,4.5\n", {}, [[1, 2], [3, 4.5]], "ab", (None, None)),
    "chosen in order": (
        *("a.csv", "a,b,c\n1,2,3\n4,5,9\n", {"columns": ["c", "a"]}),
        *([[3, 1], [9, 4]], "ca", (None, None)),
    ),
    "target last": ("a.csv", "a,b\n1,2\n3,4\n", {"target": "a"}, [[2, 1], [4, 3]], "ba", ...),
    "marked": ("a.csv", b'\xef\xbb\xbf"a",b\n1,2\n', {}, [[1, 2]], "ab", ...),
    "old Mac": ("a.csv", "a,b\r1,2\r3,4\r", {}, [[1, 2], [3, 4]], "ab", ...),
    "Windows": ("a.csv", "a,b\r\n1,2\r\n3,4\r\n\r\n", {}, [[1, 2], [3, 4]], "ab", ...),
    "spaces": ("a.csv", "a, b\n1, 2\n 3 ,4\n", {}, [[1, 2], [3, 4]], "ab", ...),
    "ways to write": (
        *("a.csv", "a\n+1\n5.\n.5\n1E+2\n-0\n0e-400\n", {}),
        *([[1], [5], [0.5], [100], [0], [0]], "a", ...),
    ),
    "words": ("a.csv", "s\ny\nx\ny\n", {}, [[1], [0], [1]], "s", (("x", "y"),)),
    "numbers as categories": (
        *("a.csv", "s\n10\n9\n1\n", {"categories": ["s"]}),
        *([[2], [1], [0]], "s", (("1", "9", "10"),)),
    ),
    "codes": (
        *("a.csv", "zip\n01234\n94103\n", {"categories": ["zip"]}),
        *([[0], [1]], ("zip",), (("01234", "94103"),)),
    ),
    "Namibia": (
        *("a.csv", "s\nNA\nDE\n", {"categories": ["s"]}),
        *([[1], [0]], "s", (("DE", "NA"),)),
    ),
    "truth": ("a.csv", "s\nTRUE\nfalse\n", {}, [[1], [0]], "s", (("false", "true"),)),
    "years": (
        *("a.csv", "2019,2020\n4,5\n", {"columns": ["2019", "2020"]}),
        *([[4, 5]], ("2019", "2020"), ...),
    ),
    "dropped": (
        *("a.csv", "a,b\n1,2\nNaN,4\n3,\n5,6\n", {"missing": "drop"}),
        *([[1, 2], [5, 6]], "ab", ...),
    ),
    "tabs": ("a.tsv", "a\tb\n1\tx y\n", {}, [[1, 0]], "ab", (None, ("x y",))),
    "packed": ("a.csv.gz", gzip.compress(b"a\n1\n4\n"), {}, [[1], [4]], "a", ...),
    "array": ("a.npy", np.array([[1, 5], [3, 4]]), {}, [[1, 5], [3, 4]], "01", ...),
    "array of words": ("a.npy", np.array(["v", "u"]), {}, [[1], [0]], "0", (("u", "v"),)),
    "array of bytes": ("a.npy", np.array([b"v", b"u"]), {}, [[1], [0]], "0", (("u", "v"),)),
    "records": (
        *("a.npy", np.array([(1, 2.5)], [("i", int), ("f", float)]), {}),
        *([[1, 2.5]], "if", ...),
    ),
    "arrays": (
        *("a.npz", {"x": np.array([[1, 5], [2, 3]]), "y": np.array([8, 9])}, {"target": "y"}),
        *([[1, 5, 8], [2, 3, 9]], ("x_0", "x_1", "y"), ...),
    ),
    "parquet": (
        *("a.parquet", {"a": [1, 5], "s": ["y", "x"], "t": [True, False]}, {}),
        *([[1, 1, 1], [5, 0, 0]], "ast", (None, ("x", "y"), ("false", "true"))),
    ),
    "parquet of codes": ("a.parquet", {"s": ["01", "2"]}, {}, [[0], [1]], "s", (("01", "2"),)),
    "Namibia in parquet": (
        *("a.parquet", {"s": ["NA", "DE"]}, {"categories": ["s"]}),
        *([[1], [0]], "s", (("DE", "NA"),)),
    ),
    "Namibia in an array": (
        *("a.npy", np.array([b"NA", b"DE"]), {"categories": ["0"]}),
        *([[1], [0]], "0", (("DE", "NA"),)),
    ),
    "parquet of money": ("a.pq", {"a": [decimal.Decimal("1.50")]}, {}, [[1.5]], "a", ...),
    "parquet of days": (
        *("a.parquet", {"d": [datetime.date(2020, 1, 2)]}, {}),
        *([[0]], "d", (("2020-01-02",),)),
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_right_tables(tmp_path, case):
    name, content, how, values, names, categories = RIGHT[case]
    table = cj.read_data(written(tmp_path, name, content), **how)
    assert table.values.tolist() == values and table.values.dtype == np.float64
    assert table.names == tuple(names)
    if categories is not ...:
        assert table.categories == categories


WRONG = {
    "no file": ("a.csv", None, {}, "no such file"),
    "empty": ("a.csv", "", {}, "it is empty"),
    "blank": ("a.csv", "\n\n", {}, "it is empty"),
    "no rows": ("a.csv", "a,b\n", {}, "it has no rows"),
    "other kind": ("a.xlsx", b"PK\x03\x04", {}, "must be CSV"),
    "a zip": ("a.csv", b"PK\x03\x04aaaa", {}, "as Excel writes"),
    "UTF-16": ("a.csv", "a,b\n1,2\n".encode("utf-16"), {}, "save it as UTF-8"),
    "Latin-1": ("a.csv", "a\né\n".encode("latin-1"), {}, "no text in UTF-8"),
    "cut off": ("a.csv.gz", gzip.compress(b"a\n" + b"1\n" * 9999)[:-12], {}, "cannot be read"),
    "semicolons": ("a.csv", "a;b\n1,5;2,5\n", {}, "stand apart by semicolons.*1.5, not 1,5"),
    "tabs": ("a.csv", "a\tb\n1\t2\n", {}, "name it .tsv"),
    "commas": ("a.tsv", "a,b\n1,2\n", {}, "as .csv"),
    "decimal commas": ("a.csv", "a,b\n1,5,2,5\n", {}, "row 1 has 4 columns.*decimal commas"),
    "short row": ("a.csv", "a,b\n1,2\n3\n", {}, "row 2 has 1 columns, and the header 2"),
    "row names": ("a.csv", "a,b\nx,1,2\n", {}, "row 1 has 3 columns, and the header 2"),
    "no header": ("a.csv", "5.1,setosa\n4.9,setosa\n", {}, "first line holds numbers, as 5.1"),
    "no header, words": ("a.csv", "x\ny\nx\n", {}, "'x' stands in the first line"),
    "twice": ("a.csv", "a,a\n1,2\n", {}, "2 columns are called 'a'"),
    "an index": ("a.csv", ",a\n0,5\n1,6\n", {}, "column 1 has no name, as an index"),
    "a counted index": ("a.csv", "id,a\n1,5\n2,5\n3,6\n", {}, "'id' counts the rows from 1"),
    "unknown": ("a.csv", "length\n1\n", {"columns": ["lenght"]}, "did you mean 'length'"),
    "target twice": ("a.csv", "a,b\n1,2\n", {"columns": "a", "target": "a"}, "among the columns"),
    "target alone": ("a.csv", "a\n1\n", {"target": "a"}, "no column is left"),
    "missing": ("a.csv", "a,b\n1,2\n3,\n", {}, "row 2, column 'b' is empty"),
    "not there": ("a.csv", "a,b\n1,2\nn/a,3\n", {}, "row 2, column 'a' is 'n/a', which is no"),
    "not there, in parquet": (
        *("a.parquet", {"s": ["x", " NA"]}, {}),
        "row 2, column 's' is 'NA', which is no value unless categories=..s.. reads it as a word",
    ),
    "not there, of categories": (
        *("a.parquet", {"s": pyarrow.array(["x", "None"]).dictionary_encode()}, {}),
        "row 2, column 's' is 'None', which is no value",
    ),
    "not there, in an array": (
        *("a.npy", np.array(["x", "nan"]), {}),
        "row 2, column '0' is 'nan', which is no value",
    ),
    "spaces, in parquet": ("a.parquet", {"s": ["x", "  "]}, {}, "row 2, column 's' is '  ', which"),
    "durations": (
        *("a.parquet", {"d": [datetime.timedelta(seconds=5)]}, {}),
        r"column 'd' holds durations .duration.us... .*write numbers, as seconds",
    ),
    "blank line": ("a.csv", "a\n1\n\n3\n", {}, "row 2, column 'a' is empty"),
    "all missing": ("a.csv", "a\nNA\n", {"missing": "drop"}, "all of its 1 rows"),
    "infinite": ("a.csv", "a\n1\n-inf\n", {}, "row 2, column 'a' is '-inf'; all must be finite"),
    "first infinite": ("a.csv", "a\ninf\n1\n", {}, "row 1, column 'a' is 'inf'"),
    "too large": ("a.csv", "a\n1\n1e400\n", {}, "row 2, column 'a' is 1e400, which float64"),
    "too small": ("a.csv", "a\n1\n1e-400\n", {}, "row 2, column 'a' is 1e-400, which float64"),
    "too long": ("a.csv", "a\n9007199254740993\n", {}, "row 1, column 'a' is 9007199254740993"),
    "codes": (
        "a.csv",
        "zip\n94103\n01234\n",
        {},
        "row 2, column 'zip' is '01234'.*.categories=..zip...",
    ),
    "mixed": ("a.csv", "a\n1\nabc\n", {}, "numbers and words: row 1 is '1', row 2 is 'abc'"),
    "hexadecimal": ("a.csv", "a\n1\n0x10\n", {}, "row 2 is '0x10'"),
    "other digits": ("a.csv", "a\n1\n\u0661\n", {}, "row 2 is '\u0661'"),
    "spaces": ("a.csv", "s\nx\nx \n", {}, "'x' and 'x ', which differ by spaces alone"),
    "accents": ("a.csv", "s\ncaf\u00e9\ncafe\u0301\n", {}, r"'cafe\\u0301', which differ by char"),
    "no width": ("a.csv", "s\nx\nx\u200b\n", {}, r"'x\\u200b', which differ by characters that"),
    "open quote": ("a.csv", 's,b\n"x,1\ny",2\n', {}, "'x,1.ny', with a line break"),
    "open quote elsewhere": ("a.csv", 'a,s\n1,"x\n2,y\n', {"columns": "a"}, "within a quote"),
    "nan": ("a.npy", np.array([[1, 2], [3, np.nan]]), {}, "row 2, column '1' is nan"),
    "inf": ("a.npy", np.array([1, np.inf]), {}, "row 2, column '0' is inf"),
    "one number": ("a.npy", np.array(3.0), {}, "is one number"),
    "complex": ("a.npy", np.array([1j]), {}, "of type complex128"),
    "objects": ("a.npy", np.array([1, "a"], object), {}, "Python objects"),
    "instants": ("a.npy", np.array(["2020-01-01"], "M8[D]"), {}, "of type datetime64"),
    "identifiers": ("a.npy", np.array([2**53 + 1, 2]), {}, "9007199254740993, which float64"),
    "lengths": ("a.npz", {"x": np.ones(2), "y": np.ones(3)}, {}, "different numbers of rows"),
    "null": ("a.parquet", {"a": [1, None]}, {}, "row 2, column 'a' is null"),
    "nan of parquet": ("a.parquet", {"a": [1.0, float("nan")]}, {}, "row 2, column 'a' is nan"),
    "lists": ("a.parquet", {"a": [[1, 2]]}, {}, "of type list"),
    "fractions": ("a.parquet", {"a": [1.5]}, {"categories": "a"}, "words or whole numbers"),
    "no parquet": ("a.parquet", "a,b\n1,2\n", {}, "no parquet file"),
    "memory": ("a.csv", "a\n1\n2\n", {"memory_limit": 1e-9}, "more than memory_limit"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_line_for_what_is_wrong(tmp_path, case):
    name, content, how, words = WRONG[case]
    path = tmp_path / name if content is None else written(tmp_path, name, content)
    with pytest.raises(InputError, match=words) as raised:
        cj.read_data(path, **how)
    assert "\n" not in str(raised.value) and str(path) in str(raised.value)


def test_rows_are_counted_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_BLOCK", 64)
    lines = [f"{number}.5,w{number % 3}" for number in range(100)]
    path = written(tmp_path, "a.csv", "\n".join(["a,s", *lines]))
    reading = read_file(path)
    assert reading.table.values[:, 0].tolist() == [number + 0.5 for number in range(100)]
    assert reading.table.values[:, 1].tolist() == [number % 3 for number in range(100)]
    assert reading.rows.tolist() == list(range(1, 101)) and reading.dropped == 0
    lines[76] = "NA,w1"
    path = written(tmp_path, "a.csv", "\n".join(["a,s", *lines]))
    with pytest.raises(InputError, match="row 77, column 'a' is 'NA'"):
        read_file(path)
    reading = read_file(path, missing="drop")
    assert reading.dropped == 1 and 77 not in reading.rows and len(reading.rows) == 99


def test_a_split_parts_the_rows(tmp_path):
    path = written(tmp_path, "a.csv", "a\n" + "\n".join(f"{n}.5" for n in range(40)))
    table = cj.read_data(path)
    train, test = table.split(0.2, jax.random.key(3))
    assert (train.rows, test.rows) == (32, 8)
    both = np.concatenate([train.values, test.values])[:, 0]
    assert sorted(both.tolist()) == table.values[:, 0].tolist()
    assert (np.diff(train.values[:, 0]) > 0).all()
    again, _ = table.split(0.2, jax.random.key(3))
    other, _ = table.split(0.2, jax.random.key(4))
    assert (again.values == train.values).all() and (other.values != train.values).any()
    for share in (0, 1, 1.5, float("nan")):
        with pytest.raises(InputError, match="held_out is"):
            table.split(share, jax.random.key(0))
    with pytest.raises(InputError, match="needs at least 2"):
        table.take(np.arange(1)).split(0.5, jax.random.key(0))


def test_numbers_and_codes_are_told_apart(tmp_path):
    table = cj.read_data(written(tmp_path, "a.csv", "a,s\n1.5,x\n2.5,y\n"))
    assert repr(table) == "table of 2 rows: a (numbers), s (2 categories)"
    numbers = cj.read_data(tmp_path / "a.csv", "a")
    words = cj.read_data(tmp_path / "a.csv", "s")
    assert numbers.numbers.tolist() == [[1.5], [2.5]]
    assert words.codes.tolist() == [0, 1] and words.codes.dtype == np.int32
    with pytest.raises(InputError, match="column 's' contains categories such as 'x'"):
        table.numbers  # noqa: B018
    with pytest.raises(InputError, match="column 'a' contains numbers"):
        table.codes  # noqa: B018


def test_what_to_do_is_said_as_python_takes_it(tmp_path):
    path = tmp_path / "codes.csv"
    path.write_text("my zip\n94103\n01234\n")
    with pytest.raises(InputError, match=re.escape('(categories=["my zip"])')):
        cj.read_data(path)
    path.write_text("a,b\n1,2\n3,\n")
    with pytest.raises(InputError, match=re.escape('(missing="drop")')):
        cj.read_data(path)
