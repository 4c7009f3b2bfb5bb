"""Metrics by name: those a process offers, or any function of the state."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from collapse_jax.errors import InputError

_MOMENT_DRAWS = 4096


# Not NamedTuples: `jax.jit` of a callable tuple fails, and may end the process later.


@dataclasses.dataclass(frozen=True)
class OfParams:
    """A metric of the parameters as one of the state; two of the same function are equal, so
    nothing is compiled twice.
    """

    function: Callable

    def __call__(self, state):
        return self.function(state.params)


@dataclasses.dataclass(frozen=True)
class OfDraws:
    """A moment of a model as a function of its parameters, estimated from draws of the model.

    The draws use one fixed key, so that differences between generations are the models'.
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
    offered: Mapping[str, Callable | None], metrics: Iterable
) -> dict[str, Callable[[Any], object]]:
    """Name -> function of the state, of metrics given as names among those that a process offers,
    or as named functions of the state.

    offered: `Process.metrics`. Raises `InputError` for a name that is not there, for a distance to
    a real distribution that is not
    known (a fixed data set), and for two metrics of one name.
    """
    resolved = {}
    if not isinstance(metrics, str | Iterable) and not callable(metrics):
        raise InputError(
            f"metrics is {metrics!r:.200}; it must be names, or functions of the state"
        )
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", "")
        if isinstance(metric, str) and metric not in offered:
            names = (
                ", ".join(sorted(name for name, function in offered.items() if function))
                or "none by name"
            )
            raise InputError(
                f"metric {metric!r} is not offered by this estimator; it offers {names} "
                "(or pass a function of the state)"
            )
        if isinstance(metric, str) and offered[metric] is None:
            raise InputError(
                f"metric {metric!r} is a distance to the real distribution, which is not "
                "known here: the source must be a population "
                "of the estimator's family, not a fixed data set"
            )
        if not name or name in resolved:
            raise InputError(f"metric {metric!r} needs a name (__name__) of its own")
        function = offered[metric] if isinstance(metric, str) else metric
        of_state = callable(metric) or isinstance(function, OfFirst)
        resolved[name] = function if of_state else OfParams(function)
    return resolved
