"""`collapse-jax compare`: records written here, whose means, deviations and shares are known."""

import csv
import json

import numpy as np
import pytest

from collapse_jax.app.cli import main
from collapse_jax.app.commands import compare
from collapse_jax.app.config import LMConfig, SimulateConfig
from collapse_jax.app.plots.compare import colours, compare_figure
from collapse_jax.runs import made_of
from collapse_jax.runs.folder import RunFolder

# Perplexities before any fit, and of seeds by generation: losses 5; 3, 4, 5 and 3, 3.5, 4.5.
BEFORE = np.exp(5.0)
LOSSES = ((3.0, 4.0, 5.0), (3.0, 3.5, 4.5))
SHARES = ((0.0, 0.5, 1.0), (0.0, 0.25, 0.75))


def write(out, losses=LOSSES, lost=False, before=True, tests="a", **settings):
    """A run folder with these losses by seed and generation."""
    config = LMConfig(seeds=len(losses), generations=len(losses[0]) - 1, **settings)
    folder = RunFolder.open(out, config.resolved(), say=lambda line: None)
    rows = []
    for seed, of_seed in enumerate(losses):
        for generation, loss in enumerate(of_seed):
            row = {"chain": seed, "generation": generation, "test_perplexity": np.exp(loss)}
            row["test_perplexity_mean"] = 2 * np.exp(loss)
            if generation == 0 and before:
                row["pretrained_test_perplexity"] = BEFORE
                row["pretrained_test_perplexity_mean"] = 2 * BEFORE
            if lost:
                row["gain_lost"] = 0.125 * generation
            rows.append(row)
    folder.write_rows(rows)
    made_of.write(folder.path, {"tokens": {"where": "x", "contents": {"test": tests}}})
    return str(out)


@pytest.fixture
def pair(tmp_path):
    """Two runs that differ in what is kept."""
    return [
        write(tmp_path / "none"),
        write(tmp_path / "tenth", LOSSES[:1], real_fraction=0.1, model="folder/model"),
    ]


def read_table(out):
    with open(out / "compare.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_and_the_figure(pair, tmp_path, capsys):
    main(["compare", *pair, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    rows = read_table(tmp_path / "out")
    assert [(row["run"], row["generation"], row["seeds"]) for row in rows] == [
        (run, str(generation), seeds)
        for run, seeds in zip(pair, "21", strict=True)
        for generation in range(3)
    ]
    assert rows[0]["label"] == "model opt-125m, real_fraction 0"
    assert rows[3]["label"] == "model model, real_fraction 0.1"
    pairs = np.exp([[4.0, 3.5], [5.0, 4.5]])
    for row, values, shares in zip(rows[1:3], pairs, ((0.5, 0.25), (1, 0.75)), strict=True):
        for name, factor in (("test_perplexity", 1), ("test_perplexity_mean", 2)):
            assert float(row[name]) == pytest.approx(factor * np.mean(values))
            deviation = factor * abs(values[0] - values[1]) / np.sqrt(2)
            assert float(row[f"{name}_sd"]) == pytest.approx(deviation)
        assert float(row["gain_lost"]) == pytest.approx(np.mean(shares))
    assert rows[4]["gain_lost_sd"] == "" and float(rows[4]["gain_lost"]) == pytest.approx(0.5)
    text = (tmp_path / "out" / "compare.md").read_text()
    for shown in (
        f"{2 * BEFORE:.2f}",
        f"{2 * pairs[0].mean():.2f} ± ",
        "38 ± 18",
        "mean over blocks",
    ):
        assert shown in text
        assert shown.split(" ±")[0] in said
    assert (tmp_path / "out" / "figures" / "compare.pdf").is_file()
    main(["compare", *pair, "--out", str(tmp_path / "out")])  # an earlier one is written anew


def test_the_recorded_share_counts(tmp_path):
    (run, other) = compare.read_runs(
        [write(tmp_path / "new", lost=True), write(tmp_path / "old", real_fraction=0.5)]
    )
    np.testing.assert_allclose(run.gain_lost(), [[0, 0.125, 0.25]] * 2)
    np.testing.assert_allclose(other.gain_lost(), SHARES)


@pytest.mark.parametrize("losses", [((5.0, 6.0),), ((5.5, 6.0),)])
def test_no_share_of_a_gain_that_is_none(tmp_path, losses):
    runs = [write(tmp_path / name, losses, real_fraction=share) for name, share in
            (("a", 0.1), ("b", 0.2))]  # fmt: skip
    runs = compare.read_runs(runs)
    assert np.isnan(runs[0].gain_lost()).all()
    assert len(compare_figure(runs, "test_perplexity").axes) == 1
    assert {row["gain_lost"] for row in compare.table_rows(runs)} == {None}


def test_old_runs_have_no_measure_before(tmp_path):
    names = [write(tmp_path / name, before=False, epochs=n) for name, n in (("a", 3), ("b", 4))]
    runs = compare.read_runs(names)
    assert np.isnan(runs[0].gain_lost()).all()
    assert [run.label for run in runs] == ["epochs 3", "epochs 4"]


def test_what_is_drawn(pair):
    runs = compare.read_runs(pair)
    figure = compare_figure(runs, "test_perplexity")
    left, right = figure.axes
    means = [line for line in left.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(means[0].get_ydata(), np.exp(LOSSES).mean(0))
    np.testing.assert_allclose(means[1].get_ydata(), np.exp(LOSSES[0]))
    assert means[0].get_color() != means[1].get_color()
    shares = [line for line in right.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(shares[0].get_ydata(), 100 * np.mean(SHARES, 0))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *(run.label for run in runs),
        "before fine-tuning",
    ]


def test_labels_that_tell_nothing_or_too_much_are_folders(tmp_path):
    same = [write(tmp_path / name) for name in ("a", "b")]
    assert [run.label for run in compare.read_runs(same)] == same
    many = {"epochs": 7, "batch_size": 3, "learning_rate": 0.5, "block_length": 16, "beta": 0.5}
    long = [same[0], write(tmp_path / "c", **many)]
    runs = compare.read_runs(long)
    assert [run.label for run in runs] == long
    assert set(compare.differing_settings(runs)) == set(many)


def test_a_run_without_a_control_is_of_generated_text(tmp_path):
    names = [write(tmp_path / "a", ((3.0, 2.9),)), write(tmp_path / "b", control="real")]
    runs = compare.read_runs(names)
    assert [run.label for run in runs] == ["generated text", "control real"]
    # Its loss falls below that of generation 0.
    assert compare.remarks(runs) == ["gain lost below 0: better than generation 0"]


def test_what_is_not_comparable_is_said(tmp_path):
    names = [
        write(tmp_path / "a"),
        write(tmp_path / "b", tests="b", protocol="released-code"),
    ]
    runs = compare.read_runs(names)
    protocols, tokens = compare.remarks(runs)
    assert "shown for all of them is mean over blocks (paper)" in protocols
    assert "are tested on different tokens" in tokens
    assert compare.remarks(compare.read_runs([names[0], write(tmp_path / "c")])) == []


def test_nine_and_many_colours():
    for count in (2, 9, 30):
        assert len(set(map(tuple, colours(count)))) == count


def test_a_mistake_is_one_line(pair, tmp_path, capfd):
    RunFolder.open(tmp_path / "chains", SimulateConfig().resolved(), say=lambda line: None)
    empty = RunFolder.open(tmp_path / "empty", LMConfig().resolved(), say=lambda line: None)
    for arguments, words in (
        (pair[:1], f"give two or more run folders; only {pair[0]} is given"),
        ([], "give two or more run folders"),
        ([pair[0], pair[0] + "/"], "names a folder twice"),
        (
            [pair[0], str(tmp_path / "chains")],
            "contains a run of simulate; compare takes runs of lm",
        ),
        ([pair[0], str(empty.path)], "has no finished generation yet"),
        ([pair[0], str(tmp_path)], "is not a run folder"),
        ([*pair, "--out", pair[0]], "which contains metrics.jsonl; give a new folder"),
        ([*pair, "--out", f"{pair[0]}/config.json"], "which is not a folder"),
    ):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(["compare", *arguments])
        error = capfd.readouterr().err
        assert caught.value.code == 2 and words in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()
    assert json.loads((tmp_path / "none" / "config.json").read_text())["command"] == "lm"
