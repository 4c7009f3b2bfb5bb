"""One plain form of what a run recorded, from everything that holds records."""

import pathlib
import tarfile

import numpy as np
import pytest

from collapse_jax.drivers.recorded import recorded
from collapse_jax.drivers.simulate_summary import Summary
from collapse_jax.drivers.summary import QUANTILES, as_dataset
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

OLD = pathlib.Path(__file__).parents[1] / "old_folders"
VALUES = np.arange(12.0).reshape(3, 4)  # [chain, generation]


def test_a_trace_a_dict_and_a_data_set_are_the_same_record():
    trace = Trace({"variance": VALUES, "mean": VALUES[..., None]}, np.array([0, 1, 2, 3]))
    for found in map(recorded, (trace, dict(trace), trace.to_xarray())):
        assert found.kind == "chains" and found.chains == 3
        assert found.generations.tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(found.metrics["variance"], VALUES)
        assert found.metrics["mean"].shape == (3, 4, 1)
        assert list(found.scalars()) == ["variance"]


def test_generations_ascend():
    found = recorded(Trace({"variance": VALUES}, np.array([5, 0, 9, 2])))
    assert found.generations.tolist() == [0, 2, 5, 9]
    np.testing.assert_array_equal(found.metrics["variance"], VALUES[:, [1, 3, 0, 2]])


def test_a_summary_keeps_its_statistics():
    mean, quantile = VALUES[0], np.tile(VALUES[0][:, None], 3)
    summary = Summary(np.arange(4), {"v": mean}, {"v": mean}, {"v": quantile}, (0.1, 0.5, 0.9))
    found = recorded(summary, chains=50)
    assert found.metrics == {} and found.chains == 50 and found.levels == (0.1, 0.5, 0.9)
    assert found.statistics["v"].quantile.shape == (4, 3)


def test_a_grid_is_taken_apart_by_its_axes():
    quantile = np.arange(2 * 3 * 4 * 5.0).reshape(6, 4, 5)
    parts = {"mean": quantile[..., 0], "std": quantile[..., 1], "quantile": quantile}
    axes = {"sample_size": [10, 20], "gamma": [0.0, 0.1, 0.2]}
    found = recorded(as_dataset(np.arange(4), {"v": parts}, axes), chains=7)
    assert found.axes == {"sample_size": (10, 20), "gamma": (0.0, 0.1, 0.2)}
    points = list(found.points())
    assert len(points) == 6 and found.levels == QUANTILES
    place, point = points[4]
    assert place == {"sample_size": 20, "gamma": 0.1} and point.settings == place
    np.testing.assert_array_equal(point.statistics["v"].quantile, quantile[4])
    np.testing.assert_array_equal(point.statistics["v"].mean, quantile[4, :, 0])


@pytest.mark.parametrize(
    ("name", "kind", "chains", "metric"),
    [
        ("chains", "chains", 4, "variance"),
        ("run", "chains", 2, "log_determinant"),
        ("lm", "language model", 1, "distinct_1"),
        ("summary", "chains", 0, None),
    ],
)
def test_old_folders_are_read(tmp_path, name, kind, chains, metric):
    with tarfile.open(OLD / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    found = recorded(tmp_path / "whole")
    assert (found.kind, found.chains) == (kind, chains)
    results = RunFolder(tmp_path / "whole").results()
    assert results is not None
    if metric is None:
        np.testing.assert_array_equal(found.statistics["support"].mean, results["support_mean"])
        return
    np.testing.assert_array_equal(found.metrics[metric], results[metric].values)
    if kind == "language model":
        row = RunFolder(tmp_path / "whole").rows()[0]
        assert found.before["test_perplexity"] == row["pretrained_test_perplexity"]


def test_rows_alone_are_enough(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_rows(
        [
            {"chain": chain, "generation": at, "loss": 10.0 * chain + at}
            for chain, last in ((0, 3), (1, 2))
            for at in range(last)
        ]
    )
    found = recorded(tmp_path)
    np.testing.assert_array_equal(found.metrics["loss"], [[0, 1, 2], [10, 11, np.nan]])


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (3, "run is 3; it must be a run folder"),
        ("no/such/folder", "run is 'no/such/folder', which is not a folder"),
        ({}, "the dict has no recorded generation"),
        ({"a": [1.0, 2.0]}, r"the dict\['a'\] has shape \[2\]; it must be \[chain, generation\]"),
        ({"a": VALUES, "b": VALUES[:, :2]}, r"the dict has a \[3, 4\], b \[3, 2\]"),
        (Trace({"a": VALUES}, np.array([0, 1, 1, 2])), "a generation more than once"),
        ({"a": [["x", "y"]]}, "must be an array of numbers"),
    ],
)
def test_what_holds_no_records_is_refused(run, says):
    with pytest.raises(InputError, match=says):
        recorded(run)


def test_a_folder_of_another_command_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"command": "pretrain"}')
    with pytest.raises(InputError, match="a run of pretrain; it must be one of simulate or lm"):
        recorded(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json cannot be read"):
        recorded(tmp_path)
