"""Which generations are recorded, what is kept of the others (nothing), and the memory for it."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.drivers import plan, tiles
from collapse_jax.drivers.plan import Plan, memory_needed, recorded_generations
from collapse_jax.drivers.simulate import simulate, simulate_chunks
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical
from collapse_jax.estimators.gaussian import gaussian

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(4)
PROCESS = generational_process(
    gaussian(1), sources.normal([1.0], [[2.0]]), workflows.replace(), sample_size=7
)


@pytest.mark.parametrize(
    ("generations", "record", "wanted"),
    [
        (5, 1, [0, 1, 2, 3, 4, 5]),
        (5, 2, [0, 2, 4, 5]),
        (5, np.int64(3), [0, 3, 5]),
        (5, 5, [0, 5]),
        (5, 99, [0, 5]),
        (0, 1, [0]),
        (0, 7, [0]),
        (0, "log", [0]),
        (0, [], [0]),
        (0, [0, 0], [0]),
        (1, "log", [0, 1]),
        (5, [], [0, 5]),
        (5, [4, 1, 4, 4], [0, 1, 4, 5]),
        (5, (5, 0), [0, 5]),
        (5, range(2, 4), [0, 2, 3, 5]),
        (5, np.array([3, 3, 2]), [0, 2, 3, 5]),
        (5, (number for number in (2, 3)), [0, 2, 3, 5]),
    ],
)
def test_recorded_generations(generations, record, wanted):
    found = recorded_generations(generations, record)
    assert found.tolist() == wanted and found.dtype.kind == "i"


def test_logarithmic_records_are_about_20_a_decade():
    found = recorded_generations(1_000_000, "log")
    assert found[:11].tolist() == list(range(11)) and found[-1] == 1_000_000 and len(found) < 130
    for decade in (10**2, 10**3, 10**4, 10**5):
        assert np.sum((found >= decade) & (found < 10 * decade)) == 20
    assert recorded_generations(37, "log")[-1] == 37 and recorded_generations(37, "log").max() == 37


@pytest.mark.parametrize(
    ("generations", "record", "words"),
    [
        (5, 0, ["record", "0", "at least 1"]),
        (5, -2, ["record", "-2"]),
        (5, True, ["record", "True"]),
        (5, None, ["record", "None"]),
        (5, 2.5, ["record", "2.5"]),
        (5, "all", ["record", "'all'", "'log'"]),
        (5, "5", ["record", "'5'"]),
        (5, [6], ["record", "[6]", "from 0 to 5"]),
        (5, [-1, 2], ["record", "-1", "from 0 to 5"]),
        (5, [1.0], ["record", "[1.0]"]),
        (5, [True], ["record", "[True]"]),
        (5, ["log"], ["record", "['log']"]),
        (-1, 1, ["generations", "-1"]),
        ("many", 1, ["generations", "'many'"]),
        (2.0, "log", ["generations", "2.0"]),
    ],
)
def test_bad_records_are_named(generations, record, words):
    for call in (
        recorded_generations,
        lambda generations, record: simulate(PROCESS, KEY, generations=generations, record=record),
    ):
        with pytest.raises(InputError) as error:
            call(generations, record)
        assert "\n" not in str(error.value)
        assert all(word in str(error.value) for word in words), str(error.value)


def test_records_are_the_generations_of_the_whole_trace():
    whole = simulate(PROCESS, KEY, generations=40, chains=9)
    for record in (7, "log", [3, 17, 18], (number for number in (5, 30))):
        told = []
        some = simulate(
            PROCESS, KEY, generations=40, chains=9, record=record, chunk=4, progress=told.append
        )
        assert told == sorted(set(told)) and told[0] == 0 and told[-1] == 40
        assert some.generations[-1] == 40 and len(some.generations) < 41
        for name, values in whole.items():
            np.testing.assert_allclose(
                some[name], values[:, some.generations], rtol=2e-5, atol=1e-5
            )


def test_chunks_hold_as_many_records_as_were_asked_for():
    by_fives = Plan(generations=40, chains=3, record=5, chunk=3)
    chunks = list(simulate_chunks(PROCESS, KEY, by_fives))
    assert [chunk.generations.tolist() for chunk in chunks] == [
        [0],
        [5, 10, 15],
        [20, 25, 30],
        [35, 40],
    ]
    after = 17, chunks[1].copy_state()
    later = list(simulate_chunks(PROCESS, KEY, by_fives._replace(after=after)))
    assert [chunk.generations.tolist() for chunk in later] == [[20, 25, 30], [35, 40]]


def held_by_hand(process, generations, chains, records, numbers):
    """Bytes of 4-byte numbers of all chains, which are all at work: `records` of `numbers`, kept
    and on their way; a state and a training set, and 1.1 models more.
    """
    state, info = jax.eval_shape(lambda key: process.init(key, generations), KEY)

    def count(tree):
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))

    working = 1.1 * count(state.params)
    every = count((state, info.data)) + working + 2 * records * numbers
    return round(4 * chains * every)


def test_memory_needed_is_what_is_held():
    # 1-D: generation, mean, log scale; count, mean, log scale, divisor; 1.1 times two to work with
    assert (
        memory_needed(PROCESS, KEY, Plan(10, 100), records=11)
        == 4 * 100 * (7 + 2.2 + 2 * 11 * 3)
        == held_by_hand(PROCESS, 10, 100, 11, 3)
    )
    many = generational_process(
        categorical(50), sources.categorical(np.full(50, 0.02)), workflows.replace(), sample_size=7
    )
    assert memory_needed(many, KEY, Plan(10, 100, ("probabilities",)), 3) == held_by_hand(
        many, 10, 100, 3, 50
    )
    pool = generational_process(
        gaussian(1), sources.normal([0.0], [[1.0]]), workflows.accumulate_subsample(), sample_size=7
    )
    whole = memory_needed(pool, KEY, Plan(1000, 100, ("mean",)), 1)
    # the pool: a point and its weight, of 7 points a generation
    assert abs(whole / (4 * 100 * 2 * 7 * 1001) - 1) < 0.01


def test_memory_needed_is_what_a_simulation_allocates():
    arguments = {"generations": 400, "chains": 1000, "chunk": 5}
    needed = memory_needed(PROCESS, KEY, Plan(400, 1000, chunk=5), records=401)
    simulate(PROCESS, KEY, **arguments)
    tracemalloc.start()
    trace = simulate(PROCESS, KEY, **arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert abs(sum(values.nbytes for values in trace.values()) / needed - 1) < 0.03
    # NumPy's share: the records and a chunk at a time
    assert 0.97 < peak / needed < 1.1


def test_a_memory_limit_is_kept_before_any_work(monkeypatch):
    needed = memory_needed(PROCESS, KEY, Plan(40, 9), records=41)
    for function in ("start", "advance"):
        monkeypatch.setattr(tiles, function, lambda *arguments: pytest.fail("worked all the same"))
    with pytest.raises(InputError) as error:
        simulate(PROCESS, KEY, generations=40, chains=9, memory_limit=needed - 1)
    assert "\n" not in str(error.value)
    assert all(
        word in str(error.value)
        for word in ("memory_limit", "9 chains", "41 recorded", "KiB", "record fewer")
    ), str(error.value)
    with pytest.raises(InputError, match="memory_limit"):
        next(simulate_chunks(PROCESS, KEY, Plan(40, 9, memory_limit=10)))
    monkeypatch.undo()
    assert simulate(PROCESS, KEY, generations=40, chains=9, memory_limit=needed)["mean"].shape == (
        9,
        41,
    )
    # a caller of chunks keeps one of them
    next(simulate_chunks(PROCESS, KEY, Plan(40, 9, chunk=10, memory_limit=needed // 2)))
    # records count, generations between them do not
    assert simulate(PROCESS, KEY, generations=40, chains=9, record=[20], memory_limit=needed // 4)[
        "mean"
    ].shape == (9, 3)


def test_a_plan_is_checked_once(monkeypatch):
    calls = []
    for name in ("check_started", "resolve_metrics", "recorded_generations"):
        function = getattr(plan, name)

        def counted(*arguments, name=name, function=function):
            calls.append(name)
            return function(*arguments)

        monkeypatch.setattr(plan, name, counted)
    simulate(PROCESS, KEY, generations=2, chains=3, memory_limit=2**20)
    assert sorted(calls) == ["check_started", "recorded_generations", "resolve_metrics"]


def test_metrics_of_the_state_are_recorded_too():
    def generation(state):
        return state.generation

    def pair(state):
        return jnp.stack([state.params.mean[0], state.params.log_scale[0]])

    trace = simulate(
        PROCESS, KEY, generations=20, chains=3, record=6, metrics=("mean", generation, pair)
    )
    np.testing.assert_array_equal(trace["generation"], np.tile([0, 6, 12, 18, 20], (3, 1)))
    assert trace["pair"].shape == (3, 5, 2)
    np.testing.assert_array_equal(trace["pair"][..., 0], trace["mean"])
