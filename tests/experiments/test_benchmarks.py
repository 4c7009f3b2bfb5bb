"""The benchmarks of chains and accelerators: their tables, and a dry run of everything."""

import importlib
import subprocess
import sys

import pytest

from collapse_jax.estimators.registry import families


@pytest.fixture
def script(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments" / "benchmarks")
    return importlib.import_module


def test_every_family_is_measured_on_an_accelerator(script):
    accelerator = script("accelerator")
    measured = {"gaussian", "categorical", *accelerator.EXAMPLES}
    assert measured == {name for name, known in families().items() if known.example is not None}


def test_the_table_leaves_out_what_was_not_measured(script):
    found = {
        "device": {"a": (3e9, 1.25), "b": (20.0, 2.0)},
        "cpu": {"a": (1e6, 1.0)},
        "torch": {"a": (4.5e9, 1.0), "c": (7e3, 1.0)},
    }
    assert script("accelerator").table(found).splitlines()[2:] == [
        "| a | 3 G | 1.2 s | 1 M | 3e+03 | 4.5 G | 0.667 |",
        "| b | 20 | 2.0 s |  |  |  |  |",
        "| c |  |  |  |  | 7 k |  |",
    ]


def test_the_best_of_interleaved_rounds(script, monkeypatch):
    """By a clock that is told what to say: the second call of each is the quickest."""
    chains, clock = script("chains"), [0.0]
    monkeypatch.setattr(chains.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(chains.time, "process_time", lambda: clock[0] / 2)
    called = []

    def taking(name, *seconds):
        left = list(seconds)

        def go():
            called.append(name)
            clock[0] += left.pop(0)

        return go, 1

    contenders = {
        "ours": taking("ours", 0.5, 0.25, 0.125, 0.25),
        "theirs": taking("theirs", 0.25, 0.125, 0.0625, 0.125),
    }
    best, first = chains.side_by_side(contenders, rounds=3)
    assert called == ["ours", "theirs"] * 4
    assert first == {"ours": 0.5, "theirs": 0.25}
    assert best == {"ours": (0.125, 0.0625), "theirs": (0.0625, 0.03125)}
    assert chains._beside(best["theirs"], best["ours"]) == "62.50 ms: 0.5 (0.5)"
    assert chains._beside(None, best["ours"]) == "not installed"


def test_peers_that_are_not_installed_are_said_so(script, monkeypatch):
    chains, asked = script("chains"), []

    def measured(contenders):
        asked.extend(contenders)
        return dict.fromkeys(contenders, (1.0, 1.0)), {"ours": 3.0}

    monkeypatch.setattr(chains, "installed", lambda package: False)
    monkeypatch.setattr(chains, "side_by_side", measured)
    mine = (lambda: None, 1)
    _, _, others, compiled = chains.row_of("row", mine, chains.GAUSSIAN, 1, 10)
    assert asked == ["ours", *list(chains.GAUSSIAN)[:4]]
    assert others == [(1.0, 1.0)] * 4 + [None] * 2 and compiled == 2.0


@pytest.mark.slow
def test_a_dry_run_of_the_accelerators_table(root):
    command = [sys.executable, "experiments/benchmarks/accelerator.py", "--dry"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    rows = [line.split("|")[1:3] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 8 and all(rate.strip() for _, rate in rows)
