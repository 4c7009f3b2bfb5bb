"""Chains of every family, workflow and curation, and their statistics, lowered for accelerators."""

import functools
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import curation, sources, workflows
from collapse_jax.core.process import process_grid
from collapse_jax.drivers import device_statistics, sharded, tiles
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate_chunks
from collapse_jax.estimators.registry import families

KEY = jax.random.key(0)
FAMILIES = [name for name, known in families().items() if known.example is not None]
WORKFLOWS = {
    "replace": workflows.replace(),
    "accumulate": workflows.accumulate(),
    "accumulate_subsample": workflows.accumulate_subsample(),
    "mix": workflows.mix(0.5, 0.3, 0.2),
    "keep_or_continue": workflows.keep_or_continue(0.5),
}
CURATIONS = {
    "best_of": curation.best_of(2, lambda x: jnp.sum(x, -1)),
    "verified": curation.verified(lambda x: jnp.sum(x, -1) > -1),
    "tempered": curation.tempered(0.9),
    "detector": curation.detector(0.9, 0.1),
}
# Sorts and binomials over shrinking supports; products of triangular matrices; points that stay.
QUICK = {("categorical", "replace"), ("gaussian", "replace"), ("kde", "accumulate")}


@functools.cache
def example(name):
    return families()[name].example()


def simulated(estimator, params, workflow, most=2):
    """Chains with the first few of the metrics that the process offers."""
    process = cj.generational_process(
        estimator, sources.population(estimator, params), workflow, sample_size=6
    )
    offered = [name for name, function in process.metrics.items() if function]
    cj.simulate(process, KEY, generations=3, chains=4, metrics=offered[:most])
    compaction, axis = process.runtime.compaction, process.runtime.chain_axis
    if compaction is not None:  # which short runs may do without
        state, _ = tiles.start(process, (), 3, tiles.chain_batch(KEY, np.arange(4)))
        tiles.most_in_use(compaction, axis, state)
        tiles.compact(compaction, axis, 2, state)


@pytest.mark.parametrize(
    ("family", "workflow"),
    [
        pytest.param(
            family, workflow, marks=() if (family, workflow) in QUICK else pytest.mark.slow
        )
        for family in FAMILIES
        for workflow in WORKFLOWS
        if (family, workflow) != ("ngram", "keep_or_continue")
    ],
)
def test_simulate(family, workflow, lowered):
    estimator, params = example(family)
    simulated(estimator, params, WORKFLOWS[workflow])
    assert {"_start", "_advance", "_chain_with_nan"} <= lowered.names
    if workflow == "replace" and family == "categorical":  # where the dead stay dead
        assert {"_most_in_use", "_compact"} <= lowered.names


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_metric(family, lowered):
    simulated(*example(family), WORKFLOWS["replace"], most=None)
    assert "_start" in lowered.names


@pytest.mark.slow
@pytest.mark.parametrize("name", CURATIONS)
def test_curations(name, lowered):
    family = "categorical" if name == "tempered" else "gaussian"
    simulated(*example(family), CURATIONS[name](WORKFLOWS["mix"]))
    assert "_advance" in lowered.names


def test_the_fit_of_a_table(check_traced):
    fitted = importlib.import_module("collapse_jax.estimators.gaussian_copula")._fitted
    check_traced(fitted.trace(jnp.zeros((6, 3)), jnp.ones(6)))  # `_marginals` among it


@pytest.mark.slow
def test_a_fixed_data_set_and_a_grid(lowered):
    real = sources.dataset(np.random.default_rng(0).normal(size=(40, 1)))

    def at(point):
        workflow = workflows.mix(1 - point["gamma"], 0.0, point["gamma"])
        return cj.generational_process(cj.estimators.gaussian(1), real, workflow, sample_size=6)

    settings = {"gamma": np.array([0.0, 0.5])}
    plan = Plan(2, 3, ("log_variance",), settings=settings)
    list(simulate_chunks(process_grid(at, {"gamma": 0.0}), KEY, plan))
    assert "_advance" in lowered.names


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_statistics_over_chains(dtype, check_traced):
    """Each in the 64-bit numbers that it is computed in."""
    values, real = jnp.zeros((2, 8), dtype), np.int32(7)
    threshold = np.zeros((2, 5), np.int32)
    given = {"_sum": (), "_squares": (np.zeros(2),), "_least": (), "_most": (), "_every_key": ()}
    for name in ("_counts", "_most_upto", "_least_above", "_least_from"):
        given[name] = (threshold,)
    if dtype == np.float32:
        given["_has_nan"] = ()
    with jax.enable_x64(True):
        for name, more in given.items():
            made = inspect.getclosurevars(getattr(device_statistics, name)).nonlocals["program"]
            check_traced(made().trace(values, real, *more))


def test_compiler_options_are_those_of_the_platform(monkeypatch):
    asked = []
    monkeypatch.setattr(jax, "jit", lambda function, **options: asked.append(options))
    for backend in ("cpu", "gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        sharded.compiled(lambda batch: batch)
    of_cpu, *others = [options["compiler_options"] for options in asked]
    assert all(name.startswith("xla_cpu") for name in of_cpu)
    assert others == [None, None]


def test_what_an_accelerator_cannot_do_is_found(faults_of):
    """Calls of the host, LAPACK, and what the compiler of TPUs has not got."""

    def text(function, shape, platform):
        traced = jax.jit(function).trace(jax.ShapeDtypeStruct(shape, np.float32))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    def on_host(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    for platform in ("cuda", "tpu"):
        with pytest.raises(ValueError, match="backend"):
            text(on_host, (3,), platform)
        assert not faults_of(text(jnp.linalg.cholesky, (3, 3), platform), platform)
        assert not faults_of(text(jnp.linalg.eigh, (3, 3), platform), platform)
    assert faults_of(text(jnp.linalg.cholesky, (3, 3), "cpu"), "cuda") == ["lapack_spotrf_ffi"]
    with jax.enable_x64(True):
        bits = jax.jit(lambda x: jax.lax.bitcast_convert_type(x, jnp.int64)).trace(np.zeros(2))
        assert faults_of(bits.lower(lowering_platforms=("tpu",)).as_text(), "tpu")
