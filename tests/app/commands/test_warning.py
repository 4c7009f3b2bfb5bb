"""`collapse-jax warning`: from run folders to a table, a figure and JSON."""

import json
import re

import numpy as np
import pytest

from collapse_jax.app.cli import main
from collapse_jax.app.config.lm import LMConfig
from collapse_jax.drivers.trace import Trace
from collapse_jax.drivers.warning.early_warning import early_warning
from collapse_jax.runs.folder import RunFolder

LAST, AHEAD = 40, 4
RNG = np.random.default_rng(7)


def write(path, crosses, chains=60):
    """A folder of chains whose entropy falls AHEAD generations before the loss jumps."""
    at = RNG.integers(20, 30, (chains, 1)) if crosses else np.full((chains, 1), 10**6)
    place, noise = np.arange(LAST), RNG.normal(size=(2, chains, LAST))
    arrays = {
        "loss": 5.0 * (place >= at) + 0.1 * noise[0],
        "own entropy": 3 - 2.0 * (place >= at - AHEAD) + 0.1 * noise[1],
    }
    RunFolder(path).path.mkdir()
    RunFolder(path).write_results(Trace(arrays, place).to_xarray())
    return str(path), arrays


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return write(folder / "falls", True), write(folder / "stays", False)


def test_two_folders(pair, tmp_path, capsys):
    (falls, arrays), (stays, others) = pair
    out = tmp_path / "out"
    command = ["warning", falls, "--steady", stays, "--loss", "loss", "--threshold", "2.5"]
    main([*command, "--window", "10", "--out", str(out)])
    said = " ".join(capsys.readouterr().out.split())
    assert "loss rises to 2.5 in 60 of 60 chains" in said and "60 steady chains" in said
    found = early_warning(arrays, others, loss="loss", threshold=2.5, window=10)
    held = json.loads((out / "warning.json").read_text())
    assert held["not_watched"] == {}
    assert [alarm["metric"] for alarm in held["alarms"]] == ["loss"] * 3 + ["own entropy"] * 3
    for alarm, ours in zip(held["alarms"], found.rows(), strict=True):
        assert alarm["auc"] == pytest.approx(ours["auc"], nan_ok=True)
        assert alarm["indicator"] == ours["indicator"]
    level = held["alarms"][3]
    assert (level["direction"], level["median_lead"], level["auc"]) == ("falls", AHEAD, 1.0)
    assert len((out / "warning.csv").read_text().splitlines()) == 7
    assert "| own entropy falls | " in (out / "warning.md").read_text()
    assert (out / "figures" / "warning.pdf").is_file()
    main([*command, "--window", "10", "--out", str(out)])  # an earlier one is written anew


def test_a_language_model_of_one_seed(tmp_path, capsys):
    folder = RunFolder.open(tmp_path / "lm", LMConfig(generations=4, seeds=1))
    folder.write_rows(
        [
            {"chain": 0, "generation": at, "test_perplexity": loss, "test_entropy": entropy}
            for at, (loss, entropy) in enumerate(
                [(20, 3.0), (21, 2.9), (22, 2.6), (23, 2.5), (31, 2.0)]
            )
        ]
    )
    command = ["warning", str(tmp_path / "lm"), "--loss", "test_perplexity", "--threshold", "1.5"]
    main([*command, "--relative", "--change", "0.1", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "only one chain crossed: each lead time is a single value" in " ".join(said.split())
    rows = json.loads((tmp_path / "out" / "warning.json").read_text())["alarms"]
    assert {row["metric"]: row["leads"] for row in rows} == {
        "test_perplexity": [1.0],
        "test_entropy": [2.0],
    }
    assert (tmp_path / "out" / "figures" / "warning.png").is_file()


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("loss is 'los'.*did you mean 'loss'", ["--loss", "los"]),
        ("limits is 'loss'; it must be METRIC=VALUE", ["--limits", "loss"]),
        ("limits of loss is 'x'; it must be a number", ["--limits", "loss=x"]),
        ("directions is 'down'; it must be one of", ["--directions", "down"]),
        ("steady is not given", []),
        ("run is 'nowhere', which is not a folder", ["--steady", "nowhere"]),
    ],
)
def test_wrong_options(pair, tmp_path, line, options, capsys):
    given = {"--loss": "loss", "--threshold": "2.5", "--out": str(tmp_path / "out")}
    given.update(zip(options[::2], options[1::2], strict=True))
    with pytest.raises(SystemExit) as stop:
        main(["warning", pair[0][0], *(word for two in given.items() for word in two)])
    assert stop.value.code == 2
    assert re.search(line, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else(pair, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        main(["warning", pair[0][0], "--loss", "loss", "--threshold", "1", "--out", str(tmp_path)])
    assert "which contains notes.txt" in capsys.readouterr().err
