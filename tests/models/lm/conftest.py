"""Shared by the tests of the language model: full float32 products, and the fixture that
`make_opt_fixture.py` makes.
"""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from collapse_jax.models.lm.weights import load_opt

FIXTURE = pathlib.Path(__file__).parent / "fixtures" / "opt_tiny"


@pytest.fixture(autouse=True)
def full_precision():
    """GPUs round float32 products to TF32 unless told otherwise."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def tiny():
    """The fixture's model and parameters."""
    return load_opt(FIXTURE)


@pytest.fixture(scope="module")
def expected():
    """What transformers made of it."""
    with np.load(FIXTURE / "expected.npz") as file:
        return dict(file)


@pytest.fixture
def only(tmp_path):
    """A function that makes a folder with the fixture's config and the one weight file that is
    named.
    """

    def make(file, folder="model"):
        target = tmp_path / folder
        target.mkdir(exist_ok=True)
        shutil.copy(FIXTURE / "config.json", target)
        shutil.copy(FIXTURE / file, target)
        return target

    return make
