"""`simulate_grid`: processes with different settings, in as few compiled programs as possible."""

import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import jax
import numpy as np

from collapse_jax.core.process import check_started, process_grid
from collapse_jax.core.types import Process
from collapse_jax.drivers import grid_after, grids
from collapse_jax.drivers.grids import Batch, Gathered
from collapse_jax.drivers.interrupted import Interrupted, diverged
from collapse_jax.drivers.labels import labels_of, provenance_of
from collapse_jax.drivers.plan import (
    DEFAULT_METRICS,
    Plan,
    check_plan,
    memory_needed,
    record_bytes,
    recorded_generations,
)
from collapse_jax.drivers.streams import STREAMS, names_of_points
from collapse_jax.drivers.summary import QUANTILES, as_dataset
from collapse_jax.drivers.traced_axes import (
    NUMBER,
    At,
    checked,
    dtype_of,
    is_plain,
    largest_of,
    sizes_at,
    traceable_axes,
    typical,
)
from collapse_jax.errors import (
    DivergenceError,
    InputError,
    function,
    number,
    numbers,
    one_key,
    one_of,
    rounding_twins,
    size_words,
    whole,
)
from collapse_jax.runs.free_memory import free_memory

if TYPE_CHECKING:
    import xarray

# Names of other axes of the data set.
_TAKEN = ("chain", "generation", "quantile")
# Bytes of records that a batch holds before they are reduced.
_HELD = 2**28
_LARGEST_GRID = 10**7


class _Axes(NamedTuple):
    """The axes of a grid.

    values: name -> its values, as Python's own types.
    traceable: names of those that may be traced together.
    """

    values: dict[str, list]
    traceable: set[str]

    @property
    def points(self) -> int:
        return math.prod(map(len, self.values.values()))

    def places(self) -> np.ndarray:
        """[points, axes] the place of each point on every axis; the last axis varies fastest."""
        shape = [len(values) for values in self.values.values()]
        return np.stack([grid.ravel() for grid in np.indices(shape)], 1)


def simulate_grid(
    process_at: Callable[..., Process],
    axes: Mapping[str, Sequence],
    key: jax.Array,
    *,
    generations: int,
    chains: int = 1,
    metrics: Iterable = DEFAULT_METRICS,
    record: int | str | Iterable[int] = 1,
    keep: Literal["chains", "summary"] = "chains",
    quantiles: Sequence[float] = QUANTILES,
    streams: Literal["independent", "common"] = "independent",
    chunk: int = 100,
    memory_limit: int | None = None,
    progress: Callable[[int], None] = lambda points: None,
    devices: Sequence | None = None,
    after: "xarray.Dataset | None" = None,
) -> "xarray.Dataset":
    """Simulates many chains at every point of a grid of settings; returns a labelled data set.

    Points whose settings can be traced share one compiled program: a number such as `sample_size`,
    on which no shape, Python branch, metric or real distribution depends. Shares and weights of
    exactly 0 or 1 are not traced. The random numbers of a point depend only on the names and values
    of its settings: `cj.simulate(process_at(**point), cj.point_key(key, point), ...)` gives the
    same numbers (integers bit for bit, floats up to the rounding of another program).

    Args:
        process_at: called with one value of every axis by name, such as process_at(sample_size=5,
            gamma=0.1); returns a process, as `cj.generational_process` does.
        axes: name -> list of distinct values: numbers, bools or strings.
        key: one typed key.
        generations, chains, metrics, record, chunk, devices: as in `cj.simulate`, at each point.
        keep: "chains" for every chain; "summary" for their mean, standard deviation and quantiles.
        quantiles: levels in [0, 1] of a summary.
        streams: "independent", or "common" for the same random numbers at all points.
        memory_limit: the largest number of bytes to use; by default the free memory, `math.inf` for
            no limit.
        progress: called after each batch with the number of points that are done.
        after: the result of an earlier call with other values of the same axes, or a file of it;
            points that it contains are copied. All other arguments must be the same.

    Returns:
        A data set with the axes of the grid, chain and generation; metrics of several numbers have
        the further axes NAME_0, NAME_1 ... A summary has NAME_mean and NAME_std (ddof=1) without
        the axis chain, and NAME_quantile with a last axis quantile. The attributes are settings,
        versions and the key.

    Raises:
        InputError: as `cj.simulate`; if a process cannot be made, or `after` does not fit.
        DivergenceError: when a model contains nan; the message names chain and point. Its `dataset`
            has the points that are done (coordinate `is_done`), as has that of Interrupted.
    """
    one_key("key", key)
    first = _first_process(process_at, axes)
    check_started(first, key)
    one_of("keep", keep, ("chains", "summary"))
    given = (generations, chains, metrics, record, chunk, memory_limit, devices)
    plan = Plan(*given, streams=streams)
    grid = grid_after.Grid(process_at, _values(axes), key, plan, keep, _levels(quantiles))
    return _simulated(grid, first, after, progress)


def _batches_of(process_at, values, key, plan, keep, levels):
    """All points in batches, within the memory limit."""
    whole("chains", plan.chains, 1, 2**31 - 1)
    one_of("streams", plan.streams, STREAMS)
    limit, plan = _limit(plan.memory_limit), plan._replace(memory_limit=None)
    rows = len(recorded_generations(plan.generations, plan.record))
    programs = _programs(process_at, values, plan)
    batches = [part for one in programs for part in _cut(one, key, plan, rows)]
    _check_memory(batches, key, plan, limit, rows, keep, levels)
    return batches


def _simulated(grid, first, after, progress):
    """The data set of all points; an error or interrupt has the points so far.

    first: the process at the first point.
    """
    process_at, values, key, plan, keep, levels = grid
    batches = _batches_of(process_at, values, key, plan, keep, len(levels))
    gathered = Gathered(sum(len(batch.numbers) for batch in batches))
    if after is not None:
        grid_after.put_what_is_there(after, grid, gathered)
    point = {name: given[0] for name, given in values.items()}
    attributes = _attributes(batches[0].process, key, plan, values)
    attributes["made_of"] = grid_after.made_of_point(first, point, key, plan)
    plan = plan._replace(memory_limit=None)  # all of it was checked together
    recorded = recorded_generations(plan.generations, plan.record)
    labels = labels_of(batches[0].process, plan.metrics)

    def dataset():
        if keep == "chains":
            found = grids.of_chains(recorded, gathered.arrays, values, labels)
        else:
            statistics = grids.nested(gathered.arrays)
            found = as_dataset(recorded, statistics, values, levels, labels)
        if not gathered.is_done.all():
            shape = [len(given) for given in values.values()]
            is_done = tuple(values), gathered.is_done.reshape(shape)
            found = found.assign_coords({grid_after.IS_DONE: is_done})
        return found.assign_attrs(attributes)

    try:
        for batch in [batch.without(gathered.is_done) for batch in batches]:
            if not len(batch.numbers):
                continue
            _run(batch, key, plan, keep, levels, len(recorded), gathered)
            progress(int(gathered.is_done.sum()))
    except KeyboardInterrupt as stop:
        raise Interrupted(recorded, dataset=dataset()) from stop
    except DivergenceError as error:
        raise diverged(error, recorded, dataset=dataset()) from error
    return dataset()


def _run(batch, key, plan, keep, levels, rows, gathered):
    """Enters the records, or the statistics, of a batch."""
    if keep == "summary":
        _, statistics = grids.statistics_at(batch, key, plan, levels, of_vectors=True)
        gathered.put(batch.numbers, grids.flat(statistics))
        return
    first = 0
    for chunk in grids.chunks_at(batch, key, plan):
        gathered.put_records(batch.numbers, plan.chains, rows, first, chunk)
        first += len(chunk.generations)


def _first_process(process_at, axes):
    """The process at the first point, after a check of the axes."""
    function("process_at", process_at)
    if not isinstance(axes, Mapping) or not axes:
        raise InputError(
            f"axes is {axes!r:.200}; it must be a dict name -> values, such as "
            "{'gamma': [0, 0.1]}"
        )
    values = _values(axes)
    points = math.prod(map(len, values.values()))
    if points > _LARGEST_GRID:
        raise InputError(f"axes have {points:,} points in total; give at most {_LARGEST_GRID:,}")
    _check_arguments(process_at, values)
    return _made(process_at, {name: given[0] for name, given in values.items()})


def _check_arguments(process_at, axes):
    """Raises `InputError` where `process_at` cannot be called with the names of the axes."""
    try:
        signature = inspect.signature(process_at)
    except ValueError:  # of a function in C
        return
    try:
        signature.bind(**axes)
    except TypeError as error:
        raise InputError(
            f"axes have the names {', '.join(axes)}, but process_at takes {signature}: {error}"
        ) from None


def _made(process_at, point):
    """The process at a point; errors name it."""
    try:
        return checked(process_at(**point))
    except Exception as error:
        if isinstance(error, InputError):
            raise InputError(f"at {_words(point)}: {error}") from None
        error.add_note(f"process_at was called with {_words(point)}")
        raise


def _values(axes):
    """Name -> values of each axis, as Python's own types."""
    return {name: _plain(name, given) for name, given in axes.items()}


def _words(point):
    return ", ".join(f"{name}={value!r}" for name, value in point.items())


def _plain(name, values):
    """The values of an axis as Python's own types."""
    if not isinstance(name, str) or not name.isidentifier() or name in _TAKEN:
        taken = f", and none of {', '.join(_TAKEN)}"
        raise InputError(f"axes have the name {name!r}; it must be that of an argument{taken}")
    what = f"axis {name}"
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InputError(f"{what} is {values!r:.200}; it must be a list of values")
    found = [value.item() if hasattr(value, "item") else value for value in values]
    if not found:
        raise InputError(f"{what} has no value; give at least one")
    for value in found:
        if type(value) not in (int, float, bool, str):
            raise InputError(
                f"{what} contains {value!r:.200}; its values must be numbers, bools or strings"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{what} contains {value}; its numbers must be finite")
    twins = rounding_twins(found)
    if twins:
        raise InputError(
            f"{what} contains {twins[0]!r} and {twins[1]!r}, which differ only by rounding; give "
            "one of them"
        )
    if len({(type(value) is str, value) for value in found}) < len(found):
        twice = next(value for value in found if found.count(value) > 1)
        raise InputError(f"{what} contains {twice!r} more than once; give each value once")
    return found


def _levels(quantiles):
    levels = numbers("quantiles", quantiles)
    if levels.ndim != 1 or not len(levels) or not ((levels >= 0) & (levels <= 1)).all():
        raise InputError(f"quantiles is {quantiles!r}; it must be one number from 0 to 1, or more")
    return levels.tolist()


def _programs(process_at, values, plan) -> list[Batch]:
    """All points, by the program that they need; programs in the order of their first points."""
    found = traceable_axes(process_at, values, plan.generations, plan.metrics)
    axes = _Axes(values, found)
    places = axes.places()
    columns = [np.array(given, object)[places[:, i]] for i, given in enumerate(values.values())]
    names = names_of_points(dict(zip(values, columns, strict=True)))
    # Of each axis the place of what is given as it is, and -1 for all that is traced.
    dtypes = {name: dtype_of(given) for name, given in values.items()}
    labels = np.stack(
        [
            np.where(is_plain(given, dtypes[name], name in found), np.arange(len(given)), -1)[place]
            for (name, given), place in zip(values.items(), places.T, strict=True)
        ],
        1,
    )
    _, first, group = np.unique(labels, axis=0, return_index=True, return_inverse=True)
    programs = []
    for one in np.argsort(first):
        members = np.flatnonzero(group.ravel() == one)
        label = dict(zip(values, labels[members[0]], strict=True))
        fixed = {name: values[name][place] for name, place in label.items() if place >= 0}
        settings = {
            name: column[members].astype(dtypes[name])
            for name, column in zip(values, columns, strict=True)
            if label[name] < 0
        }
        own = [names[member] for member in members]
        programs.append(_program(process_at, axes, fixed, settings, members, own))
    return programs


def _program(process_at, axes, fixed, settings, members, names):
    """The points of one program."""
    example = {name: typical(axes.values[name], values.dtype) for name, values in settings.items()}
    _made(process_at, fixed | example)
    most = None
    if any(values.dtype == np.int32 for values in settings.values()):
        sizes = sizes_at(At(process_at, fixed, largest_of(axes.values)), settings)
        if sizes is not None:
            # The example's size is what the program has room for.
            most, place = int(sizes.max()), int(sizes.argmax())
            example = {name: values[place].item() for name, values in settings.items()}
    at = At(process_at, fixed, most)
    if not settings:
        settings, example = {NUMBER: np.arange(len(members), dtype=np.int32)}, {NUMBER: 0}
    return Batch(process_grid(at, example), members, settings, names)


def _cut(program, key, plan, recorded):
    """The program in batches whose records are few enough to be held."""
    process, held = program.process, min(plan.chunk, recorded)
    simulation = check_plan(process, key, grids.plan_at(program, plan))
    of_a_chain = max(held * record_bytes(simulation), 1)
    yield from grids.cut(program, plan.chains, min(grids.BATCH, _HELD // of_a_chain))


def _limit(memory_limit):
    return free_memory() if memory_limit is None else number("memory_limit", memory_limit)


def _check_memory(batches, key, plan, limit, recorded, keep, levels):
    """Raises `InputError` for a grid that would need more memory than the limit."""
    if limit is None:
        return
    points = sum(len(batch.numbers) for batch in batches)
    held = min(plan.chunk, recorded)
    widest = {id(batch.process): batch for batch in batches[::-1]}
    needed = 0
    for batch in widest.values():
        at_points = grids.plan_at(batch, plan)
        # Of statistics mean, deviation and quantiles in 64 bits, each twice while it is gathered.
        of_record = record_bytes(check_plan(batch.process, key, at_points))
        of_point = plan.chains * of_record if keep == "chains" else 4 * (2 + levels) * of_record
        own = memory_needed(batch.process, key, at_points, held) + points * recorded * of_point
        needed = max(needed, own)
    if needed > limit:
        raise InputError(
            f"axes have {points:,} points; with {plan.chains:,} chains each and {recorded:,} "
            f"recorded generations they need about {size_words(needed)}, but the limit is "
            f"{size_words(limit)}: record fewer generations or metrics, give fewer chains or "
            "keep='summary', or give memory_limit= in bytes (math.inf for no limit)"
        )


def _attributes(process, key, plan, values):
    """The origin of the numbers, as attributes that can be written to a file."""
    found = dict(provenance_of(process, key, plan).attributes)
    first = found.pop("process")
    own = {"streams": plan.streams, "axes": json.dumps(list(values)), "first_process": first}
    return own | found
