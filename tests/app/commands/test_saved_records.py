"""What a simulation writes on the way: every record once, and what it goes on from."""

import dataclasses
import gc
import shutil
import tracemalloc
import types

import numpy as np
import pytest
from rich.console import Console

from collapse_jax.app.commands import resumable
from collapse_jax.app.commands.saved_records import SavedRecords
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.commands.tables import summary_rows
from collapse_jax.app.config import SimulateConfig
from collapse_jax.drivers.chunks import Records
from collapse_jax.drivers.summary import summarise
from collapse_jax.drivers.trace import Trace
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("quick_compile")
CHAINS, CHUNK = 1000, 5
CONFIG = SimulateConfig(sample_size=20, chains=CHAINS, chunk=CHUNK, metrics=("log_variance",))


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Without figures, which take longer than such a run."""
    monkeypatch.setattr("collapse_jax.app.plots.draw_run", lambda folder: [])


@pytest.fixture(autouse=True)
def saved_at_once(monkeypatch):
    """Every chunk, and not what came within a second."""
    monkeypatch.setattr("collapse_jax.app.commands.chains.RECORDS_SAVE_SECONDS", 0.0)


@pytest.fixture
def console(tmp_path):
    with open(tmp_path / "console.txt", "w", encoding="utf-8") as file:
        yield Console(file=file, width=300)


@pytest.fixture
def written(monkeypatch):
    """Bytes on disk of each checkpoint, as it is written."""
    sizes, save = [], Checkpoints.save

    def measured(self, generation, *rest):
        save(self, generation, *rest)
        folder = self.folder / str(generation)
        sizes.append(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))

    monkeypatch.setattr(Checkpoints, "save", measured)
    return sizes


def test_what_is_written_grows_with_what_is_recorded(tmp_path, console, written):
    """Not with its square: every chunk but the first is as large as any other."""
    chunks = 12
    config = dataclasses.replace(CONFIG, generations=chunks * CHUNK)
    run_simulate(config, tmp_path / "run", console)
    assert len(written) == 1 + chunks
    # Records of a chunk; and at most as much again for the state of all chains and the rest.
    records = 4 * CHAINS * CHUNK
    assert all(0.5 * records < size < 2.5 * records for size in written[1:]), written
    assert max(written[1:]) < 1.1 * min(written[1:]), written
    assert sum(written) < 2.5 * records * (chunks + 1)


def test_the_newest_two_states_stay(tmp_path, console):
    config = dataclasses.replace(CONFIG, generations=20)
    folder = run_simulate(config, tmp_path / "run", console)
    states = {path.parent.name for path in folder.checkpoints.glob("chains/*/state")}
    records = {path.parent.name for path in folder.checkpoints.glob("chains/*/arrays")}
    assert states == {"15", "20"} and records == {"0", "5", "10", "15", "20"}


@pytest.mark.parametrize(("harmed", "begun"), [(20, 15), (15, 0), (5, 0)])
@pytest.mark.parametrize("item", ["arrays", "record"])
def test_damaged_records_are_made_again(tmp_path, console, written, harmed, begun, item):
    """A damaged newest checkpoint costs its own records, an older one costs all of them."""
    config = dataclasses.replace(CONFIG, generations=20)
    whole = run_simulate(config, tmp_path / "run", console).results()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "chains" / str(harmed) / item)
    (tmp_path / "run" / "results.nc").unlink()
    written.clear()
    folder = run_simulate(dataclasses.replace(config, chunk=3), tmp_path / "run", console)
    assert len(written) == (2 if begun else 8)
    assert f"chains/{harmed} is damaged" in (tmp_path / "console.txt").read_text()
    results = folder.results()
    np.testing.assert_array_equal(results["generation"], np.arange(21))
    np.testing.assert_allclose(results["log_variance"], whole["log_variance"], rtol=2e-5, atol=1e-6)
    assert (folder.checkpoints / "chains" / f"damaged-{harmed}").is_dir()


def test_a_million_small_records_are_few_checkpoints(tmp_path, console, written, monkeypatch):
    """A checkpoint costs the same whatever it holds: by default one a second is written."""
    monkeypatch.setattr("collapse_jax.app.commands.chains.RECORDS_SAVE_SECONDS", 1.0)
    now = iter(range(10**6))
    # Ten chunks are a second.
    clock = types.SimpleNamespace(monotonic=lambda: next(now) / 10)
    monkeypatch.setattr(resumable, "time", clock)
    config = dataclasses.replace(CONFIG, chains=1, generations=1000)
    folder = run_simulate(config, tmp_path / "run", console)
    assert len(written) <= 1 + 1000 / CHUNK / 10
    assert folder.results()["log_variance"].shape == (1, 1001)
    assert len(folder.rows()) == 1001


def peak(function):
    """(what it returns, the most bytes that it held at once)."""
    gc.collect()
    tracemalloc.start()
    try:
        value = function()
        return value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_joined_records(tmp_path):
    """No more than one metric is held twice."""
    names, parts, of_a_part = "abcd", 20, 2**16
    saved = SavedRecords.__new__(SavedRecords)
    saved._axis = 1
    whole = {name: np.random.default_rng(0).random((2, parts * of_a_part // 2)) for name in names}
    columns = of_a_part // 2
    cut = [slice(first * columns, (first + 1) * columns) for first in range(parts)]

    def joined():
        saved._parts = [
            Records(np.arange(columns), {name: whole[name][:, part].copy() for name in names})
            for part in cut
        ]
        return saved.joined()

    records, most = peak(joined)
    held = sum(values.nbytes for values in whole.values())
    # Its own size, a quarter of it, and the generations of the parts and of all.
    assert most < 1.6 * held, (most, held)
    for name in names:
        np.testing.assert_array_equal(records.arrays[name], whole[name])


def test_memory_of_rows(tmp_path):
    """Some thousand rows at a time, and not all."""
    values = np.random.default_rng(0).random((1, 12_000), np.float32)
    trace = Trace({"mean": values}, np.arange(values.shape[1]))
    folder = RunFolder(tmp_path)
    _, most = peak(lambda: folder.write_rows(summary_rows(trace)))
    assert most < 4e6, most
    last, most = peak(folder.last_row)
    assert most < 1e6, most
    assert last["generation"] == 11_999 and last["mean_median"] == float(values[0, -1])


def test_memory_of_statistics():
    """Beside what is returned, copies of a part of the numbers."""
    values = np.random.default_rng(0).random((2**10, 2**14), np.float32)
    statistics, most = peak(lambda: summarise(values, 2**10))
    assert most < 2 * values.nbytes, (most, values.nbytes)
    few = slice(5000, 5003)
    for name, found in summarise(values[:, few], 2**10).items():
        np.testing.assert_array_equal(statistics[name][:, few], found)
    points = summarise(values.reshape(2**14, 2**10)[:, :3], 2**4)
    assert points["quantile"].shape == (2**10, 3, 5)
    np.testing.assert_array_equal(
        points["mean"][17],
        values.reshape(2**14, 2**10)[17 * 16 : 18 * 16, :3].astype(np.float64).mean(0),
    )
