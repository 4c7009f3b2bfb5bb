"""What the parts of a process ask of each other: how training sets are served, and how large."""

import inspect

import jax
import numpy as np
from jax.core import Tracer

from collapse_jax.core import compatible, functions, sizes
from collapse_jax.core.needs import needs_of
from collapse_jax.core.training_data import (
    PointData,
    RelativeData,
    StatisticsData,
    statistics_draw,
)


def kind_of_data(parts, needs, generator):
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


def most_points(parts, needs, kind):
    """The most points of a training set; somebody's own `subsample` may be quick."""
    own_law = kind is StatisticsData and not functions.is_ours(parts.estimator.subsample)
    one_by_one = needs.earlier_points and not own_law
    return sizes.LARGEST_WITHOUT_REPLACEMENT if one_by_one else sizes.LARGEST


def points_of_all(parts, needs):
    """How many real points all later ones go back to; None where others enter, or it is unknown."""
    _, _, workflow, size, _ = parts
    enter = {"real", "real_and_continued"} & needs.asked
    if not isinstance(size, int) or enter or not functions.is_ours(workflow.next):
        return None
    return size


def in_general_position(parts, needs, data):
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


def needs_of_parts(parts, generator, size):
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
