"""Checkpoints: every bit is watched over.

What is damaged is named, set aside and made again with the same numbers.
"""

import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.errors import DamagedError, DivergenceError, InputError
from collapse_jax.runs.checkpoint import Checkpoints, checksum

pytestmark = pytest.mark.usefixtures("quick_compile")
RNG = np.random.default_rng(3)
LEAVES = {
    "float32": RNG.normal(size=(3, 5)).astype(np.float32),
    "float64": RNG.normal(size=7),
    "int32": RNG.integers(-9, 9, (4,)).astype(np.int32),
    "int64": RNG.integers(-9, 9, (4,)),
    "uint8": RNG.integers(0, 255, (6,)).astype(np.uint8),
    "float16": RNG.normal(size=5).astype(np.float16),
    "bfloat16": np.asarray(jnp.asarray(RNG.normal(size=5), jnp.bfloat16)),
    "bool": np.array([True, False, True]),
    "complex64": (RNG.normal(size=3) + 1j).astype(np.complex64),
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("name", LEAVES)
def test_any_flipped_bit_changes_the_checksum(name):
    leaf = np.asarray(LEAVES[name])
    whole, raw = checksum(leaf), np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    for at in range(raw.size):
        for bit in range(1 if leaf.dtype == bool else 8):
            raw = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).copy()
            raw[at] ^= 1 << bit
            assert checksum(raw.view(leaf.dtype).reshape(leaf.shape)) != whole


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, leaf in LEAVES.items()
        if np.asarray(leaf).dtype.itemsize < 8 or name == "complex64"
    ],
)
def test_a_checksum_is_the_same_on_a_device(name):
    assert checksum(jnp.asarray(LEAVES[name])) == checksum(LEAVES[name])


def test_exchanged_values_change_the_checksum():
    values = RNG.normal(size=50).astype(np.float32)
    sums = {checksum(np.roll(values, shift)) for shift in range(50)}
    assert len(sums) == 50


# Damage to one file of a run of three generations.

PROCESS = dict(sample_size=20)


def process():
    return cj.generational_process(
        cj.estimators.gaussian(2),
        cj.sources.normal(np.zeros(2), np.eye(2)),
        cj.workflows.replace(),
        **PROCESS,
    )


def run(folder, said=None, **options):
    watcher = cj.Watcher(say=(said if said is not None else []).append)
    return cj.run(
        process(),
        jax.random.key(1),
        generations=3,
        folder=folder,
        metrics=("mean", "variance"),
        watcher=watcher,
        **options,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(folder)
    return folder


def largest(path):
    """The file that holds the numbers.

    That of a JSON item is named metadata, and may be smaller than the item's mark of success.
    """
    files = [file for file in path.rglob("*") if file.is_file()]
    return (
        path / "metadata"
        if path / "metadata" in files
        else max(files, key=lambda file: file.stat().st_size)
    )


def truncated(path):
    file = largest(path)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flipped(path):
    file = largest(path)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 16
    file.write_bytes(bytes(raw))


def deleted(path):
    largest(path).unlink()


def gone(path):
    shutil.rmtree(path)


HARMS = {"truncated": truncated, "flipped": flipped, "deleted": deleted, "gone": gone}


@pytest.mark.parametrize(
    ("harm", "item"),
    [(harm, "state") for harm in HARMS]
    + [
        ("flipped", "record"),
        ("deleted", "record"),
        ("flipped", "checksums"),
        ("gone", "checksums"),
        ("gone", ""),
    ],
)
def test_a_damaged_checkpoint_is_made_again(whole, tmp_path, harm, item):
    """The newest generation's; the run is asked for one more, so that its state is needed."""
    out, said = tmp_path / "run", []
    shutil.copytree(whole, out)
    target = out / "checkpoints" / "chain_0" / "2" / item
    shutil.rmtree(out / "checkpoints" / "chain_0" / "3")
    HARMS[harm](target)
    trace, expected = run(out, said), run(whole)
    for name in expected:
        np.testing.assert_array_equal(trace[name], expected[name])
    if harm != "gone" or item not in ("", "checksums"):
        assert len(said) == 1 and re.search(
            r"chain_0/2 is damaged \(.*; it is renamed to damaged-2 and computed again", said[0]
        ), said
    ours, theirs = (cj.RunFolder(path).rows() for path in (out, whole))
    assert [{**row, "seconds": 0} for row in ours] == [{**row, "seconds": 0} for row in theirs]
    states = [state_of(path, generation) for path in (out, whole) for generation in (2, 3)]
    for name in states[0]:
        np.testing.assert_array_equal(states[0][name], states[2][name])
        np.testing.assert_array_equal(states[1][name], states[3][name])


def state_of(folder, generation):
    checkpoints = Checkpoints(pathlib.Path(folder) / "checkpoints" / "chain_0")
    template = process().template(jax.random.key(0), 3)
    state = checkpoints.restore_state(generation, template)
    checkpoints.close()
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    }


@pytest.mark.parametrize("states", ["all", "ends"])
def test_generation_0_may_be_the_damaged_one(whole, tmp_path, states):
    out, said = tmp_path / "run", []
    shutil.copytree(whole, out)
    shutil.rmtree(out / "checkpoints" / "chain_0" / "3")
    flipped(out / "checkpoints" / "chain_0" / "0" / "state")
    trace, expected = run(out, said, states=states), run(whole)
    assert "chain_0/0 is damaged" in said[0]
    np.testing.assert_array_equal(trace["variance"], expected["variance"])


def test_states_dropped_on_purpose_are_no_damage_and_are_made_again_where_they_are_needed(
    whole, tmp_path
):
    out, said = tmp_path / "run", []
    shutil.copytree(whole, out)
    shutil.rmtree(out / "checkpoints" / "chain_0" / "3")
    for generation in (1, 2):
        shutil.rmtree(out / "checkpoints" / "chain_0" / str(generation) / "state")
    trace = run(out, said, states="ends")
    np.testing.assert_array_equal(trace["variance"], run(whole)["variance"])
    assert said == []


@pytest.mark.parametrize("item", ["state", "record", "arrays"])
def test_other_numbers_that_can_be_read_are_found(tmp_path, item):
    """What the file format does not notice.

    Another generation's numbers under this one's checksums.
    """
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, {"x": np.arange(5.0)}, {"a": 1}, {"y": np.arange(3)})
    checkpoints.save(1, {"x": np.arange(5.0) + 1}, {"a": 2}, {"y": np.arange(3) + 1})
    shutil.rmtree(tmp_path / "0" / item)
    shutil.copytree(tmp_path / "1" / item, tmp_path / "0" / item)
    with pytest.raises(DamagedError, match=f"{item} is not what was saved"):
        checkpoints.restore_state(0, {"x": 0}) if item == "state" else checkpoints.restore_record(0)
    checkpoints.restore_state(1, {"x": 0})
    assert checkpoints.restore_record(1)[0] == {"a": 2}
    checkpoints.close()


def test_arrays_keep_their_type(tmp_path):
    checkpoints = Checkpoints(tmp_path / "one")
    arrays = {name: LEAVES[name] for name in ("float64", "int64", "float32", "bool")}
    checkpoints.save(0, {"x": jnp.zeros(2)}, {}, arrays)
    _, found = checkpoints.restore_record(0)
    for name, leaf in arrays.items():
        assert found[name].dtype == leaf.dtype
        np.testing.assert_array_equal(found[name], leaf)
    checkpoints.close()


def test_a_model_with_nan_is_not_saved(tmp_path):
    def fit(key, params, data):
        return jnp.where(
            data.x.mean() < 100, jnp.sqrt(data.x.mean() - 103), 0.0
        ), cj.FitInfo.exact()

    def sample(key, params, n):
        return jnp.full((n,), 98.0)

    estimator = cj.estimator(fit, sample)
    odd = cj.generational_process(
        estimator, cj.sources.dataset(np.full(5, 104.0)), cj.workflows.replace(), sample_size=5
    )
    with pytest.raises(
        DivergenceError, match=r"chain 0, generation 1: .*became nan, and nothing of it was saved"
    ):
        cj.run(odd, jax.random.key(0), generations=3, folder=tmp_path / "run")
    assert [row["generation"] for row in cj.RunFolder(tmp_path / "run").rows()] == [0]


def test_reading_alone_makes_nothing(tmp_path):
    """No folder that was not there."""
    with pytest.raises(InputError, match="is not a folder; there are no checkpoints"):
        Checkpoints(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()
    whole = Checkpoints(tmp_path / "some")
    whole.save(0, {"x": np.arange(3.0)}, {"generation": 0}, {})
    whole.close()
    reading = Checkpoints(tmp_path / "some", read_only=True)
    np.testing.assert_array_equal(reading.restore_leaves(0)["x"], np.arange(3.0))
    reading.close()
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["0"]
