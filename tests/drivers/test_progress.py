"""What is shown of a simulation that nobody is told of."""

import io
import sys
import time

import jax
import pytest

import collapse_jax as cj
from collapse_jax.drivers import progress
from collapse_jax.errors import InputError
from collapse_jax.runs import log_lines

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(8)
PROCESS = cj.generational_process(
    cj.estimators.gaussian(1),
    cj.sources.normal([0.0], [[1.0]]),
    cj.workflows.replace(),
    sample_size=20,
)
OPTIONS = {"generations": 6, "chunk": 3, "metrics": "mean"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_appears_in_a_terminal_once_it_takes_long(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)  # here: pytest sets it anew after fixtures
    monkeypatch.setenv("TERM", "xterm")
    with progress.shown(None, "generations", 10) as report:
        report(10)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    with progress.shown(None, "generations", 10) as report:
        report(4)
        until = time.monotonic() + 20
        while "4/10" not in terminal.getvalue() and time.monotonic() < until:
            time.sleep(0.05)
        assert "generations" in terminal.getvalue() and "4/10" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is cleared
    with progress.shown(False, "generations", 10) as report:
        time.sleep(0.1)
    assert terminal.getvalue().endswith("\x1b[2K")


def test_lines_are_written_to_a_log(capsys, monkeypatch):
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr(log_lines.time, "perf_counter", lambda: next(clock))
    cj.simulate(PROCESS, KEY, **OPTIONS)
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines() == [
        "50% of 6 generations, 0.03 generations/s, 0:01:40 left of it",
        "100% of 6 generations, 0.03 generations/s, 0:00:00 left of it",
    ]
    cj.simulate(PROCESS, KEY, progress=False, **OPTIONS)
    assert capsys.readouterr().err == ""
    told = []
    cj.simulate_summary(PROCESS, KEY, chains=2, progress=told.append, **OPTIONS)
    assert told == [0, 3, 6] and capsys.readouterr().err == ""


def test_a_run_counts_its_generations(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("collapse_jax.drivers.run.shown", lambda *given: _telling(given, told))
    cj.run(PROCESS, KEY, generations=1, chains=2, folder=tmp_path / "a")
    assert told == [(None, "generations of all chains", 4), 1, 2, 3, 4]
    told.clear()
    silent = cj.Watcher(end=lambda chain, generation, row: None)
    cj.run(PROCESS, KEY, generations=1, chains=2, folder=tmp_path / "a", watcher=silent)
    assert told == []


class _telling:
    def __init__(self, given, told):
        told.append(given)
        self.told = told

    def __enter__(self):
        return self.told.append

    def __exit__(self, *error):
        return None


def test_bad_input():
    with pytest.raises(InputError, match="progress is 'bar'; it must be a function"):
        cj.simulate(PROCESS, KEY, progress="bar", **OPTIONS)
