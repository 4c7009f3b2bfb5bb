"""Categories that no chain has any more are left out on the way; no number changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.drivers import tiles
from collapse_jax.drivers.chunks import join_chunks
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate, simulate_chunks
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical
from collapse_jax.metrics import resolve_metrics

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(1)
K, SIZE, GENERATIONS, CHAINS = 200, 50, 60, 24
PROCESS = generational_process(
    categorical(K), sources.categorical(np.full(K, 1 / K)), workflows.replace(), sample_size=SIZE
)


def counts(state):
    """[K], wherever in the lists the categories are."""
    return jnp.zeros(K, jnp.int32).at[state.params.categories].add(state.params.weights)


METRICS = ("support", "heterozygosity", "mean", counts)


@functools.cache
def reference():
    """Every generation of every chain with all categories listed, by init and step alone."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(CHAINS))
    fold = jax.vmap(jax.random.fold_in, (0, None))
    init, step = (
        jax.jit(jax.vmap(lambda key: PROCESS.init(key)[0])),
        jax.jit(jax.vmap(lambda key, state: PROCESS.step(key, state)[0])),
    )

    @jax.jit
    @jax.vmap
    def measure(state):
        return {"counts": counts(state)} | {
            name: PROCESS.estimator.metrics[name](state.params) for name in METRICS[:3]
        }

    rows, state = [], init(fold(keys, 0))
    for generation in range(GENERATIONS + 1):
        state = step(fold(keys, generation), state) if generation else state
        assert state.params.weights.shape == (CHAINS, K)
        rows.append(jax.tree.map(np.asarray, measure(state)))
    return {name: np.stack([row[name] for row in rows], 1) for name in rows[0]}


def assert_same(trace, generations=None):
    generations = trace.generations if generations is None else generations
    chains = min(len(trace["counts"]), CHAINS)
    for name in (*METRICS[:3], "counts"):
        found, wanted = trace[name][:chains], reference()[name][:chains, generations]
        if name in ("counts", "support"):
            np.testing.assert_array_equal(found, wanted)
        else:
            # sums of floats over lists of other lengths are rounded differently
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=3e-7)


@pytest.fixture
def sizes(monkeypatch):
    """How many categories were listed after each compaction, of one tile."""
    monkeypatch.setattr(tiles, "workers", lambda devices: 1)
    asked, compact = [], tiles.compact

    def recording(compaction, axis, size, state):
        asked.append(size)
        return compact(compaction, axis, size, state)

    monkeypatch.setattr(tiles, "compact", recording)
    return asked


@pytest.mark.parametrize(
    ("chains", "record", "chunk"),
    [(CHAINS, 1, 100), (5, "log", 7), (40, [3, 17, 40], 4)],
    ids=["all", "fewer chains", "more chains"],
)
def test_compacted_chains_are_those_of_whole_lists(chains, record, chunk, sizes):
    trace = simulate(
        PROCESS,
        KEY,
        generations=GENERATIONS,
        chains=chains,
        metrics=METRICS,
        record=record,
        chunk=chunk,
    )
    assert_same(trace)
    assert len(sizes) >= 3 and sizes == sorted(sizes, reverse=True) and sizes[-1] <= 20, (
        "the lists did get shorter"
    )
    assert trace["counts"].shape == (chains, len(trace.generations), K)
    assert (trace["counts"].sum(-1) == SIZE).all()


@pytest.mark.slow
def test_going_on_from_a_compacted_state():
    arguments = {"chains": CHAINS, "metrics": METRICS, "record": 4, "chunk": 5}
    chunks, states = [], []
    plan = Plan(GENERATIONS, **arguments)
    for chunk in simulate_chunks(PROCESS, KEY, plan):
        chunks.append(chunk)
        states.append(chunk.copy_state())
    assert_same(join_chunks(chunks))
    listed = [state.params.weights.shape[1] for state in states]
    assert listed[0] == K and listed[-1] < 30 and listed == sorted(listed, reverse=True)
    for place in (2, len(states) - 2):
        done = int(chunks[place].generations[-1])
        later = list(simulate_chunks(PROCESS, KEY, plan._replace(after=(done, states[place]))))
        whole = join_chunks([*chunks[: place + 1], *later])
        np.testing.assert_array_equal(whole.generations, np.arange(0, GENERATIONS + 1, 4))
        assert_same(whole)


def test_tiles_of_other_lengths_are_one_state(monkeypatch):
    """Each tile drops what its own chains have lost; a state of all fits the longest list."""
    monkeypatch.setattr(tiles, "chains_in_tile", lambda *arguments: 4)
    lengths, whole_list = set(), None
    plan = Plan(GENERATIONS, chains=10, metrics=METRICS, record=[30], chunk=1)
    for chunk in simulate_chunks(PROCESS, KEY, plan):
        state = chunk.copy_state()
        done = int(chunk.generations[-1])
        assert_same(chunk.arrays, [done])
        weights, categories = state.params
        assert weights.shape == categories.shape and len(weights) == 10
        found = np.zeros((10, K), int)
        np.add.at(found, (np.arange(10)[:, None], categories), weights)
        np.testing.assert_array_equal(found, reference()["counts"][:10, done])
        lengths.add(weights.shape[1])
        whole_list = state if done == 30 else whole_list
    assert max(lengths) == K and min(lengths) < 30
    # one tile goes on from what three of them had
    monkeypatch.undo()
    plan = Plan(GENERATIONS, chains=10, metrics=METRICS, record=10, after=(30, whole_list))
    later = list(simulate_chunks(PROCESS, KEY, plan))
    assert_same(join_chunks(later))


def test_a_metric_of_the_list_itself_is_refused():
    def weights(state):
        return state.params.weights

    with pytest.raises(InputError) as error:
        simulate(PROCESS, KEY, generations=GENERATIONS, chains=3, metrics=(weights,))
    assert all(
        word in str(error.value) for word in ("'weights'", "probabilities")
    ) and "\n" not in str(error.value)


def test_a_shorter_last_call_is_no_other_program():
    process = generational_process(
        categorical(3), sources.categorical([0.5, 0.3, 0.2]), workflows.replace(), sample_size=300
    )
    measure = tuple(resolve_metrics(process.metrics, ("mean",)).items())
    compiled = tiles.advance_program(process.step, process.runtime.chain_axis, measure, None)
    before = compiled._cache_size()
    simulate(process, KEY, generations=40, chains=8, metrics=("mean",))
    assert compiled._cache_size() == before + 1, (
        "nothing dies out, so that nothing is compiled after a pause"
    )
