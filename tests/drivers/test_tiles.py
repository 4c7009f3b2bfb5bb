"""Tiles of chains: their sizes; many give the numbers of one, as do calls of fewer records."""

import math
import os
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.drivers import tiles
from collapse_jax.drivers.chunks import join_chunks
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate, simulate_chunks
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical
from collapse_jax.estimators.gaussian import gaussian
from collapse_jax.metrics import resolve_metrics

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(1)


def gaussian_process(dim, workflow, sample_size):
    return generational_process(
        gaussian(dim),
        sources.normal(np.ones(dim), 2 * np.eye(dim)),
        workflow,
        sample_size=sample_size,
    )


def categorical_process(number, workflow, sample_size):
    return generational_process(
        categorical(number),
        sources.categorical(np.full(number, 1 / number)),
        workflow,
        sample_size=sample_size,
    )


PROCESSES = {
    "gaussian replace": gaussian_process(1, workflows.replace(), 7),
    "gaussian in 14 dimensions": gaussian_process(14, workflows.replace(), 50),
    "gaussian accumulate_subsample": gaussian_process(1, workflows.accumulate_subsample(), 7),
    "categorical mix": categorical_process(3, workflows.mix(0.5, 0.3, 0.2), 7),
    "categorical replace": categorical_process(30, workflows.replace(), 9),
}
METRICS = ("mean", "variance")


@pytest.mark.parametrize(
    "name", ["gaussian replace", "gaussian accumulate_subsample", "categorical replace"]
)
def test_tiles_are_of_few_sizes_with_few_chains_to_spare(name, monkeypatch):
    numbers = [1, 2, 3, 13, 100, *range(1000, 200_000, 9001), 10**6, 10**9]
    for workers in (1, 4):
        monkeypatch.setattr(tiles, "workers", lambda devices, workers=workers: workers)
        sizes = [tiles.chains_in_tile(PROCESSES[name], KEY, chains) for chains in numbers]
        assert sizes[:5] == ([1, 2, 3, 14, 112] if workers == 1 else [1, 1, 1, 4, 28]), (
            "one tile for each worker"
        )
        assert max(sizes) <= 16384
        for chains, size in zip(numbers, sizes, strict=True):
            odd = size >> max(math.floor(math.log2(size)) - 2, 0)
            assert size in (1, 2, 3) or size == odd << (math.floor(math.log2(size)) - 2), (
                "4, 5, 6 or 7 times a power of two"
            )
            computed = -(-chains // (size * workers)) * size * workers
            assert computed <= 1.3 * chains + 4 * workers, (chains, size)


def test_tiles_of_large_chains_are_small():
    most = [
        tiles.chains_in_tile(categorical_process(number, workflows.replace(), 9), KEY, 10**6)
        for number in (10, 1000, 100_000)
    ]
    assert most[0] > most[1] > most[2] >= 1
    # a state and a training set list 100,000 categories each, with a weight and a number: what a
    # tile holds is bounded
    assert most[2] * 4 * 100_000 <= 2**25


@pytest.mark.parametrize(
    "name",
    [
        "gaussian accumulate_subsample",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("gaussian in 14 dimensions", "categorical replace")
        ),
    ],
)
def test_many_tiles_give_the_numbers_of_one(name, monkeypatch):
    process = PROCESSES[name]
    arguments = {"generations": 9, "chains": 13, "metrics": METRICS, "record": 3, "chunk": 2}
    wanted = simulate(process, KEY, **arguments)
    monkeypatch.setattr(tiles, "chains_in_tile", lambda *arguments: 4)
    monkeypatch.setattr(tiles, "workers", lambda devices: 3)
    threads, advance = set(), tiles.advance

    def watched(*arguments):
        threads.add(threading.get_ident())
        return advance(*arguments)

    monkeypatch.setattr(tiles, "advance", watched)
    chunks = []
    for chunk in simulate_chunks(process, KEY, Plan(**arguments)):
        chunks.append(chunk)
        if chunk.generations[-1] == 6:
            state = chunk.copy_state()
    assert threads and threading.get_ident() not in threads
    assert all(len(leaf) == 13 for leaf in jax.tree.leaves(state))
    later = simulate_chunks(process, KEY, Plan(**arguments, after=(6, state)))
    resumed = join_chunks([*(chunk for chunk in chunks if chunk.generations[-1] <= 6), *later])
    for trace in (join_chunks(chunks), resumed):
        np.testing.assert_array_equal(trace.generations, [0, 3, 6, 9])
        for metric in METRICS:
            assert trace[metric].shape[0] == 13
            np.testing.assert_allclose(trace[metric], wanted[metric], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gaussian replace", "categorical mix"])
def test_rows_that_are_not_recorded_are_0(name):
    process = PROCESSES[name]
    measure = tuple(resolve_metrics(process.estimator.metrics, METRICS).items())
    batch = tiles.chain_batch(KEY, np.arange(4))
    runs = []
    for rows in (2, 5):
        state, first = tiles.start(process, measure, 6, batch)
        assert first["variance"].shape == (1, 4)
        runs.append(
            tiles.advance(
                process,
                measure,
                rows,
                state,
                batch,
                0,
                [2, 6],
                tiles.allocate(process, measure, rows, state, batch),
            )
        )
    (short_state, short), (long_state, long) = runs
    for metric in METRICS:
        assert long[metric].shape == (5, *first[metric].shape[1:])
        np.testing.assert_allclose(long[metric][:2], short[metric], rtol=2e-5, atol=1e-6)
        assert np.asarray(short[metric]).all() and not np.asarray(long[metric][2:]).any()
    for a, b in zip(jax.tree.leaves(short_state), jax.tree.leaves(long_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
        assert a.shape[process.runtime.chain_axis] == 4


ON_TWO_DEVICES = """
import re
import jax, numpy as np
import collapse_jax as cj
from collapse_jax.drivers import tiles
from collapse_jax.metrics import resolve_metrics

estimator, source = cj.estimators.categorical(50), cj.sources.categorical(np.full(50, 0.02))
process = cj.generational_process(estimator, source, cj.workflows.replace(), sample_size=20)
measure = tuple(resolve_metrics(process.metrics, ("support",)).items())
axis, to_size = process.runtime.chain_axis, process.runtime.compaction.to_size
batch = tiles.chain_batch(jax.random.key(0), np.arange(64))
state, _ = tiles.start(process, measure, 4, batch)
records = tiles.allocate(process, measure, 4, state, batch)
mesh = tiles.mesh_of(batch.keys)
programs = {
    "advance": tiles.advance_program(process.step, axis, measure, mesh).lower(
        state, batch, np.int32(0), np.arange(1, 5, dtype=np.int32), np.int32(4), records),
    "compact": tiles.compact_program(to_size, axis, 32, mesh).lower(state),
}
exchanges = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
for name, program in programs.items():
    found = re.findall(exchanges, program.compile().as_text())
    assert len(jax.devices()) == 2 and not found, (name, found)
"""


@pytest.mark.slow
def test_devices_exchange_nothing():
    """Each device works on its own chains alone, also in sorts and in lists that all share."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


ON_THE_SECOND_DEVICE = """
import jax, numpy as np
import collapse_jax as cj
from collapse_jax.drivers import tiles

used, whole = set(), {name: getattr(tiles, name) for name in ("start", "advance")}
def watched(name):
    def call(*arguments):
        made = whole[name](*arguments)
        used.update(one.id for leaf in jax.tree.leaves(made) for one in leaf.devices())
        return made
    return call
for name in whole:
    setattr(tiles, name, watched(name))
family = cj.estimators.gaussian_mean(1.0)
source = cj.sources.population(family, cj.estimators.gaussian_mean_params([0.0]))
process = cj.generational_process(family, source, cj.workflows.replace(), sample_size=5)
found = []
for device in jax.devices():
    trace = cj.simulate(process, jax.random.key(0), generations=2, chains=8, metrics="mean",
                        devices=[device])
    assert used == {device.id}, (used, device)
    used.clear()
    found.append(trace["mean"])
assert len(found) == 2 and np.array_equal(*found)
"""


@pytest.mark.slow
def test_a_single_device_is_the_one_that_is_asked_for():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_SECOND_DEVICE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
