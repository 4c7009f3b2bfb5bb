"""The subject of the contract: an estimator, and the programs that its checks share."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.protocols import Data, Params
from collapse_jax.core.types import Estimator, Process, Workflow
from collapse_jax.estimators import sources

# Points of a small sample.
SMALL = 24


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """The subject of the checks: an estimator, and the parameters of one model of it.

    Functions that several checks call are compiled once for all of them, because compilation takes
    most of the time. Functions of a family that is not traceable are not compiled.
    """

    estimator: Estimator
    params: Params

    def __iter__(self):
        return iter((self.estimator, self.params))

    def compiled(self, function: Callable, **options) -> Callable:
        """The function, compiled where the family is traceable."""
        return jax.jit(function, **options) if self.estimator.traceable else function

    @functools.cached_property
    def sample(self) -> Callable:
        """(key, params, n) -> points [n, ...]."""
        given = self.estimator.sample
        return self.compiled(lambda key, params, n: given(key, params, n), static_argnums=2)

    @functools.cached_property
    def summarise(self) -> Callable:
        """(x, weight) -> data."""
        given = self.estimator.summarise
        return self.compiled(lambda x, weight: given(x, weight))

    @functools.cached_property
    def fit(self) -> Callable:
        """(key, params, data) -> params."""
        given = self.estimator.fit
        return self.compiled(lambda key, params, data: given(key, params, data)[0])

    def fitted(self, key: jax.Array, x: jax.Array, weight: jax.Array | None = None) -> Params:
        """The model fitted to points, from the known parameters on; by default each weighs 1."""
        weight = jnp.ones(len(x)) if weight is None else weight
        return self.fit(key, self.params, self.summarise(x, weight))

    @functools.cached_property
    def scalars(self) -> Callable[[Params], dict[str, jax.Array]]:
        """params -> name -> value of the metrics that are single numbers."""
        chosen = {name: self.estimator.metrics[name] for name in self.names}
        return self.compiled(
            lambda params: {
                name: jnp.asarray(metric(params), float) for name, metric in chosen.items()
            }
        )

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the metrics that are single numbers."""

        def is_number(metric):
            if not self.estimator.traceable:
                return jnp.ndim(metric(self.params)) == 0
            return jax.eval_shape(lambda params: jnp.asarray(metric(params)), self.params).ndim == 0

        return tuple(name for name, one in self.estimator.metrics.items() if is_number(one))

    @functools.cached_property
    def replacing(self) -> Process:
        """The process under `replace`."""
        return self.process_under(workflows.replace())

    def process_under(self, workflow: Workflow) -> Process:
        """A process of small samples, whose real distribution is the model."""
        source = sources.population(*self)
        return generational_process(self.estimator, source, workflow, sample_size=SMALL)

    def metrics_by_key(self, keys: jax.Array, make: Callable[[jax.Array], Data]) -> dict:
        """Name -> [keys] of models fitted to the data that `make` gives of each key."""
        if self.estimator.statistics.lazy:  # a recipe may hold what is no array

            def of_key(key):
                return self.scalars(self.fit(key, self.params, make(key)))

            return jax.jit(jax.vmap(of_key))(keys)
        return self._metrics_of_data(keys, jax.jit(jax.vmap(make))(keys))

    @functools.cached_property
    def _metrics_of_data(self):
        """(keys [k], data of each) -> name -> [k]."""

        def of_one(key, data):
            return self.scalars(self.fit(key, self.params, data))

        return jax.jit(jax.vmap(of_one))
