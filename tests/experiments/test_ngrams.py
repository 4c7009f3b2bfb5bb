"""The experiment on n-grams at a tiny size: table, figure, and the order of the workflows."""

import csv
import dataclasses
import importlib
import subprocess
import sys

import numpy as np
import pytest

from collapse_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(autouse=True)
def on_path(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments")


def test_help_imports_nothing_heavy(root):
    file = root / "experiments" / "suresh2024_ngrams.py"
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']\ntry:\n    runpy.run_path({str(file)!r}, "
        "run_name='__main__')\nfinally:\n    print('HEAVY', sorted({'jax', 'matplotlib', "
        "'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "HEAVY []" in done.stdout, done.stderr
    assert all(word in done.stdout for word in ("Run time:", "Published:", "--corpus"))


def test_words_are_numbered_by_frequency(tmp_path):
    module = importlib.import_module("suresh2024_ngrams")
    (tmp_path / "train.txt").write_text("b a b\n\n c b a d\n")
    (tmp_path / "valid.txt").write_text("a x c b\n")
    (tmp_path / "test.txt").write_text("a\n")
    settings = module.Settings(corpus=str(tmp_path), words=6, block_length=2)
    real, held_out, size = module.load(settings)
    np.testing.assert_array_equal(real, [[0, 1], [0, 2], [0, 1]])
    np.testing.assert_array_equal(held_out, [[1, 3], [2, 0]])
    assert size == 4
    with pytest.raises(InputError, match="block_length is 5"):
        module.load(dataclasses.replace(settings, block_length=5))


def test_theory_of_independent_words():
    """By hand: a word of count c survives a generation with 1 - exp(-c).

    It survives a second one with 1 - exp(-c (1 - 1/e)).
    """
    module = importlib.import_module("suresh2024_ngrams")
    counts, rate = np.array([1, 3]), 1 - np.exp(-1)
    expected = [
        1,
        np.mean(1 - np.exp(-counts)),
        np.mean(1 - np.exp(-counts * rate)),
        np.mean(1 - np.exp(-counts * (1 - np.exp(-rate)))),
    ]
    np.testing.assert_allclose(
        module.share_of_independent_words(np.array([[0, 1], [1, 1]]), 3), expected, rtol=1e-6
    )


@pytest.mark.slow
def test_the_experiment(tmp_path, monkeypatch, capsys):
    module = importlib.import_module("suresh2024_ngrams")
    monkeypatch.setattr(module, "ORDERS", {2: "bigram"})
    given = {
        "corpus": "embedded",
        "words": 4000,
        "block_length": 40,
        "generations": 3,
        "seeds": 2,
        "out": str(tmp_path),
    }
    module.main(module.Settings(**given))
    assert str(tmp_path / "figures" / "ngrams.png") in capsys.readouterr().out.replace("\n", "")
    assert (tmp_path / "figures" / "ngrams.png").stat().st_size > 10_000
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4 * 2
    left = {
        flow: np.mean(
            [
                float(row["3"])
                for row in rows
                if row["workflow"] == flow and row["metric"] == "surviving_vocabulary_to_first"
            ]
        )
        for flow in module.FLOWS
    }
    assert left["replace"] < left["mix"] < left["accumulate_subsample"] < left["accumulate"] == 1
    assert all(np.isfinite(float(row["3"])) for row in rows)
