"""Hysteresis sweeps: along each chain a setting goes slowly from one value to another and back."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.process import process_grid
from collapse_jax.core.tracing import depends
from collapse_jax.core.types import Process
from collapse_jax.drivers.plan import Plan, check_plan
from collapse_jax.drivers.shapes import metric_shapes, state_shapes
from collapse_jax.drivers.simulate import simulate_chunks
from collapse_jax.drivers.warning.loops import Limit, limit_of_areas, loop_area, verdict_of
from collapse_jax.drivers.warning.rates import Estimate, mean_of
from collapse_jax.errors import InputError, function, made_by, one_key, real, whole


class Sweep(NamedTuple):
    """The sweep of one length.

    length: generations from start to turn.
    setting: [length + 1], from the start to the turn.
    out, back: [length + 1], mean of the metric over chains on the way out and back, both in the
        order of `setting`.
    out_error, back_error: standard errors of these means; nan for one chain.
    areas: [chain], area between the two ways; nan if the metric is not finite on the way.
    area: the mean of the finite areas.
    """

    length: int
    setting: np.ndarray
    out: np.ndarray
    back: np.ndarray
    out_error: np.ndarray
    back_error: np.ndarray
    areas: np.ndarray
    area: Estimate


class Hysteresis(NamedTuple):
    """The result of `hysteresis`.

    metric: the name of the metric.
    start, turn: the setting at both ends of the sweep, and in its middle.
    sweeps: one for each length, ascending.
    limit: the extrapolated area of an infinitely slow sweep.
    verdict: "first order", "continuous" or "undecided"; see `loops.verdict_of`.
    """

    metric: str
    start: float
    turn: float
    sweeps: tuple[Sweep, ...]
    limit: Limit
    verdict: str

    def rows(self) -> list[dict[str, float]]:
        """Returns a row of plain numbers for each sweep."""
        return [
            {
                "generations": sweep.length,
                "area": sweep.area.value,
                "area_error": sweep.area.error,
                "chains": int(np.isfinite(sweep.areas).sum()),
                "chains_left_out": int((~np.isfinite(sweep.areas)).sum()),
            }
            for sweep in self.sweeps
        ]


def hysteresis(
    make: Callable[[Callable[[Any], Any]], Process],
    key: jax.Array,
    *,
    start: float,
    turn: float,
    metric: str | Callable,
    sweeps: Sequence[int] = (50, 100, 200, 400),
    chains: int = 100,
    settle: int = 0,
) -> Hysteresis:
    """Tests whether a collapse is a first-order transition, by sweeps of a setting.

    Along each chain a setting moves linearly from `start` to `turn` and back, at several speeds. If
    a metric only follows the setting with a delay, the area between the two ways tends to 0 as the
    sweep slows. If there are two states at one setting (a first-order transition), it does not.

    All sweeps share one compiled program and take as long as the longest.

    Args:
        make: setting -> process, where `setting` is a function of the generation, which can be
            given as a share, a temperature or a sample size:
            `lambda share: cj.generational_process(family, real, cj.workflows.mix(gamma=share),
            sample_size=50)`.
        key: one typed key.
        start: the setting of the first and the last generation.
        turn: the setting in the middle.
        metric: a name that the process offers, or a function of the state; one number.
        sweeps: generations from start to turn, three lengths or more.
        chains: number of chains of each length, two or more: their spread is the error of an area.
        settle: generations at `start` before the setting moves, in which the chain forgets the real
            data; 0 begins with the model fitted to real data.

    Raises:
        InputError: if an option is out of its range, `make` does not return a process or ignores
            its setting, the setting takes values that the process refuses, the metric is not one
            number, or no chain of a sweep has finite values all the way.
    """
    one_key("key", key)
    function("make", make)
    lengths = _checked(start, turn, sweeps)
    whole("chains", chains, 2)
    whole("settle", settle, 0)
    start, turn = float(start), float(turn)
    found, name = _simulated(make, key, (start, turn, settle), metric, lengths, chains)
    done = tuple(
        _sweep(length, start, turn, values[:, settle:])
        for length, values in zip(lengths, found, strict=True)
    )
    for sweep in done:
        if not np.isfinite(sweep.areas).any():
            raise InputError(
                f"metric is {name!r}, which is not finite throughout in any of the {chains} "
                f"chains of {sweep.length} generations; give a metric that is always finite"
            )
    areas = [sweep.area for sweep in done]
    limit = limit_of_areas(np.array(lengths), areas)
    return Hysteresis(name, start, turn, done, limit, verdict_of(limit, areas))


def _checked(start, turn, sweeps):
    """The lengths, ascending."""
    if real("start", start) == real("turn", turn):
        raise InputError(f"turn is {turn:g}, the same as start; they must differ")
    if isinstance(sweeps, str) or not isinstance(sweeps, Iterable):
        raise InputError(f"sweeps is {sweeps!r:.200}; it must be lengths, as (50, 100, 200, 400)")
    sweeps = tuple(sweeps)
    lengths = sorted({whole("sweeps", length, 2) for length in sweeps})
    if len(lengths) < 3:
        raise InputError(
            f"sweeps is {sweeps}; give three lengths or more, each about twice the one "
            "before, to see whether the loop vanishes"
        )
    return lengths


def _simulated(make, key, course, metric, lengths, chains):
    """(the metric [length, chain, generation], its name), by one compiled program."""
    at = functools.partial(_process_at, make, *course)
    settings = {"length": np.asarray(lengths, np.float32)}
    plan = Plan(
        course[-1] + 2 * lengths[-1], chains, (metric,), settings=settings,
        names=[f"length {length}" for length in lengths],
    )  # fmt: skip
    process = process_grid(at, {"length": float(lengths[0])})
    measure = check_plan(process, key, plan).measure
    state, _ = state_shapes(process, key, plan.generations, settings)
    ((name, shape),) = metric_shapes(measure, state).items()
    if shape.shape:
        raise InputError(
            f"metric is {name!r}, which has shape {list(shape.shape)}; it must be one number"
        )
    _check_that_it_matters(process, key, state, settings)
    chunks = list(simulate_chunks(process, key, plan))
    found = np.concatenate([chunk.arrays[name] for chunk in chunks], axis=1).astype(np.float64)
    return found.reshape(len(lengths), chains, -1), name


def _check_that_it_matters(process, key, state, settings):
    """Raises `InputError` where no next generation depends on the setting."""
    point = {name: values[0] for name, values in settings.items()}
    if not depends(lambda point, key, state: process.step(key, state, point)[0], point, key, state):
        raise InputError(
            "make gives the same process at all settings; hand its argument on, as in "
            "lambda share: cj.generational_process(..., cj.workflows.mix(gamma=share), ...)"
        )


def _process_at(make, start, turn, settle, settings):
    """The process whose setting goes there and back in 2 `length` generations."""

    def setting(generation):
        way = (generation - settle) / settings["length"]
        return start + (turn - start) * jnp.clip(1 - jnp.abs(way - 1), 0, 1)

    return made_by("make", make(setting), Process, "cj.generational_process")


def _sweep(length, start, turn, values):
    """One length, of values [chain, generation] from the generation on at which it begins."""
    setting = start + (turn - start) * np.arange(length + 1) / length
    out, back = values[:, : length + 1], values[:, length : 2 * length + 1][:, ::-1]
    areas = loop_area(setting, out, back)
    means = [way.mean(0) for way in (out, back)]
    count = len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = [way.std(0) * np.sqrt(1 / (count - 1)) for way in (out, back)]
    (going, coming), (of_going, of_coming) = means, errors
    return Sweep(length, setting, going, coming, of_going, of_coming, areas, mean_of(areas))
