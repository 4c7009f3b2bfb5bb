"""Ctrl-C within a generation of a language model, and two processes on one run folder.

Both from the command line.
"""

import time

import faulty
import pytest

from collapse_jax.app.cli import main


@pytest.mark.parametrize(
    ("stage", "call"),
    [
        ("fit", 1),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (("fit", 4), ("decode", 3), ("score", 4))
        ),
    ],
)
def test_ctrl_c_within_a_generation(server, whole, tmp_path, stage, call):
    """What is under way is saved, and the next start makes no epoch and no batch of text again."""
    out, watched = tmp_path / "run", [name for name in ("fit", "decode", "make") if name != stage]
    code = server.run(
        "lm",
        out,
        [
            faulty.hook("lm", stage, "interrupt", call),
            *(faulty.hook("lm", name) for name in watched),
        ],
    )
    text = faulty.said(out)
    assert code == 130 and "Traceback" not in text, text
    assert (
        "stopping once what is under way is saved" in text
        and "the same command resumes the run" in text
    )
    before, told = faulty.finished(out), len(faulty.events(out))
    assert (
        server.run("lm", out, [faulty.hook("lm", name) for name in ("fit", "decode", "make")]) == 0
    ), faulty.said(out)
    later = faulty.events(out)[told:]
    assert not {(event[3], int(event[4])) for event in later if event[1] == "make"} & before
    for name in ("fit", "decode"):
        assert sum(event[1] == name for event in faulty.events(out)) == whole("lm").calls[name]
    assert later and faulty.differences(out, whole("lm").out) == []


def test_the_second_of_two_is_refused(server, inputs, whole, tmp_path, capsys):
    """While the first is in the middle of its chains; it ends as if nobody had come."""
    out, free, link = tmp_path / "run", tmp_path / "free", tmp_path / "link"
    first = server.start(
        "chains", out, [faulty.hook("chains", "fit", "wait", 3) | {"until": str(free)}]
    )
    try:
        ends = time.monotonic() + 100
        while sum(event[1] == "fit" for event in faulty.events(out)) < 3:
            assert time.monotonic() < ends, faulty.said(out)
            time.sleep(0.02)
        link.symlink_to(out)
        for path in (out, link):
            capsys.readouterr()
            with pytest.raises(SystemExit) as caught:
                main(faulty.arguments_of("chains", inputs, path))
            expected = (
                f"error: {path} is in use by another process; wait until it ends, or choose "
                "another --out\n"
            )
            assert caught.value.code == 2 and capsys.readouterr().err == expected
    finally:
        free.touch()
    assert first.wait() == 0, faulty.said(out)
    assert faulty.differences(out, whole("chains").out) == []
