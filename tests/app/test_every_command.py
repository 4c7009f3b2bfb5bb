"""A run of seconds of every command, as from a shell."""

import re

import numpy as np
import pytest

from collapse_jax.app.cli import main
from collapse_jax.runs.folder import RunFolder

# Command -> arguments of a run of seconds; of `simulate`, chains and a grid of them.
RUNS = {
    "simulate": "--sample-size 10 --generations 4 --chains 50 --chunk 3",
    "grid": "--sample-size 5,10 --generations 2 --chains 50",
    "lm": "--corpus {inputs}/text.txt --model {inputs}/model --seeds 1 --generations 1 "
    "--block-length 8 --train-blocks 8 --valid-blocks 4 --test-blocks 4 --batch-size 8 --epochs 1 "
    "--decoding greedy --examples 1",
    "pretrain": "--corpus {inputs}/text.txt --hidden-size 8 --num-hidden-layers 1 "
    "--num-attention-heads 2 --ffn-dim 16 --block-length 16 --batch-size 4 --steps 2 "
    "--warmup-steps 1 --held-out-windows 4",
}
# What the tests below call otherwise.
OTHERS = {"reproduce", "plot", "families", "evaluate", "export", "compare"}
OTHERS |= {"profile", "warning", "measure"}
# Two minutes; `.ci/run` has it.
TOO_LONG = {"quickstart"}


@pytest.fixture(scope="module")
def inputs(write_inputs, tmp_path_factory):
    """A folder with the smallest model, its tokenizer and a text."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def test_every_command_has_a_run(capsys):
    with pytest.raises(SystemExit):
        main(["nothing"])
    known = re.search("must be one of ([a-z, ]+)", capsys.readouterr().err)[1].split(", ")
    assert set(known) == {name for name in RUNS if name != "grid"} | OTHERS | TOO_LONG


@pytest.mark.parametrize("name", RUNS)
def test_a_run_leaves_a_folder_with_figures(name, inputs, tmp_path, capsys):
    command, out = "simulate" if name == "grid" else name, tmp_path / "run"
    main([command, *RUNS[name].format(inputs=inputs).split(), "--out", str(out)])
    folder = RunFolder(out)
    assert folder.config().command == command and folder.rows()
    figures = list(folder.figures.glob("*.png"))
    assert figures
    if name == "simulate":
        capsys.readouterr()
        figures[0].unlink()
        main(["plot", str(out)])
        assert figures[0].exists() and str(figures[0]) in capsys.readouterr().out
        main(["measure", str(out), "--metrics", "log_determinant"])
        results = folder.results()
        np.testing.assert_allclose(results["log_determinant"], results["log_variance"], atol=1e-5)


def test_what_a_run_of_lm_made_is_used(inputs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("collapse_jax.app.plots.draw_run", lambda folder: [])
    runs = [tmp_path / "run", tmp_path / "other"]
    for out, more in zip(runs, ("", " --real-fraction 0.5"), strict=True):
        arguments = RUNS["lm"].format(inputs=inputs) + more
        main(["lm", *arguments.split(), "--generations", "0", "--out", str(out)])
    capsys.readouterr()
    main(["evaluate", str(runs[0]), "--corpus", str(inputs / "text.txt")])
    main(["export", str(runs[0]), "--to", str(tmp_path / "to")])
    main(["compare", *map(str, runs), "--out", str(tmp_path / "compare")])
    said = capsys.readouterr().out
    for path in (
        next((runs[0] / "evaluations").iterdir()),
        tmp_path / "to",
        tmp_path / "compare" / "figures" / "compare.png",
    ):
        assert path.exists() and str(path) in said


def test_families_are_listed(capsys):
    main(["families"])
    said = capsys.readouterr().out
    assert "gaussian" in said and "accumulate_subsample" in said


def test_published_results_are_listed(capsys):
    main(["reproduce", "--list"])
    assert "shum-thm31-var" in capsys.readouterr().out
