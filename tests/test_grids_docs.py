"""docs/grids.md: its commands and its Python are run as they are printed."""

import pathlib
import re
import shlex

import pytest

import collapse_jax as cj
from collapse_jax.app.cli import main


@pytest.mark.slow
def test_the_page_runs_as_it_is_written(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text, names = (root / "docs" / "grids.md").read_text(encoding="utf-8"), {}
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text, re.M | re.S):
        if language == "python":
            exec(compile(block, "grids.md", "exec"), names)
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "collapse-jax"
            main(arguments)
    said = capsys.readouterr().out
    assert "nothing was written" in said and "memory" in said and "missing" not in said
    point = names["grid"]["log_mean"].sel(names["point"])
    assert abs(point - names["alone"]["log_mean"]).max() < 1e-5
    assert names["more"]["variance"].shape == (80, 41)
    assert not pathlib.Path("runs/simulate").exists()
    shared, grid = (cj.RunFolder(f"runs/{name}").results() for name in ("shared", "grid"))
    assert shared.sizes == {"sample_size": 4, "gamma": 3, "generation": 21, "quantile": 5}
    assert grid.sizes["generation"] == 31 and "variance_mean" in grid
