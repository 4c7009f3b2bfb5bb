"""The experiments on genealogies and drifting verifiers at a tiny size: tables and figures."""

import importlib

import pytest

pytestmark = [pytest.mark.usefixtures("quick_compile"), pytest.mark.slow]


@pytest.fixture
def script(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments")
    return importlib.import_module


def rows(capsys):
    """The rows of the table that was printed, without its head."""
    lines = capsys.readouterr().out.splitlines()
    _, _, *found = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return found


def test_a_tiny_genealogy(script, tmp_path, capsys):
    (path,) = script("genealogy").main(tmp_path, chains=200, sample_size=10, generations=20)
    assert path.name == "genealogy.png" and path.stat().st_size > 20_000
    found = rows(capsys)
    assert [row[1] for row in found] == ["1", "10", "10"] * 4
    # Under replace two points meet with 1 - (1 - 1/10)^g; under accumulate all ten draws are left.
    assert float(found[1][5]) == pytest.approx(1 - 0.9**10, abs=1e-4)
    assert float(found[1][4]) == pytest.approx(1 - 0.9**10, abs=0.1)
    assert float(found[-1][2]) == 10


def test_tiny_verifiers(script, tmp_path, capsys):
    (path,) = script("drifting_verifiers").main(tmp_path, chains=60, generations=8, steps=3)
    assert path.name == "drifting_verifiers.png" and path.stat().st_size > 20_000
    found = rows(capsys)
    assert len(found) == 9 and all(abs(float(row[4])) < 4 for row in found)
    # A fixed verifier, s = 0.5: a = 1/5 and nearly all of the bias of .5, and a/20 / (1 - a^2).
    assert float(found[0][3]) == pytest.approx(0.25 + 0.2 / 20 / (1 - 0.04), abs=1e-3)
