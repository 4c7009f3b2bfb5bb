"""Files that are there whole or not at all."""

import contextlib
import os
import pathlib

import pytest

from collapse_jax.runs.atomic import LEFT_OVER, atomic


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_file_gets_its_name_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent and temporary.name.startswith(".a.txt.")
        assert [temporary] == list(path.parent.glob(LEFT_OVER)) and not path.exists()
    assert path.read_text() == "new" and names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_failed_rename_leaves_the_old_file_alone(tmp_path):
    (tmp_path / "folder" / "in it").mkdir(parents=True)
    with pytest.raises(OSError), atomic(tmp_path / "folder") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["folder"]


def test_an_error_before_anything_is_written_is_the_one_raised(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "a.txt"):
        raise ZeroDivisionError


@pytest.fixture
def events(monkeypatch):
    """What is done to files, in order: "fsync", or the name that a file is given."""
    seen, replace = [], pathlib.Path.replace

    def noted(self, target):
        seen.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", lambda number: seen.append("fsync"))
    monkeypatch.setattr(pathlib.Path, "replace", noted)
    return seen


@pytest.mark.parametrize("sync", [False, True])
def test_bytes_are_on_the_disk_before_the_name_where_asked(tmp_path, events, sync):
    with atomic(tmp_path / "a.txt", sync=sync) as temporary:
        temporary.write_text("new")
    assert events == ["fsync"] * sync + ["a.txt"]


def test_files_in_a_stack_get_their_names_in_reverse(tmp_path, events):
    """For a set of files of which one, the last to get its name, says that the others are there."""
    with contextlib.ExitStack() as stack:
        for name in ("last", "first"):
            stack.enter_context(atomic(tmp_path / name)).write_text(name)
    assert events == ["first", "last"]
