"""Measures what each test costs, and chooses which of them the default tier runs.

    python -m pytest -p tests.tiers -n 0 -m "not slow" --costs costs.tsv
    python tests/tiers.py costs.tsv

The first command writes the processor seconds of every test, with children. The second one writes
tests/thorough.txt: the tests that the default tier leaves to `python -m pytest -m thorough`. Of
each test function that has cases, at least the cheapest one stays, unless it alone costs too much.
"""

import argparse
import collections
import pathlib
import resource
import sys

import pytest

CHEAP = 0.5  # CPU-seconds: a case that costs less always stays
DEAR = 1.6  # CPU-seconds: where every case of a function costs more, none stays
OUTPUT = pathlib.Path(__file__).parent / "thorough.txt"
HEAD = f"""\
# The thorough tier, `python -m pytest -m thorough`: a test function, or one of its cases, a line.
# They are the cases that cost more than {CHEAP} CPU-seconds where another case of the same function
# stays in the default tier, and the functions of which every case costs more than {DEAR}.
# Made by `python tests/tiers.py`, which says how.
"""


def pytest_addoption(parser):
    parser.addoption("--costs", type=pathlib.Path, help="where to write the cost of each test")


def _used() -> float:
    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    before = _used()
    yield
    if item.config.option.costs:
        with item.config.option.costs.open("a", encoding="utf-8") as file:
            file.write(f"{_used() - before:.2f}\t{item.nodeid}\n")


def thorough(costs: dict[str, float]) -> list[str]:
    """The lines of thorough.txt: functions none of whose cases stays, and single cases.

    Args:
      costs: CPU-seconds of each test, by its id.
    """
    functions = collections.defaultdict(dict)
    for test, cost in costs.items():
        functions[test.partition("[")[0]][test] = cost
    lines = []
    for function, cases in sorted(functions.items()):
        least = min(cases, key=lambda test: (cases[test], test))
        if cases[least] > DEAR:
            lines.append(function)
        else:
            lines += sorted(test for test in cases if cases[test] > CHEAP and test != least)
    return lines


def main(arguments: list[str]) -> None:
    """Writes thorough.txt from measured costs, and prints what the default tier keeps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("costs", type=pathlib.Path)
    text = parser.parse_args(arguments).costs.read_text(encoding="utf-8")
    rows = [line.partition("\t") for line in text.splitlines()]
    costs = {test: float(cost) for cost, _, test in rows}
    lines = thorough(costs)
    OUTPUT.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    places = set(lines)
    kept = [cost for test, cost in costs.items() if not {test, test.partition("[")[0]} & places]
    print(f"kept: {len(kept)} of {len(costs)} tests")
    print(f"      {sum(kept):.0f} of {sum(costs.values()):.0f} CPU-seconds")


if __name__ == "__main__":
    main(sys.argv[1:])
