"""A number that is not a number chooses nothing: rewards, verdicts and weights that are nan end a
run with their function's name, and leave their mark on what is sampled under tracing.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import curation, marks, points, workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Dataset, FitInfo, Workflow
from collapse_jax.drivers.run import run
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(0)
NAN = float("nan")
INT = np.iinfo(np.int32).min
# Six points whose values are their numbers; number 2 has a verdict that is none.
VALUES = jnp.array([0.0, 0.5, NAN, 1.0, 0.25, 0.75])
# Wrappers by what they choose with, and the role that their error names.
NEVER = {
    "bradley_terry": (curation.best_of(2, lambda x: VALUES[x]), "reward of best_of(2)"),
    "greatest": (
        curation.best_of(2, lambda x: VALUES[x], choice="greatest"),
        "reward of best_of(2)",
    ),
    "verified": (curation.verified(lambda x: VALUES[x]), "accept of verified"),
    "above 1": (
        curation.verified(lambda x: jnp.where(x == 2, 1.5, 1.0)),
        "accept of verified",
    ),
    "below 0": (
        curation.verified(lambda x: jnp.where(x == 2, -1, 1)),
        "accept of verified",
    ),
    "labels": (
        curation.labelled_verifier(0.9, 0.5, lambda x: jnp.where(x == 2, NAN, 1.0)),
        "correct of labelled_verifier(0.9, 0.5)",
    ),
    "labels of 2": (
        curation.labelled_verifier(1.0, 1.0, lambda x: jnp.where(x == 2, 2, 1)),
        "correct of labelled_verifier(1, 1)",
    ),
}


def numbered(dtype=jnp.int32):
    """A family whose points are the numbers 0 .. n - 1, whatever the key."""
    return estimator(
        lambda key, params, data: (jnp.sum(data.x * data.weight), FitInfo.exact()),
        lambda key, params, n: (jnp.arange(n) + 0 * jax.random.bits(key)).astype(dtype),
    )


def sampled(wrapper, family, jit=True):
    sample = wrapper(workflows.replace()).generator(family).sample
    draw = lambda key: sample(key, None, 6)  # noqa: E731
    return np.asarray((jax.jit(draw) if jit else draw)(KEY))


@pytest.mark.parametrize("name", NEVER)
def test_a_point_without_a_verdict_is_marked_and_the_others_stay(name):
    wanted = np.array([0, 1, INT, 3, 4, 5])
    np.testing.assert_array_equal(sampled(NEVER[name][0], numbered()), wanted)


def test_a_mark_of_floats_is_nan_and_of_others_their_least():
    x = jnp.arange(6.0).reshape(3, 2)
    unsound = jnp.array([False, True, False])
    np.testing.assert_array_equal(marks.mark(x, unsound), [[0, 1], [NAN, NAN], [4, 5]])
    for dtype, value in ((jnp.int8, -128), (jnp.uint8, 255)):
        marked = marks.mark(jnp.arange(3, dtype=dtype), unsound)
        np.testing.assert_array_equal(marked, [0, value, 2])
        np.testing.assert_array_equal(marks.is_marked(marked), unsound)
    with pytest.raises(InputError, match="points are of type bool"):
        marks.mark(jnp.zeros(3, bool), unsound)


@pytest.mark.parametrize("name", NEVER)
def test_what_is_not_traced_names_its_function(name):
    wrapper, role = NEVER[name]
    with pytest.raises(DivergenceError) as caught:
        sampled(wrapper, numbered(), jit=False)
    text = str(caught.value)
    assert text.startswith(role) and "test_marks.py" in text and " of 6" in text, text


@pytest.mark.parametrize(
    "outer",
    [
        curation.verified(lambda x: x > -9),
        curation.best_of(2, lambda x: jnp.zeros(len(x))),
        lambda flow: curation.best_of(1, lambda x: jnp.zeros(len(x), int))(
            curation.tempered(0.5)(flow)
        ),
    ],
)
def test_a_wrapper_outside_keeps_the_marks_of_those_inside(outer):
    inner = curation.best_of(2, lambda x: VALUES[x.astype(int)], choice="greatest")
    for dtype in (jnp.int32, jnp.float32):
        family = numbered(dtype)._replace(tempered=lambda params, tau: params)
        found = sampled(lambda flow: outer(inner(flow)), family)
        marked = np.isnan(found) if dtype == jnp.float32 else found == INT
        np.testing.assert_array_equal(marked, np.arange(6) == 2)


def test_a_mark_in_an_empty_slot_does_not_count():
    for weight in ([1.0, 0.0], [1.0, 1.0]):
        data = Dataset(jnp.array([0.5, NAN]), jnp.array(weight))
        assert bool(marks.holds_mark(data)) == (weight[1] > 0)
    assert bool(marks.holds_mark(Dataset(jnp.array([1, INT]), jnp.ones(2))))


def test_rewards_without_bounds_choose():
    """-inf is never chosen where there is another, and inf always."""
    rewards = jnp.array([-jnp.inf, 0.0, jnp.inf])

    def sample(key, params, n):
        return jax.random.randint(key, (n,), 0, 3)

    family = estimator(lambda key, params, data: (0.0, FitInfo.exact()), sample)
    wrapper = curation.best_of(3, lambda x: rewards[x])
    flow = wrapper(workflows.replace()).generator(family)
    found = np.asarray(jax.jit(lambda key: flow.sample(key, 0.0, 4000))(KEY))
    # 1 wins where none of three is 2 and one is 1; 0 where all three are 0.
    law = np.array([1 / 27, 7 / 27, 19 / 27])
    error = np.sqrt(law * (1 - law) / 4000)
    assert (np.abs(np.bincount(found, minlength=3) / 4000 - law) < 4 * error).all()


def test_both_drivers_end_with_the_name_of_the_reward(tmp_path):
    """Counts are whole numbers, and hold no nan: the mark is in the state."""
    rewards = jnp.array([0.0, NAN, 1.0])
    flow = curation.best_of(2, lambda x: rewards[x], choice="greatest")(workflows.replace())
    process = generational_process(
        categorical(3), sources.categorical([0.2, 0.6, 0.2]), flow, sample_size=6
    )
    line = (
        r"chain 0, generation 1: reward of best_of\(2\), .*test_marks.py\), returned nan for . of 6"
    )
    with pytest.raises(DivergenceError, match=line):
        simulate(process, KEY, generations=2, metrics="entropy")
    with pytest.raises(DivergenceError, match=line):
        run(process, KEY, generations=2, folder=tmp_path, metrics="entropy")


def test_a_spoiled_model_stays_spoiled():
    params = {"a": jnp.arange(2), "b": jnp.ones(2)}
    spoiled = marks.spoiled(params, jnp.asarray(True))
    assert np.isnan(spoiled["b"]).all() and not spoiled["a"].any()
    sound = marks.spoiled(params, jnp.asarray(False))
    jax.tree.map(np.testing.assert_array_equal, sound, params)


def weighing(weight):
    """A workflow that weighs the first point of each set by something else than 1."""

    def next_set(key, carry, supply, n):
        data = supply.model(key, n)
        return (), supply.compact(data._replace(weight=data.weight.at[0].set(weight)))

    return Workflow("weighing", lambda supply, data: (), next_set)


def test_a_weight_that_is_nan_does_not_count_as_none():
    """A family that leaves out what has no weight would not see it."""

    def fit(key, params, data):
        return jnp.sum(jnp.where(data.weight > 0, data.x, 0)), FitInfo.exact()

    family = estimator(fit, numbered(jnp.float32).sample)
    source = sources.dataset(np.arange(6.0, dtype=np.float32))
    for weight in (NAN, 0.0):
        process = generational_process(family, source, weighing(weight), sample_size=6)
        state, _ = process.init(KEY)
        later = jax.jit(process.step)(KEY, state)[0]
        assert np.isnan(later.params) == np.isnan(weight) == bool(marks.is_spoiled(later))
        again = jax.jit(process.step)(KEY, later)[0]
        assert bool(marks.is_spoiled(again)) == np.isnan(weight)
    assert float(later.params) == 15.0
    process = generational_process(family, source, weighing(NAN), sample_size=6)
    with pytest.raises(DivergenceError, match="weighing: a weight of the next training set is nan"):
        process.step(KEY, state)


def test_slots_with_a_weight_that_is_nan_stay_in_points():
    data = Dataset(jnp.arange(4.0), jnp.array([0.0, NAN, 1.0, 0.0]))
    kept = points.compact(data, 3)
    np.testing.assert_array_equal(kept.x, [1, 2, 0])
    np.testing.assert_array_equal(kept.weight, [NAN, 1, 0])
    pool = points.append(points.reserve(data, 4), Dataset(jnp.array([7.0]), jnp.ones(1)))
    np.testing.assert_array_equal(pool.x, [1, 2, 7, 0])
