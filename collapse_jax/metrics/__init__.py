"""Metrics by name: those an estimator offers, or any function of the state."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from collapse_jax.errors import InputError
from collapse_jax.types import Estimator, State


class OfParams(NamedTuple):
    """A metric of the parameters as one of the state; two of the same function are equal, so nothing is compiled twice."""

    function: Callable

    def __call__(self, state: State):
        return self.function(state.params)


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
        resolved[name] = OfParams(estimator.metrics[metric]) if isinstance(metric, str) else metric
    return resolved
