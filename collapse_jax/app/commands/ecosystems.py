"""Turns the settings of an ecosystem into its process and metrics."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from collapse_jax.app.config.ecosystem import OF_MODEL
from collapse_jax.app.config.simulate import SimulateSettings
from collapse_jax.app.couplings import coupling_of
from collapse_jax.core.ecosystems.ecosystem import ecosystem
from collapse_jax.core.types import Estimator, Process, Source, Workflow
from collapse_jax.drivers.shapes import metric_shapes, state_shapes
from collapse_jax.errors import InputError
from collapse_jax.metrics import OfFirst, resolve_metrics

# Models that have a metric of their own by default.
_MOST_MODELS = 8
_DIVERSITIES = ("variance", "heterozygosity")
_OF_POOL = ("within", "pooled", "between")
_PATTERN = re.compile(rf"(.+){OF_MODEL}(0|[1-9]\d*)")


def ecosystem_of(
    settings: SimulateSettings,
    exchange: Any,
    estimator: Estimator,
    source: Source,
    workflow: Workflow,
    sizes: Mapping[str, Any],
    of_data: Callable[[Process], Process] | None = None,
) -> Process:
    """Returns the process of all models, with the metrics of single models asked for.

    Args:
        settings: of one simulation, or of a point of a grid.
        exchange: the share that models read from others; it may be traced.
        estimator, source, workflow: of each model.
        sizes: `sample_size`, and `largest_sample_size` where it needs one.
        of_data: gives a process the metrics that its own data has; None without data.

    Raises:
        InputError: for a coupling that cannot be read, or that is invalid.
    """
    coupling = coupling_of(settings, exchange)
    process = ecosystem(estimator, source, coupling, workflows=workflow, **sizes)
    process = process if of_data is None else of_data(process)
    metrics = dict(process.metrics)
    for name in settings.metrics:
        asked = _PATTERN.fullmatch(name)
        if asked and asked[1] in process.metrics:
            if int(asked[2]) >= len(coupling):
                raise InputError(
                    f"metrics has {name}; there are {len(coupling)} models, from 0 to "
                    f"{len(coupling) - 1}"
                )
            metrics[name] = _of_one(metrics[asked[1]], int(asked[2]))
    return process._replace(metrics=metrics)


def default_metrics(process: Process, family_metrics: Sequence[str], is_grid: bool) -> tuple:
    """Returns the metrics that an ecosystem records by default; all are single numbers.

    For the first default metric of the family these are its values within models, of the pool and
    between models if they are known, and of each of the first models. On a grid only the value of
    the pool is recorded if it is known.
    """
    offered = [name for name, metric in process.metrics.items() if metric]
    kinds = dict.fromkeys([*(set(family_metrics) & set(_DIVERSITIES)), *_DIVERSITIES])
    of_pool = [[f"{of}_{what}" for of in _OF_POOL if f"{of}_{what}" in offered] for what in kinds]
    pool = next(filter(None, of_pool), [])
    known = resolve_metrics(process.metrics, offered)
    state, _ = state_shapes(process, jax.random.key(0), 1)
    shapes = metric_shapes(tuple(known.items()), state)
    models = process.runtime.models
    of_models = [name for name in offered if shapes[name].shape == (models,)]
    liked = (*(name.partition("_")[2] for name in pool[:1]), *family_metrics, *of_models)
    own = next((name for name in liked if name in of_models and name != "mean"), None)
    if own is None or (is_grid and pool):
        return tuple(pool)
    return (*pool, *(f"{own}{OF_MODEL}{k}" for k in range(min(models, _MOST_MODELS))))


def score_metrics(names: Sequence[str], offered: Mapping, models: int, is_grid: bool) -> tuple:
    """Held-out scores that an ecosystem of own data records by default.

    Args:
        names: of the scores of one model.
        offered: metrics of the process.
        models: how many there are.
        is_grid: whether the pool's are enough.
    """
    found = []
    for name in names:
        found.append(next(of for of in (f"pooled_{name}", f"within_{name}") if of in offered))
        if not is_grid:
            found += [f"{name}{OF_MODEL}{k}" for k in range(min(models, _MOST_MODELS))]
    return tuple(found)


def _of_one(metric, model):
    """A metric of all models, restricted to one model."""
    if isinstance(metric, OfFirst):
        return OfFirst(functools.partial(_taken, metric.distance, model))
    return metric and functools.partial(_taken, metric, model)


def _taken(function, model, *arguments):
    return function(*arguments)[model]
