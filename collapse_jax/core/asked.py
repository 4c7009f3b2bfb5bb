"""What the parts of a process ask of each other: how training sets are served, and how large."""

from collapse_jax.core import compatible, functions, sizes
from collapse_jax.core.needs import needs_of
from collapse_jax.core.training_data import PointData, RelativeData, StatisticsData


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
