"""The labelled family, real data and workflow of a process: `cj.genealogy_of`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.ancestry.ancestor import Labels, metrics_of
from collapse_jax.core.ancestry.labelled import Beside, Counted, Labelled
from collapse_jax.core.rows import Rows
from collapse_jax.core.training_data import PointData
from collapse_jax.core.types import Dataset, Estimator, Process, Source, Workflow
from collapse_jax.errors import InputError

# Whole numbers up to which a float32 holds them all.
_LARGEST_IN_FLOATS = 2**24


def with_labels(
    process: Process, generations: int, ancestors: bool = False
) -> tuple[Estimator, Source, Workflow]:
    """Returns (labelled family, its real data, the workflow over it) of a process.

    The family offers the metrics of the model, and those of a genealogy.

    Args:
        process: from `cj.generational_process`.
        generations: the last generation.
        ancestors: whether labels have the ancestor at each generation.

    Raises:
        InputError: for a family whose points are not copies, or more points than labels can
            distinguish.
    """
    core: Any = getattr(process.layout.template, "__self__", None)
    family, source, workflow, *_ = process.parts
    if not hasattr(core, "data") or not family.traceable:
        raise InputError(
            f"process is of {family.name}, whose lineages cannot be followed; give a process from "
            "cj.generational_process, of one family that is traceable"
        )
    if core.needs.continuation:
        raise InputError(
            f"genealogy_of does not accept {workflow.name}: a continued point descends from its "
            "prompt and from the model's training set; use cj.genealogy, which counts it as a copy "
            "of a training point"
        )
    size = core.data.slots or 1
    by_points = isinstance(core.data, PointData)
    labelling = Labels(generations, ancestors, source.size)
    if by_points:
        beside: Any = _beside(family, source, size, labelling)
    else:
        beside = _counted(family, core, labelling)
    rows = source.sample.numbers() if isinstance(source.sample, Rows) else None
    labelled = beside.estimator()
    shown = metrics_of(beside.labelling)
    own = {name: _of_lineages(metric, beside) for name, metric in shown.items()}
    metrics = {**labelled.metrics, **own}
    measures = labelled.measures._replace(metrics=metrics)
    real = _real(beside, source, labelled.statistics.kind, by_points, rows)
    if real.params is not None:
        real = real._replace(params=Labelled(source.params, None, None))
    labelled = labelled._replace(measures=measures)
    return labelled, real, _written(workflow, beside, rows is None)


def slots_of(process: Process) -> int | None:
    """Returns the largest number of points in a training set; None if no bound was needed."""
    return process.layout.template.__self__.data.slots or None  # type: ignore[attr-defined]


def _of_lineages(metric, beside):
    return lambda params: metric(beside.lineages(params))


def _beside(family, source, size, labelling):
    if family.model.copied is None:
        raise _no_copies(family)
    x = jax.eval_shape(lambda key: source.sample(key, 1), jax.random.key(0))
    generations, in_floats = labelling.generations, jnp.issubdtype(x.dtype, jnp.inexact)
    if in_floats and max(generations, 4 * size) > _LARGEST_IN_FLOATS:
        raise InputError(
            f"generations is {generations} and sample_size is {size}; labels of float points can "
            f"distinguish at most {_LARGEST_IN_FLOATS} generations, and a quarter as many points "
            "of each"
        )

    def place(key):
        data = Dataset(source.sample(key, 1), jnp.ones(1))
        summary = family.summarise(*data)
        model, _ = family.fit(key, family.init(key, summary), summary)
        return family.model.copied(key, model, data, 1)

    cells = jax.eval_shape(place, jax.random.key(0))
    if in_floats:
        labelling = labelling._replace(limit=_LARGEST_IN_FLOATS)
    return Beside(family, x.shape[1:], int(np.prod(cells.shape)), labelling)


def _no_copies(family):
    return InputError(
        f"{family.name} generates points that are not copies of single points; genealogy_of needs "
        "categorical, kde or ngram without smoothing, or a family with `copied`; cj.genealogy "
        "follows the lineages of a workflow without a family"
    )


def _counted(family, core, labelling):
    kind = family.statistics.kind
    if getattr(kind, "_fields", ()) != ("counts", "categories") or family.model.copied is None:
        raise _no_copies(family)
    held = core.needs.multiples
    most = max(held.pooled, held.kept + held.growth * labelling.generations, 1)
    largest = core.parts.sample_size
    if callable(largest):
        largest = core.data.slots
        if not largest:
            raise InputError(
                "sample_size is a function, and every point has a stored label; give "
                "largest_sample_size as well"
            )
    capacity = int(np.ceil(most - 1e-9)) * largest
    return Counted(family, capacity, labelling, labelling.rows is not None)


def _real(beside, source, kind, by_points, rows):
    def sample(key, n):
        values = source.sample(key, n)
        numbers = (jnp.arange(n) if rows is None else rows(key, n)).astype(jnp.int32)
        if by_points:
            return beside.real(values, numbers)
        return jnp.stack([values, numbers], axis=1) if beside.by_rows else values

    def draw(key, n):
        return beside.real(source.draw(key, n))

    has_law = not by_points and source.draw is not None
    return Source(sample, draw if has_law else None, kind, size=source.size, params=source.params)


def _written(workflow: Workflow, beside: Any, renumbered: bool) -> Workflow:
    """The workflow, whose real points carry the generation in which they enter."""

    def init(supply, data):
        clerk = _clerk(beside, 0, renumbered, beside.slots(data))
        return jnp.asarray(0, jnp.int32), workflow.init(clerk(supply), data)

    @functools.wraps(workflow.next)
    def next_set(key, carry, supply, n):
        generation, inner = carry[0] + 1, carry[1]
        clerk = _clerk(beside, generation, renumbered, 0)
        inner, data = workflow.next(key, inner, clerk(supply), n)
        return (generation, inner), data

    return Workflow(workflow.name, init, next_set, workflow.filters)


def _clerk(beside, generation, renumbered, used) -> Callable:
    """supply -> the same, whose real points are labelled as those of a generation.

    renumbered: whether each request has numbers of its own.
    """
    written, made = [used], [used]

    def begun(data):
        """The points as the ancestors of what descends from them."""
        if not beside.labelling.ancestors:
            return data
        first = made[0]
        made[0] += beside.lines(data)
        return beside.made(data, generation, first)

    def wrap(supply):
        def model(key, n):
            return begun(supply.model(key, n))

        def real(key, n):
            data = supply.real(key, n)
            first = written[0] if renumbered else 0
            written[0] += beside.slots(data)
            return begun(beside.entered(data, generation, first))

        return supply._replace(model=model, real=real)

    return wrap
