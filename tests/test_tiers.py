"""The lists of the quick and the thorough tier name tests that are there."""

import re
import runpy

import pytest


@pytest.fixture(params=["quick", "thorough"])
def places(root, request):
    lines = (root / "tests" / f"{request.param}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_line_names_a_test(places, root):
    assert places and len(set(places)) == len(places)
    for place in places:
        file, _, test = place.partition("::")
        text = (root / file).read_text(encoding="utf-8")
        test = test.partition("[")[0].rpartition("::")[2]
        assert re.search(rf"^ *def {test or 'test_'}", text, re.M), place


def test_the_cheapest_case_stays_unless_it_is_dear(root):
    thorough = runpy.run_path(str(root / "tests" / "tiers.py"))["thorough"]
    costs = {"a.py::f[1]": 2.0, "a.py::f[2]": 3.0, "a.py::f[3]": 0.1}
    costs |= {"a.py::g[1]": 2.0, "a.py::g[2]": 1.0, "a.py::h[1]": 5.0, "a.py::h[2]": 6.0}
    assert thorough(costs) == ["a.py::f[1]", "a.py::f[2]", "a.py::g[1]", "a.py::h"]
