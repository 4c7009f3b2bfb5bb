"""Metrics by name: those an estimator offers, or any function of the state."""

from collections.abc import Callable, Iterable

from collapse_jax.errors import InputError
from collapse_jax.types import Estimator, State


def resolve_metrics(estimator: Estimator, metrics: Iterable) -> dict[str, Callable[[State], object]]:
    """Name -> function of the state, of metrics given as names that the estimator offers, or as named functions of the state.

    Raises `InputError` for a name it does not offer, and for two metrics of one name.
    """
    resolved = {}
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", "")
        if isinstance(metric, str) and metric not in estimator.metrics:
            offered = ", ".join(sorted(estimator.metrics)) or "none by name"
            raise InputError(f"metric {metric!r} is not offered by this estimator; it offers {offered} (or pass a function of the state)")
        if not name or name in resolved:
            raise InputError(f"metric {metric!r} needs a name (__name__) of its own")
        resolved[name] = _of_params(estimator.metrics[metric]) if isinstance(metric, str) else metric
    return resolved


def _of_params(function):
    return lambda state: function(state.params)
