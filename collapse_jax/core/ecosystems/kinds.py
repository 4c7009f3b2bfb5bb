"""Models of one kind: those models of an ecosystem that one program computes as a batch."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import compatible, functions
from collapse_jax.core.ecosystems import data_spaces
from collapse_jax.core.ecosystems.coupling import Row, in_order
from collapse_jax.core.ecosystems.over_models import taken
from collapse_jax.core.ecosystems.readings import Group, Reading, StatisticsOfPoints, coupled
from collapse_jax.core.process import generational_process
from collapse_jax.core.training_data import RelativeData, StatisticsData, TrainingData
from collapse_jax.core.types import Estimator, Source, Workflow
from collapse_jax.core.workflows import replace
from collapse_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """One model of an ecosystem.

    published: filters that apply whenever a model reads its points.
    """

    estimator: Estimator
    workflow: Workflow
    published: tuple
    row: Row

    @functools.cached_property
    def generator(self) -> Estimator:
        """The estimator by which the models that read this one sample it."""
        through = replace()._replace(name="published", filters=self.published)
        return functions.generator_of(through, self.estimator)


class One(NamedTuple):
    """The parts of the process of one model alone.

    core: generation 0 and the step.
    metrics: name -> function of its params.
    chain_axis: the axis of the chains; see `Runtime`.
    watched: whether a size or a count may be invalid that no driver has checked.
    out_of_range: as in `Runtime`.
    """

    core: Any
    metrics: Mapping
    chain_axis: int
    watched: bool
    out_of_range: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """Models of one estimator and workflow, whose rows have one form.

    core: the core of the process of one of its models.
    places: the numbers of its models in the ecosystem.
    rows: the rows of its models.
    groups: places among the sources of a row, by the family that is read; the same in all rows.
    datas: for each group, the form in which this kind receives the group's points.
    origin: for every model of the ecosystem, (its kind, its place in that kind).
    mixes: whether the mixture of a row is a model of the family, which can be sampled directly.
    random_counts: whether the numbers of points from each source are random.
    family: the number of its family among those of the ecosystem.
    made: the process of one of its models alone: core, metrics and axis of chains.
    """

    made: "One"
    places: tuple[int, ...]
    rows: tuple[Row, ...]
    groups: tuple[tuple[int, ...], ...]
    datas: tuple[TrainingData, ...]
    origin: tuple[tuple[int, int], ...]
    mixes: bool
    random_counts: bool
    family: int

    core = property(lambda self: self.made.core)
    metrics = property(lambda self: self.made.metrics)

    @functools.cached_property
    def is_constant(self) -> bool:
        """Whether all rows are known to have the same shares, which makes counts cheaper."""
        first = self.rows[0]
        return isinstance(first.weights, np.ndarray) and all(
            np.array_equal(row.weights, first.weights) and row.real == first.real
            for row in self.rows
        )

    @property
    def reads(self) -> int:
        """The number of sets that its models draw from others per generation, before merging."""
        sources = 0 if self.mixes else len(self.rows[0].sources)
        return len(self.rows) * sources if sources > 1 else 0

    @property
    def numbers(self) -> np.ndarray:
        """uint32 [models], which make their random numbers independent."""
        return np.asarray(self.places, np.uint32)

    def given(self, params: list, axis: Any) -> tuple:
        """The inputs of each model's `reading`, with a first axis of models.

        params: the parameters of all kinds.
        axis: as for `over_models`.
        """
        sources = np.array([row.sources for row in self.rows])  # [models, sources]
        numbers = tuple(sources[:, list(group)].astype(np.uint32) for group in self.groups)
        of_groups, mixed = (), ()
        if self.mixes:
            mixed = self._mixtures(params, axis)
        else:
            of_groups = tuple(
                self._taken(params, sources[:, list(group)], axis) for group in self.groups
            )
        if self.is_constant:
            return (), (), numbers, of_groups, mixed
        weights = _stacked([row.weights for row in self.rows])
        shares = tuple(
            _stacked([getattr(row, name) for row in self.rows])
            for name in ("synthetic", "real")
            if getattr(self.rows[0], name) is not None
        )
        return weights, shares, numbers, of_groups, mixed

    def reading(self, given: tuple, axis: Any) -> Reading:
        """The `Reading` of one model, from its part of the result of `given`."""
        weights, shares, numbers, of_groups, mixed = given
        row = self.rows[0]
        if self.is_constant:
            weights, shares = row.weights, (row.synthetic, row.real)
        groups = (
            ()
            if self.mixes
            else tuple(
                Group(data, own, np.array(places), params)
                for data, own, places, params in zip(
                    self.datas, numbers, self.groups, of_groups, strict=True
                )
            )
        )
        mixed = mixed if self.mixes else None
        return Reading(self.core.data, groups, weights, shares, self.random_counts, mixed, axis)

    def _taken(self, params, sources, axis):
        """Params [models, sources, ...] of the models that are read."""
        read = sorted({self.origin[source][0] for source in sources.ravel().tolist()})
        sizes = [sum(kind == of for of, _ in self.origin) for kind in read]
        first = dict(zip(read, np.cumsum([0, *sizes]).tolist(), strict=False))
        places = np.vectorize(lambda j: first[self.origin[j][0]] + self.origin[j][1])(sources)
        return taken([params[kind] for kind in read], places, axis)

    def _mixtures(self, params, axis):
        """Params [models, ...] of the mixtures that the rows are."""
        every = np.arange(len(self.origin))
        # Sources stand in the order of their reader, models in that of the ecosystem.
        rows = []
        for row in self.rows:
            share_of = dict(zip(row.sources, row.weights, strict=True))
            rows.append(_stacked([share_of.get(source, 0.0) for source in every.tolist()]))
        weights = _stacked(rows)
        return self.core.parts.estimator.mixtures(
            self._taken(params, every, axis), jnp.asarray(weights, jnp.result_type(float))
        )


def kinds_of(
    models: list[Model], source: Source, random_counts: bool, sizes: dict
) -> tuple[Kind, ...]:
    """The kinds of an ecosystem's models, in the order of their first models.

    Args:
        models: all models.
        source: the source of real data.
        random_counts: whether the numbers of points from each source are random.
        sizes: further arguments of `generational_process`.

    Raises:
        InputError: if a part does not fit with the others.
    """

    def family(a, b):
        return _alike(a.estimator, b.estimator) and a.published is b.published

    families = _classes(models, family)
    if random_counts and len(set(families)) == 1:
        models = _with_rows_of_one_form(models)

    def form(model):
        row = model.row
        rounded = None if random_counts else (row.weights.tolist(), row.synthetic)
        return len(row.sources), row.real is None, [families[j] for j in row.sources], rounded

    def same(a, b):
        return family(a, b) and a.workflow is b.workflow and form(a) == form(b)

    of_model = _classes(models, same)
    members = [
        tuple(j for j, kind in enumerate(of_model) if kind == one)
        for one in range(max(of_model) + 1)
    ]
    made = [_one(models, places[0], source, random_counts, sizes) for places in members]
    core_of = {j: made[kind].core for j, kind in enumerate(of_model)}
    data_spaces.check(models, core_of)
    origin = tuple((kind, members[kind].index(j)) for j, kind in enumerate(of_model))
    return tuple(
        _kind(models, one, places, families, core_of, random_counts)(origin)
        for places, one in zip(members, made, strict=True)
    )


def _with_rows_of_one_form(models):
    """The models, whose rows name so many sources that all of one workflow are of one kind.

    What is read with weight 0 gives no points; to compile another program costs more.
    """
    most: dict[int, int] = {}
    takes_real: set[int] = set()
    for model in models:
        name = id(model.workflow)
        most[name] = max(most.get(name, 0), len(model.row.sources))
        takes_real |= {name} if model.row.real is not None else set()
    made = []
    for place, model in enumerate(models):
        row, count, known = model.row, most[id(model.workflow)], set(model.row.sources)
        others = [j for j in range(len(models)) if j not in known]
        read = dict(zip(row.sources, row.weights, strict=True))
        read |= dict.fromkeys(others[: count - len(read)], 0.0)
        sources = in_order(place, read, len(models))
        weights = row.weights
        if count > len(row.sources):
            weights = _stacked([read[source] for source in sources])
        real = 0.0 if id(model.workflow) in takes_real and row.real is None else row.real
        row = row._replace(sources=sources, weights=weights, real=real)
        made.append(dataclasses.replace(model, row=row))
    return made


def _kind(models, one, places, families, core_of, random_counts):
    """origin -> the `Kind`."""
    first = models[places[0]]
    sources = first.row.sources
    read = [families[j] for j in sources]
    groups = tuple(
        tuple(place for place, family in enumerate(read) if family == one)
        for one in dict.fromkeys(read)
    )
    firsts = [sources[group[0]] for group in groups]
    datas = tuple(_data(one.core, first, models[j], core_of[j]) for j in firsts)
    mixes = (
        random_counts
        and len(sources) > 1
        and len(set(families)) == 1
        and not (first.published or first.workflow.filters)
        and first.estimator.mixtures is not None
        and isinstance(one.core.data, StatisticsData)
    )
    rows = tuple(models[place].row for place in places)
    return lambda origin: Kind(
        one, places, rows, groups, datas, origin, mixes, random_counts, families[places[0]]
    )


def _one(models, place, source, random_counts, sizes):
    model, count = models[place], len(models)
    takes_real = model.row.real is not None
    workflow = coupled(model.workflow, takes_real=takes_real, random_counts=random_counts)
    process = generational_process(model.estimator, source, workflow, **sizes)
    core: Any = getattr(process.layout.template, "__self__", None)
    if "model" not in core.needs.asked:
        raise InputError(
            f"{workflow.name}, the workflow of model {place}, draws no fresh points from a model, "
            "so that coupling would be ignored; give one that does, such as cj.workflows.replace()"
        )
    if count > 1 and isinstance(core.data, RelativeData):
        raise InputError(
            f"{model.estimator.name} stores points relative to its newest model, but model {place} "
            "reads other models; give by='law' or by='points'"
        )
    # Sets of several models go back to more points than one model's first set.
    alone = {"first": None, "general": False}
    data = dataclasses.replace(core.data, **alone) if count > 1 else core.data
    watched = process.step == core.step
    core = dataclasses.replace(core, data=data)
    runtime = process.runtime
    return One(core, process.metrics, runtime.chain_axis, watched, runtime.out_of_range)


def _data(core, reader, source, source_core) -> TrainingData:
    """The form in which a reader receives a model's data: statistics, or points."""
    if _alike(reader.estimator, source.estimator) and not source.published:
        return core.data
    generator = functions.generator_of(reader.workflow, source.generator)
    parts = {"generator": generator}
    if not isinstance(core.data, StatisticsData):
        return dataclasses.replace(core.data, **parts)
    if data_spaces.has_statistics_of(core, source_core, generator):
        return dataclasses.replace(core.data, **parts)
    compatible.check_bounded(core.data.slots or None)
    data = core.data
    return StatisticsOfPoints(data.estimator, generator, data.source, data.slots)


def _classes(models, same) -> list[int]:
    """[models] the number of the class of each."""
    firsts, found = [], []
    for model in models:
        places = [place for place, first in enumerate(firsts) if same(first, model)]
        if not places:
            places = [len(firsts)]
            firsts.append(model)
        found.append(places[0])
    return found


def _alike(a, b):
    """Whether two estimators are one, or made of equal parts."""
    if a is b:
        return True
    try:
        # By their functions: equal settings that were made twice are two families here, as ever.
        return a.name == b.name and bool(tuple(a) == tuple(b))
    except Exception:  # parts may be arrays, or traced
        return False


def _stacked(values):
    """[models, ...] of one value a model: NumPy's where it is known, else traced."""
    if not any(isinstance(value, jax.Array) for value in values):
        return np.stack(values)
    return jnp.stack([jnp.asarray(value, jnp.result_type(float)) for value in values])
