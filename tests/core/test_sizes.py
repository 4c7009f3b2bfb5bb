"""Sizes of training sets are looked at before a run, and counted in what holds them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import sources, workflows
from collapse_jax.core.process import check_run, process_grid
from collapse_jax.core.sizes import LARGEST, Multiples, Schedule, TooMany, overflowed
from collapse_jax.drivers.plan import Plan, check_plan
from collapse_jax.errors import InputError
from collapse_jax.estimators.registry import families

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(4)
POOL = Multiples(kept=1, growth=1, pooled=2)


def made(name="bernoulli", workflow=None, size=5, **more):
    family, params = families()[name].example()
    source = sources.population(family, params)
    return cj.generational_process(
        family, source, workflow or workflows.replace(), sample_size=size, **more
    )


WRONG = {
    "0": (lambda g: 0, 0, "0"),
    "falls below 1": (lambda g: 3 - g, 3, "0"),
    "fraction": (lambda g: (g + 4) / 2, 1, "2.5"),
    "fraction of jnp": (lambda g: 4 * jnp.sqrt(g + 1.0), 1, "5.65"),
    "nan": (lambda g: float("nan"), 0, "nan"),
    "infinite": (lambda g: jnp.inf, 0, "inf"),
    "bool": (lambda g: True, 0, "True"),
    "bool of numpy": (lambda g: g >= 0, 0, "True"),
    "text": (lambda g: "5", 0, "'5'"),
    "none": (lambda g: None, 0, "None"),
    "no number": (lambda g: jnp.ones(2), 0, "[1. 1.]"),
    "above 32 bits": (lambda g: 2**31, 0, "2147483648"),
    # 10^10 is 1410065408 in 32 bits, which looks like a size.
    "wraps to a size": (lambda g: 100 * 10**g, 8, "10000000000"),
    "branches of Python": (lambda g: 5 if g < 3 else -1, 3, "-1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_size_is_named_with_its_generation(name):
    function, generation, value = WRONG[name]
    with pytest.raises(InputError) as caught:
        check_run(made(size=function), 9)
    assert str(caught.value).startswith(f"sample_size at generation {generation} is {value}")
    assert "whole number in [1, 2147483647]" in str(caught.value)
    if generation:
        check_run(made(size=function), generation - 1)


def test_sizes_above_the_largest_and_functions_that_fail():
    process = made(workflow=workflows.mix(0.5, 0.5, 0), size=lambda g: 4 + g, largest_sample_size=6)
    check_run(process, 2)
    with pytest.raises(InputError, match=r"sample_size at generation 3 is 7; .* \[1, 6\]"):
        check_run(process, 3)
    with pytest.raises(InputError, match=r"sample_size fails at generation 2 .IndexError"):
        check_run(made(size=lambda g: [5, 4][g]), 4)


@pytest.mark.parametrize(
    "function",
    [lambda g: 7, lambda g: 2.0, lambda g: np.int64(9) - g, lambda g: jnp.array([9, 4, 5, 1])[g]],
)
def test_whole_numbers_of_any_type_are_sizes(function):
    check_run(made(size=function), 3)


def test_drivers_look_before_they_begin(tmp_path):
    process = made(size=lambda g: 3 - g)
    for drive in (
        lambda: cj.simulate(process, KEY, generations=5),
        lambda: cj.simulate_summary(process, KEY, generations=5, chains=2),
        lambda: cj.run(process, KEY, generations=5, folder=tmp_path / "run"),
        lambda: process.init(KEY, 5),
    ):
        with pytest.raises(InputError, match="sample_size at generation 3 is 0"):
            drive()


@pytest.mark.parametrize("function", [lambda g: 5 if g < 2 else 4, lambda g: [5, 4, 3, 2][g]])
def test_python_that_jax_cannot_trace_is_one_line(function):
    with pytest.raises(InputError, match=r"a generation that JAX traces .*jnp\.where"):
        cj.simulate(made("exponential", size=function), KEY, generations=3, metrics="mean")
    # Step by step it is asked with numbers.
    process = made("exponential", size=function)
    state, _ = process.init(KEY, 3)
    assert int(process.step(KEY, state)[0].generation) == 1


def test_a_host_family_is_asked_with_python_integers():
    def size(generation):
        assert type(generation) is int
        return 2.5 if generation == 2 else 4

    Schedule(size, LARGEST, on_host=True).check(1, None, "")
    with pytest.raises(InputError, match=r"sample_size at generation 2 is 2\.5"):
        Schedule(size, LARGEST, on_host=True).check(2, None, "")
    with pytest.raises(InputError, match=r"sample_size at generation 2 is 2\.5"):
        Schedule(size, LARGEST, on_host=True).at(2)


def first_too_many(sizes, multiples):
    """By Python's integers: the first generation with more points together than 32 bits count."""
    kept, growth, pooled = map(int, multiples)
    for g, size in enumerate(sizes):
        total = size * max(kept, 1)
        if g and growth:
            total = kept * sizes[0] + growth * sum(sizes[1:g]) + (pooled - kept) * size
        elif g:
            total = pooled * max(sizes[: g + 1])
        if total > 2**31 - 1:
            return g
    return None


@pytest.mark.parametrize("multiples", [POOL, Multiples(1, 0, 2), Multiples(1, 2, 3), Multiples()])
@pytest.mark.parametrize("size", [1, 3, 10**8, 2**30 - 1, 2**30, LARGEST])
def test_pools_are_refused_exactly_where_they_overflow(multiples, size):
    expected = first_too_many([size] * 50, multiples)
    for schedule in (Schedule(size, LARGEST), Schedule(lambda g: size, LARGEST)):
        if expected is None:
            schedule.check(49, multiples, "flow")
            continue
        if expected:
            schedule.check(expected - 1, multiples, "flow")
        with pytest.raises(TooMany, match=f"at generation {expected}, .*at most 2147483647"):
            schedule.check(49, multiples, "flow")


def test_sizes_that_vary_are_added_up():
    sizes = [10**9, 1, 5 * 10**8, 6 * 10**8, 47483646, 1, 5]
    schedule = Schedule(lambda g: jnp.array(sizes)[g], LARGEST)
    # 2^31 - 1 in all by generation 4, and one more in the next.
    assert sum(sizes[:5]) == LARGEST and first_too_many(sizes, POOL) == 5
    schedule.check(4, POOL, "flow")
    with pytest.raises(TooMany, match="2147483648 at generation 5"):
        schedule.check(6, POOL, "flow")


def pooled_by_merge():
    """`accumulate` by hand: what is counted together is seen, however it is put together."""

    def next_set(key, pool, supply, n):
        pool = supply.merge(pool, supply.model(key, n))
        return pool, pool

    return cj.Workflow("pooled_by_merge", lambda supply, data: data, next_set)


def anchored():
    def next_set(key, first, supply, n):
        return first, supply.merge(first, supply.model(key, n))

    return cj.Workflow("anchored", lambda supply, data: data, next_set)


TOGETHER = {
    "accumulate": (workflows.accumulate(), 21),
    "accumulate_subsample": (workflows.accumulate_subsample(), 21),
    "pooled_by_merge": (pooled_by_merge(), 21),
    "anchored": (anchored(), None),
    "mix": (workflows.mix(0.4, 0.3, 0.3), None),
}


@pytest.mark.parametrize("name", TOGETHER)
@pytest.mark.parametrize("family", ["bernoulli", "categorical"])
def test_counts_of_10_to_the_8_points_in_42_generations(name, family):
    """Once 3.2e9 points were counted as -1.1e9: a probability of -9.9, a variance of -108."""
    workflow, generation = TOGETHER[name]
    for size in (10**8, lambda g: 10**8):
        process = made(family, workflow, size)
        if generation is None:
            check_run(process, 41)
            continue
        check_run(process, generation - 1)
        with pytest.raises(InputError, match=f"{name} counts .* at generation {generation}"):
            check_run(process, 41)


def test_a_set_of_two_sets_that_32_bits_do_not_count():
    check_run(made(workflow=anchored(), size=2**30 - 1), 3)
    with pytest.raises(InputError, match=r"anchored counts .* 2147483648 at generation 1"):
        check_run(made(workflow=anchored(), size=2**30), 3)


def test_floats_count_further():
    check_run(made("gaussian", workflows.accumulate(), 10**9), 1000)
    check_run(made("poisson", workflows.accumulate(), 10**9), 1000)


def test_buffers_of_more_slots_than_32_bits_count():
    process = made("kde", workflows.accumulate(), 10**6)
    check_run(process, 2000)
    with pytest.raises(InputError, match="accumulate stores 2148000000 points by generation 2147"):
        check_run(process, 2147)


BY_HAND = {
    "pool": (made("categorical", workflows.accumulate(), 9 * 10**8), 2, "has more than"),
    "size": (made("exponential", size=lambda g: 3 - g), 3, "generation 3 is 0"),
    "fraction": (made("exponential", size=lambda g: 4 / (g + 1)), 2, "generation 2 is 1.33"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_called_by_hand_it_raises_or_gives_nan(name):
    process, generation, text = BY_HAND[name]
    states, step = [process.init(KEY)[0]], jax.jit(process.step)
    for _ in range(generation):
        states.append(step(KEY, states[-1])[0])
    values = [float(jnp.sum(process.metrics["variance"](state.params))) for state in states]
    assert np.isfinite(values[:-1]).all() and np.isnan(values[-1])
    with pytest.raises(InputError, match=text):
        process.step(KEY, states[-2])


def test_counts_that_have_overflowed():
    below, above = jnp.array([2**30, 2**30 - 1], jnp.int32), jnp.array([2**30, 2**30], jnp.int32)
    wrapped = jnp.array([-5, 7], jnp.int32)
    old = {"categories": jnp.arange(2, dtype=jnp.int32)}
    found = [bool(overflowed({"n": counts} | old, old)) for counts in (below, above, wrapped)]
    assert found == [False, True, True]
    # Three times 2^31 wraps to 0 and above.
    assert bool(overflowed({"n": jnp.full(4, LARGEST, jnp.int32)}, ()))
    assert overflowed({"n": jnp.ones(2)} | old, old) is None


def grid(sizes, function=lambda n: lambda generation: n, workflow=None):
    process = process_grid(lambda s: made(workflow=workflow, size=function(s["n"])), {"n": 5})
    plan = Plan(3, 2, ("mean",), settings={"n": np.asarray(sizes)})
    return check_plan(process, KEY, plan)


def test_sizes_of_a_grid():
    grid([5, 10**9])
    grid([5, 9], lambda n: lambda generation: n - generation)
    with pytest.raises(InputError, match="sample_size at generation 0 is 0"):
        grid([5, 0])
    with pytest.raises(InputError, match=r"sample_size at generation 0 is 2\.5"):
        grid([5, 2.5])
    with pytest.raises(InputError, match="sample_size at generation 2 is 0"):
        grid([5, 2], lambda n: lambda generation: n - generation)
    with pytest.raises(InputError, match=r"accumulate counts .* 3000000000 at generation 2"):
        grid([5, 10**9], workflow=workflows.accumulate())


@pytest.mark.parametrize("n", [2.5, -1, float("nan")])
def test_a_workflow_must_ask_for_whole_numbers(n):
    def next_set(key, carry, supply, size):
        return (), supply.model(key, n)

    workflow = cj.Workflow("odd", lambda supply, data: (), next_set)
    with pytest.raises(InputError, match=r"n of supply\.model is"):
        made(workflow=workflow)


AGAIN = {
    "mix": workflows.mix(0.5, 0.5, 0),
    "accumulate_subsample": workflows.accumulate_subsample(),
    "keep_or_continue": workflows.keep_or_continue(0.5, beta=0.5),
}


@pytest.mark.parametrize("size", [2**31 - 1, 10**8 + 1])
@pytest.mark.parametrize(
    ("family", "workflow"),
    [("bernoulli", "mix"), ("categorical", "accumulate_subsample"), ("categorical", "mix"),
     ("gaussian", "mix"), ("ngram", "keep_or_continue")],
)  # fmt: skip
def test_more_than_can_be_drawn_again_is_refused_before_any_work(family, workflow, size):
    """One after the other: 2^31 - 1 points took the better part of an hour a generation."""
    with pytest.raises(InputError, match=f"sample_size is {size}, .*must be at most 100000000"):
        made(family, AGAIN[workflow], size)


def test_sizes_that_are_a_function_have_the_same_limit():
    process = made("bernoulli", AGAIN["mix"], lambda g: 10 ** (g + 1))
    check_run(process, 7)
    with pytest.raises(InputError, match=r"at generation 8 is 1000000000; .*\[1, 100000000\]"):
        check_run(process, 8)
    # What draws no earlier points counts as far as 32 bits do.
    check_run(made("bernoulli", workflows.mix(0.5, 0, 0.5), 2**31 - 1), 10**6)
