"""`collapse-jax reproduce` on a small registry.

Exit codes, the folder, what is reused, and what is refused.
"""

import json
import re

import pytest

from collapse_jax.app.cli import main

REGISTRY = '''
"""A registry of four."""
import jax
import numpy as np
from collapse_jax.app.reproduce import Paper, compare, entry, out_of_reach

PAPER = Paper("1234.56789", "Somebody 2020", "Something | with a bar")
TEXT = {"status": "derived here", "setting": "400 draws", "oracle": "none"}


@entry("right", claim="Zero mean, a < b.", y="mean", **TEXT)
def right(key):
    return compare.means(np.asarray(jax.random.normal(key, (400, 3))), [0.0, 0.0, 0.0])


@entry("named", claim="Two shares.", **TEXT)
def named(key):
    return [
        compare.counts([55, 45], [0.5, 0.5], at=["left", "right"]),
        compare.equal(1.0, 1.0, 0.1, "a test", what="one"),
    ]


@entry("known", claim="Known to be wrong.", disagrees="rare runs", **TEXT)
def known(key):
    return compare.refuted(compare.equal(1.0, 2.0, 0.1, "a test"))


WEIGHTS = out_of_reach("weights", claim="Large.", cost="weights", command="collapse-jax lm", **TEXT)
'''
BROKEN = """

@entry("wrong", claim="A mean of one.", **TEXT)
def wrong(key):
    return compare.means(np.asarray(jax.random.normal(key, (400,))), 1.0)
"""


@pytest.fixture
def registry(tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "somebody2020.py").write_text(REGISTRY)
    return folder


def reproduce(capsys, registry, out, *arguments):
    """(exit code, what was printed)."""
    try:
        main(["reproduce", *arguments, "--registry", str(registry), "--out", str(out)])
        code = 0
    except SystemExit as stopped:
        code = stopped.code
    printed = capsys.readouterr()
    return code or 0, printed.out + printed.err


def test_all_of_a_registry(capsys, registry, tmp_path):
    code, said = reproduce(capsys, registry, tmp_path / "out")
    assert code == 0, said
    assert re.search(r"4 entries: 2 agrees, 1 disagrees, 1 not reachable here", said)
    assert "collapse-jax lm" in said and "rare runs" in said
    rows = [
        json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    ]
    assert {row["id"]: row["verdict"] for row in rows}["named"] == "agrees"
    table = (tmp_path / "out" / "table.md").read_text()
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 6 and {line.replace("\\|", "").count("|") for line in lines} == {8}
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("data:image/png;base64") == 3 and "a &lt; b" in page and "http" not in page
    assert sorted(path.name for path in (tmp_path / "out" / "figures").iterdir()) == [
        "known.png",
        "named.png",
        "right.png",
    ]


def test_a_failure_exits_with_1_and_is_named(capsys, registry, tmp_path):
    (registry / "somebody2020.py").write_text(REGISTRY + BROKEN)
    code, said = reproduce(capsys, registry, tmp_path / "out")
    assert code == 1 and "1 FAILED" in said and "failed: wrong" in said
    assert "FAILED" in (tmp_path / "out" / "table.md").read_text()


def test_numbers_do_not_depend_on_which_are_asked_for(capsys, registry, tmp_path):
    reproduce(capsys, registry, tmp_path / "all")
    reproduce(capsys, registry, tmp_path / "one", "right")
    reproduce(capsys, registry, tmp_path / "other", "right", "--seed", "1")
    ours = [
        json.loads((tmp_path / name / "results" / "right.json").read_text())["comparisons"]
        for name in ("all", "one", "other")
    ]
    assert ours[0] == ours[1] != ours[2]
    assert len(list((tmp_path / "one" / "results").iterdir())) == 1


def test_what_is_done_is_not_done_again_until_its_code_changes(capsys, registry, tmp_path):
    out = tmp_path / "out"
    reproduce(capsys, registry, out, "right")
    path = out / "results" / "right.json"
    before = json.loads(path.read_text())
    reproduce(capsys, registry, out)
    assert json.loads(path.read_text()) == before
    (registry / "somebody2020.py").write_text(REGISTRY.replace("Zero mean", "No mean"))
    reproduce(capsys, registry, out)
    assert json.loads(path.read_text())["stamp"] != before["stamp"]


def test_a_damaged_result_is_made_again(capsys, registry, tmp_path):
    out = tmp_path / "out"
    reproduce(capsys, registry, out)
    whole = json.loads((out / "results" / "right.json").read_text())
    (out / "results" / "right.json").write_text('{"entry": ')
    code, said = reproduce(capsys, registry, out)
    again = json.loads((out / "results" / "right.json").read_text())
    assert code == 0, said
    assert again["comparisons"] == whole["comparisons"]


def test_plot_draws_the_table_again(capsys, registry, tmp_path):
    out = tmp_path / "out"
    reproduce(capsys, registry, out)
    table = (out / "table.md").read_text()
    for name in ("table.md", "index.html", "figures/right.png"):
        (out / name).unlink()
    main(["plot", str(out)])
    assert (out / "table.md").read_text() == table and (out / "figures" / "right.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (("--list",), {"right", "named", "known", "weights"}),
        (("--list", "--cost", "weights"), {"weights"}),
        (("--list", "--paper", "1234"), {"right", "named", "known", "weights"}),
        (("--list", "known"), {"known"}),
    ],
)
def test_lists(capsys, registry, tmp_path, arguments, chosen):
    code, said = reproduce(capsys, registry, tmp_path / "out", *arguments)
    assert (
        code == 0 and {line.split()[0] for line in said.splitlines() if line[:1].strip()} == chosen
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rihgt",), "there is no entry 'rihgt'; --list shows all entries (did you mean 'right'?)"),
        (("--cost", "tpu"), "cost is 'tpu'; it must be one of cpu, gpu, weights"),
        (("--paper", "nobody"), "no entry of paper 'nobody'"),
        (("--seed", "-1"), "seed is -1; it must be at least 0"),
    ],
)
def test_bad_input_is_one_line_before_any_work(capsys, registry, tmp_path, arguments, words):
    code, said = reproduce(capsys, registry, tmp_path / "out", *arguments)
    assert code == 2 and said.startswith("error: ") and words in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("PAPER = ", "PAPERS = "), "somebody2020.py: it needs PAPER = Paper(arxiv, name, title)"),
        (('"named"', '"right"'), "entry id 'right' is in somebody2020.py and in somebody2020.py"),
        (
            ("derived here", "guessed"),
            "status of right is 'guessed'; it must be one of published number",
        ),
        (
            ("@entry", "@nothing"),
            "somebody2020.py cannot be loaded (NameError: name 'nothing' is not defined)",
        ),
        ((REGISTRY, "x = 1"), "it must be a folder of Python files with entries in them"),
    ],
)
def test_a_bad_registry_is_one_line(capsys, registry, tmp_path, change, words):
    (registry / "somebody2020.py").write_text(REGISTRY.replace(*change))
    code, said = reproduce(capsys, registry, tmp_path / "out")
    assert code == 2 and words in said and said.count("\n") == 1
