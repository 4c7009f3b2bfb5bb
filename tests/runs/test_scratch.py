"""Files of unfinished work: whole or not at all, of this work or not at all."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.runs import scratch as scratch
from collapse_jax.runs.scratch import FileScratch, Scratch, fingerprint, key_name, pack, unpack
from collapse_jax.runs.stopping import Stop, Stopped

TREE = {
    "w": np.arange(6.0, dtype=np.float32).reshape(2, 3) / 7,
    "b": (jnp.arange(3, dtype=jnp.bfloat16), np.int32(5)),
}


@pytest.fixture
def said():
    return []


@pytest.fixture
def bench(tmp_path, said):
    return FileScratch(tmp_path / "unfinished", said.append)


def assert_same_tree(found, wanted):
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (
            ours.dtype == theirs.dtype
            and ours.shape == theirs.shape
            and np.array_equal(ours, theirs)
        )


@pytest.mark.parametrize("background", [False, True])
def test_what_is_saved_comes_back_to_another_process(
    bench, said, tmp_path, monkeypatch, background
):
    monkeypatch.setattr(scratch, "_on_accelerator", lambda arrays: background)
    assert bench.load("fit", "these") is None and not (tmp_path / "unfinished").exists()
    bench.save("fit", "these", {"loss": np.array([0.1, 1e-300])} | pack("tree", TREE))
    found = bench.load("fit", "these")
    np.testing.assert_array_equal(found["loss"], [0.1, 1e-300])
    assert_same_tree(unpack("tree", found, TREE), TREE)
    other = FileScratch(tmp_path / "unfinished", said.append).load("fit", "these")
    assert_same_tree(unpack("tree", other, TREE), TREE)
    bench.save("fit", "these", {"loss": np.array([3.0])})
    assert list(bench.load("fit", "these")) == ["loss"]
    assert [path.name for path in (tmp_path / "unfinished").iterdir()] == ["fit.npz"] and said == []
    bench.clear()
    assert not (tmp_path / "unfinished").exists() and bench.load("fit", "these") is None


@pytest.mark.parametrize("harm", ["truncated", "flipped", "empty", "text", "other make", "no make"])
def test_a_file_that_cannot_be_used_is_named_once(bench, said, tmp_path, harm):
    bench.save("fit", "these", {"x": np.arange(1000)})
    path = tmp_path / "unfinished" / "fit.npz"
    data = bytearray(path.read_bytes())
    flipped = data[:]
    flipped[len(data) // 2] ^= 4
    if harm == "no make":
        np.savez(path, x=np.arange(3))
    elif harm != "other make":
        path.write_bytes(
            {"truncated": data[:-100], "flipped": flipped, "empty": b"", "text": b"hello"}[harm]
        )
    assert bench.load("fit", "those" if harm == "other make" else "these") is None
    assert (
        len(said) == 1 and str(path) in said[0] and "starts over" in said[0] and "\n" not in said[0]
    )
    assert ("other settings" in said[0]) == (harm == "other make")
    bench.save("fit", "these", {"x": np.arange(2)})
    assert bench.load("fit", "these")["x"].tolist() == [0, 1] and len(said) == 1


def test_a_write_that_fails_leaves_the_old_file_and_is_raised(bench, tmp_path, monkeypatch):
    """Of a background write by the next call. What a kill left is removed by the next process."""
    monkeypatch.setattr(scratch, "_on_accelerator", lambda arrays: True)
    bench.save("fit", "these", {"x": np.arange(2)})
    bench.load("fit", "these")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        bench.save("fit", "these", {"x": np.arange(3)})
        with pytest.raises(OSError, match="No space left"):
            bench.load("fit", "these")
    assert bench.load("fit", "these")["x"].tolist() == [0, 1]
    (tmp_path / "unfinished" / ".fit.npz.1.partial").touch()
    FileScratch(tmp_path / "unfinished")
    assert [path.name for path in (tmp_path / "unfinished").iterdir()] == ["fit.npz"]


@pytest.mark.parametrize("background", [False, True])
def test_a_stop_comes_once_the_piece_is_written(said, tmp_path, monkeypatch, background):
    monkeypatch.setattr(scratch, "_on_accelerator", lambda arrays: background)
    with Stop(said.append) as stop:
        bench = FileScratch(tmp_path / "unfinished", said.append, stop)
        bench.save("first", "these", {"x": np.arange(3)})
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped):
            bench.save("second", "these", {"x": np.arange(4)})
    assert FileScratch(tmp_path / "unfinished").load("second", "these")["x"].tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_the_one_that_keeps_nothing():
    Scratch().save("fit", "these", {"x": np.arange(3)})
    Scratch().clear()
    assert Scratch().load("fit", "these") is None


def test_fingerprints_and_names_tell_things_apart():
    a = np.arange(4)
    same = fingerprint("x", a, 1.5)
    assert same == fingerprint("x", a.copy(), 1.5)
    others = [
        ("y", a, 1.5),
        ("x", a + 1, 1.5),
        ("x", a.astype(np.int32), 1.5),
        ("x", a.reshape(2, 2), 1.5),
        ("x", a, 1.25),
        ("xa", 1.5),
    ]
    assert len({same, *(fingerprint(*parts) for parts in others)}) == 7
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(100)]
    assert len({key_name(key) for key in keys}) == 100 and key_name(keys[0]) == key_name(
        jax.random.fold_in(jax.random.key(0), 0)
    )
