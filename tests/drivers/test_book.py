"""The records of a run: written at times, and whole whenever the run ends."""

import pathlib

import filelock
import jax
import numpy as np
import pytest
import xarray

import collapse_jax as cj
from collapse_jax.drivers import book as book_module
from collapse_jax.drivers.book import Book
from collapse_jax.errors import InputError

KEY = jax.random.key(2)
LAST = 6


class Folder:
    """A run folder that counts what is written to it, at a cost on a clock of its own."""

    part, now, cost = (), 0.0, 0.0

    def __init__(self):
        self.writes, self.rows = [], []

    def monotonic(self):
        return self.now

    def write_results(self, data):
        self.now += self.cost

    def write_rows(self, rows):
        self.rows = list(rows)
        self.writes.append(len(rows))


@pytest.fixture
def folder(monkeypatch):
    folder = Folder()
    monkeypatch.setattr(book_module.time, "monotonic", folder.monotonic)
    # What it holds is not looked at, and building it is all that would take time here.
    monkeypatch.setattr(book_module, "results_of", lambda arrays: xarray.Dataset())
    return folder


def entered(folder, count, seconds=0.0):
    book = Book(folder, lambda chain, generation, arrays: None, (), print)
    for generation in range(count):
        folder.now += seconds
        book.publish(0, generation, {"chain": 0, "generation": generation}, {})
    return book


def test_few_generations_are_written_one_by_one_and_many_in_proportion_to_them(folder):
    """Rows that are written in all: each once, and then 50 times its share."""
    book = entered(folder, 2000)
    assert folder.writes[:50] == list(range(1, 51))
    assert sum(folder.writes) < 55 * 2000 and folder.writes[-1] > 0.98 * 1990
    book.close()
    assert folder.writes[-1] == 2000 and len(folder.rows) == 2000
    book.close()
    assert folder.writes.count(2000) == 1


@pytest.mark.parametrize(("cost", "waits"), [(2**-6, 1.0), (0.5, 10.0)])
def test_slow_generations_are_written_after_a_second_or_20_times_the_cost(folder, cost, waits):
    folder.cost = cost
    entered(folder, 2000, seconds=0.5)
    assert np.diff(folder.writes).max() == waits / 0.5


class Ends(Exception):
    """What ends a run in the middle."""


@pytest.fixture
def process():
    return cj.generational_process(
        cj.estimators.gaussian(1),
        cj.sources.normal(0.0, 1.0),
        cj.workflows.replace(),
        sample_size=20,
    )


def run(process, folder, end=lambda chain, generation, row: None):
    return cj.run(
        process,
        KEY,
        generations=LAST,
        folder=folder,
        metrics=("variance",),
        watcher=cj.Watcher(end=end),
    )


def test_records_are_whole_after_an_end_in_the_middle_and_after_a_kill(
    process, tmp_path, monkeypatch
):
    """A kill leaves the records of some time before, and the checkpoints hold the rest."""
    whole = run(process, tmp_path / "whole")
    monkeypatch.setattr(book_module, "_WRITTEN_EACH_TIME", 0)
    monkeypatch.setattr(book_module, "_LONGEST_BEHIND_SECONDS", 1e9)

    def ends(chain, generation, row):
        if generation == 3:
            assert not (tmp_path / "run" / "metrics.jsonl").exists()  # nothing was due so far
            raise Ends

    with pytest.raises(Ends):
        run(process, tmp_path / "run", ends)
    folder = cj.RunFolder(tmp_path / "run")
    assert [row["generation"] for row in folder.rows()] == [0, 1, 2, 3]
    assert folder.results().sizes["generation"] == 4
    before = {path: path.read_bytes() for path in (folder.path / "metrics.jsonl",)}
    again = run(process, tmp_path / "run")
    assert [row["generation"] for row in folder.rows()] == list(range(LAST + 1))
    for path, content in before.items():
        path.write_bytes(content)  # as a kill would have left it
    made = []
    last = run(process, tmp_path / "run", lambda chain, generation, row: made.append(generation))
    assert [row["generation"] for row in folder.rows()] == made == list(range(LAST + 1))
    for found in (again, last):
        np.testing.assert_array_equal(found["variance"], whole["variance"])
    np.testing.assert_array_equal(folder.results()["variance"].values, whole["variance"])


def test_a_folder_that_is_deleted_meanwhile_is_not_made_anew(process, tmp_path, monkeypatch):
    """Nor is one that was moved: it goes on where it lies now."""
    monkeypatch.setattr(book_module, "_WRITTEN_EACH_TIME", 0)

    def moved(chain, generation, row):
        if generation == 2:
            (tmp_path / "run").rename(tmp_path / "other")

    with pytest.raises(OSError, match="No such file"):
        run(process, tmp_path / "run", moved)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert run(process, tmp_path / "other")["variance"].shape == (1, LAST + 1)


def test_a_folder_that_cannot_be_locked_is_named_in_one_line(process, tmp_path, monkeypatch):
    """As on a file system that is mounted for reading alone."""

    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied", ".lock")

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with pytest.raises(InputError, match=r"run cannot be written \(Permission denied\); choose"):
        run(process, tmp_path / "run")
    monkeypatch.setattr(pathlib.Path, "mkdir", refused)
    with pytest.raises(InputError, match=r"cannot be created \(Permission denied\); give another"):
        run(process, tmp_path / "other")
