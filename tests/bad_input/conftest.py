"""What wrong use must end with: one line, exit code 2, and not a byte of the disk changed."""

import shutil

import pytest

from collapse_jax.app.cli import main
from collapse_jax.models.lm.opt import OPTConfig


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test stands in an empty folder, where also the default --out would be."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def good(tmp_path_factory, write_inputs):
    """model/ with its tokenizer, and text.txt: what `lm` and `pretrain` need.

    Never to be changed: `copy` gives one's own.
    """
    folder = tmp_path_factory.mktemp("good")
    write_inputs(folder, dropout=0.0, init_std=OPTConfig.init_std)
    return folder


@pytest.fixture
def copy(good, here):
    """copy("model") -> a copy of it in the test's own folder."""

    def make(name):
        target = here / name
        (shutil.copytree if (good / name).is_dir() else shutil.copy)(good / name, target)
        return target

    return make


def tree(folder):
    """Everything below a folder, by path.

    With what it holds and when that was written (a lock is taken and let go).
    """
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns * (path.name != ".lock"),
            path.is_dir() or path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink()
    }


@pytest.fixture
def refused(capfd, here):
    """refused(arguments, *words) checks that a command refuses its arguments.

    It ends with 2 and one line that holds the words, and nothing on disk has changed.
    """

    def call(arguments, *words):
        before = tree(here)
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        error = capfd.readouterr().err
        assert caught.value.code == 2, error
        assert (
            error.startswith("error: ")
            and error.count("\n") == 1
            and error.endswith("\n")
            and len(error) < 2100
        ), error
        assert "Traceback" not in error and all(str(word) in error for word in words), error
        assert tree(here) == before
        return error

    return call
