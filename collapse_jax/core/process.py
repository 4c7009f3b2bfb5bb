"""Estimator x Source x Workflow -> Process."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core import compatible, functions, marks, results, sizes
from collapse_jax.core.flows import schedules
from collapse_jax.core.needs import SIZE_TO_WATCH, Needs, guarded, needs_of
from collapse_jax.core.real_source import held_against
from collapse_jax.core.tracing import inside_a_program
from collapse_jax.core.training_data import (
    PointData,
    RelativeData,
    StatisticsData,
    TrainingData,
    statistics_draw,
)
from collapse_jax.core.types import (
    Dataset,
    Estimator,
    Layout,
    Parts,
    Process,
    Source,
    State,
    StepInfo,
    Workflow,
)
from collapse_jax.errors import InputError, made_by, one_key, whole
from collapse_jax.metrics import OfFirst
from collapse_jax.random.bits import fold_in, split

# The key of a fit: the highest number, which no draw counts up to, so that data may use the
# generation's own key at no cost.
_FIT = np.uint32(2**32 - 1)


def generational_process(
    estimator: Estimator,
    source: Source,
    workflow: Workflow,
    *,
    sample_size: int | Callable,
    largest_sample_size: int | None = None,
    remember_first: bool = False,
) -> Process:
    """The process that fits a family to real data and then to what `workflow` puts together.

    Args:
        estimator: the family.
        source: where real data comes from.
        workflow: what each next training set is made of.
        sample_size: points of each training set: an int, which may be traced, or a function of the
            generation (traced under `simulate`). Drivers look at the sizes of all generations
            before they begin, and at the shares of workflows and curations that are functions too.
        largest_sample_size: slots of points where they are held, needed with a function or tracer.
        remember_first: whether the state keeps the parameters of generation 0, and each distance
            is also offered as NAME_to_first.

    Raises:
        InputError: if an argument has the wrong type; a size is not in [1, 2^31 - 1], exceeds a
            fixed data set, or 10^8 where earlier points are drawn again; the source's points are
            not what the estimator takes (`check` of `core.types.Statistics`); or the workflow needs
            what the estimator lacks.
    """
    made_by("estimator", estimator, Estimator, "one of cj.estimators, or cj.estimator,")
    made_by("source", source, Source, "one of cj.sources")
    made_by("workflow", workflow, Workflow, "one of cj.workflows, as cj.workflows.replace(),")
    sample_size, largest_sample_size = sizes.traced(sample_size, largest_sample_size)
    largest = _largest_size(sample_size, largest_sample_size)
    functions.check_parts(estimator, source, workflow)
    source = held_against(source, estimator, largest)
    parts = Parts(estimator, source, workflow, sample_size, remember_first)
    generator = functions.generator_of(workflow, estimator)
    needs = _needs(parts, generator, largest or SIZE_TO_WATCH)
    kind = _kind_of_data(parts, needs, generator)
    compatible.check_needs(parts, needs, holds_points=kind is not StatisticsData)
    draws_real = kind is StatisticsData and statistics_draw(source, estimator) is not None
    if estimator.traceable and not draws_real:
        compatible.check_bounded(largest)
    compatible.check_size(source, largest)
    most = _most_points(parts, needs, kind)
    compatible.check_at_most(largest, most, workflow.name)
    schedule = sizes.Schedule(sample_size, largest or most, not estimator.traceable)
    points_of_all = _points_of_all(parts, needs)
    data = kind(estimator, generator, source, largest or 0, points_of_all, needs.weights)
    core = _Core(parts, needs, _in_position(parts, needs, data), draws_real, schedule)
    core.check_models_keep_their_shape()
    _check_by_shapes(core)
    return Process(
        init=core.init,
        step=core.step if core.is_watched else core.unwatched_step,
        metrics=_metrics(estimator, source) | (_to_first(estimator) if remember_first else {}),
        layout=Layout(core.template, core.resize),
        runtime=_runtime(core),
        parts=parts,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Core:
    """Generation 0, the step, and the structure of their states.

    draws_real: whether real data comes as statistics, so that no point is ever made of it.
    schedule: the sizes of training sets.
    """

    parts: Parts
    needs: Needs
    data: TrainingData
    draws_real: bool
    schedule: sizes.Schedule

    def init(self, key, last_generation=None):
        fit_key, start, data, training_set, carry = self._start(key, last_generation)
        params, fit = results.fitted(self.parts.estimator, fit_key, start, training_set)
        carry = self.data.after_fit(carry, data)
        compatible.check_same_shapes(start, params)
        if self.parts.estimator.traceable and not self.draws_real:
            self._check_points(fit_key, params)
        return self._first_state(params, carry), StepInfo(fit, training_set)

    def step(self, key, state, model=None):
        """The next generation; one that is called by hand, so that no driver knew how far."""
        if not isinstance(state.generation, Tracer):
            following = max(int(state.generation) + 1, 1)
            schedules.check(schedules.of(self.parts.workflow), following, first=following)
        after, info = self.unwatched_step(key, state, model)
        wrong = self._is_wrong(state, info.data)
        if wrong is None:
            return after, info
        if not isinstance(wrong, Tracer):
            self._refuse(bool(wrong), after.generation)
            return after, info
        # Nothing can be raised in a compiled program: the model is marked as broken.
        params = jax.tree.map(lambda leaf: jnp.where(wrong, _broken(leaf), leaf), after.params)
        return after._replace(params=params), info

    def unwatched_step(self, key, state, model=None):
        """The next generation, for drivers, which have looked at the sizes of all.

        model: as in `Supply`, where more than this model's own draws is read (`core.ecosystems`).
        """
        estimator, workflow = self.parts.estimator, self.parts.workflow
        fit_key = fold_in(key, _FIT)
        generation = state.generation + 1
        size_at = self.schedule.at
        supply = self._data_at(generation).supply(
            state.params, size_at(state.generation), generation=jnp.maximum(generation, 1)
        )
        # A host family serves whatever is asked, whenever it is asked.
        supply = guarded(supply, workflow, self.needs) if estimator.traceable else supply
        supply = supply if model is None else supply._replace(model=model)
        carry, data = workflow.next(key, state.carry, supply, size_at(generation))
        training_set = self.data.to_fit(results.training_set(workflow, data), state.params)
        params, fit = results.fitted(estimator, fit_key, state.params, training_set)
        carry = self.data.after_fit(carry, data)
        if self.may_be_marked:
            unsound = self._is_unsound(data) | marks.is_spoiled(state)
            params = marks.spoiled(params, unsound)
            generation = marks.generation_of(generation, unsound)
        return State(generation, params, carry, state.first), StepInfo(fit, training_set)

    def _data_at(self, generation):
        """The data, where models are sampled as their filters are at a generation."""
        workflow = self.parts.workflow
        if not any(hasattr(curate, "at") for curate in workflow.filters):
            return self.data
        generation = jnp.maximum(generation, 1)  # that of a spoiled state is none
        return self.data.sampled_by(
            functions.generator_of(workflow, self.parts.estimator, generation)
        )

    def two_generations(self, key):
        """The states of generations 0 and 1."""
        first, _ = self.init(key, 1)
        n = self.data.slots or SIZE_TO_WATCH
        results.check_abilities(self.parts.estimator, key, first.params, n)
        return first, self.step(key, first)[0]

    def check_models_keep_their_shape(self):
        """Raises `InputError` where larger sets than the first one make larger models."""
        needs, traceable = self.needs, self.parts.estimator.traceable
        is_larger = needs.fitted > 1 and not needs.fits_history
        if not (traceable and is_larger and isinstance(self.data, PointData)):
            return
        first = jax.eval_shape(lambda key: self.init(key, 1)[0], jax.random.key(0))
        later = jax.eval_shape(self.unwatched_step, jax.random.key(0), first)[0]
        shapes = [
            [leaf.shape for leaf in jax.tree.leaves(state.params)] for state in (first, later)
        ]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{self.parts.workflow.name} makes sets of more than sample_size points, and a "
                f"model of {self.parts.estimator.name} is made of its points: its shape would "
                "change after generation 0; give accumulate, or another family"
            )

    def template(self, key, last_generation=None):
        if self.parts.estimator.traceable:
            return jax.eval_shape(lambda key: self.init(key, last_generation)[0], key)
        _, params, _, _, carry = self._start(key, last_generation)
        return self._first_state(params, carry)

    def resize(self, state, last_generation):
        if not self.keeps_buffers:
            return state
        carry = jax.tree.map(
            lambda leaf: self.data.reserve(leaf, last_generation) if _is_dataset(leaf) else leaf,
            state.carry,
            is_leaf=_is_dataset,
        )
        if not self.needs.fits_history:
            return state._replace(carry=carry)
        # Models that are made of points grow with the buffer that they are fitted to.
        wanted = self.template(jax.random.key(0), last_generation)
        params = jax.tree.map(_padded, state.params, wanted.params)
        first = jax.tree.map(_padded, state.first, wanted.first)
        return state._replace(params=params, carry=carry, first=first)

    @property
    def is_watched(self):
        """Whether a size, a share or a count may turn out wrong that no driver has looked at."""
        grows = self.needs.multiples.growth > 0
        return callable(self.parts.sample_size) or grows or bool(schedules.of(self.parts.workflow))

    @functools.cached_property
    def may_be_marked(self):
        """Whether points are chosen or weighted by functions that may give nan."""
        holds_points, workflow = isinstance(self.data, PointData), self.parts.workflow
        theirs = workflow.filters or not functions.is_ours(workflow.next)
        return holds_points and bool(theirs or self.needs.weights)

    def check_run(self, generations, known=None):
        """Raises `InputError` for sizes that no run of so many generations can have.

        known: the sizes [generation], or [1] of all, where they are not those of the schedule.
        """
        schedule, name = self.schedule, self.parts.workflow.name
        if known is None:
            schedules.check(schedules.of(self.parts.workflow), generations)
        else:
            schedule.check_known(known, 0)
            known = int(known[0]) if len(known) == 1 else known.__getitem__
            schedule = schedule._replace(sample_size=known, on_host=True)
        try:
            schedule.check(generations, self.needs.multiples, name)
        except sizes.TooMany:
            if self._counts:
                raise
            schedule.check(generations, None, name)
        slots = self.data.slots * (generations + 1)
        if self.keeps_buffers and slots > sizes.LARGEST:
            raise InputError(
                f"{self.parts.workflow.name} keeps {slots} points by generation {generations}, "
                f"which must be at most {sizes.LARGEST}; take fewer points or generations"
            )

    @functools.cached_property
    def _counts(self):
        """Whether training sets are counted in 32 bits."""
        if not self.parts.estimator.traceable or isinstance(self.data, PointData):
            return False
        size = self.parts.sample_size if isinstance(self.parts.sample_size, int) else 1
        supply = self.data.supply(None, 0)
        data = jax.eval_shape(lambda key: supply.real(key, size), jax.random.key(0))
        kinds = map(jnp.result_type, jax.tree.leaves(data))
        return any(jnp.issubdtype(kind, jnp.integer) for kind in kinds)

    def _is_wrong(self, state, data):
        """Whether a size or a count of the newest set is none; bool [], or None where none can."""
        wrong = []
        if callable(self.parts.sample_size) and self.parts.estimator.traceable:
            wrong.append(~self.schedule.is_sound(state.generation + 1))
        if self.parts.estimator.traceable:
            numbers = schedules.of(self.parts.workflow)
            wrong += [~one.is_sound_at(jnp.maximum(state.generation + 1, 1)) for one in numbers]
        if self.needs.multiples.growth > 0 and self._counts:
            wrong.append(sizes.overflowed(data, state))
        wrong = [one for one in wrong if one is not None]
        return jnp.any(jnp.stack(wrong)) if wrong else None

    def _refuse(self, wrong, generation):
        if wrong:
            raise InputError(
                f"{self.parts.workflow.name} counts more than {sizes.LARGEST} points together at "
                f"generation {int(generation)}; take fewer points or generations"
            )

    @property
    def keeps_buffers(self):
        """Whether the carry holds buffers that are sized by the last generation."""
        return self.needs.whole_history and getattr(self.data, "buffered", False)

    def _start(self, key, last_generation):
        """Everything of generation 0 but its fit."""
        estimator, _, workflow, *_ = self.parts
        if last_generation is not None:
            self.check_run(last_generation)
        if self.keeps_buffers and last_generation is None:
            raise InputError(
                f"{workflow.name} keeps the points of every generation: pass last_generation to "
                "size their buffer"
            )
        data_key, init_key, fit_key = split(key, 3)
        supply = self.data.supply(None, 0, last_generation)
        first = supply.real(data_key, self.schedule.at(0))
        # In as many slots as later generations are fitted to, which is the shape of parameters
        # that are made of points.
        data = supply.reserve(first) if self.needs.fits_history else first
        training_set = self.data.to_fit(data)
        start = estimator.init(init_key, training_set)
        if "model_of" in self.needs.asked:  # models are carried on
            supply = supply._replace(params=self._shapes(fit_key, start, training_set))
        return fit_key, start, data, training_set, workflow.init(supply, first)

    def _shapes(self, key, start, training_set):
        """Arrays of the shapes and types of a model."""
        estimator = self.parts.estimator
        if not estimator.traceable:
            return start
        model, _ = jax.eval_shape(lambda: results.fitted(estimator, key, start, training_set))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model)

    def _is_unsound(self, data):
        """Whether the points of a set are marked, or weighted by nan."""
        unsound = marks.holds_mark(data)
        text = f"{self.parts.workflow.name}: a weight of the next training set is nan"
        marks.check_sound(unsound, text)
        return unsound

    def _first_state(self, params, carry):
        first = params if self.parts.remember_first else ()
        return State(jnp.asarray(0, jnp.int32), params, carry, first)

    def _check_points(self, key, params):
        """The source's points, and those of the model fitted to them, have one shape."""
        slots, (estimator, source, *_) = self.data.slots, self.parts

        def shape_of(name, sample, *arguments):
            return jax.eval_shape(
                lambda key: results.points(name, sample, (key, *arguments), slots), key
            )

        real = shape_of(functions.SOURCE, source.sample, slots)
        made = shape_of("sample", estimator.sample, params, slots)
        compatible.check_same_points(real.shape[1:], made.shape[1:])
        if self.keeps_buffers:
            compatible.check_same_types(real.dtype, made.dtype)


def check_started(process: Process, key: jax.Array) -> None:
    """Raises `InputError` unless a driver was given a process and one typed key, outside of JAX."""
    made_by("process", process, Process, "cj.generational_process")
    if isinstance(key, Tracer) or inside_a_program():
        raise InputError(
            "a simulation is no part of a JAX program: it was called inside jit, vmap, grad or "
            "scan. There, call process.init and process.step under lax.scan; or call the "
            "simulation outside, once for each value, with chains= for many chains"
        )
    one_key("key", key)


def check_run(
    process: Process, generations: int, settings: Mapping[str, np.ndarray] | None = None
) -> None:
    """Looks at the sizes of all training sets of a run, as far as they are known before it.

    Args:
        process: from `generational_process` or `process_grid`.
        generations: the last one.
        settings: name -> [points] of a grid.

    Raises:
        InputError: for a size that is no whole number in its range, or pools that 32 bits do not
            count; it names the generation.
    """
    core: Any = getattr(process.layout.template, "__self__", None)
    if not hasattr(core, "check_run"):
        return
    if settings is None:
        core.check_run(generations)
    elif isinstance(process.init, _AtPoint):
        at = process.init.at
        schedules.check_points(at, generations, settings)
        for known in _sizes_at_points(at, generations, settings):
            core.check_run(generations, known)


def keeps_buffers(process: Process) -> bool:
    """Whether the states of a process hold buffers that its last generation sizes, as far as known.

    True for a process that `generational_process` has not made.
    """
    core = getattr(process.layout.template, "__self__", None)
    return core.keeps_buffers if isinstance(core, _Core) else True


def unwatched(process: Process) -> Process:
    """The same process for a driver that has called `check_run`: its step looks at no size."""
    core: Any = getattr(process.step, "__self__", None)
    if not hasattr(core, "unwatched_step") or process.step != core.step:
        return process
    return process._replace(step=core.unwatched_step, runtime=process.runtime)


def _sizes_at_points(at, generations, settings):
    """The sizes [generation] of each point of a grid; [1] where they are the same for ever."""
    program, is_constant = _sizes_program(at)
    arrays = {name: np.asarray(values) for name, values in settings.items()}
    first = np.asarray(program(arrays, np.arange(1)))
    if is_constant:
        yield from np.unique(first, axis=0)
        return
    for point in range(len(first)):
        one = {name: values[point : point + 1] for name, values in arrays.items()}
        yield np.asarray(program(one, np.arange(generations + 1)))[0]


@functools.lru_cache(256)
def _sizes_program(at):
    """((settings [points], generations) -> sizes [points, generations], [] for no constant)."""
    is_constant = []

    def of_point(settings, generations):
        size = at(settings).parts.sample_size
        of_generation = size if callable(size) else lambda generation: size
        if of_generation(0) is of_generation(1):
            is_constant.append(True)
        return jax.vmap(lambda generation: jnp.asarray(of_generation(generation)))(generations)

    return jax.jit(jax.vmap(of_point, (0, None))), is_constant


@dataclasses.dataclass(frozen=True)
class _AtPoint:
    """`init` or `step` of the process at one point of a grid.

    Drivers have looked at the sizes of all points.
    """

    at: Callable[[Mapping], Process]

    def __call__(self, key, last_generation, settings):
        return self.at(settings).init(key, last_generation)

    def step(self, key, state, settings):
        return unwatched(self.at(settings)).step(key, state)


def process_grid(at: Callable[[Mapping], Process], example: Mapping) -> Process:
    """Many processes of one shape as one, whose `init` and `step` take what differs.

    Run it with `simulate_chunks` and a `Plan(settings={name: [points]})`: one compiled program for
    all points. Each has random numbers of its own, with `streams="common"` all have those of the
    key. A point gives the numbers that it gives alone with its key (floats up to rounding).

    Args:
        at: settings -> the process at one point, where settings holds traced numbers. The source
            must be the same everywhere: distances are to the example's.
        example: such settings as plain numbers.

    Returns:
        A process with `init(key, last_generation, settings)` and `step(key, state, settings)`.
    """
    one, points = at(example), _AtPoint(at)
    return one._replace(init=points, step=points.step, runtime=one.runtime)


def _check_by_shapes(core):
    """Looks at the shapes of two generations of somebody's functions, once for a grid."""
    parts = core.parts
    theirs = not functions.are_ours(parts.estimator, parts.source, parts.workflow)
    if parts.estimator.traceable and theirs and not sizes.in_a_grid():
        functions.check_by_shapes(core.two_generations)


def _kind_of_data(parts, needs, generator):
    """How training sets are served: as points, as points relative to the model, as statistics."""
    estimator = parts.estimator
    on_points = needs.earlier_points and estimator.subsample is None
    on_points |= needs.weights and estimator.statistics.weighed is None
    if not on_points and generator.draw is not None:
        return StatisticsData
    if estimator.statistics.relative is None:
        return PointData
    compatible.check_relative(parts)
    return RelativeData


def _most_points(parts, needs, kind):
    """The most points of a training set; somebody's own `subsample` may be quick."""
    own_law = kind is StatisticsData and not functions.is_ours(parts.estimator.subsample)
    one_by_one = needs.earlier_points and not own_law
    return sizes.LARGEST_WITHOUT_REPLACEMENT if one_by_one else sizes.LARGEST


def _points_of_all(parts, needs):
    """How many real points all later ones go back to; None where others enter, or it is unknown."""
    _, _, workflow, size, _ = parts
    enter = {"real", "real_and_continued"} & needs.asked
    if not isinstance(size, int) or enter or not functions.is_ours(workflow.next):
        return None
    return size


def _in_position(parts, needs, data):
    """The data, which knows whether its points are in general position."""
    return dataclasses.replace(data, general=_in_general_position(parts, needs, data))


def _in_general_position(parts, needs, data):
    """Whether every n points span n - 1 directions, and every model all that there are.

    So they do where more points than there are directions are drawn from a density, none of them
    twice, and nothing chooses among them or weighs them.
    """
    estimator, source, workflow, size, _ = parts
    spanned = estimator.statistics.spanned
    if not isinstance(size, int) or spanned is None:
        return False
    if type(data) not in (StatisticsData, PointData):
        return False
    if workflow.filters or needs.weights or not functions.is_ours(workflow.next):
        return False
    asks = [inspect.signature(of).parameters for of in (estimator.merge, estimator.summarise)]
    if not all("general" in of for of in asks):
        return False
    leaves = jax.tree.leaves(source.params)
    if not leaves or any(isinstance(leaf, Tracer) for leaf in leaves):
        return False
    if statistics_draw(source, estimator) is None:
        return False
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        return False
    in_space = []

    def of_few(key):
        few = source.draw(key, 2)
        in_space.append(spanned(few, size) is few)
        return few

    jax.eval_shape(of_few, jax.random.key(0))
    return in_space[0]


def _needs(parts, generator, size):
    """What the workflow asks for; with the family's own data where placeholders do not do."""
    estimator, source, workflow, *_ = parts

    def start_with(kind):
        def start(key):
            data = kind(estimator, generator, source, size)
            first = data.supply(None, 0, 1).real(key, size)
            to_fit = data.to_fit(first)
            params, _ = estimator.fit(key, estimator.init(key, to_fit), to_fit)
            return first, data.supply(params, size, 1)

        return start

    kinds = [] if generator.draw is None else [StatisticsData]
    kinds = [*kinds, PointData] if estimator.traceable else []
    return needs_of(workflow, size, [start_with(kind) for kind in kinds])


def _runtime(core):
    """The estimator's runtime, as far as it holds under the workflow."""
    runtime, holds_points = core.parts.estimator.runtime, isinstance(core.data, PointData)
    # A filtered model has no counts, which are what tells categories apart by name and not by
    # place.
    filtered = core.data.generator is not core.parts.estimator
    if not core.needs.only_model or holds_points or core.parts.remember_first or filtered:
        runtime = runtime._replace(compaction=None)
    return runtime._replace(chain_axis=0) if holds_points else runtime


def _metrics(estimator, source):
    """The estimator's metrics and its distances to the source's model, None where that is none."""
    known = source.params is not None and source.statistics is estimator.statistics.kind
    distances = {
        name: _to_source(name, _against(distance, source.family), source.params) if known else None
        for name, distance in estimator.distances.items()
    }
    return {**estimator.metrics, **distances}


def _against(distance, family):
    """The distance to models of the source's family, whose options may be others than ours."""
    known = family is not None and hasattr(distance, "against")
    return distance.against(family) if known else distance


def _to_first(estimator):
    return {f"{name}_to_first": OfFirst(distance) for name, distance in estimator.distances.items()}


def _to_source(name, distance, real):
    def to_source(params):
        if type(params) is not type(real):
            raise InputError(
                f"metric {name!r} compares models of one family, but the model has "
                f"{type(params).__name__} and the real distribution has {type(real).__name__}"
            )
        return distance(params, real)

    return to_source


def _largest_size(sample_size, largest):
    """The most points of one training set; None where a function has no given bound."""
    if not callable(sample_size):
        return whole("sample_size", sample_size, 1, sizes.LARGEST)
    return None if largest is None else whole("largest_sample_size", largest, 1, sizes.LARGEST)


def _broken(leaf):
    """What marks an array of a model as broken: nan, or 0 where it holds counts."""
    inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
    return jnp.full_like(leaf, jnp.nan) if inexact else jnp.zeros_like(leaf)


def _padded(leaf, wanted):
    """A parameter made of points, with empty slots up to the shape that a longer run gives it."""
    if leaf.shape == wanted.shape:
        return leaf
    widths = [(0, there - here) for here, there in zip(leaf.shape, wanted.shape, strict=True)]
    return jnp.pad(leaf, widths)


def _is_dataset(node):
    return isinstance(node, Dataset)
