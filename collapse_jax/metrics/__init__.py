"""Metrics by name: those a process offers, or any function of the state."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from collapse_jax.errors import InputError, did_you_mean
from collapse_jax.metrics.fits import of_fit
from collapse_jax.metrics.held_out import held_out_log_prob
from collapse_jax.metrics.labels import label
from collapse_jax.metrics.manifolds import precision_recall
from collapse_jax.metrics.of_models import effective_rank, gradient_norm, log_condition_number
from collapse_jax.metrics.quality import against
from collapse_jax.metrics.sliced import sliced_wasserstein

__all__ = [
    "OfDraws",
    "OfFirst",
    "OfParams",
    "against",
    "effective_rank",
    "gradient_norm",
    "held_out_log_prob",
    "label",
    "log_condition_number",
    "of_fit",
    "precision_recall",
    "resolve_metrics",
    "sliced_wasserstein",
]

_MOMENT_DRAWS = 4096
# None of these is a NamedTuple: `jax.jit` of a callable tuple fails, and may end the process later.


@dataclasses.dataclass(frozen=True)
class OfParams:
    """Turns a metric of the parameters into a metric of the state.

    Two instances with the same function are equal, so that nothing is compiled twice.
    """

    function: Callable

    def __call__(self, state):
        return self.function(state.params)


@dataclasses.dataclass(frozen=True)
class OfDraws:
    """A moment of a model as a function of its parameters, estimated from draws of the model.

    The draws use one fixed key, so that differences between generations come from the models. All
    chains use the same key. The error of these draws therefore remains in a mean over chains,
    however many chains there are: 1 / sqrt(4096), or 1.6% of the standard deviation, for a mean,
    and 2.2% for a normal variance.
    """

    sample: Callable
    moment: Callable

    def __call__(self, params):
        x = self.sample(jax.random.key(0), params, _MOMENT_DRAWS)
        return self.moment(x.reshape(_MOMENT_DRAWS, -1))


@dataclasses.dataclass(frozen=True)
class OfFirst:
    """A distance to the model of generation 0 of the same chain as a metric of the state."""

    distance: Callable

    def __call__(self, state):
        return self.distance(state.params, state.first)


def resolve_metrics(
    offered: Mapping[str, Callable | None], metrics: str | Callable | Iterable
) -> dict[str, Callable[[Any], object]]:
    """Returns metrics, given by name or as named functions, as functions of the state.

    Args:
        offered: The metrics that a process offers by name, `Process.metrics`.
        metrics: Names in `offered`, or functions of the state with a `__name__`.

    Returns:
        Name -> function of the state.

    Raises:
        InputError: If a name is not offered, if it is a distance to a real distribution that is not
            known (a fixed data set), or if two metrics have the same name.
    """
    if not isinstance(metrics, str | Iterable) and not callable(metrics):
        raise InputError(
            f"metrics is {metrics!r:.200}; it must be names, or functions of the state"
        )
    resolved = {}
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        of_state = _by_name(metric, offered) if isinstance(metric, str) else metric
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", "")
        if not name or name in resolved:
            raise InputError(f"metric {metric!r} needs a unique name (__name__)")
        resolved[name] = of_state
    return resolved


def _by_name(name, offered):
    if name not in offered:
        known = sorted(name for name, metric in offered.items() if metric)
        names, near = ", ".join(known), did_you_mean(name, known)
        raise InputError(
            f"metric {name!r} is not offered by this estimator{near}; it offers "
            f"{names or 'none by name'} (or pass a function of the state)"
        )
    metric = offered[name]
    if metric is None:
        raise InputError(
            f"metric {name!r} is a distance to the real distribution, which is not known here: "
            "the source must be a population of the estimator's family, not a fixed data set"
        )
    return metric if isinstance(metric, OfFirst) else OfParams(metric)
