"""Numbers that JSON does not have, written so that every parser reads the file."""

import json
import math

import numpy as np
import pytest

from collapse_jax.runs import strict_json
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder


def strict(text):
    """What a parser makes of it that follows the standard."""

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


VALUES = {"a": math.nan, "b": [1.5, math.inf, {"c": -math.inf}], "d": "x", "e": None, "f": 2**70}


def same(a, b):
    return json.dumps(a) == json.dumps(b)  # Python's own, which tells nan apart


@pytest.mark.parametrize("options", [{}, {"indent": 1}, {"sort_keys": True}])
def test_what_is_written_is_read_back(options):
    text = strict_json.dumps(VALUES, **options)
    assert strict(text) == {
        "a": "NaN",
        "b": [1.5, "Infinity", {"c": "-Infinity"}],
        "d": "x",
        "e": None,
        "f": 2**70,
    }
    assert same(strict_json.loads(text), VALUES)
    # What versions before wrote.
    assert same(strict_json.loads(json.dumps(VALUES, **options)), VALUES)
    finite = {"a": [1, 2.5, "NaN is a word"], "b": True}
    assert strict_json.dumps(finite, **options) == json.dumps(finite, **options)
    assert strict_json.dumps(np.float64("nan")) == '"NaN"'


def test_rows_of_any_numbers(tmp_path):
    folder = RunFolder(tmp_path)
    rows = [
        {"generation": 0, "mean": 1.0, "log_variance": -math.inf},
        {"generation": 1, "mean": math.nan, "log_variance": math.inf},
    ]
    for given in (rows, iter(rows)):
        folder.write_rows(given)
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert [strict(line)["log_variance"] for line in lines] == ["-Infinity", "Infinity"]
        assert same(folder.rows("mean", "log_variance"), rows)
        assert same(folder.last_row("mean"), rows[-1])
        table = (tmp_path / "metrics.csv").read_text().splitlines()
        assert table == ["generation,mean,log_variance", "0,1.0,-inf", "1,nan,inf"]
    # A folder of versions before.
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert same(folder.rows("mean", "log_variance"), rows)


def test_no_rows_and_sorted_rows(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.rows() == [] and folder.last_row() is None
    for nothing in ([], iter([])):
        folder.write_rows(nothing)
        assert folder.rows() == [] and folder.last_row() is None
        assert (tmp_path / "metrics.csv").read_text() == "\n"
    folder.write_rows([{"chain": 1, "generation": 0}, {"chain": 0, "generation": 3, "mean": 1.0}])
    assert [row["chain"] for row in folder.rows()] == [0, 1]
    assert (tmp_path / "metrics.csv").read_text() == "chain,generation,mean\n0,3,1.0\n1,0,\n"


def test_records_of_checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, {"x": np.zeros(2)}, VALUES | {"f": 1}, {})
    record, _ = checkpoints.restore_record(0)
    checkpoints.close()
    assert same(record, VALUES | {"f": 1})
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "record" in str(path)]
    texts = [path.read_text() for path in files if path.read_bytes()[:1] == b"{"]
    assert any("Infinity" in text for text in texts)
    for text in texts:
        strict(text)
