"""The experiment on means and typical paths at a tiny size.

Its table, its figures, and what its sample means are.
"""

import importlib

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture
def script(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments")
    return importlib.import_module("mean_and_typical_path")


def test_a_tiny_run(script, tmp_path, capsys):
    paths = script.main(tmp_path, chains=400, sample_size=20, generations=100)
    assert [path.name for path in paths] == ["mean_and_typical_path.png", "chains_for_a_mean.png"]
    assert all(path.stat().st_size > 20_000 for path in paths)
    head, _, *rows = [
        line.strip("| ").split(" | ")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("|")
    ]
    assert head[3:5] == ["mean of 100", "mean of 400"]
    assert [row[0] for row in rows] == ["0", "10", "50", "100"]
    # M = 20 at generation 100: exp(E log variance) = exp(-101 * .0535), and (21/19)^101 - 1 runs
    # for a relative error of 1
    assert float(rows[-1][2].split(" ")[0]) == pytest.approx(0.0045, rel=0.03)
    assert float(rows[-1][6]) == pytest.approx(((21 / 19) ** 101 - 1) / 0.05**2, rel=0.01)
    # E[W2^2] = 101/20 + 2 (1 - c4(20)^101)
    assert float(rows[-1][-1]) == pytest.approx(101 / 20 + 2 * (1 - 0.98693**101), rel=0.01)


def test_sample_means_are_medians_over_groups(script):
    values = np.array([[1.0, 8.0], [3.0, 8.0], [10.0, 8.0], [20.0, 8.0], [0.0, 8.0], [2.0, 8.0]])
    with np.errstate(divide="ignore"):
        found = script.sample_means(np.log(values), (2, 4, 6))
    np.testing.assert_allclose(
        [found[2][0], found[4][0], found[6][0]], [2.0, 8.5, 6.0]
    )  # groups (2, 15, 1), (8.5), (6)
    np.testing.assert_allclose([mean[1] for mean in found.values()], 8.0)
