"""Estimator x Source x Workflow -> Process."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import points
from collapse_jax.core.types import (
    Dataset,
    Estimator,
    Process,
    Source,
    State,
    StepInfo,
    Supply,
    Workflow,
)
from collapse_jax.errors import InputError, made_by, whole
from collapse_jax.metrics import OfFirst
from collapse_jax.random.bits import fold_in, split

# The key of a fit: the highest number, which no draw counts up to, so that data may use the
# generation's own key at no cost.
_FIT = np.uint32(2**32 - 1)
# Counts are held in 32 bits.
_LARGEST = 2**31 - 1


def generational_process(
    estimator: Estimator,
    source: Source,
    workflow: Workflow,
    *,
    sample_size,
    largest_sample_size: int | None = None,
    remember_first: bool = False,
) -> Process:
    """The process that fits `estimator` to real data and then, generation after generation, to what
    `workflow` puts together.

    sample_size: points of each training set: an int, or a function of the generation (traced under
    `simulate`).
    largest_sample_size: needed with a function where whole points are held: their number of slots.
    remember_first: whether the state keeps the parameters of generation 0, and each distance is
    also offered as NAME_to_first.
    Raises `InputError` for parts that are none, sizes below 1 or above 2^31 - 1, for a fixed real
    data set with fewer points than are asked for, and for a workflow that continues points with an
    estimator that cannot, or that an estimator that streams its points
    cannot serve.
    """
    made_by("estimator", estimator, Estimator, "one of cj.estimators, or cj.estimator,")
    made_by("source", source, Source, "one of cj.sources")
    made_by("workflow", workflow, Workflow, "one of cj.workflows, as cj.workflows.replace(),")
    if workflow.continues and estimator.continued is None:
        raise InputError(
            f"{workflow.name} lets the model continue real points, but this estimator has "
            "no `continued`"
        )
    if workflow.continues and callable(sample_size) and estimator.traceable:
        raise InputError(
            f"sample_size is a function, and {workflow.name} needs a size known before the "
            "run: give an integer"
        )
    on_points = workflow.takes_points_back and estimator.subsample is None
    generator = workflow.generator(estimator)
    holds_points = on_points or generator.draw is None
    if estimator.streams:
        _check_streams(workflow, sample_size, holds_points)
    real_is_drawn = (
        source.draw is not None and source.statistics is estimator.statistics and not holds_points
    )
    slots = _slots(sample_size, largest_sample_size, estimator.traceable and not real_is_drawn)
    if source.size is not None and slots is not None and slots > source.size:
        raise InputError(
            f"sample_size is {slots}, but the real data set has {source.size} points; it "
            "must be at most that"
        )
    buffered = holds_points and estimator.traceable
    fits_the_pool = workflow.grows and not workflow.takes_points_back

    def size_at(generation):
        if not callable(sample_size):
            return sample_size
        if not estimator.traceable:
            return int(sample_size(int(generation)))
        return jnp.asarray(sample_size(generation), jnp.int32)

    def countable(n):
        return n if isinstance(n, int) or estimator.traceable else int(n)

    def points_of(sample, n):
        n = countable(n)
        return (
            points.of_sample(sample(n))
            if isinstance(n, int)
            else points.of_sample(sample(slots), n)
        )

    def supply_for(params, previous_size=0, last_generation=None):
        def model(key, n):
            if not holds_points:
                return generator.draw(key, params, countable(n))
            return points_of(lambda size: generator.sample(key, params, size), n)

        def real(key, n):
            if real_is_drawn:
                return source.draw(key, countable(n))
            data = points_of(lambda size: source.sample(key, size), n)
            return data if holds_points else estimator.summarise(*data)

        def real_and_continued(key, n, m):
            order_key, model_key = split(key)
            x = source.sample(order_key, n + m)
            parts = (
                points.of_sample(part)
                for part in (x[:n], generator.continued(model_key, params, x[n:]))
            )
            return tuple(part if holds_points else estimator.summarise(*part) for part in parts)

        def subsample(key, training_set, n):
            if estimator.subsample is not None and not holds_points:
                return estimator.subsample(key, training_set, n)
            return points.subsample(
                key, training_set, countable(n), slots if buffered else countable(n)
            )

        def reserve(training_set):
            return (
                points.reserve(training_set, slots * (last_generation + 1))
                if buffered
                else training_set
            )

        return Supply(
            model=model,
            real=real,
            merge=points.merge if holds_points else estimator.merge,
            subsample=subsample,
            reserve=reserve,
            append=points.append if buffered else points.merge if holds_points else estimator.merge,
            compact=(lambda training_set: points.compact(training_set, slots))
            if buffered
            else lambda training_set: training_set,
            previous_size=previous_size,
            real_and_continued=real_and_continued,
        )

    def to_fit(training_set):
        return estimator.summarise(*training_set) if holds_points else training_set

    def start(key, last_generation):
        """Everything of generation 0 but its fit."""
        if workflow.grows and buffered and last_generation is None:
            raise InputError(
                f"{workflow.name} keeps the points of every generation: pass "
                "last_generation to size their buffer"
            )
        data_key, init_key, fit_key = split(key, 3)
        supply = supply_for(None, last_generation=last_generation)
        data = supply.real(data_key, size_at(0))
        if workflow.grows and last_generation is not None and estimator.traceable:
            _check_pool(
                workflow,
                sample_size if isinstance(sample_size, int) else largest_sample_size,
                last_generation + 1,
                data,
            )
        carry = workflow.init(supply, data)
        # In as many slots as later generations are fitted to, which is the shape of parameters that
        # are made of points.
        training_set = to_fit(supply.reserve(data) if fits_the_pool else data)
        return fit_key, estimator.init(init_key, training_set), training_set, carry

    def at_source(key):
        return source.sample(key, slots)

    def at_model(params, key):
        return estimator.sample(key, params, slots)

    def init(key, last_generation=None):
        fit_key, params, training_set, carry = start(key, last_generation)
        before = params
        params, fit = estimator.fit(fit_key, before, training_set)
        _check_same_shapes(before, params)
        if estimator.traceable and not real_is_drawn:
            of_source, of_model = (
                jax.eval_shape(sample, fit_key)
                for sample in (at_source, functools.partial(at_model, params))
            )
            _check_same_points(of_source.shape[1:], of_model.shape[1:])
        return State(
            jnp.asarray(0, jnp.int32), params, carry, params if remember_first else ()
        ), StepInfo(fit, training_set)

    def step(key, state):
        fit_key = fold_in(key, _FIT)
        generation = state.generation + 1
        carry, data = workflow.next(
            key,
            state.carry,
            supply_for(state.params, size_at(state.generation)),
            size_at(generation),
        )
        training_set = to_fit(data)
        params, fit = estimator.fit(fit_key, state.params, training_set)
        return State(generation, params, carry, state.first), StepInfo(fit, training_set)

    def template(key, last_generation=None):
        if estimator.traceable:
            return jax.eval_shape(lambda k: init(k, last_generation)[0], key)
        _, params, _, carry = start(key, last_generation)
        return State(jnp.asarray(0, jnp.int32), params, carry, params if remember_first else ())

    def resize(state, last_generation):
        if not (workflow.grows and buffered):
            return state
        reserve = supply_for(None, last_generation=last_generation).reserve

        carry = jax.tree.map(
            lambda leaf: reserve(leaf) if _is_dataset(leaf) else leaf,
            state.carry,
            is_leaf=_is_dataset,
        )
        if not fits_the_pool:
            return state._replace(carry=carry)
        wanted = template(jax.random.key(0), last_generation)
        params, first = (
            jax.tree.map(_padded, *both)
            for both in ((state.params, wanted.params), (state.first, wanted.first))
        )
        return state._replace(params=params, carry=carry, first=first)

    # A reshaped model has no counts, which are what tells categories apart by name and not by
    # place.
    shrinks = workflow.closed and not holds_points and not remember_first and generator is estimator
    living, relist = (estimator.living, estimator.relist) if shrinks else (None, None)
    chain_axis = 0 if holds_points else estimator.chain_axis
    metrics = _metrics(estimator, source) | (_metrics_to_first(estimator) if remember_first else {})
    return Process(
        init, step, template, resize, estimator, workflow, living, relist, chain_axis, metrics
    )


def check_started(process, key) -> None:
    """Raises `InputError` unless a driver was given a process and one typed key."""
    made_by("process", process, Process, "cj.generational_process")
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed or key.shape != ():
        raise InputError(f"key is {key!r:.200}; it must be one key, as jax.random.key(0) gives")


def process_grid(at: Callable[[Mapping], Process], example: Mapping) -> Process:
    """Many processes of one shape as one: `init(key, last_generation, settings)` and `step(key,
    state, settings)` take what differs.

    at(settings) -> the process at one point, where settings holds traced numbers; example: such
    settings as plain numbers. The source must be the same everywhere: distances are to the
    example's.
    Run it with `simulate_chunks(..., settings={name: [points]})`: one compiled program for all
    points, and every point gives the
    numbers that it gives alone (floats up to rounding).
    """
    one = at(example)
    return one._replace(
        init=lambda key, last_generation, settings: at(settings).init(key, last_generation),
        step=lambda key, state, settings: at(settings).step(key, state),
    )


def _metrics(estimator, source):
    """The estimator's metrics, and its distances to the source's model, or None for them where the
    source has none of this family.
    """
    known = source.params is not None and source.statistics is estimator.statistics
    distances = {
        name: _to_source(name, distance, source.params) if known else None
        for name, distance in estimator.distances.items()
    }
    return {**estimator.metrics, **distances}


def _metrics_to_first(estimator):
    return {f"{name}_to_first": OfFirst(distance) for name, distance in estimator.distances.items()}


def _to_source(name, distance, real):
    def to_source(params):
        if type(params) is not type(real):
            families = (
                f"{type(params).__name__} and the real distribution has {type(real).__name__}"
            )
            raise InputError(
                f"metric {name!r} compares models of one family, but the model has {families}"
            )
        return distance(params, real)

    return to_source


def _check_same_shapes(before, after):
    """Raises `InputError` where the model that is fitted to the source's data has other shapes than
    the estimator begins with.
    """
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(one)] for one in (before, after)]
    if before is not None and shapes[0] != shapes[1]:
        raise InputError(
            f"the estimator's model has arrays of shapes {shapes[0]}, but fitted to the "
            f"source's data {shapes[1]}; source and estimator "
            "must agree in their dimensions"
        )


def _check_pool(workflow, size, generations, data):
    """Raises `InputError` where integers that count points would overflow."""
    counted = any(
        jnp.issubdtype(jnp.result_type(leaf), jnp.integer) for leaf in jax.tree.leaves(data)
    ) and not _is_dataset(data)
    if counted and size is not None and size * generations > _LARGEST:
        raise InputError(
            f"sample_size is {size}, and {workflow.name} counts the points of "
            f"{generations} generations together, which must be at most "
            f"{_LARGEST}; take fewer"
        )


def _check_same_points(of_source, of_model):
    if of_source != of_model:
        raise InputError(
            f"the source's points have shape {list(of_source)}, but those of the "
            f"estimator's model {list(of_model)}; source and estimator "
            "must agree in their dimensions"
        )


def _padded(leaf, wanted):
    """A parameter that is made of points, with empty slots up to the shape that a longer run gives
    it.
    """
    if leaf.shape == wanted.shape:
        return leaf
    return jnp.pad(
        leaf, [(0, there - here) for here, there in zip(leaf.shape, wanted.shape, strict=True)]
    )


def _is_dataset(node):
    return isinstance(node, Dataset)


def _check_streams(workflow, sample_size, holds_points):
    if workflow.grows or workflow.continues or holds_points:
        raise InputError(
            f"{workflow.name} needs points, but this estimator streams fresh ones while it "
            "is fitted; use finite draws"
        )
    if workflow.random_counts:
        raise InputError(
            f"{workflow.name} draws its counts, but this estimator streams and needs them "
            "known; give random_counts=False"
        )
    if callable(sample_size):
        raise InputError(
            "sample_size is a function, but this estimator streams, and needs a number"
        )


def _slots(sample_size, largest_sample_size, needs_slots):
    """How many points one training set can have, or None where nobody needs to know."""
    if not callable(sample_size):
        return whole("sample_size", sample_size, 1, _LARGEST)
    if largest_sample_size is None and needs_slots:
        raise InputError(
            "sample_size is a function, and this process holds whole points: pass "
            "largest_sample_size as well"
        )
    return (
        largest_sample_size
        if largest_sample_size is None
        else whole("largest_sample_size", largest_sample_size, 1, _LARGEST)
    )
