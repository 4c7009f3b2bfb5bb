"""The process: what a step gives, how buffers are sized, which sizes are refused, and estimators on
the host.
"""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import points, workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Dataset, FitInfo
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import Counts, categorical
from collapse_jax.estimators.gaussian import gaussian

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(0)
NORMAL = sources.normal([0.0], [[1.0]])
CATEGORIES = sources.categorical([0.5, 0.3, 0.2])
WORKFLOWS = {
    "replace": workflows.replace(),
    "accumulate": workflows.accumulate(),
    "accumulate_subsample": workflows.accumulate_subsample(),
    "mix": workflows.mix(0.5, 0.3, 0.2),
}


def walk(process, generations, last_generation=None, jit=jax.jit):
    """States and infos of generations 0 .. generations."""
    states, infos = [], []
    init, step = (
        jit(functools.partial(process.init, last_generation=last_generation)),
        jit(process.step),
    )
    for generation in range(generations + 1):
        key = jax.random.fold_in(KEY, generation)
        state, info = step(key, states[-1]) if states else init(key)
        states.append(state)
        infos.append(info)
    return states, infos


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_step_fits_its_training_set(name):
    process = generational_process(categorical(3), CATEGORIES, WORKFLOWS[name], sample_size=6)
    states, infos = walk(process, 3, 3)
    for generation, (state, info) in enumerate(zip(states, infos, strict=True)):
        assert state.generation == generation and state.generation.dtype == jnp.int32
        assert isinstance(info.data, Counts) and info.fit.converged
        size = 6 * (generation + 1) if name == "accumulate" else 6
        np.testing.assert_allclose(state.params.probabilities * size, info.data.counts, rtol=1e-6)
        assert not any(
            jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            for leaf in jax.tree.leaves(state)
        )


@pytest.mark.parametrize("name", WORKFLOWS)
@pytest.mark.parametrize("family", ["gaussian", "categorical"])
def test_the_template_has_the_structure_of_every_state(name, family):
    made, source = {"gaussian": (gaussian(1), NORMAL), "categorical": (categorical(3), CATEGORIES)}[
        family
    ]
    process = generational_process(made, source, WORKFLOWS[name], sample_size=6)
    template = process.template(KEY, 3)
    first = jax.eval_shape(lambda key: process.init(key, 3)[0], KEY)
    later = jax.eval_shape(lambda key, state: process.step(key, state)[0], KEY, first)
    for state in (first, later):
        assert jax.tree.structure(state) == jax.tree.structure(template)
        for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(template), strict=True):
            assert (leaf.shape, leaf.dtype) == (wanted.shape, wanted.dtype)


def test_larger_buffers_and_resized_ones_change_no_number():
    process = generational_process(
        gaussian(1), NORMAL, workflows.accumulate_subsample(), sample_size=5
    )
    small, _ = walk(process, 2, 2)
    large, _ = walk(process, 2, 4)
    assert small[0].carry.weight.shape == (15,) and large[0].carry.weight.shape == (25,)
    resized = process.resize(small[2], 4)
    for other in (resized.carry, large[2].carry):
        assert other.weight.shape == (25,) and int(other.weight.sum()) == 15
        np.testing.assert_array_equal(points.filled(other), points.filled(small[2].carry))
    key, step = jax.random.fold_in(KEY, 3), jax.jit(process.step)
    for a, b in zip(
        jax.tree.leaves(step(key, resized)), jax.tree.leaves(step(key, large[2])), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_resize_leaves_other_states_alone():
    process = generational_process(gaussian(1), NORMAL, workflows.mix(0.5, 0.3, 0.2), sample_size=5)
    state = walk(process, 0)[0][0]
    assert process.resize(state, 9) is state


def test_points_taken_back_were_there():
    """With a model that only makes the number -1, `mix` and `accumulate_subsample` give that, real
    points, and nothing else.
    """

    def fit(key, params, data):
        return jnp.zeros(()), FitInfo.exact()

    marker = estimator(fit, lambda key, params, n: jnp.full(n, -1.0))
    real = np.arange(1.0, 9.0)
    for workflow in (
        workflows.mix(0.25, 0.5, 0.25, random_counts=False),
        workflows.accumulate_subsample(),
    ):
        process = generational_process(marker, sources.dataset(real), workflow, sample_size=8)
        before = None
        for info in walk(process, 3, 3)[1]:
            here = points.filled(info.data)
            assert len(here) == 8 and set(here) <= {-1.0, *real}
            if before is None or workflow.name == "accumulate_subsample":
                assert len(set(here[here > 0])) == np.sum(here > 0), (
                    "a real point was taken back twice"
                )
            else:
                # fresh real rows may equal some that were carried, so the set may hold a number
                # twice; but no point of it goes on twice
                assert not collections.Counter(here[2:6]) - collections.Counter(before), (
                    "more was taken back than there was"
                )
                assert (here[:2] == -1).all() and (here[6:] > 0).all() and len(set(here[6:])) == 2
            before = here


def test_the_data_use_the_generations_key_and_the_fit_one_that_no_draw_counts_up_to():
    def fit(key, params, data):
        return jax.random.key_data(key), FitInfo.exact()

    def sample(key, params, n):
        return jnp.broadcast_to(jax.random.key_data(key), (n, 2))

    both = estimator(fit, sample)
    process = generational_process(
        both, sources.dataset(np.zeros((4, 2), np.uint32)), workflows.replace(), sample_size=3
    )
    states, infos = walk(process, 2)
    for generation in (1, 2):
        key = jax.random.fold_in(KEY, generation)
        np.testing.assert_array_equal(
            infos[generation].data.x, np.tile(jax.random.key_data(key), (3, 1))
        )
        np.testing.assert_array_equal(
            states[generation].params,
            jax.random.key_data(jax.random.fold_in(key, np.uint32(2**32 - 1))),
        )


@pytest.mark.parametrize("name", WORKFLOWS)
def test_only_closed_processes_leave_dead_parts_out(name, laplace):
    thirteen = sources.normal(np.zeros(13), np.eye(13))
    for family, source, axis in (
        (categorical(3), CATEGORIES, -1),
        (gaussian(1), NORMAL, -1),
        (gaussian(13), thirteen, 0),
    ):
        process = make(6, name, source, family)
        assert process.runtime.compaction == (family.compaction if name == "replace" else None)
        takes_points_back = name in ("mix", "accumulate_subsample")
        holds_points = takes_points_back and family.subsample is None
        assert family.chain_axis == axis
        assert process.runtime.chain_axis == (0 if holds_points else axis)
    newcomer = make(6, name, sources.dataset(np.arange(12.0)), laplace)
    assert (newcomer.runtime.compaction, newcomer.runtime.chain_axis) == (None, 0)


def test_a_compacted_state_goes_on_as_the_whole_one():
    process = generational_process(
        categorical(40),
        sources.categorical(np.full(40, 1 / 40)),
        WORKFLOWS["replace"],
        sample_size=20,
    )
    whole = walk(process, 5)[0][5]
    num_in_use, to_size = process.runtime.compaction
    few = whole._replace(params=to_size(whole.params, int(num_in_use(whole.params))))
    assert few.params.weights.shape < whole.params.weights.shape
    step = jax.jit(process.step)
    for generation in (6, 7, 8):
        key = jax.random.fold_in(KEY, generation)
        whole, few = step(key, whole)[0], step(key, few)[0]
        found = np.zeros(40, int)
        found[few.params.categories] = few.params.weights
        np.testing.assert_array_equal(found, whole.params.weights)


def host_estimator(log):
    """A family on the host: sizes must reach it as Python integers, data without empty slots."""

    def fit(key, params, data):
        assert isinstance(data.x, np.ndarray | jax.Array) and np.asarray(data.weight).all()
        log.append(len(data.x))
        return np.asarray(data.x).mean(), FitInfo.exact()

    def sample(key, params, n):
        assert type(n) is int
        return params + np.asarray(jax.random.normal(key, (n,)))

    return estimator(fit, sample, init=lambda key, data: np.zeros(()), traceable=False)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("replace", [7] * 4),
        ("accumulate", [7, 14, 21, 28]),
        ("accumulate_subsample", [7] * 4),
        ("mix", [7] * 4),
    ],
)
def test_estimators_on_the_host(name, sizes):
    log = []
    process = generational_process(
        host_estimator(log), sources.dataset(np.arange(20.0)), WORKFLOWS[name], sample_size=7
    )
    states, infos = walk(process, 3, jit=lambda function: function)
    assert log == sizes and [len(info.data.x) for info in infos] == sizes
    assert jax.tree.structure(process.template(KEY)) == jax.tree.structure(states[-1])


@pytest.mark.parametrize("workflow", [workflows.mix(0.5, 0.5, 0), workflows.mix(0.3, 0.4, 0.3)])
def test_estimators_on_the_host_take_parts_without_points(workflow):
    """Of 2 points none may come from the previous set, the model, or the real data."""
    process = generational_process(
        host_estimator([]), sources.dataset(np.arange(20.0)), workflow, sample_size=2
    )
    state, _ = process.init(KEY)
    for generation in range(12):
        state, info = process.step(jax.random.fold_in(KEY, generation), state)
        assert points.filled(info.data).shape == (2,)


def test_a_schedule_on_the_host_gets_python_integers():
    log = []

    def sample_size(generation):
        assert type(generation) is int
        return [3, 5, 2][generation]

    process = generational_process(
        host_estimator(log),
        sources.dataset(np.arange(9.0)),
        workflows.replace(),
        sample_size=sample_size,
    )
    walk(process, 2, jit=lambda function: function)
    assert log == [3, 5, 2]


def make(sample_size, workflow="replace", source=NORMAL, family=None, **more):
    return generational_process(
        family or gaussian(1), source, WORKFLOWS[workflow], sample_size=sample_size, **more
    )


@pytest.mark.parametrize("bad", [0, -3, 2.5, True, "9", None])
def test_bad_sample_sizes_are_named(bad):
    with pytest.raises(InputError) as error:
        make(bad)
    assert (
        "sample_size" in str(error.value)
        and repr(bad) in str(error.value)
        and "\n" not in str(error.value)
    )


def test_a_fixed_set_that_is_too_small_is_named():
    few = sources.dataset(np.zeros((4, 1)))
    with pytest.raises(InputError, match="sample_size is 5, but the real data set has 4 points"):
        make(5, source=few)
    with pytest.raises(InputError, match="sample_size is 6, but the real data set has 4 points"):
        make(lambda generation: 3, "accumulate_subsample", few, largest_sample_size=6)
    make(4, source=few)


@pytest.mark.parametrize(
    ("workflow", "source"),
    [
        ("accumulate_subsample", NORMAL),
        ("mix", NORMAL),
        ("replace", sources.dataset(np.zeros((9, 1)))),
    ],
)
def test_a_schedule_needs_its_largest_size_where_points_are_drawn(workflow, source):
    with pytest.raises(InputError, match=r"sample_size is a function.*largest_sample_size"):
        make(lambda generation: 4, workflow, source)
    process = make(lambda generation: 4 + generation, workflow, source, largest_sample_size=6)
    assert int(jax.jit(lambda key: process.init(key, 2)[1].data.count)(KEY)) == 4


def test_a_schedule_needs_no_largest_size_where_the_evidence_is_drawn():
    infos = walk(
        make(lambda generation: 5 - generation, source=CATEGORIES, family=categorical(3)), 2
    )[1]
    assert [int(info.data.counts.sum()) for info in infos] == [5, 4, 3]


@pytest.mark.parametrize(
    ("flow", "size"),
    [(workflows.mix(0.5, 0, 0.5), 6), (WORKFLOWS["replace"], lambda generation: 6 + generation)],
)
def test_points_of_a_size_that_only_the_run_knows_are_refused(flow, size):
    process = generational_process(gaussian(1, by="points"), NORMAL, flow, sample_size=size)
    with pytest.raises(InputError, match=r"by='points' needs a sample size"):
        jax.eval_shape(lambda key: process.step(key, process.init(key)[0]), KEY)


def test_a_growing_pool_of_points_needs_the_last_generation():
    for call in (make(4, "accumulate_subsample").init, make(4, "accumulate_subsample").template):
        with pytest.raises(
            InputError, match=r"accumulate_subsample stores the points.*last_generation"
        ):
            call(KEY)
    assert jax.eval_shape(make(4, "accumulate").init, KEY)


def test_a_newcomer_under_every_workflow_holds_points(laplace):
    source = sources.dataset(np.random.default_rng(0).laplace(size=12))
    for name in WORKFLOWS:
        process = make(6, name, source, laplace)
        info = jax.eval_shape(
            lambda key, process=process: process.step(key, process.init(key, 2)[0])[1], KEY
        )
        assert isinstance(info.data, Dataset) and info.data.x.shape == (
            (18,) if name == "accumulate" else (6,)
        )


def echo(**options):
    """An estimator whose model continues x as x + 1000, and whose samples are nothing else."""
    return estimator(
        lambda key, params, data: (0, FitInfo.exact()),
        lambda key, params, n: jnp.full(n, -1),
        continued=lambda key, params, x: x + 1000,
        init=lambda key, data: 0,
        **options,
    )


@pytest.mark.parametrize("traceable", [True, False])
def test_what_is_not_kept_is_continued(traceable, chi_square_p):
    """Each real point is there once, as it was or continued; which are kept is uniform and drawn
    anew in every generation.
    """
    source = sources.dataset(np.arange(10))
    process = generational_process(
        echo(traceable=traceable),
        source,
        workflows.keep_or_continue(0.3, batch_size=2),
        sample_size=10,
    )
    state, _ = process.init(KEY)
    step = jax.jit(process.step) if traceable else process.step
    kept = []
    for generation in range(400 if traceable else 20):
        state, info = step(jax.random.fold_in(KEY, generation), state)
        made = points.filled(info.data)
        assert sorted(made % 1000) == list(range(10)) and (made < 1000).sum() == 4
        kept.append(sorted(made[made < 1000]))
    assert len({tuple(one) for one in kept}) > len(kept) // 4
    if traceable:
        # drawn without replacement, counts scatter less than chi-square takes them to
        assert (
            chi_square_p(np.bincount(np.concatenate(kept), minlength=10), np.full(10, 0.1)) > 1e-4
        )
        pairs = [10 * a + b for one in kept for a in one for b in one if a < b]
        possible = np.triu(np.ones((10, 10)), 1).ravel() > 0
        assert chi_square_p(np.bincount(pairs, minlength=100)[possible], np.full(45, 1 / 45)) > 1e-4


def test_points_are_continued_where_the_evidence_is_drawn():
    """A family with data of its own: both parts are summarised, and add up."""
    family = categorical(3)._replace(continued=lambda key, params, x: 0 * x + 2)
    process = generational_process(
        family, sources.dataset(np.zeros(8, int)), workflows.keep_or_continue(0.25), sample_size=8
    )
    _, info = process.step(KEY, process.init(KEY)[0])
    assert isinstance(info.data, Counts) and info.data.counts.tolist() == [2, 0, 6]


def test_continuing_needs_an_estimator_that_can(laplace):
    flow, source = workflows.keep_or_continue(0.5), sources.dataset(np.arange(8.0))
    with pytest.raises(
        InputError,
        match=r"keep_or_continue\(0.5\) lets the model continue real points, but this estimator "
        r"has no",
    ):
        generational_process(laplace, source, flow, sample_size=8)
    with pytest.raises(
        InputError,
        match=r"sample_size is a function, and keep_or_continue\(0.5\) needs a size known",
    ):
        generational_process(
            echo(), source, flow, sample_size=lambda generation: 4, largest_sample_size=4
        )


def test_processes_print_what_they_are_made_of(laplace):
    process = generational_process(
        laplace, sources.dataset(np.arange(9.0)), workflows.mix(0.5, 0.25, 0.25), sample_size=8
    )
    assert repr(process) == (
        "Process(laplace, dataset(float64[9]), mix(0.5, 0.25, 0.25), sample_size=8)"
    )
    assert str(process).splitlines() == [
        "generational process: laplace under mix(0.5, 0.25, 0.25)",
        "  real data: a data set of 9 points",
        "  sample size: 8",
        "  metrics: mean, variance, log_variance",
    ]
