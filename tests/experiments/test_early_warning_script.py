"""The experiment on early warnings at a tiny size."""

import importlib

import numpy as np
import pytest

from collapse_jax.theory import feedback

pytestmark = [pytest.mark.usefixtures("quick_compile"), pytest.mark.slow]


@pytest.fixture
def script(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments")
    return importlib.import_module("early_warning")


def test_slowing_down_is_what_theory_says(script, tmp_path, capsys):
    assert script.main(str(tmp_path), chains=60, parts=("slowing",)) == []
    rows = [
        [float(cell.split("±")[0]) for cell in line.strip("| ").split("|")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| 1")
    ]
    assert [row[0] for row in rows] == [1.0, 1.05, 1.1, 1.15]
    for power, eigen, lag, variance, factor, lost, exact in rows:
        assert eigen == pytest.approx(float(feedback.uniform_eigenvalue(power, 0.2)), abs=6e-4)
        assert lag == pytest.approx(eigen, abs=0.03)
        assert variance == pytest.approx(factor, rel=0.15)
        assert lost == pytest.approx(exact, rel=0.03)
    assert np.isfinite(rows).all()


def test_a_tiny_run(script, tmp_path, capsys):
    # 18 sets of ten chains promise a false-alarm rate of 10%.
    paths = script.main(str(tmp_path), chains=180, parts=("categories", "sets"))
    assert [path.name for path in paths] == ["early_warning.png"]
    text = capsys.readouterr().out
    assert "total_variation crosses 0.85" in text and "disagreement on probabilities" in text
