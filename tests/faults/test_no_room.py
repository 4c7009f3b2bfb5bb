"""A disk that is full, or a folder that may no longer be written to.

One line, exit code 1, nothing lost, and it goes on.
"""

import os
import pathlib
import sys

import faulty
import pytest

# kind: stage -> from which call on nothing can be written any more.
FULL = {
    "chains": {"save": 4, "results": 1, "rows": 1, "rename": 3},
    "lm": {"save": 3, "piece": 5, "results": 3, "samples": 2, "rename": 12},
    "pretrain": {"save": 3, "export": 1, "tokens": 1, "rows": 1},
}
BY_DEFAULT = (("chains", "results"),)


def ended_in_one_line(out, code, *words):
    """Asserts that the newest start did."""
    text = faulty.said(out)
    (line,) = [line for line in text.splitlines() if line.startswith(("stopped: ", "error: "))]
    assert code == (1 if line.startswith("stopped: ") else 2) and "Traceback" not in text, text
    assert all(word in line for word in words), line


def goes_on_as_if_nothing_had_been(server, kind, out, whole, before):
    """Asserts that the next start ends with the numbers of the quiet run.

    Nothing is made again that was finished `before`.
    """
    pathlib.Path(f"{out}.events").unlink(missing_ok=True)
    hooks = [
        faulty.hook(kind, stage) for stage in ("save", "make") if stage in faulty.KINDS[kind].stages
    ]
    assert server.run(kind, out, hooks) == 0, faulty.said(out)
    assert not {(event[3], int(event[4])) for event in faulty.events(out)} & before
    assert faulty.differences(out, whole.out) == []


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        pytest.param(kind, stage, marks=[] if (kind, stage) in BY_DEFAULT else pytest.mark.slow)
        for kind, stages in FULL.items()
        for stage in stages
    ],
)
def test_an_error_of_a_full_disk(server, whole, tmp_path, kind, stage):
    out = tmp_path / "run"
    code = server.run(kind, out, [faulty.hook(kind, stage, "full", FULL[kind][stage])])
    ended_in_one_line(
        out, code, "No space left on device", "the same command resumes the run once this"
    )
    assert faulty._broken(out) == 0
    goes_on_as_if_nothing_had_been(server, kind, out, whole(kind), faulty.finished(out))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "limit"), [("chains", 6_000), ("lm", 20_000), ("pretrain", 60_000)]
)
def test_no_file_may_grow_further(server, whole, tmp_path, kind, limit):
    """The system itself refuses (RLIMIT_FSIZE), wherever the first larger file is written."""
    out = tmp_path / "run"
    code = server.run(kind, out, file_limit=limit)
    ended_in_one_line(out, code)
    assert code == 1, faulty.said(out)
    goes_on_as_if_nothing_had_been(server, kind, out, whole(kind), faulty.finished(out))


@pytest.mark.skipif(
    os.name != "posix" or (os.geteuid() == 0 and not sys.platform.startswith("linux")),
    reason="root may write anywhere",
)
@pytest.mark.parametrize(
    ("kind", "stage", "call", "folder"),
    [
        ("chains", "save", 4, "checkpoints/chains"),
        pytest.param("chains", "results", 1, "", marks=pytest.mark.slow),
        pytest.param("lm", "fit", 5, "checkpoints/chain_0", marks=pytest.mark.slow),
        pytest.param("lm", "samples", 2, "samples", marks=pytest.mark.slow),
        pytest.param("pretrain", "save", 3, "checkpoints", marks=pytest.mark.slow),
        pytest.param("pretrain", "export", 1, "model", marks=pytest.mark.slow),
    ],
)
def test_permission_is_lost_in_the_middle(server, whole, tmp_path, kind, stage, call, folder):
    out = tmp_path / "run"
    denied = faulty.hook(kind, stage, "denied", call) | {"folder": str(out / folder)}
    code = server.run(kind, out, [denied], unprivileged=True)
    (out / folder).chmod(0o755)
    ended_in_one_line(out, code, "ermission denied")
    assert code == 1
    goes_on_as_if_nothing_had_been(server, kind, out, whole(kind), faulty.finished(out))
