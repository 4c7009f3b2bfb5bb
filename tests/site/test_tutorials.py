"""The commands and the Python of the tutorials that the site does not run by itself."""

import contextlib
import io
import re
import shlex

import pytest

from collapse_jax.app.cli import main


@pytest.mark.slow
def test_a_language_model(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (root / "docs" / "tutorials" / "a-language-model.md").read_text(encoding="utf-8")
    printed = ""
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text, re.M | re.S):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block, "a-language-model.md", "exec"), {})
            printed += out.getvalue()
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "collapse-jax"
            main(arguments)
    assert "test_perplexity_mean" in printed
    assert {line[:2] for line in printed.splitlines()} >= {"0 ", "1 ", "2 "}
    assert (tmp_path / "generation-2" / "tokenizer.json").is_file()
