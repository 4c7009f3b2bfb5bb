"""Settings of `collapse-jax simulate` as a process, a plan and an estimate of memory."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from collapse_jax.app.commands.ecosystems import default_metrics as of_ecosystem
from collapse_jax.app.commands.ecosystems import ecosystem_of, score_metrics
from collapse_jax.app.commands.judges import verifier_of
from collapse_jax.app.config.simulate import (
    ACCUMULATING,
    VALUE_AXES,
    SimulateConfig,
    SimulateSettings,
)
from collapse_jax.app.config.verifier import PREFIX, VERIFIERS
from collapse_jax.app.laws import all_options, default_metrics, given_options
from collapse_jax.app.own_data.held import held, with_metrics_of_data, with_score_metrics
from collapse_jax.app.own_data.reference import with_quality
from collapse_jax.core import curation, workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Estimator, Process, Source
from collapse_jax.drivers.plan import Plan, memory_needed, recorded_generations
from collapse_jax.drivers.shapes import metric_shapes, state_shapes
from collapse_jax.drivers.streams import COMMON, INDEPENDENT, point_key
from collapse_jax.drivers.summary import QUANTILES
from collapse_jax.errors import InputError, did_you_mean, size_words
from collapse_jax.estimators import sources
from collapse_jax.estimators.registry import family
from collapse_jax.metrics import resolve_metrics

# How often what was recorded is in memory at the most: as records, as what results.nc is made of,
# and as its bytes.
COPIES = 3
# Mean, deviation and quantiles of a number over chains.
_BYTES_OF_STATISTICS = 8 * (2 + len(QUANTILES))


def process_of(settings: SimulateSettings, traced: Mapping | None = None) -> Process:
    """Returns the generational process of one simulation.

    The real distribution is that of the data if there are any. Otherwise it is a standard normal,
    equally probable categories, or, for other families, the model of the family's example.

    Args:
        settings: of one simulation, or of one point of a grid.
        traced: values of axes and of options of the family that are traced, as at a point of a
            grid.

    Raises:
        InputError: for unknown families and options.
    """
    traced = dict(traced or {})
    values = {name: getattr(settings, name) for name in VALUE_AXES} | traced
    workflow, weight = _workflow(settings, values), values["synthetic_weight"]
    if not isinstance(weight, int | float) or weight != 1:
        workflow = workflows.weighted(workflow, synthetic=weight)
    others = {name: value for name, value in traced.items() if name not in VALUE_AXES}
    of_verifier = {name: others.pop(name) for name in list(others) if name.startswith(PREFIX)}
    judged = verifier_of(settings, of_verifier)
    workflow = workflow if judged is None else judged(workflow)
    parts = *_family_and_source(settings, others), workflow
    size = values["sample_size"]
    sizes: dict[str, Any] = {"sample_size": size}
    if not isinstance(size, int):
        sizes["sample_size"] = lambda generation: size
        sizes["largest_sample_size"] = settings.sample_size
    if settings.has_ecosystem():
        return _ecosystem(settings, values["exchange"], parts, sizes)
    process = with_quality(generational_process(*parts, **sizes), settings)
    return with_metrics_of_data(process, settings) if settings.data else process


def _ecosystem(settings, exchange, parts, sizes):
    """The process of several models, of the family's own real law or of data."""
    estimator, source, workflow = parts
    if not settings.data:
        return ecosystem_of(settings, exchange, estimator, source, workflow, sizes)
    estimator = with_score_metrics(estimator, settings)
    of_data = functools.partial(with_metrics_of_data, settings=settings)
    return ecosystem_of(settings, exchange, estimator, source, workflow, sizes, of_data)


def _workflow(settings, values):
    """The workflow of the settings; the values of value axes may be traced."""
    workflow, switched = _plain_workflow(settings, values), settings.after_switch()
    if switched is not None:
        begin, later = switched
        later = _plain_workflow(later, vars(later))
        workflow = workflows.switch({0: workflow, begin: later})
    temperature = values["temperature"]
    if isinstance(temperature, int | float) and temperature == 1:
        return workflow
    return curation.tempered(temperature)(workflow)


def _plain_workflow(settings, values):
    if settings.workflow == "mix":
        return workflows.mix(values["alpha"], values["beta"], values["gamma"])
    if settings.workflow in ACCUMULATING:
        return getattr(workflows, settings.workflow)(values["real_share"])
    if settings.workflow == "keep_real":
        return workflows.keep_real(settings.synthetic_ratio)
    return getattr(workflows, settings.workflow)()


def _family_and_source(settings, traced=None) -> tuple[Estimator, Source]:
    """The estimator, and the real distribution: a default of the family, or its example.

    traced: options of the family that replace those in the settings.
    """
    if settings.data:
        return held(settings, traced)[:2]
    known = family(settings.family)
    options = given_options(settings) | (traced or {})
    real = known.laws.real if known.laws else None
    if real is not None:
        estimator, params = _called(settings, lambda: real(all_options(settings)))
    elif known.example is not None:
        estimator, params = known.example()
    else:
        raise InputError(
            f"family {settings.family!r} has no example to start from, and cannot be simulated "
            "without data; give --data"
        )
    source = sources.population(estimator, params)
    if options:
        _check_names(settings, known.factory, options)
        estimator = _called(settings, lambda: known.factory(**options))
    return estimator, source


def _check_names(settings, factory, options):
    """Raises `InputError` for options that a family's factory does not have."""
    known = inspect.signature(factory).parameters
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        given = f"options {' '.join(settings.options)}"
        unknown = next((name for name in options if name not in known), "")
        hint = did_you_mean(unknown, known) if unknown else ""
        if unknown in VERIFIERS.get(settings.verifier_name(), ()):
            hint = f"; an axis over {unknown} of the verifier is {PREFIX}{unknown}"
        raise InputError(
            f"{given}: {error}; {settings.family} takes {', '.join(known) or 'no options'}{hint}"
        ) from None


def _called(settings, make):
    """Calls a family's function with the options; a third-party function may raise anything."""
    try:
        return make()
    except InputError:
        raise
    except Exception as error:
        given = f"options {' '.join(settings.options)}"
        why = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{given}: {settings.family} does not accept these options ({why})"
        ) from None


def check_options(config: SimulateConfig) -> None:
    """Raises `InputError` for invalid options of the verifier or the family."""
    points = config.points()
    for point in points if config.verifier else ():
        verifier_of(point, {})
    point = points[0]
    own = [option for option in point.options if not option.startswith(PREFIX)]
    if not own or config.data:
        return
    _check_example(point)
    process = process_of(point)
    try:
        state_shapes(process, jax.random.key(0), 0)
    except InputError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"[:300]
        raise InputError(
            f"options {' '.join(point.options)}: the model of {config.family}'s example is "
            f"incompatible with them ({why})"
        ) from None


def _check_example(settings):
    """Raises `InputError` for options whose sizes differ from the family's example."""
    known = family(settings.family)
    if (known.laws and known.laws.real) or known.example is None:
        return
    options = given_options(settings)
    _check_names(settings, known.factory, options)
    estimator, params = _called(settings, lambda: known.factory(**options)), known.example()[1]
    if not estimator.traceable:
        return
    try:
        jax.eval_shape(lambda key: estimator.sample(key, params, 1), jax.random.key(0))
    except InputError as error:
        raise InputError(
            f"options {' '.join(settings.options)}: {error}; without --data the real distribution "
            f"is the model of {settings.family}'s example, so leave its sizes unchanged or give "
            "--data"
        ) from None
    except Exception:  # `check_options` says why
        return


def scalar_metrics(config: SimulateConfig) -> list[str]:
    """Returns the metrics of the settings that are single numbers."""
    process = process_of(config.points()[0])
    measure = resolve_metrics(process.metrics, config.metrics)
    state, _ = state_shapes(process, jax.random.key(0), 0)
    shapes = metric_shapes(tuple(measure.items()), state)
    return [name for name in measure if shapes[name].shape == ()]


def with_metrics(config: SimulateConfig) -> SimulateConfig:
    """Returns the settings with the metrics that are recorded by default.

    These are the first three of the family that are single numbers.
    """
    if config.metrics:
        return config
    process = process_of(config.points()[0])
    if config.has_ecosystem():
        is_grid = bool(config.axes())
        metrics = of_ecosystem(process, default_metrics(config.family), is_grid)
        if config.data:
            scores, models = held(config.points()[0]).scores, process.runtime.models
            metrics += score_metrics(list(scores), process.metrics, models, is_grid)
        return dataclasses.replace(config, metrics=metrics)
    offered = resolve_metrics(
        process.metrics, [name for name, function in process.metrics.items() if function]
    )
    state, _ = state_shapes(process, jax.random.key(0), config.generations)
    shapes = metric_shapes(tuple(offered.items()), state)
    scalars = [name for name in offered if shapes[name].shape == ()]
    return dataclasses.replace(config, metrics=tuple(scalars[:3]))


def plan_of(config: SimulateConfig, devices: Sequence | None = None) -> Plan:
    """Returns the recording plan of these settings, at every point of a grid."""
    return Plan(
        generations=config.generations,
        chains=config.chains,
        metrics=config.metrics,
        record=config.recorded(),
        chunk=config.chunk,
        devices=devices,
        streams=config.resolved().streams or COMMON,
    )


def key_of(settings: SimulateSettings) -> jax.Array:
    """The key [] of a simulation without a grid: its seed's, or with independent streams its
    point's.
    """
    key = jax.random.key(settings.seed)
    independent = settings.streams == INDEPENDENT
    return point_key(key, settings.stream_name()) if independent else key


def memory_of(config: SimulateConfig) -> int:
    """Estimates the bytes that a simulation without a grid needs, in addition to the program.

    The records are in memory three times while results.nc and the figure are written, and the
    figure has the statistics of a metric in memory twice.

    Raises:
        InputError: for more than its memory_limit, and for unknown metrics.
    """
    settings = with_metrics(config.resolved()).resolve()
    recorded = len(recorded_generations(settings.generations, settings.recorded()))
    process, key, plan = process_of(settings), key_of(settings), plan_of(settings)
    if settings.keep == "chains":
        needed = memory_needed(process, key, plan, COPIES * recorded)
        needed += 2 * recorded * _BYTES_OF_STATISTICS
    else:
        held = min(settings.chunk, recorded)
        needed = memory_needed(process, key, plan, held, on_devices=True)
        # Two of the copies are counted there.
        needed += statistics_bytes(process, key, plan, recorded) // COPIES
    check_memory(settings, needed, f"{settings.chains:,} chains")
    return needed


def statistics_bytes(process: Process, key: jax.Array, plan: Plan, recorded: int) -> int:
    """Bytes of the statistics over chains at one point of a grid, times their number of copies."""
    state, _ = state_shapes(process, key, plan.generations, plan.settings)
    shapes = metric_shapes(tuple(resolve_metrics(process.metrics, plan.metrics).items()), state)
    numbers = sum(math.prod(shape.shape) for shape in shapes.values())
    return COPIES * recorded * numbers * _BYTES_OF_STATISTICS


def check_memory(config: SimulateConfig, needed: int, what: str) -> None:
    """Raises `InputError` if a simulation would need more than its memory_limit."""
    if needed > config.memory_limit * 2**30:
        raise InputError(
            f"memory_limit is {config.memory_limit:g} GiB, but {what} need about "
            f"{size_words(needed)}; record fewer generations or metrics (or keep=summary), "
            "simulate fewer chains, or raise the limit"
        )
