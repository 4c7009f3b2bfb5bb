"""Names of categories, however odd, in results.nc, entries.csv and the table on the screen."""

import csv
import re

import numpy as np
import pytest
import xarray
from rich.console import Console

from collapse_jax.app.commands import entries
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.own_data.reading import own_data
from collapse_jax.core.tables.labels import labelled
from collapse_jax.core.tables.read import read_data
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("quick_compile")
NAMES = sorted(['a "b"', "c, d", "Köln", "東京", "🙂", "[bold]", "e"])
COUNTS = (1, 2, 3, 4, 5, 6, 7)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("collapse_jax.app.plots.draw_run", lambda folder: [])
    with open(tmp_path / "words.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["word", "other"])
        table.writerows((name, 1) for name, n in zip(NAMES, COUNTS, strict=True) for _ in range(n))
    config = SimulateConfig(
        family="categorical",
        data=str(tmp_path / "words.csv"),
        columns=("word",),
        metrics=("probabilities", "support"),
        sample_size=20,
        generations=2,
        chains=5,
    )
    with open(tmp_path / "said", "w", encoding="utf-8") as file:
        folder = run_simulate(config, tmp_path / "run", Console(file=file, width=200))
    return folder, (tmp_path / "said").read_text(encoding="utf-8")


def test_names_reach_everything(run):
    folder, said = run
    with xarray.open_dataset(folder.path / "results.nc", engine="scipy") as results:
        results.load()
    assert results["probabilities_0"].values.tolist() == NAMES
    assert results["probabilities_0"].attrs["long_name"] == "category"
    assert results["support"].attrs["units"] == "outcomes"
    assert {"settings", "git_commit", "data_sha256"} <= results.attrs.keys()
    with open(folder.path / "entries.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(NAMES) and {row["entry"] for row in rows} == set(NAMES)
    for row in rows:
        at = results["probabilities"].sel(
            probabilities_0=row["entry"], generation=int(row["generation"])
        )
        values = at.values.astype(float)
        expected = [values.mean(), values.std(ddof=1), *np.quantile(values, (0.05, 0.5, 0.95))]
        found = [float(row[name]) for name in ("mean", "std", "q05", "median", "q95")]
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    for name in NAMES:
        assert f"probabilities {name}" in said, name


def test_very_many_categories(tmp_path):
    """Rows of generation 0 and of the last alone; and names come back from a file."""
    names = [f"category {number} é" for number in range(100_000)]
    values = np.zeros((2, 4, len(names)), np.float32)
    values[:, -1, 7] = (0.25, 0.75)
    results = xarray.Dataset(
        {"probabilities": (("chain", "generation", "probabilities_0"), values)},
        coords={"generation": range(4)},
    )
    results = labelled(results, categories=names)
    folder = RunFolder(tmp_path)
    entries.write_entries(folder, results)
    lines = (tmp_path / "entries.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 2 * len(names)
    assert lines[1 + len(names) + 7].startswith("probabilities,category 7 é,3,0.5,0.353553391,")
    folder.write_results(results)
    read = folder.results()
    assert read["probabilities_0"].values[[0, -1]].tolist() == [names[0], names[-1]]


def test_names_of_columns_and_of_many_models(tmp_path):
    (tmp_path / "a.csv").write_text("city,age\nOslo,3\nRoma,4\nOslo,5\n")
    table = read_data(tmp_path / "a.csv")
    axes = ("chain", "generation", "probabilities_city_0")
    mixed = xarray.Dataset({"probabilities_city": (axes, np.ones((1, 1, 2)))})
    assert table.labelled(mixed)["probabilities_city_0"].values.tolist() == ["Oslo", "Roma"]
    axes = ("chain", "generation", "probabilities_0", "probabilities_1")
    models = xarray.Dataset({"probabilities": (axes, np.ones((1, 1, 2, 2)))})
    words = read_data(tmp_path / "a.csv", columns=["city"])
    found = words.labelled(models)
    assert found["probabilities_1"].values.tolist() == ["Oslo", "Roma"]
    assert "probabilities_0" not in found.coords


def test_what_to_do_is_said_as_the_command_line_takes_it(tmp_path):
    path = tmp_path / "codes.csv"
    for text, says in (
        ("my zip\n94103\n01234\n", "(--categories 'my zip'), or write it without"),
        ("a,b\n1,2\n3,\n", "(--missing drop)"),
        (",a\n0,5\n1,6\n", "name the columns to read (--columns)"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=re.escape(says)):
            own_data(SimulateConfig(data=str(path)))
