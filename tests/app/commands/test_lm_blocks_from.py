"""Which blocks of a text a run uses when it does not use all."""

import dataclasses

import numpy as np
import pytest

from collapse_jax.app.commands.lm_ingredients import prepare
from collapse_jax.app.config import LMConfig

CONFIG = LMConfig(corpus="embedded", model="embedded", block_length=16, seeds=1, generations=0)


def blocks_with(**changes):
    settings = dataclasses.replace(CONFIG, **changes).settings()
    return prepare(settings, say=lambda line: None).blocks


@pytest.fixture(scope="module")
def every_block():
    return blocks_with()


def test_spread_blocks_are_the_middles_of_equal_stretches(every_block):
    """A block out of each of as many stretches of equal length, in the order of the text."""
    wanted = {"train_blocks": 12, "valid_blocks": 7, "test_blocks": 1}
    made = blocks_with(blocks_from="spread", **wanted)
    for split, count in wanted.items():
        blocks = getattr(every_block, split[: -len("_blocks")])
        ends = np.linspace(0, len(blocks), count + 1)
        chosen = getattr(made, split[: -len("_blocks")])
        assert len(chosen) == count
        places = [np.flatnonzero((blocks == block).all(1)) for block in chosen]
        for number, found in enumerate(places):
            middle = (ends[number] + ends[number + 1]) / 2
            assert np.abs(found + 0.5 - middle).min() <= 0.5


def test_all_of_them_are_all_of_them(every_block):
    count = len(every_block.test)
    assert np.array_equal(blocks_with(blocks_from="spread").test, every_block.test)
    spread = blocks_with(blocks_from="spread", test_blocks=count)
    assert np.array_equal(spread.test, every_block.test)
    first = blocks_with(test_blocks=5)
    assert np.array_equal(first.test, every_block.test[:5])
