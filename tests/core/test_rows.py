"""Fixed real points: the rows as before, few of many in O(n) memory, and held only once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.core.types import FitInfo
from collapse_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(3)
REPLACE = cj.workflows.replace()


def source_of(x, estimator=None, size=5, **options):
    estimator = estimator or cj.estimators.exponential()
    made = cj.generational_process(
        estimator, cj.sources.dataset(x), REPLACE, sample_size=size, **options
    )
    return made.parts.source


@pytest.mark.parametrize(("rows", "n"), [(1, 1), (20, 7), (2048, 5), (5000, 1251), (5000, 5000)])
def test_small_sets_and_large_requests_are_permuted_as_ever(rows, n):
    x = np.random.default_rng(0).exponential(size=rows)
    want = jnp.asarray(x)[jax.random.permutation(KEY, rows)[:n]]
    np.testing.assert_array_equal(source_of(x, size=n).sample(KEY, n), want)
    if rows <= 2048 or n == rows:
        np.testing.assert_array_equal(cj.sources.dataset(x).sample(KEY, n), want)


def test_a_process_draws_by_one_law_whatever_is_asked_for():
    """A share of a set as large as the data is permuted too, as it always was."""
    x = np.arange(5000.0)
    want = jnp.asarray(x)[jax.random.permutation(KEY, 5000)[:50]]
    np.testing.assert_array_equal(source_of(x, size=5000).sample(KEY, 50), want)
    few = source_of(x, size=50).sample(KEY, 50)
    assert len(set(few.tolist())) == 50 and not np.array_equal(few, want)
    np.testing.assert_array_equal(source_of(x, size=50).sample(KEY, 20), few[:20])


def test_families_on_the_host_permute_as_ever():
    def fit(key, params, data):
        return jnp.mean(data.x), FitInfo.exact()

    host = cj.estimator(
        fit,
        lambda key, params, n: jnp.full(n, params),
        init=lambda key, data: jnp.zeros(()),
        traceable=False,
    )
    x = np.arange(5000.0)
    want = jnp.asarray(x, jnp.float32)[jax.random.permutation(KEY, 5000)[:50]]
    np.testing.assert_array_equal(source_of(x, host, 50).sample(KEY, 50), want)


def test_few_of_many_take_memory_for_few():
    """200,000 rows for each of 1,000 chains were 800 MB for the permutation alone."""
    sample = source_of(np.arange(200_000.0), size=50).sample
    keys = jax.eval_shape(lambda: jax.random.split(KEY, 1000))
    program = jax.jit(jax.vmap(lambda key: sample(key, 50))).lower(keys).compile()
    held = program.memory_analysis()
    assert held.temp_size_in_bytes + held.output_size_in_bytes < 1000 * 50 * 200
    assert 1000 * sample.scratch() < held.temp_size_in_bytes


def test_few_of_many_follow_the_law_of_finite_populations():
    """The mean of n of N has variance S^2 (1 - n / N) / n over chains."""
    x = np.random.default_rng(1).exponential(size=3000)
    sample = source_of(x, size=600).sample
    keys = jax.random.split(KEY, 1000)
    means = np.asarray(jax.jit(jax.vmap(lambda key: sample(key, 600).mean()))(keys), float)
    spread = x.var(ddof=1) * (1 - 600 / 3000) / 600
    assert abs(means.mean() - x.mean()) < 4 * np.sqrt(spread / 1000)
    assert abs(means.var(ddof=1) / spread - 1) < 4 * np.sqrt(2 / 1000)


def test_points_are_held_once_for_all_processes_of_a_family():
    seen = []

    def check(x):
        assert type(x) is np.ndarray and x.dtype == np.float64
        seen.append(x)

    def fit(key, params, data):
        return jnp.average(data.x, weights=data.weight), FitInfo.exact()

    newcomer = cj.estimator(fit, lambda key, params, n: jnp.full(n, params), check=check)
    source = cj.sources.dataset(np.arange(1.0, 9.0))
    for size in (3, 3, 4):
        process = cj.generational_process(newcomer, source, REPLACE, sample_size=size)
    cj.simulate(process, KEY, generations=3, chains=2, metrics="mean")
    assert len(seen) == 2, "once for each size of training sets"

    def at(settings):
        return cj.generational_process(
            newcomer, source, cj.workflows.mix(1 - settings["g"], 0.0, settings["g"]), sample_size=4
        )

    grid = cj.core.process.process_grid(at, {"g": 0.5})
    jax.eval_shape(lambda g: grid.init(KEY, 3, {"g": g}), jnp.zeros(()))
    assert len(seen) == 2, "and never inside a program"


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int32])
def test_what_happens_to_an_array_later_changes_nothing(dtype):
    x = np.arange(1, 65).astype(dtype)
    source = cj.sources.dataset(x)
    x[:] = 1
    held = cj.generational_process(
        cj.estimators.exponential(), source, REPLACE, sample_size=5
    ).parts.source
    assert sorted(held.sample(KEY, 64).tolist()) == list(range(1, 65))
    assert not source.points.flags.writeable or source.points.max() == 64


def test_a_data_set_inside_a_transformation_is_drawn_from():
    def first(x):
        return cj.sources.dataset(x).sample(KEY, 3)

    x = jnp.arange(6.0)
    np.testing.assert_array_equal(jax.jit(first)(x), first(x))
    np.testing.assert_array_equal(jax.vmap(first)(x[None]), first(x)[None])


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda x: True, ["check gave True", "[8, ...]", "None"]),
        (lambda x: x[:3], ["check gave shape (3,)", "[8, ...]"]),
    ],
)
def test_a_check_that_gives_something_else_is_named(check, words):
    newcomer = cj.estimator(
        lambda key, params, data: (0.0, FitInfo.exact()),
        lambda key, params, n: jnp.zeros(n),
        check=check,
    )
    with pytest.raises(InputError) as error:
        cj.generational_process(
            newcomer, cj.sources.dataset(np.arange(8.0)), REPLACE, sample_size=3
        )
    assert all(word in str(error.value) for word in words), str(error.value)


def test_pools_that_would_cut_what_a_model_makes_are_refused(laplace):
    """Integers held as such would turn every point of the model into an integer."""
    flow = cj.workflows.accumulate()
    for x, right in ((np.arange(9), False), (np.arange(9.0), True)):
        process = cj.generational_process(laplace, cj.sources.dataset(x), flow, sample_size=5)
        if right:
            jax.eval_shape(lambda key, process=process: process.init(key, 2), KEY)
            continue
        with pytest.raises(InputError, match=r"int32.*float32.*x\.astype\(float\)"):
            jax.eval_shape(lambda key, process=process: process.init(key, 2), KEY)
