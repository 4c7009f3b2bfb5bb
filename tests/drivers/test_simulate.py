"""The traceable driver: what changes no number, going on from a chunk, and bad input."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import points, workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import FitInfo
from collapse_jax.drivers import tiles
from collapse_jax.drivers.chunks import join_chunks
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate, simulate_chunks
from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical
from collapse_jax.estimators.gaussian import gaussian
from collapse_jax.metrics import resolve_metrics

KEY = jax.random.key(1)
GAUSSIAN = (gaussian(1), sources.normal([1.0], [[2.0]]))
CATEGORICAL = (categorical(3), sources.categorical([0.5, 0.3, 0.2]))
PROCESSES = {
    "gaussian replace": generational_process(*GAUSSIAN, workflows.replace(), sample_size=7),
    "gaussian accumulate_subsample": generational_process(
        *GAUSSIAN, workflows.accumulate_subsample(), sample_size=7
    ),
    "categorical mix": generational_process(
        *CATEGORICAL, workflows.mix(0.5, 0.3, 0.2), sample_size=7
    ),
    "categorical replace": generational_process(
        categorical(40),
        sources.categorical(np.full(40, 1 / 40)),
        workflows.replace(),
        sample_size=9,
    ),
    "gaussian in 14 dimensions": generational_process(
        gaussian(14), sources.normal(np.ones(14), np.eye(14)), workflows.replace(), sample_size=50
    ),
}
METRICS = ("mean", "variance")


@functools.cache
def reference(name):
    """13 chains, 6 generations, in one chunk."""
    return simulate(PROCESSES[name], KEY, generations=6, chains=13, metrics=METRICS)


def assert_same(found, wanted, exact=True):
    for name in METRICS:
        if exact:
            np.testing.assert_array_equal(found[name], wanted[name])
        else:
            np.testing.assert_allclose(found[name], wanted[name], rtol=2e-5, atol=1e-6)


def test_a_trace_holds_every_chain_and_generation():
    def twice_the_generation(state):
        return 2 * state.generation

    metrics = ("mean", "probabilities", twice_the_generation)
    told = []
    trace = simulate(
        PROCESSES["categorical mix"],
        KEY,
        generations=6,
        chains=13,
        metrics=metrics,
        progress=told.append,
    )
    assert set(trace) == {"mean", "probabilities", "twice_the_generation"} and told == [0, 6]
    np.testing.assert_array_equal(trace["twice_the_generation"], np.tile(2 * np.arange(7), (13, 1)))
    assert trace["mean"].shape == (13, 7) and trace["probabilities"].shape == (13, 7, 3)
    np.testing.assert_array_equal(trace.generations, np.arange(7))
    assert isinstance(trace["mean"], np.ndarray)
    assert len(np.unique(trace["mean"][:, 0])) > 3, "chains differ"
    labelled = trace.to_xarray()
    assert labelled["probabilities"].dims == ("chain", "generation", "probabilities_0")
    assert repr(trace).splitlines() == [
        "Trace of generations 0..6 (7 recorded)",
        "  mean [13, 7], probabilities [13, 7, 3], twice_the_generation [13, 7]",
    ]


# Other array shapes are other programs, and XLA may then order or fuse float32 operations
# otherwise; hence the tolerance of 2e-5.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if place % 2 else pytest.mark.slow)
        for place, name in enumerate(PROCESSES)
    ],
)
def test_more_chains_and_generations_and_other_chunks_change_no_number(name):
    other = simulate(PROCESSES[name], KEY, generations=8, chains=16, metrics=METRICS, chunk=4)
    assert_same(
        {metric: other[metric][:13, :7] for metric in METRICS}, reference(name), exact=False
    )


def test_chunks_are_equal_bit_for_bit():
    name = "categorical mix"
    told = []
    other = simulate(
        PROCESSES[name],
        KEY,
        generations=6,
        chains=13,
        metrics=METRICS,
        chunk=2,
        progress=told.append,
    )
    assert told == [0, 2, 4, 6]
    assert_same(other, reference(name))


def test_another_key_gives_other_numbers():
    other = simulate(
        PROCESSES["gaussian replace"], jax.random.key(2), generations=6, chains=13, metrics=METRICS
    )
    assert not np.any(other["mean"] == reference("gaussian replace")["mean"])


@pytest.mark.parametrize("name", ["gaussian replace", "gaussian accumulate_subsample"])
def test_going_on_from_a_chunk(name):
    process = PROCESSES[name]
    chunks, states = [], []
    plan = Plan(generations=4, chains=13, metrics=METRICS, chunk=2)
    for chunk in simulate_chunks(process, KEY, plan):
        chunks.append(chunk)
        states.append(chunk.copy_state())
    assert [chunk.generations.tolist() for chunk in chunks] == [[0], [1, 2], [3, 4]]
    assert all(
        isinstance(leaf, np.ndarray) and len(leaf) == 13 for leaf in jax.tree.leaves(states[1])
    )
    kept = jax.tree.map(np.copy, states[1])
    # twice: going on must not eat the state that it starts from
    for _ in range(2):
        plan = Plan(generations=6, chains=13, metrics=METRICS, after=(2, states[1]))
        later = list(simulate_chunks(process, KEY, plan))
        assert later[0].generations.tolist() == [3, 4, 5, 6]
        assert_same(join_chunks([*chunks[:2], *later]), reference(name), exact=False)
        jax.tree.map(np.testing.assert_array_equal, states[1], kept)
    if name == "gaussian accumulate_subsample":
        assert states[1].carry.weight.shape == (13, 5 * 7) and later[
            -1
        ].copy_state().carry.weight.shape == (13, 7 * 7)


DEVICES = """
import runpy, sys
import jax, numpy as np
assert len(jax.devices()) == int(sys.argv[3])
test = runpy.run_path(sys.argv[1])
found = {
    f"{name} {metric}": values
    for name in test["PROCESSES"]
    for metric, values in test["reference"](name).items()
}
for name in ("categorical mix", "categorical replace"):
    process, options = test["PROCESSES"][name], {"chains": 13, "metrics": test["METRICS"]}
    plan = test["Plan"](generations=2, **options)
    chunks = list(test["simulate_chunks"](process, test["KEY"], plan))
    state = chunks[-1].copy_state()
    plan = plan._replace(generations=6, after=(2, state))
    later = test["simulate_chunks"](process, test["KEY"], plan)
    found["later " + name] = test["join_chunks"]([*chunks, *later])["mean"]
    if name == "categorical replace":
        assert state.params.weights.shape[1] < 40
np.savez(sys.argv[2], **found)
"""


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one(tmp_path):
    """13 chains on 8 virtual devices: 3 are padding.

    The lists of categories get shorter on the way.
    """
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    arguments = [sys.executable, "-c", DEVICES, __file__, str(tmp_path / "found.npz"), "8"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "found.npz") as found:
        for name in PROCESSES:
            assert_same(
                {metric: found[f"{name} {metric}"] for metric in METRICS},
                reference(name),
                exact=False,
            )
        for name in ("categorical mix", "categorical replace"):
            np.testing.assert_allclose(
                found["later " + name], reference(name)["mean"], rtol=2e-5, atol=1e-6
            )


def test_numbers_may_be_numpys():
    options = {
        "generations": np.int64(3),
        "chains": np.int32(4),
        "chunk": np.int64(2),
        "record": np.int64(1),
    }
    trace = simulate(PROCESSES["gaussian replace"], KEY, **options)
    assert trace["variance"].shape == (4, 4)


def test_only_generation_0():
    trace = simulate(PROCESSES["categorical mix"], KEY, generations=0, chains=13, metrics=METRICS)
    assert trace["mean"].shape == (13, 1)
    np.testing.assert_allclose(
        trace["mean"], reference("categorical mix")["mean"][:, :1], rtol=1e-6
    )


def test_a_second_call_compiles_nothing():
    process = PROCESSES["categorical mix"]
    measure = tuple(resolve_metrics(process.metrics, METRICS).items())
    axis = process.runtime.chain_axis

    def compiled():
        """How many shapes `tiles.start` and `tiles.advance` are compiled for, on one device."""
        programs = (
            tiles.start_program(process.init, axis, measure, 4, None),
            tiles.advance_program(process.step, axis, measure, None),
        )
        return [program._cache_size() for program in programs]

    arguments = {"generations": 4, "chains": 13, "chunk": 2, "metrics": METRICS}
    simulate(process, KEY, **arguments)
    before = compiled()
    assert all(before)
    simulate(process, jax.random.key(5), **arguments)
    assert compiled() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generations": -1}, ["generations", "-1"]),
        ({"generations": 2.0}, ["generations", "2.0"]),
        ({"generations": True}, ["generations", "True"]),
        ({"chains": 0}, ["chains", "0"]),
        ({"chains": "many"}, ["chains", "'many'"]),
        ({"chunk": 0}, ["chunk", "0"]),
        ({"metrics": ("support",)}, ["'support'", "log_variance"]),
        ({"record": 0}, ["record", "0"]),
        ({"metrics": ("mean", "mean")}, ["'mean'", "name"]),
        ({"metrics": (functools.partial(len),)}, ["__name__"]),
    ],
)
def test_bad_input_is_named(change, words):
    with pytest.raises(InputError) as error:
        simulate(PROCESSES["gaussian replace"], KEY, **({"generations": 1} | change))
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_an_estimator_on_the_host_is_sent_to_run():
    fit, sample = lambda key, params, data: (params, None), lambda key, params, n: jnp.zeros(n)
    with pytest.raises(InputError, match="needs init"):
        estimator(fit, sample, traceable=False)
    host = estimator(fit, sample, init=lambda key, data: (), traceable=False)
    process = generational_process(
        host, sources.dataset(np.zeros(5)), workflows.replace(), sample_size=3
    )
    with pytest.raises(InputError, match=r"on the host; use cj\.run"):
        simulate(process, KEY, generations=1, metrics=())


def test_no_slot_of_a_pool_is_lost():
    """With `accumulate_subsample` the pool has every generation's points, in their order."""
    process = PROCESSES["gaussian accumulate_subsample"]
    plan = Plan(generations=4, chains=2, metrics=METRICS, chunk=2)
    chunks = simulate_chunks(process, KEY, plan)
    pools = [
        points.filled(jax.tree.map(lambda leaf: leaf[1], chunk.copy_state().carry))
        for chunk in chunks
    ]
    assert [len(pool) for pool in pools] == [7, 21, 35]
    np.testing.assert_array_equal(pools[2][:21], pools[1])
    np.testing.assert_array_equal(pools[1][:7], pools[0])
    assert len(np.unique(pools[2])) == 35


@pytest.mark.parametrize(("chains", "chunk"), [(1, 100), (40, 3)])
def test_a_model_with_nan_is_named_by_chain_and_generation(chains, chunk):
    """A fit takes the root of a mean that falls by 1 a generation: nan once it was below 0."""

    def fit(key, params, data):
        return jnp.sqrt(data.x.mean()), FitInfo.exact()

    def sample(key, params, n):
        return jnp.full((n,), params**2 - 1)

    process = generational_process(
        estimator(fit, sample), sources.dataset(np.full(5, 6.5)), workflows.replace(), sample_size=5
    )
    with pytest.raises(
        DivergenceError, match=r"chain 0: the model became nan by generation 7; .*fold_in\(key, 0\)"
    ):
        simulate(
            process,
            jax.random.key(0),
            generations=30,
            chains=chains,
            chunk=chunk,
            metrics=(mean_of,),
        )


def mean_of(state):
    return state.params
