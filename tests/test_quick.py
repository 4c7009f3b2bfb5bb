"""The quick tier names tests that are there."""

import re

import pytest


@pytest.fixture
def places(root):
    lines = (root / "tests" / "quick.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_line_names_a_test(places, root):
    assert places and len(set(places)) == len(places)
    for place in places:
        file, _, test = place.partition("::")
        text = (root / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {test.partition('[')[0] or 'test_'}", text, re.M), place
