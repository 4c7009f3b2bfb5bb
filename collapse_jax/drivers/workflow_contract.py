"""The contract of workflows and curations, for anyone's: `cj.check_workflow(workflow)`."""

import functools
import random
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.process import generational_process
from collapse_jax.core.protocols import Params
from collapse_jax.core.types import Dataset, Estimator, FitInfo, Process, Workflow
from collapse_jax.drivers.contract import check_names, passed_checks
from collapse_jax.drivers.run import run
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError, made_by
from collapse_jax.estimators import sources

KEY = jax.random.key(2025)
_SIZE, _GENERATIONS = 12, 4


class Subject(NamedTuple):
    """What is checked: a workflow, over a family and one model of it as the real distribution."""

    workflow: Workflow
    estimator: Estimator
    params: Params

    def process(self, workflow: Workflow | None = None, sample_size=_SIZE) -> Process:
        """The process of the workflow, or of another one over the same family."""
        source = sources.population(self.estimator, self.params)
        workflow = self.workflow if workflow is None else workflow
        return generational_process(self.estimator, source, workflow, sample_size=sample_size)


def check_workflow(
    workflow: Workflow | Callable[[Workflow], Workflow],
    *,
    example: Callable[[], tuple[Estimator, Params]] | None = None,
    skip: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Holds a workflow or a curation against the contract that our own are held against.

    Args:
        workflow: a `Workflow`, or a curation, which is a function of one; a curation is applied
            to `replace()`.
        example: () -> (estimator, params): the family that it runs over, and the real
            distribution. By default a normal distribution that is fitted to points x [n].
        skip: names of checks (of `CHECKS`) that do not apply.

    Returns:
        The names of the checks that it passed.

    Raises:
        AssertionError: with one line for each check that fails.
        InputError: for an unknown check in `skip`, or what is neither a workflow nor a curation.
    """
    check_names(skip, CHECKS)
    if not isinstance(workflow, Workflow) and callable(workflow):
        workflow = made_by("workflow(replace())", workflow(workflows.replace()), Workflow, "cj")
    made_by("workflow", workflow, Workflow, "cj.Workflow or one of cj.workflows")
    family, params = (example or _normal)()
    checks = {name: check for name, check in CHECKS.items() if name not in skip}
    if not family.traceable:
        checks = {name: check for name, check in checks.items() if name not in NEED_TRACING}
    return passed_checks("workflow", checks, Subject(workflow, family, params))


def _normal():
    def fit(key, params, data):
        mean = jnp.average(data.x, weights=data.weight)
        variance = jnp.average((data.x - mean) ** 2, weights=data.weight)
        return jnp.stack([mean, jnp.sqrt(variance)]), FitInfo.exact()

    def sample(key, params, n):
        return params[0] + params[1] * jax.random.normal(key, (n,))

    return estimator(fit, sample, name="normal"), jnp.array([0.0, 1.0])


def _walk(process, key=KEY, generations=_GENERATIONS):
    """The states and infos of one chain, step by step."""
    state, info = process.init(jax.random.fold_in(key, 0), last_generation=generations)
    steps = [(state, info)]
    for generation in range(1, generations + 1):
        state, info = process.step(jax.random.fold_in(key, generation), state)
        steps.append((state, info))
    return steps


def _spied(workflow, note):
    """The workflow, with note(what, key) called for each request that takes a key."""

    def spy(what, function):
        def asked(key, *arguments):
            note(what, key)
            return function(key, *arguments)

        return asked

    def next_set(key, carry, supply, n):
        note("next", key)
        keyed = ("model", "real", "subsample", "real_and_continued")
        spies = {what: spy(what, getattr(supply, what)) for what in keyed}
        return workflow.next(key, carry, supply._replace(**spies), n)

    return workflow._replace(next=next_set)


def _same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def _is_pure(subject):
    """The same key gives the same sets, whatever the state of Python's and NumPy's generators."""
    sets = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        sets.append([info.data for _, info in _walk(subject.process())])
    assert _same(*sets), "another training set when run again with the same key"


def _keys_matter(subject):
    """Another key gives other sets."""
    one, other = (
        [info.data for _, info in _walk(subject.process(), key)] for key in (KEY, jax.random.key(7))
    )
    assert not _same(one, other), "the same training sets with two keys"


def _keys_are_apart(subject):
    """No two requests of one generation share a key, and no state holds one."""
    seen = []
    process = subject.process(_spied(subject.workflow, lambda what, key: seen.append((what, key))))
    for state, _ in _walk(process, generations=2):
        kinds = [jnp.result_type(leaf) for leaf in jax.tree.leaves(state.carry)]
        keys = [kind for kind in kinds if jnp.issubdtype(kind, jax.dtypes.prng_key)]
        assert not keys, "the carry holds a key"
    for generation in _by_generation(seen):
        words = [tuple(np.asarray(jax.random.key_data(key)).tolist()) for _, key in generation]
        pairs = zip(generation, words, strict=True)
        shared = {what for (what, _), own in pairs if words.count(own) > 1}
        assert not shared, f"{' and '.join(sorted(shared))} are asked with one key"


def _by_generation(seen):
    """The requests of each generation; those before the first `next` are `init`'s."""
    generations = [[]]
    for what, key in seen:
        generations.append([]) if what == "next" else generations[-1].append((what, key))
    return generations


def _structure_stays(subject):
    """The carry keeps its structure, shapes and types, so that a step is compiled once."""
    shapes = [
        (jax.tree.structure(state), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)])
        for state, _ in _walk(subject.process())
    ]
    assert all(later == shapes[1] for later in shapes[2:]), (
        "the carry has another structure in each generation; use supply.reserve and supply.append "
        "for sets that grow"
    )


def _sizes_do_not_depend_on_the_key(subject):
    """Every chain has the same number of points in a generation, and at least one."""
    sizes = []
    for key in (KEY, jax.random.key(7)):
        infos = [info for _, info in _walk(subject.process(), key)]
        if not isinstance(infos[0].data, Dataset):
            return  # sufficient statistics do not tell
        sizes.append([float(info.data.weight.sum()) for info in infos])
    assert sizes[0] == sizes[1], (
        f"sets of {sizes[0]} points with one key and {sizes[1]} with another"
    )
    assert min(sizes[0]) > 0, f"sets of {sizes[0]} points; each must have one at least"


def _chains_are_each_alone(subject):
    """A chain in a batch has the numbers that it has alone."""
    metrics = _scalar_metrics(subject)
    few, many = (
        simulate(subject.process(), KEY, generations=3, chains=chains, metrics=metrics)
        for chains in (1, 3)
    )
    _assert_close(few, {name: many[name][:1] for name in metrics}, "alone", "in a batch")


def _longer_runs_begin_alike(subject):
    """More generations change no number of the earlier ones."""
    metrics = _scalar_metrics(subject)
    short, long = (
        simulate(subject.process(), KEY, generations=last, metrics=metrics) for last in (2, 4)
    )
    _assert_close(short, {name: long[name][:, :3] for name in metrics}, "of 2", "of 4 generations")


def _same_in_both_drivers(subject):
    """`simulate` and `run` give the same numbers."""
    metrics, process = _scalar_metrics(subject), subject.process()
    with tempfile.TemporaryDirectory() as folder:
        by_run = run(process, KEY, generations=3, folder=folder, metrics=metrics)
    by_simulate = simulate(process, KEY, generations=3, metrics=metrics)
    _assert_close(by_simulate, by_run, "under simulate", "under run")


def _holds_no_nan(subject):
    """Four generations of two chains hold no nan."""
    metrics = _scalar_metrics(subject)
    trace = simulate(subject.process(), KEY, generations=4, chains=2, metrics=metrics)
    for name, values in trace.items():
        assert not np.isnan(values).any(), f"metric {name} is nan"


def _follows_a_schedule(subject):
    """A sample size that is a function of the generation works, or is refused in one line."""
    source = sources.population(subject.estimator, subject.params)
    try:
        process = generational_process(
            subject.estimator,
            source,
            subject.workflow,
            sample_size=lambda generation: _SIZE - generation,
            largest_sample_size=_SIZE,
        )
    except InputError:
        return
    jax.eval_shape(functools.partial(process.init, last_generation=2), KEY)
    simulate(process, KEY, generations=2, metrics=_scalar_metrics(subject))


def _scalar_metrics(subject):
    return tuple(
        name
        for name, metric in subject.estimator.metrics.items()
        if jax.eval_shape(metric, subject.params).ndim == 0
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
    "chains_are_each_alone": _chains_are_each_alone,
    "longer_runs_begin_alike": _longer_runs_begin_alike,
    "same_in_both_drivers": _same_in_both_drivers,
    "holds_no_nan": _holds_no_nan,
}
NEED_TRACING = (
    "follows_a_schedule",
    "chains_are_each_alone",
    "longer_runs_begin_alike",
    "same_in_both_drivers",
    "holds_no_nan",
)
