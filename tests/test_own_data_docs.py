"""docs/own-data.md: its commands and its Python are run as they are printed."""

import contextlib
import io
import re
import shlex

import pytest

from collapse_jax.app.cli import main
from collapse_jax.runs.folder import RunFolder


@pytest.mark.slow
def test_the_page_runs_as_it_is_written(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (root / "docs" / "own-data.md").read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text, re.M | re.S):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block, "own-data.md", "exec"), {})
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "collapse-jax"
            main(arguments)
    words = RunFolder(tmp_path / "runs" / "words").results()
    assert words["probabilities_0"].values.tolist() == ["ash", "elm", "oak"]
    grid = RunFolder(tmp_path / "runs" / "grid").results()
    assert grid["held_out_log_prob_mean"].dims == ("sample_size", "gamma", "generation")
