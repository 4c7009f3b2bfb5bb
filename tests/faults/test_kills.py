"""kill -9 at named stages and at random moments.

Nothing finished is lost or made again, and all numbers are those of a quiet run.
"""

import os
import pathlib
import random

import faulty
import many_kills
import pytest
from faulty import Count, Plan

# What a run may be in the middle of. Each plan kills one start; the last start is left alone.
PLANS = {
    "chains": [
        Plan(stage="fit", act="killed", call=3),
        Plan(stage="commit", act="kill", call=2),
        Plan(stage="rows", act="kill", call=1),
    ],
    "lm": [Plan(stage="piece", act="half", call=3), Plan(stage="commit", act="kill", call=2)],
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "lm")) for kind in PLANS]
)
def test_a_few_kills(server, whole, tmp_path, kind):
    found = faulty.killed_until_it_ends(server, kind, tmp_path / "run", whole(kind), PLANS[kind])
    stages = tuple(plan.stage for plan in PLANS[kind])
    assert found == Count(kills=len(stages), restarts=len(stages), stages=stages)


def test_kills_at_random_moments(server, whole, tmp_path):
    rng, kind = random.Random(7), "chains"
    plans = [Plan(seconds=rng.uniform(0.2, 0.7) * whole(kind).seconds) for _ in range(1)]
    found = faulty.killed_until_it_ends(server, kind, tmp_path / "run", whole(kind), plans)
    assert found[2:6] == Count()[2:6]


def test_the_comparison_sees_one_bit(whole, tmp_path):
    """What says that runs are equal must say so of these alone."""
    import json
    import shutil

    out = tmp_path / "run"
    shutil.copytree(whole("chains").out, out)
    assert faulty.differences(out, whole("chains").out) == []
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rows[3]["mean_std"] *= 1 + 2**-50
    (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / "more").mkdir()
    assert faulty.differences(out, whole("chains").out) == ["more", "row 3"]


def test_the_count_sees_what_is_lost_and_made_again(server, whole, tmp_path):
    """A generation that is taken away between two starts is lost.

    One that is made though it is there is made again.
    """
    assert faulty._lost({("a", 0), ("a", 1)}, {("a", 1)}, newest_only=False) == {("a", 0)}
    assert not faulty._lost({("a", 0), ("a", 1)}, {("a", 1), ("a", 2)}, newest_only=True)
    assert faulty._lost({("a", 3)}, {("a", 2), ("b", 4)}, newest_only=True)
    counts = {
        "chains": Count(kills=2, restarts=2),
        "lm": Count(kills=1, restarts=1, remade=1, stages=("save",)),
    }
    assert not many_kills.is_clean(counts) and many_kills.is_clean({"chains": counts["chains"]})
    assert "| all | 3 | 3 | 0 | 1 | 0 | bit for bit |" in many_kills.table(counts)


@pytest.mark.slow
def test_many_kills(tmp_path):
    """Of all kinds: python -m pytest -m slow -n 0 -s tests/faults/test_kills.py.

    COLLAPSE_JAX_KILLS is their number (200).
    """
    kills = int(os.environ.get("COLLAPSE_JAX_KILLS", "200"))
    cache = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / "faults"
    found = many_kills.many_kills(kills, float("inf"), 0, tmp_path, cache)
    print(many_kills.table(found))
    assert many_kills.is_clean(found) and sum(one.kills for one in found.values()) == kills
