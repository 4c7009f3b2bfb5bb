"""`ecosystem`: K estimators, a source and a coupling [K, K] make a process of K models."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import functions, sizes
from collapse_jax.core.ecosystems import data_spaces, pool_metrics
from collapse_jax.core.ecosystems.coupling import checked_coupling, rows_of, schedules_of
from collapse_jax.core.ecosystems.kinds import Kind, Model, kinds_of
from collapse_jax.core.ecosystems.over_models import over_models
from collapse_jax.core.flows import schedules
from collapse_jax.core.recipes.captured import Key
from collapse_jax.core.recipes.keys import kept
from collapse_jax.core.recipes.made import noted, recorded
from collapse_jax.core.recipes.shared import settings_of, shared
from collapse_jax.core.types import (
    Estimator,
    FitInfo,
    Layout,
    Parts,
    Process,
    Runtime,
    Source,
    State,
    StepInfo,
    Workflow,
)
from collapse_jax.core.workflows import replace
from collapse_jax.errors import InputError, made_by, one_of
from collapse_jax.random.bits import fold_in

Wrapper = Callable[[Workflow], Workflow]


@recorded
def ecosystem(
    estimators: Estimator | Sequence[Estimator],
    source: Source,
    coupling: Any,
    sample_size: int | Callable,
    *,
    workflows: Workflow | Sequence[Workflow] | None = None,
    published: Wrapper | Sequence[Wrapper | None] | None = None,
    random_counts: bool = True,
    largest_sample_size: int | None = None,
    remember_first: bool = False,
) -> Process:
    """Returns the process of K models that train on each other's points and on real data.

    When the workflow of model k draws fresh synthetic points, a share coupling[k, j] of them comes
    from model j, and the rest (1 minus the sum of row k) is real data. With K = 1 the process is
    that of one model, bit for bit: [[1]] changes nothing, and [[1 - g]] under `replace` is
    `mix(1 - g, 0, g)`. Metrics, states and formulas: docs/ecosystems.md.

    Args:
        estimators: one for all models, or K; their points must have the same shape, type and range.
        source: the source of real data; the models draw from it independently.
        coupling: [K, K], which may be traced; entries of at least 0, rows that sum to at most 1.
        sample_size: number of points in each model's training sets, as in `generational_process`.
        workflows: one for all models, or K; by default `replace`. Each model has a separate carry,
            and a curation of a workflow applies to all synthetic points that its model reads.
        published: a curation that applies to a model's points whenever any model reads them, such
            as `cj.curation.tempered(0.8)`; one for all models, or K, with None for no curation.
        random_counts: True: the numbers of points from each model and from real data are
            multinomial. False: shares are rounded, first those of all models and of real data, then
            the cumulative shares of the models, cyclically from the reader on.
        largest_sample_size, remember_first: as in `generational_process`.

    Raises:
        InputError: as `generational_process`; for an invalid coupling, lists of another length than
            K, points that differ, and families that are fitted on the host, are lazy, or store
            points relative to their newest model.
    """
    one_of("random_counts", random_counts, (True, False))
    given: Any = kept(
        (
            *(estimators, source, coupling, sample_size, workflows, published, random_counts),
            *(largest_sample_size, remember_first),
        )
    )
    made_of = None if sizes.in_a_grid() else settings_of(*given)
    return shared(made_of, lambda: _made(*given, made_of=made_of)).process()


noted(ecosystem, called="Ecosystem")


def _made(
    estimators,
    source,
    coupling,
    sample_size,
    workflows,
    published,
    random_counts,
    largest,
    remember_first,
    made_of,
):
    """The `_Ecosystem`; all arguments are checked here."""
    coupling = checked_coupling(coupling)
    models = _models(estimators, coupling, workflows, published, random_counts)
    options = {"sample_size": sample_size, "largest_sample_size": largest}
    kinds = kinds_of(models, source, random_counts, options | {"remember_first": remember_first})
    workflow = _pool_workflow(models, coupling, random_counts)
    estimator = _pool_estimator([model.estimator for model in models])
    source = kinds[0].core.parts.source
    parts = Parts(estimator, source, workflow, sample_size, remember_first)
    return _Ecosystem(parts, kinds, tuple(models), made_of)


def _models(estimators, coupling, workflows, published, random_counts):
    """The `Model`s [K]."""
    count = len(coupling)
    families: Any = _one_each("estimators", estimators, Estimator, "cj.estimator", count)
    workflows = replace() if workflows is None else workflows
    own: Any = _one_each("workflows", workflows, Workflow, "cj.workflows", count)
    published = _published(published, count)
    data_spaces.check_families(families)
    if not random_counts and not isinstance(coupling, np.ndarray):
        raise InputError(
            "coupling is traced with random_counts=False, which rounds shares before the run; give "
            "random_counts=True, or a coupling of numbers"
        )
    rows = rows_of(coupling)
    return [Model(*one) for one in zip(families, own, published, rows, strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class _Ecosystem:
    """Generation 0, the step, and the structure of their states, of all models."""

    parts: Parts
    kinds: tuple[Kind, ...]
    models: tuple[Model, ...]
    # What all of it was made of, where others of the same settings may have it.
    made_of: Key | None = dataclasses.field(default=None, compare=False)

    def process(self):
        """The process that drivers run."""
        watched = any(kind.made.watched for kind in self.kinds)
        reads = sum(kind.reads for kind in self.kinds)
        return Process(
            init=self.init,
            step=self.step if watched else self.unwatched_step,
            metrics=dict(self.metrics),
            layout=Layout(self.template, self.resize),
            runtime=Runtime(
                chain_axis=self.axis,
                models=len(self.models),
                reads=reads,
                out_of_range=self.kinds[0].made.out_of_range if len(self.kinds) == 1 else None,
            ),
            parts=self.parts,
        )

    @functools.cached_property
    def metrics(self):
        """Name -> metric; the same functions for all processes of these settings."""
        return pool_metrics.metrics_of(self.kinds, self.axis)

    @functools.cached_property
    def axis(self) -> Any:
        """The axis of the chains: the last, if all families are written for it."""
        return max(kind.made.chain_axis for kind in self.kinds)

    def init(self, key, last_generation=None):
        def of_kind(kind):
            def of_one(number):
                state, info = kind.core.init(self._own_key(key, number), last_generation)
                return (state.params, state.carry, state.first), info

            return over_models(of_one, self.axis)(kind.numbers)

        made, infos = zip(*map(of_kind, self.kinds), strict=True)
        return self._state(jnp.asarray(0, jnp.int32), made), self._info(infos)

    def step(self, key, state):
        """The next generation, for callers without a driver: sizes are checked at each step."""
        return self._next(key, state, lambda core: core.step)

    def unwatched_step(self, key, state):
        """The next generation, for drivers, which have checked the sizes of all generations."""
        return self._next(key, state, lambda core: core.unwatched_step)

    def _next(self, key, state, step_of):
        before = self._of_kinds(state)
        params = [params for params, *_ in before]
        made, infos, generations = [], [], []
        for kind, own in zip(self.kinds, before, strict=True):

            def of_one(number, given, own, kind=kind):
                reading = kind.reading(given, self.axis)
                alone = State(state.generation, *own)
                own_key = self._own_key(key, number)
                after, info = step_of(kind.core)(own_key, alone, reading)
                return (after.params, after.carry, after.first), info, after.generation

            given = kind.given(params, self.axis)
            results = over_models(of_one, self.axis)(kind.numbers, given, own)
            for parts, result in zip((made, infos, generations), results, strict=True):
                parts.append(result)
        # A training set that was none is told by its generation (`core.marks`).
        generation = jnp.min(jnp.concatenate(generations))
        return self._state(generation, made), self._info(infos)

    def template(self, key, last_generation=None):
        return jax.eval_shape(lambda key: self.init(key, last_generation)[0], key)

    def resize(self, state, last_generation):
        def of_kind(kind, own):
            def of_one(own):
                resized = kind.core.resize(State(state.generation, *own), last_generation)
                return resized.params, resized.carry, resized.first

            return jax.vmap(of_one)(own)

        made = map(of_kind, self.kinds, self._of_kinds(state))
        return self._state(state.generation, tuple(made))

    def check_run(self, generations, known=None):
        """Raises `InputError` if a run of this many generations has an invalid size."""
        for kind in self.kinds:
            kind.core.check_run(generations, known)

    def _own_key(self, key, number):
        return key if len(self.models) == 1 else fold_in(key, number)

    def _of_kinds(self, state):
        """(params, carry, first) of each kind."""
        parts = state.params, state.carry, state.first
        if len(self.kinds) == 1:
            return [parts]
        params, carry, first = parts
        return list(zip(params, carry, first or [()] * len(self.kinds), strict=True))

    def _state(self, generation, made):
        params, carry, first = (_one_or_all(parts) for parts in zip(*made, strict=True))
        return State(generation, params, carry, first if self.parts.remember_first else ())

    def _info(self, infos):
        """One `FitInfo` for all models: all converged, most iterations, mean loss."""
        fits = [info.fit for info in infos]
        converged, iterations, loss = (
            jnp.concatenate([jnp.asarray(getattr(fit, name)) for fit in fits])
            for name in ("converged", "iterations", "loss")
        )
        detail = fits[0].detail if len(fits) == 1 else {}
        fit = FitInfo(jnp.all(converged), jnp.max(iterations), jnp.mean(loss), detail)
        return StepInfo(fit, _one_or_all([info.data for info in infos]))


def _one_or_all(parts):
    """The parts of all kinds, or the part itself if there is a single kind."""
    parts = tuple(parts)
    return parts[0] if len(parts) == 1 else parts


def _one_each(name, given, kind, maker, count):
    """A list of `count` objects, from one for all models or one for each."""
    if isinstance(given, kind):
        return [given] * count
    if not isinstance(given, Sequence) or isinstance(given, str):
        given = made_by(name, given, kind, f"one of {maker}, or a list of such,")
    for place, one in enumerate(given):
        made_by(f"{name}[{place}]", one, kind, f"one of {maker}")
    if len(given) != count:
        raise InputError(
            f"{name} are {len(given)}, but coupling is [{count}, {count}]; give one for all "
            f"models, or {count}"
        )
    return list(given)


def _published(given, count):
    """[count], the filters of each model that apply whenever a model reads its points."""
    if given is None or callable(given):
        given = [given] * count
    several = isinstance(given, Sequence) and not isinstance(given, str)
    if not several or len(given) != count:
        words = f"{len(given)} curations" if several else f"{given!r:.200}"
        raise InputError(
            f"published is {words}, but coupling is [{count}, {count}]; it must be one curation "
            f"for all models, such as cj.curation.tempered(0.8), or {count} of them"
        )
    # One for all is one tuple of filters, so that its models are known to be alike.
    known = {}
    return [known.setdefault(id(one), _filters(place, one)) for place, one in enumerate(given)]


def _filters(place, wrap):
    if wrap is None:
        return ()
    functions.check_arguments(f"published[{place}]", wrap, ("workflow",))
    plain = replace()
    try:
        wrapped = wrap(plain)
    except InputError as error:
        called = getattr(wrap, "__name__", "it")
        raise InputError(
            f"published[{place}] must be a curation with its arguments, {called}(...): {error}"
        ) from None
    if not isinstance(wrapped, Workflow) or not wrapped.filters:
        raise InputError(
            f"published[{place}] is {getattr(wrap, '__name__', wrap)!r:.200}; it must be a "
            "curation of a model's points, such as cj.curation.tempered(0.8) (a detector applies "
            "to a mixture: put it around the workflow of the model that reads)"
        )
    if wrapped.next is not plain.next or any(hasattr(one, "at") for one in wrapped.filters):
        raise InputError(
            f"published[{place}] is {wrapped.name}, which has a state or depends on the "
            "generation; it must be the same in every generation"
        )
    return wrapped.filters


def _pool_estimator(estimators):
    """The estimator in the parts of the process, with the names and contents of all."""
    names = ", ".join(dict.fromkeys(one.name for one in estimators))
    alone = functools.partial(_alone, tuple(estimators))
    name = f"ecosystem of {len(estimators)}: {names}"
    return Estimator(name, alone, alone, alone, estimators[0].statistics)


def _pool_workflow(models, coupling, random_counts):
    names = ", ".join(dict.fromkeys(model.workflow.name for model in models))
    filters = [one for model in models for one in (*model.published, *model.workflow.filters)]
    made_of = tuple((model.workflow, model.published) for model in models)
    init = functools.partial(_alone, (made_of, coupling, random_counts))
    together: Any = functools.partial(_alone, (made_of, coupling, random_counts))
    # Those of filters are looked at with these.
    own = [schedules.of(model.workflow._replace(filters=())) for model in models]
    unlike = {id(one): one for one in itertools.chain(*own)}.values()
    together.schedules = (*unlike, *schedules_of(coupling))
    return Workflow(names, init, together, tuple(filters))


def _alone(members, *arguments):
    raise InputError(
        "the models of an ecosystem are fitted together; call the step of the process instead"
    )
