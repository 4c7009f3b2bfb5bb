"""The server that starts disturbed runs, and the undisturbed ones that they are compared with."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import faulty


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A tiny model and a tiny corpus."""
    return faulty.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def server(inputs):
    """The one that most tests use."""
    one = faulty.Server(inputs, pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / "faults")
    yield one
    one.close()


@pytest.fixture(scope="session")
def whole(server, tmp_path_factory):
    """whole(kind) -> the run of that kind that nobody disturbs, made once."""
    made, folder = {}, tmp_path_factory.mktemp("whole")

    def of(kind):
        if kind not in made:
            made[kind] = faulty.undisturbed(server, kind, folder / kind.replace(" ", "_"))
        return made[kind]

    return of
