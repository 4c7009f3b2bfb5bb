"""Metrics of fits under the drivers: a state that carries them, or what `run` observes."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from collapse_jax.core.types import Process
from collapse_jax.metrics.fits import OfFit, WithFits


def with_fit_metrics(process: Process, measure: Mapping[str, Callable]) -> Process:
    """The same process, whose states carry the metrics that are of fits; itself where none is."""
    metrics = tuple(metric for metric in measure.values() if isinstance(metric, OfFit))
    if not metrics:
        return process
    kept = _kept(process.init, process.step, metrics, process.parts)
    return process._replace(init=kept.init, step=kept.step, runtime=process.runtime)


def observing_fits(
    measure: Mapping[str, Callable], observe: Callable | None
) -> tuple[dict[str, Callable], Callable | None]:
    """The metrics of states, and an `observe` of `run` that gives those of fits as well."""
    of_fits = {name: metric for name, metric in measure.items() if isinstance(metric, OfFit)}
    of_states = {name: metric for name, metric in measure.items() if name not in of_fits}
    if not of_fits:
        return of_states, observe

    def both(first, state, info):
        more = observe(first, state, info) if observe else {}
        return {name: metric.measure(info.fit) for name, metric in of_fits.items()} | more

    return of_states, both


@functools.lru_cache(256)
def _kept(init, step, metrics, parts):
    # The same object for the same functions: compiled programs are known by it.
    return _Kept(init, step, metrics, parts)


class _Kept:
    """`init` and `step` of a process, whose states carry metrics of their fit."""

    def __init__(self, init, step, metrics, parts):
        self._init, self._step, self._metrics, self.parts = init, step, metrics, parts

    def init(self, key, last_generation=None, *settings) -> Any:
        """As that of the process."""
        return self._with(*self._init(key, last_generation, *settings))

    def step(self, key, state, *settings) -> Any:
        """As that of the process."""
        bare = state._replace(carry=state.carry.carry)
        return self._with(*self._step(key, bare, *settings))

    def _with(self, state, info):
        fits = {metric.__name__: metric.measure(info.fit) for metric in self._metrics}
        return state._replace(carry=WithFits(state.carry, fits)), info
