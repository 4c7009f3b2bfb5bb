"""docs/after-a-run.md: its commands and its Python are run as they are printed."""

import contextlib
import io
import re
import shlex

import pytest

from collapse_jax.app.cli import main


@pytest.mark.slow
def test_the_commands_run_as_they_are_written(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text(
        "It was the best of times, it was the worst of times.\n" * 99
    )
    text = (root / "docs" / "after-a-run.md").read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text, re.M | re.S):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block, "after-a-run.md", "exec"), {})
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "collapse-jax"
            if "--track" in arguments:
                pytest.importorskip("tensorboardX")
            main(arguments)
    assert (tmp_path / "runs" / "compare" / "figures" / "compare.png").is_file()
    assert (tmp_path / "generation-2" / "tokenizer.json").is_file()
    assert len(list((tmp_path / "runs" / "none" / "evaluations").iterdir())) == 3
    assert len(list((tmp_path / "runs" / "none" / "tensorboard").iterdir())) == 2
