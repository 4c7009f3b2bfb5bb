"""Small checkpoints: what Orbax alone reads of them, and what is left to its own way of saving."""

import json
import logging
import pathlib

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from collapse_jax.errors import DamagedError
from collapse_jax.runs import small_checkpoint
from collapse_jax.runs.checkpoint import Checkpoints

STATE = {
    "params": {"mean": jnp.arange(6.0).reshape(2, 3), "half": jnp.asarray([1.5, -2], jnp.bfloat16)},
    "points": [np.arange(4), np.array([True, False])],
    "count": np.int32(4),
    "zeros": np.zeros((3, 2)),
    "complex": np.array([1 + 2j, np.nan], np.complex64),
}
ARRAYS = {"curve": np.array([0.5, np.inf, -0.0]), "one": np.float64(1 / 3)}
RECORD = {"chain": 0, "generation": 2, "name": "ü", "none": None}
IS_SMALL = "state/params.mean/.zarray"


def saved(folder, state, arrays=ARRAYS):
    checkpoints = Checkpoints(folder)
    checkpoints.save(2, state, RECORD, arrays)
    return checkpoints


def equal(found, expected):
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert np.asarray(found).tobytes() == expected.tobytes()


def test_every_type_comes_back_bit_for_bit_and_nothing_is_said(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    saved(tmp_path, STATE)
    assert (tmp_path / "2" / IS_SMALL).is_file()
    again = Checkpoints(tmp_path)
    leaves = again.restore_leaves(2)
    for name, value in {**STATE, **STATE["params"]}.items():
        if name not in ("params", "points"):
            equal(leaves[name if name in STATE else f"params.{name}"], value)
    equal(leaves["points.0"], STATE["points"][0])
    equal(leaves["points.1"], STATE["points"][1])
    record, arrays = again.restore_record(2)
    assert record == RECORD and arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        equal(arrays[name], value)
    assert not caplog.records and again.generations() == [2]


def test_orbax_alone_reads_it(tmp_path):
    """By its manager, which finds out what each item is, and item by item."""
    saved(tmp_path, STATE).close()
    with ocp.CheckpointManager(tmp_path) as manager:
        assert manager.all_steps() == [2]
        found = manager.restore(2, args=ocp.args.Composite())
    np.testing.assert_array_equal(found["state"]["params.mean"], STATE["params"]["mean"])
    np.testing.assert_array_equal(found["arrays"]["curve"], ARRAYS["curve"])
    assert found["record"] == RECORD and found["checksums"].keys() > {"state", "numbers"}
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(tmp_path / "2" / "state")
    np.testing.assert_array_equal(state["points.0"], STATE["points"][0])


@pytest.mark.parametrize(
    "odd",
    [
        {"a/b": np.ones(2)},
        {"..": np.ones(2)},
        {"A": np.ones(2), "a": np.ones(2)},
        {"d": np.ones(2)},
        {"Manifest.ocdbt": np.ones(2)},
        {"n" * 300: np.ones(2)},
        {"ü": np.ones(2)},
        {"large": np.zeros(2**20 + 1, np.float32)},
        {f"v{number}": np.ones(2) for number in range(30)},
    ],
    ids=lambda odd: next(iter(odd))[:12],
)
def test_what_is_not_small_or_not_plain_goes_orbax_own_way(tmp_path, odd):
    """Names that would be no names of folders, and what its own format takes less time for."""
    state = {"params.mean": np.ones(3)} | odd
    checkpoints = saved(tmp_path / "run", state)
    assert not (tmp_path / "run" / "2" / IS_SMALL).exists()
    leaves = checkpoints.restore_leaves(2)
    assert leaves.keys() == state.keys() and [path.name for path in tmp_path.iterdir()] == ["run"]
    for name, value in odd.items():
        equal(leaves[name], value)


def test_an_array_without_entries_is_refused_as_ever(tmp_path):
    assert not small_checkpoint.is_small({"state": {"x": np.zeros((0, 3))}})
    with pytest.raises(OSError, match="could not be written"):
        saved(tmp_path, {"x": np.zeros((0, 3))})
    assert Checkpoints(tmp_path).generations() == []


def test_every_byte_of_the_numbers_is_watched_over(tmp_path):
    checkpoints = saved(tmp_path, {"x": np.arange(5.0)})
    (path,) = [file for file in (tmp_path / "2" / "state" / "x").iterdir() if file.name == "0"]
    whole = path.read_bytes()
    checkpoints.restore_leaves(2)
    for at in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(DamagedError, match="2 is damaged"):
            checkpoints.restore_leaves(2)
    for part in (whole[: len(whole) // 2], b""):
        path.write_bytes(part)
        with pytest.raises(DamagedError, match="2 is damaged"):
            checkpoints.restore_leaves(2)
    path.unlink()
    with pytest.raises(DamagedError, match="2 is damaged"):
        checkpoints.restore_leaves(2)
    path.write_bytes(whole)
    equal(checkpoints.restore_leaves(2)["x"], np.arange(5.0))


def test_one_that_is_there_is_replaced_and_the_oldest_go(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for generation, value in ((0, 0.0), (1, 1.0), (1, 2.0), (5, 3.0)):
        checkpoints.save(generation, {"x": np.full(2, value)}, {"value": value}, {})
    assert checkpoints.generations() == [1, 5]
    assert checkpoints.restore_record(1)[0] == {"value": 2.0}
    equal(checkpoints.restore_leaves(1)["x"], np.full(2, 2.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "5"]


@pytest.mark.parametrize("moment", ["_save_tree", "_description", "replace"])
def test_what_fails_on_the_way_leaves_what_was_there(tmp_path, monkeypatch, moment):
    checkpoints = saved(tmp_path, {"x": np.arange(3)})

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(small_checkpoint, moment, full)
    for generation in (2, 3):
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(generation, {"x": np.arange(3) + 1}, RECORD, {})
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    assert checkpoints.generations() == [2]
    equal(Checkpoints(tmp_path).restore_leaves(2)["x"], np.arange(3))


def test_what_a_kill_has_left_goes_with_the_next_start(tmp_path):
    saved(tmp_path, {"x": np.arange(3)}).close()
    names = ("3.orbax-checkpoint-tmp", "2-old.orbax-checkpoint-tmp", "1.orbax-checkpoint-tmp-17")
    for name in names:
        (tmp_path / name / "state").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    Checkpoints(tmp_path, read_only=True).close()
    assert len(list(tmp_path.iterdir())) == 5
    Checkpoints(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "notes"]


def test_the_description_is_that_of_orbax(tmp_path):
    """What its own writer says of the same items, but for the times."""
    ocp.Checkpointer(ocp.CompositeCheckpointHandler()).save(
        tmp_path / "theirs",
        args=ocp.args.Composite(
            state=ocp.args.StandardSave({"x": np.ones(2)}), record=ocp.args.JsonSave({"a": 1})
        ),
    )
    small_checkpoint.save(tmp_path / "ours", {"state": {"x": np.ones(2)}}, {"record": {"a": 1}})
    ours, theirs = (_described(tmp_path / name) for name in ("ours", "theirs"))
    assert ours == theirs


def _described(folder: pathlib.Path):
    found = json.loads((folder / "_CHECKPOINT_METADATA").read_text())
    return {name: value for name, value in found.items() if "timestamp" not in name}
