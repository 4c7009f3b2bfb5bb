"""The registry of published results.

Whole, documented, and found where an installed package has it.
"""

import re

import pytest

from collapse_jax.app.reproduce import load_entries, own_folder
from collapse_jax.app.reproduce.judge import DISAGREES


@pytest.fixture(scope="module")
def entries():
    return load_entries(own_folder())


def test_there_are_sixty_and_more_that_this_machine_can_check(entries):
    assert sum(one.check is not None for one in entries) >= 60


def test_every_entry_is_said_in_full(entries):
    for one in entries:
        assert re.fullmatch(r"[a-z0-9]+(-[a-zA-Z0-9]+)*", one.id), one.id
        assert one.claim.endswith(".") and 20 < len(one.claim) < 260, one.id
        assert one.setting and one.oracle, one.id
        assert re.fullmatch(r"(\d{4}\.\d{4,5})?", one.paper.arxiv), one.paper
        assert one.paper.name and one.paper.title, one.id
        assert (one.check is None) == bool(one.command), one.id
        assert (one.cost == "cpu") or one.check is None, one.id
        assert not (one.differs and one.disagrees), one.id


def test_the_documented_table_has_every_entry(entries, root):
    table = (root / "docs" / "reproduced" / "README.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \|.*\| ([^|]+) \|[^|]*\|$", table, re.M))
    assert set(rows) == {one.id for one in entries}
    assert not [id for id, verdict in rows.items() if verdict.startswith("FAILED")]
    assert {id for id, verdict in rows.items() if verdict.startswith(DISAGREES)} == {
        one.id for one in entries if one.disagrees
    }
    page = (root / "docs" / "reproduced" / "index.html").read_text()
    for one in entries:
        assert f"<tr id='{one.id}'>" in page
        assert (root / "docs" / "reproduced" / "figures" / f"{one.id}.png").is_file() == (
            one.check is not None
        ), one.id
