"""The README's Python for chains is run as printed."""

import pathlib
import re

import numpy as np
import pytest

from collapse_jax.estimators import registry

README = pathlib.Path(__file__).parents[1] / "README.md"
BLOCKS = [
    block
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    if "cj.simulate(" in block
]


def test_readme_has_all_examples():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", BLOCKS, ids=["gaussian", "curated", "newcomer"])
def test_block_runs_as_printed(block, monkeypatch):
    """The newcomer's is registered, and held against the contract, which raises if it is broken."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    for array in names["trace"].values():
        assert array.shape[:2] in ((10_000, 201), (1_000, 51))
        assert np.isfinite(array).all()
