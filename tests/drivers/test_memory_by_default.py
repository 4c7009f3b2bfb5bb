"""Without a memory limit a simulation is held against what is free."""

import math

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import sources, workflows
from collapse_jax.drivers import plan as plans
from collapse_jax.drivers.plan import Plan, check_memory, check_plan, memory_needed
from collapse_jax.errors import InputError

KEY = jax.random.key(7)


def made(family=None, size=20):
    family = family or cj.estimators.gaussian(1)
    source = sources.normal([0.0], [[1.0]])
    return cj.generational_process(family, source, workflows.replace(), sample_size=size)


PROCESS = made()


def test_10_to_the_9_chains_are_refused_in_one_line():
    with pytest.raises(InputError) as caught:
        cj.simulate(PROCESS, KEY, generations=100, chains=10**9)
    text = str(caught.value)
    # 10^9 chains of 3 metrics of 4 bytes at 101 generations, and states beside them.
    assert text.startswith("chains is 1,000,000,000; with 101 recorded generations they need about")
    needed = float(text.split("about ")[1].split(" GiB")[0])
    assert 3 * 4 * 101e9 / 2**30 < needed < 1.05 * 3 * 4 * 101e9 / 2**30
    for part in ("are free", "record=", "simulate_summary", "memory_limit="):
        assert part in text
    with pytest.raises(InputError, match="are free: give a smaller chunk"):
        cj.simulate_summary(PROCESS, KEY, generations=100, chains=10**9)


def test_more_generations_than_can_be_numbered(monkeypatch):
    monkeypatch.setattr(plans, "free_memory", lambda: 2**30)
    with pytest.raises(InputError, match=r"record is 1, which records 2,000,000,001 generations"):
        cj.simulate(PROCESS, KEY, generations=2 * 10**9)
    assert len(plans.recorded_generations(10**6)) == 10**6 + 1


def refused(process, free, monkeypatch, chains=1000, **options):
    monkeypatch.setattr(plans, "free_memory", lambda: free)
    simulation = check_plan(process, KEY, Plan(10, chains, ("mean",), **options))
    try:
        check_memory(simulation, 11, "11 records", "take less")
    except InputError as error:
        return "are free" in str(error)
    return False


def test_it_is_refused_where_it_does_not_fit_and_not_before(monkeypatch):
    # Three floats of parameters or more, a generation, and 11 records of 4 bytes a chain.
    least = 1000 * (4 * 4 + 11 * 4)
    assert refused(PROCESS, least - 4000, monkeypatch)
    assert not refused(PROCESS, 4 * least, monkeypatch)
    assert not refused(PROCESS, None, monkeypatch)
    assert not refused(PROCESS, 0, monkeypatch, memory_limit=math.inf)
    assert not refused(PROCESS, 0, monkeypatch, memory_limit=2**30)


def test_training_sets_are_those_of_chains_at_work(monkeypatch):
    """10^5 chains of 4,000 points are 3 GiB, of which only some are there at the same time."""
    process = made(cj.estimators.kde(1, 0.1), 4000)
    assert 1e5 * 4000 * 8 > 2**31
    one = check_plan(process, KEY, Plan(10, 1, ("mean",)))
    chains, _ = plans._bytes_at_once(one, 11, False)
    many, _ = plans._bytes_at_once(one._replace(plan=one.plan._replace(chains=10**5)), 11, False)
    states = 10**5 * (chains // 2)  # a kde's state is its training set
    assert states < many < 1.2 * states


def test_devices_hold_the_chains(monkeypatch):
    monkeypatch.setattr(plans.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(plans, "free_device_memory", lambda devices: 10 * 2**10)
    simulation = check_plan(PROCESS, KEY, Plan(10, 1000, ("mean",), memory_limit=None))
    with pytest.raises(InputError, match="on the devices, but 10 KiB are free"):
        check_memory(simulation, 11, "11 records", "take less")


@pytest.mark.parametrize(("rows", "size"), [(200_000, 1000), (20_000, 15_000), (2000, 100)])
def test_draws_from_a_data_set_are_counted(rows, size):
    """By the temporaries of the program that XLA compiles for chains that are computed together."""
    real = sources.dataset(np.random.default_rng(0).normal(size=(rows, 1)))
    family = cj.estimators.gaussian(1)
    process = cj.generational_process(family, real, workflows.replace(), sample_size=size)
    chains = 64
    program = jax.jit(jax.vmap(lambda key: process.init(key)[0]))
    analysis = program.lower(jax.random.split(KEY, chains)).compile().memory_analysis()
    held = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    assert 0.8 * held < memory_needed(process, KEY, Plan(5, chains, ("mean",)), 0) < 1.01 * held
    # Those of 10^6 chains draw one after the other, tile by tile.
    many = memory_needed(process, KEY, Plan(5, 10**6, ("mean",)), 0)
    assert many < 10**6 * held / chains / 2
