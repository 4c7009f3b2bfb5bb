"""What a simulation writes on the way: every record once, and what it goes on from."""

import dataclasses
import shutil

import numpy as np
import pytest
from rich.console import Console

from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.config import SimulateConfig
from collapse_jax.runs.checkpoint import Checkpoints

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
