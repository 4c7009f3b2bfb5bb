"""Metrics of an ecosystem: for each model, for the pool, within models and between them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.ecosystems.over_models import over_models, taken
from collapse_jax.metrics import OfFirst


@dataclasses.dataclass(frozen=True)
class OfModels:
    """A metric of each model, [models, ...], from those of one: of one kind of models each.

    functions: of the params of a model, or of two.
    order: place of each model among those of all kinds behind each other.
    axis: as for `over_models`.
    """

    functions: tuple[Callable, ...]
    order: tuple[int, ...]
    axis: Any

    def __call__(self, *trees):
        kinds = [trees] if len(self.functions) == 1 else zip(*trees, strict=True)
        values = [
            over_models(lambda *own, of=of: jnp.asarray(of(*own)), self.axis)(*given)
            for of, given in zip(self.functions, kinds, strict=True)
        ]
        return values[0] if len(values) == 1 else taken(values, np.array(self.order), self.axis)


@dataclasses.dataclass(frozen=True)
class OfPool:
    """A metric of the pool (all models in equal shares), as a model of the family."""

    function: Callable
    mixture: Callable

    def __call__(self, params):
        return self.function(self.mixture(params))


@dataclasses.dataclass(frozen=True)
class Pooled:
    """The pool as a model of the family: params of all models -> params."""

    mixtures: Callable
    order: tuple[int, ...]
    kinds: int
    axis: Any

    def __call__(self, params):
        every = taken(
            [params] if self.kinds == 1 else list(params), np.array(self.order), self.axis
        )
        shares = jnp.full((1, len(self.order)), 1 / len(self.order), jnp.result_type(float))
        return jax.tree.map(lambda leaf: leaf[0], self.mixtures(every, shares))


@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean over models of a metric of each."""

    of_models: OfModels

    def __call__(self, params):
        return jnp.mean(self.of_models(params), axis=0)


@dataclasses.dataclass(frozen=True)
class VarianceOfMeans:
    """The variance over models (divided by their number) of their means; the mean over axes."""

    means: OfModels

    def __call__(self, params):
        return jnp.mean(jnp.var(self.means(params), axis=0))


@dataclasses.dataclass(frozen=True)
class Sum:
    """The sum of two metrics."""

    one: Callable
    other: Callable

    def __call__(self, params):
        return self.one(params) + self.other(params)


@dataclasses.dataclass(frozen=True)
class LogMeanProbability:
    """The log-probability of rows under the mixture of all models in equal shares.

    log_prob: (params, x [n, ...]) -> [n] of one model.
    of_models: another metric of each model, which says how they are mapped.
    """

    log_prob: Callable
    of_models: OfModels

    def __call__(self, params, x):
        of_rows = lambda own: self.log_prob(own, x)  # noqa: E731
        functions = (of_rows,) * len(self.of_models.functions)
        values = dataclasses.replace(self.of_models, functions=functions)(params)
        return jax.nn.logsumexp(values, axis=0) - jnp.log(float(len(values)))


@dataclasses.dataclass(frozen=True)
class MeanDistanceToPool:
    """The mean over models of their distances to the pool."""

    distance: Callable
    functions: int
    order: tuple[int, ...]
    axis: Any
    mixture: Callable

    def __call__(self, params):
        pool = self.mixture(params)
        to_pool = lambda own: self.distance(own, pool)  # noqa: E731
        return jnp.mean(OfModels((to_pool,) * self.functions, self.order, self.axis)(params))


def base_of(name: str) -> str:
    """Returns the metric that a pool metric is based on: "variance" for "pooled_variance"."""
    head, _, rest = name.partition("_")
    return rest if rest and head in ("within", "pooled", "between") else name


def metrics_of(kinds: tuple, axis: Any) -> dict[str, Callable | None]:
    """Name -> metric of an ecosystem's params, or of its state (`OfFirst`).

    Args:
        kinds: of its models; each has `metrics`, `places` and `core`.
        axis: as for `over_models`.
    """
    behind = [place for kind in kinds for place in kind.places]
    order = tuple(np.argsort(behind).tolist())
    offered = [kind.metrics for kind in kinds]
    names = [name for name in offered[0] if all(name in of for of in offered)]
    each: dict[str, Any] = {}
    for name in names:
        of_kinds = [of[name] for of in offered]
        each[name] = None
        if None not in of_kinds and _of_one_shape(kinds, of_kinds):
            is_first = isinstance(of_kinds[0], OfFirst)
            given = tuple(one.distance if is_first else one for one in of_kinds)
            of_models = OfModels(given, order, axis)
            each[name] = OfFirst(of_models) if is_first else of_models
    return each | _of_pool(kinds, order, axis, each)


def _of_pool(kinds, order, axis, each: Mapping[str, Any]):
    pool = {}
    if each.get("mean") is not None and each.get("variance") is not None:
        pool["within_variance"] = Mean(each["variance"])
        pool["between_variance"] = VarianceOfMeans(each["mean"])
        pool["pooled_mean"] = Mean(each["mean"])
        pool["pooled_variance"] = Sum(pool["within_variance"], pool["between_variance"])
    first = kinds[0].core.parts.estimator
    if first.mixtures is None or len({kind.family for kind in kinds}) > 1:
        return pool
    mixture = Pooled(first.mixtures, order, len(kinds), axis)
    for name, metric in kinds[0].metrics.items():
        if not isinstance(metric, OfFirst):
            pool[f"pooled_{name}"] = metric and OfPool(metric, mixture)
    if "heterozygosity" in first.metrics and "squared_distance" in first.distances:
        distance = first.distances["squared_distance"]
        pool["within_heterozygosity"] = Mean(each["heterozygosity"])
        pool["between_heterozygosity"] = MeanDistanceToPool(
            distance, len(kinds), order, axis, mixture
        )
    return pool


def _of_one_shape(kinds, functions):
    """Whether a metric has one shape for the models of all kinds."""
    if len({kind.family for kind in kinds}) == 1 or isinstance(functions[0], OfFirst):
        return True
    shapes = set()
    for kind, function in zip(kinds, functions, strict=True):
        key = jax.random.key(0)
        value = jax.eval_shape(
            lambda key, kind=kind, of=function: jnp.asarray(of(kind.core.init(key, 1)[0].params)),
            key,
        )
        shapes.add((value.shape, value.dtype))
    return len(shapes) == 1
