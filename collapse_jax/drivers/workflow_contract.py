"""The contract of workflows and curations: `cj.check_workflow(workflow)`."""

import dataclasses
import functools
import random
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core import workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.functions import check_arguments, generator_of, wrong
from collapse_jax.core.process import generational_process
from collapse_jax.core.protocols import Params
from collapse_jax.core.types import Dataset, Estimator, FitInfo, Process, State, Workflow
from collapse_jax.drivers.checks import check_names, passed_checks
from collapse_jax.drivers.run import run
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError, made_by
from collapse_jax.estimators import sources

KEY = jax.random.key(2025)
_SIZE, _GENERATIONS = 12, 4
_SETS = 1000  # sampled sets whose order is tested
_KEYS = [jax.random.fold_in(KEY, generation) for generation in range(_GENERATIONS)]


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """The subject of the checks: a workflow, a family, and one model as the real distribution."""

    workflow: Workflow
    estimator: Estimator
    params: Params

    def process_of(self, workflow: Workflow, **sizes) -> Process:
        """A process over this family."""
        source = sources.population(self.estimator, self.params)
        sizes = sizes or {"sample_size": _SIZE}
        return generational_process(self.estimator, source, workflow, **sizes)

    @functools.cached_property
    def process(self) -> Process:
        """The process of the workflow, made once, so that its programs are compiled once."""
        return self.process_of(self.workflow)

    @functools.cached_property
    def first(self) -> State:
        """The state of generation 0."""
        return self.process.init(_KEYS[0], last_generation=_GENERATIONS)[0]

    @functools.cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are single numbers."""
        values = {name: metric(self.params) for name, metric in self.estimator.metrics.items()}
        return tuple(name for name, value in values.items() if jnp.ndim(value) == 0)

    @functools.cached_property
    def trace(self):
        """Three chains of all generations."""
        return self.simulated(3, _GENERATIONS)

    def simulated(self, chains, generations):
        """Chains under `simulate`."""
        options = {"chains": chains, "generations": generations, "metrics": self.metrics}
        return simulate(self.process, KEY, **options)


def check_workflow(
    workflow: Workflow | Callable[[Workflow], Workflow],
    *,
    example: Callable[[], tuple[Estimator, Params]] | None = None,
    skip: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Checks a workflow or a curation against the contract that all built-in ones satisfy.

    Args:
        workflow: a `Workflow`, or a curation, which is a function of a workflow; a curation is
            applied to `replace()`.
        example: () -> (estimator, params): the family with which the workflow runs, and the real
            distribution. By default a normal distribution that is fitted to points x [n].
        skip: names of checks (of `CHECKS`) that do not apply.

    Returns:
        The names of the checks that passed.

    Raises:
        AssertionError: with one line for each check that fails.
        InputError: for an unknown check in `skip`, or a workflow that is neither a workflow nor a
            curation.
    """
    check_names(skip, CHECKS)
    if not isinstance(workflow, Workflow) and callable(workflow):
        check_arguments("workflow", workflow, ("workflow",))
        given = workflow(workflows.replace())
        workflow = made_by("workflow(replace())", given, Workflow, "cj.Workflow")
    made_by("workflow", workflow, Workflow, "cj.Workflow or one of cj.workflows")
    family, params = _example(example or _normal)
    checks = {name: check for name, check in CHECKS.items() if name not in skip}
    if not family.traceable:
        checks = {name: check for name, check in checks.items() if name not in NEED_TRACING}
    return passed_checks("workflow", checks, Subject(workflow, family, params))


def _example(example):
    check_arguments("example", example, ())
    given = example()
    if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[0], Estimator):
        raise wrong("example", example, given, "(estimator, params)")
    return given


def _normal():
    def fit(key, params, data):
        mean = jnp.average(data.x, weights=data.weight)
        variance = jnp.average((data.x - mean) ** 2, weights=data.weight)
        return jnp.stack([mean, jnp.sqrt(variance)]), FitInfo.exact()

    def sample(key, params, n):
        return params[0] + params[1] * jax.random.normal(key, (n,))

    return estimator(fit, sample, name="normal"), jnp.array([0.0, 1.0])


def _spied(workflow, note):
    """The workflow, with note(what, key) called for each request that takes a concrete key."""

    def spy(what, function):
        def asked(key, *arguments):
            if not isinstance(key, Tracer):
                note(what, key)
            return function(key, *arguments)

        return asked

    def next_set(key, carry, supply, n):
        keyed = ("model", "real", "subsample", "real_and_continued")
        spies = {what: spy(what, getattr(supply, what)) for what in keyed}
        return workflow.next(key, carry, supply._replace(**spies), n)

    return workflow._replace(next=next_set)


def _same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def _is_pure(subject):
    """The same key gives the same set, whatever the state of Python's and NumPy's generators."""
    sets = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        sets.append(subject.process.step(_KEYS[1], subject.first)[1].data)
    assert _same(*sets), "another training set when made again with the same key"


def _keys_matter(subject):
    """Another key gives another set."""
    one, other = (subject.process.step(key, subject.first)[1].data for key in _KEYS[1:3])
    assert not _same(one, other), "two keys give the same training set"


def _keys_are_apart(subject):
    """No two requests of one generation share a key, and no state holds one."""
    kinds = [jnp.result_type(leaf) for leaf in jax.tree.leaves(subject.first.carry)]
    held = [kind for kind in kinds if jnp.issubdtype(kind, jax.dtypes.prng_key)]
    assert not held, "the carry contains a random key"
    seen = []
    process = subject.process_of(_spied(subject.workflow, lambda *request: seen.append(request)))
    process.step(_KEYS[1], subject.first)
    words = [tuple(np.asarray(jax.random.key_data(key)).tolist()) for _, key in seen]
    pairs = zip(seen, words, strict=True)
    shared = {what for (what, _), own in pairs if words.count(own) > 1}
    assert not shared, f"{' and '.join(sorted(shared))} are called with the same key"


def _structure_stays(subject):
    """The carry keeps its structure, shapes and types, so that a step is compiled once."""
    states = [subject.first]
    for key in _KEYS[1:4]:
        states.append(subject.process.step(key, states[-1])[0])
    shapes = [
        (jax.tree.structure(state), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)])
        for state in states
    ]
    assert all(later == shapes[0] for later in shapes[1:]), (
        "the state has another structure in each generation; use supply.reserve and supply.append "
        "for sets that grow"
    )


def _sizes_do_not_depend_on_the_key(subject):
    """Every chain has the same number of points in a generation, and at least one."""
    sets = [subject.process.step(key, subject.first)[1].data for key in _KEYS[1:4]]
    if not isinstance(sets[0], Dataset):
        return  # sufficient statistics do not tell
    sizes = [int((data.weight > 0).sum()) for data in sets]
    assert len(set(sizes)) == 1, f"three keys give training sets of different sizes: {sizes}"
    assert sizes[0] > 0, "training sets of 0 points; each must have at least one"


def _chains_are_each_alone(subject):
    """A chain in a batch has the numbers that it has alone."""
    alone = subject.simulated(1, _GENERATIONS)
    batch = {name: values[:1] for name, values in subject.trace.items()}
    _assert_close(alone, batch, "alone", "in a batch")


def _longer_runs_begin_alike(subject):
    """More generations change no number of the earlier ones."""
    short = subject.simulated(3, 2)
    long = {name: values[:, :3] for name, values in subject.trace.items()}
    _assert_close(short, long, "of 2 generations", f"of {_GENERATIONS}")


def _same_in_both_drivers(subject):
    """`simulate` and `run` give the same numbers."""
    options = {"generations": _GENERATIONS, "metrics": subject.metrics}
    with tempfile.TemporaryDirectory() as folder:
        by_run = run(subject.process, KEY, folder=folder, **options)
    by_simulate = {name: values[:1] for name, values in subject.trace.items()}
    _assert_close(by_simulate, by_run, "under simulate", "under run")


def _holds_no_nan(subject):
    """Some generations of three chains hold no nan."""
    for name, values in subject.trace.items():
        assert not np.isnan(values).any(), f"metric {name} is nan"


def _follows_a_schedule(subject):
    """A sample size that is a function of the generation works, or is refused in one line."""
    sizes = {
        "sample_size": lambda generation: _SIZE - generation,
        "largest_sample_size": _SIZE,
    }
    try:
        process = subject.process_of(subject.workflow, **sizes)
    except InputError:
        return
    state = process.template(_KEYS[0], _GENERATIONS)
    jax.eval_shape(process.step, _KEYS[1], state)


def _points_are_in_random_order(subject):
    """Points that pass the filters are in random order, because workflows use the first of them."""
    workflow, family = subject.workflow, subject.estimator
    if not workflow.filters:
        return
    generator = generator_of(workflow, family)
    keys = jax.random.split(KEY, _SETS)
    points = jax.vmap(lambda key: generator.sample(key, subject.params, _SIZE))(keys)
    values = np.asarray(points, float).reshape(_SETS, _SIZE, -1)[..., 0]
    distances = abs(values - np.median(values, axis=1, keepdims=True))
    for of, x in (("values", values), ("distances from their median", distances)):
        first, last = x[:, : _SIZE // 2, None], x[:, None, _SIZE // 2 :]
        larger = np.sign(first - last).mean((1, 2))  # 0 on average, whatever the distribution
        error = larger.std() / _SETS**0.5
        assert abs(larger.mean()) <= 6 * error, (
            f"the first half of {_SIZE} sampled points has other {of} than the second half; "
            "shuffle the points, because workflows use the first of them"
        )


def _assert_close(one, other, here, there):
    for name in one:
        close = np.isclose(one[name], other[name], rtol=1e-3, atol=1e-3, equal_nan=True)
        assert close.all(), f"metric {name} is {one[name]} {here} and {other[name]} {there}"


CHECKS = {
    "is_pure": _is_pure,
    "keys_matter": _keys_matter,
    "keys_are_apart": _keys_are_apart,
    "structure_stays": _structure_stays,
    "sizes_do_not_depend_on_the_key": _sizes_do_not_depend_on_the_key,
    "follows_a_schedule": _follows_a_schedule,
    "points_are_in_random_order": _points_are_in_random_order,
    "chains_are_each_alone": _chains_are_each_alone,
    "longer_runs_begin_alike": _longer_runs_begin_alike,
    "same_in_both_drivers": _same_in_both_drivers,
    "holds_no_nan": _holds_no_nan,
}
NEED_TRACING = (
    "follows_a_schedule",
    "points_are_in_random_order",
    "chains_are_each_alone",
    "longer_runs_begin_alike",
    "same_in_both_drivers",
    "holds_no_nan",
)
