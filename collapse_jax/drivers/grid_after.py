"""More values on the axes of a grid that was simulated: what is there of its points is kept."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from collapse_jax.core.types import Process
from collapse_jax.drivers.grids import Gathered
from collapse_jax.drivers.labels import key_in_words, names_of
from collapse_jax.drivers.made_of import described, differences
from collapse_jax.drivers.plan import Plan, recorded_generations
from collapse_jax.errors import InputError, first_line, made_by, rounding_twins
from collapse_jax.metrics import resolve_metrics
from collapse_jax.runs.environment import check_numbers

# Coordinate [*axes] of a data set that lacks some of its points: whether one is there.
IS_DONE = "is_done"
_STATISTICS = ("mean", "std", "quantile")
_KEPT = ("made_of", "made_with", "key", "streams", "chains", "generations", "metrics")


class Grid(NamedTuple):
    """What is asked for.

    process_at: settings -> process.
    axes: name -> values.
    key, plan: of the grid.
    keep: "chains" or "summary".
    levels: of the quantiles.
    """

    process_at: Callable[..., Process]
    axes: Mapping[str, Sequence]
    key: jax.Array
    plan: Plan
    keep: str
    levels: Sequence[float]


def made_of_point(process: Process, point: Mapping[str, Any], key: jax.Array, plan: Plan) -> str:
    """What the process of one point of a grid is made of, as JSON, for its attributes.

    Args:
        process: at the point.
        point: its settings.
        key, plan: of the grid.
    """
    measure = resolve_metrics(process.metrics, plan.metrics)
    made = described(process, key, plan.generations, measure)
    return json.dumps({"point": dict(point), "process": made})


def put_what_is_there(after: Any, grid: Grid, gathered: Gathered) -> None:
    """Enters the points that a data set holds, bit for bit.

    Args:
        after: from `cj.simulate_grid`, or read from a file of it.
        grid: what is asked for.
        gathered: where the points are entered.

    Raises:
        InputError: if it is of another grid; one line says what differs.
    """
    _check(after, grid)
    places, numbers = _places(after, grid.axes)
    if IS_DONE in after.coords:
        is_there = after[IS_DONE].transpose(*grid.axes).values[places]
        places, numbers = tuple(place[is_there] for place in places), numbers[is_there]
    arrays = {}
    for metric in names_of(grid.plan.metrics):
        if grid.keep == "chains":
            arrays[metric] = _variable(after, metric, grid)
            continue
        for statistic in _STATISTICS:
            arrays[f"{statistic}:{metric}"] = _variable(after, f"{metric}_{statistic}", grid)
    if len(numbers):
        gathered.put(numbers, {name: values[places] for name, values in arrays.items()})


def _variable(after, name, grid):
    if name not in after:
        raise InputError(f"after has no {name}, which cj.simulate_grid gave; give all that it gave")
    found = after[name]
    own = [axis for axis in found.dims if axis not in grid.axes]
    return found.transpose(*grid.axes, *own).values


def _places(after, axes):
    """(place of each point on every axis of `after`, its number here) of all that are in both."""
    places = []
    for name, values in axes.items():
        there = {value: place for place, value in enumerate(_values(after, name))}
        places.append(np.array([there.get(value, -1) for value in values]))
    on_axes = np.stack([one.ravel() for one in np.meshgrid(*places, indexing="ij")])
    numbers = np.flatnonzero((on_axes >= 0).all(0))
    return tuple(on_axes[:, numbers]), numbers


def _values(after, name):
    return after[name].values.tolist()


def _check(after, grid):
    """Raises `InputError` where a data set is of another grid."""
    import xarray

    after = made_by("after", after, xarray.Dataset, "cj.simulate_grid")
    missing = [name for name in _KEPT if name not in after.attrs]
    if missing:
        raise InputError(
            f"after has no attribute {missing[0]!r}, which cj.simulate_grid gives; simulate again "
            "with the same key, which gives the same numbers"
        )
    coordinates = {str(name) for name in after.coords}
    if not grid.axes.keys() <= coordinates:
        lacking = ", ".join(sorted(grid.axes.keys() - coordinates))
        raise InputError(
            f"axes have {lacking}, but after does not; give the axes of after, with its values and "
            "others"
        )
    extra = json.loads(after.attrs["axes"]) if "axes" in after.attrs else []
    if set(extra) - grid.axes.keys():
        raise InputError(
            f"after has the axis {min(set(extra) - grid.axes.keys())!r}, but axes do not; give the "
            "same names"
        )
    for name, values in grid.axes.items():
        twins = rounding_twins([*values, *_values(after, name)])
        if twins:
            raise InputError(
                f"axis {name} has {twins[0]!r} and {twins[1]!r}, here and in after, which differ "
                "only by rounding; give the value of after"
            )
    _check_plan(after, grid)
    _check_process(after, grid)


def _check_plan(after, grid):
    plan, there = grid.plan, after.attrs
    recorded = recorded_generations(plan.generations, plan.record).tolist()
    levels = _values(after, "quantile") if "quantile" in after.coords else None
    pairs = {
        "key": (there["key"], key_in_words(grid.key)),
        "streams": (there["streams"], plan.streams),
        "chains": (int(there["chains"]), plan.chains),
        "generations": (int(there["generations"]), plan.generations),
        "recorded generations": (_values(after, "generation"), recorded),
        "metrics": (json.loads(there["metrics"]), names_of(plan.metrics)),
        "keep": ("chains" if levels is None else "summary", grid.keep),
        "quantiles": (levels, None if levels is None else list(grid.levels)),
    }
    for name, (old, new) in pairs.items():
        if old != new:
            raise InputError(
                f"{name}: {old!s:.200} in after, {new!s:.200} here; give the same, or leave out "
                "after="
            )


def _check_process(after, grid):
    there = after.attrs
    try:
        old, versions = json.loads(there["made_of"]), json.loads(there["made_with"])
        point, process = dict(old["point"]), old["process"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"after has damaged attributes ({first_line(error, 200)})") from None
    check_numbers(versions, "the data set of after=")
    made = made_of_point(grid.process_at(**point), point, grid.key, grid.plan)
    found = differences(process, json.loads(made)["process"])
    if found:
        raise InputError(
            f"after is of another simulation ({'; '.join(found)}); give the process_at, key and "
            "metrics that made it"
        )
