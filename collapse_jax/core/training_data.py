"""Training sets as points, or as sufficient statistics: the two ways to serve a workflow."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from collapse_jax.core import functions, points, results, sizes
from collapse_jax.core.protocols import Data, Params
from collapse_jax.core.types import Dataset, Estimator, Relative, Source, Supply
from collapse_jax.errors import InputError
from collapse_jax.random.bits import split
from collapse_jax.random.derivatives import CHOICES, step_function


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingData:
    """What both ways share.

    estimator: the family that is fitted.
    generator: the estimator that the newest model is sampled by.
    source: where real data comes from.
    slots: the most points of one training set; 0 where nothing depends on it.
    first: the points of the first training set where all later ones are drawn from models that go
        back to it; None where that is not known, or real points enter later.
    weighs: whether a workflow gives points weights of their own.
    general: whether all points are draws of densities, no two of them the same draw, of a family
        whose `merge` and `summarise` ask (`spanned` of `core.types.Statistics`).
    """

    estimator: Estimator
    generator: Estimator
    source: Source
    slots: int
    first: int | None = None
    weighs: bool = False
    general: bool = False

    def supply(
        self,
        params: Params,
        previous_size,
        last_generation: int | None = None,
        *,
        generation: Any = 0,
    ) -> Supply:
        """What a workflow may ask for, after a training set of `previous_size` points.

        generation: number of the model that the next set is for.
        """
        return Supply(
            model=functools.partial(self.model, params),
            real=self.real,
            merge=self.merge,
            subsample=self.subsample,
            reserve=functools.partial(self.reserve, last_generation=last_generation),
            append=self.append,
            compact=self.compact,
            previous_size=previous_size,
            real_and_continued=functools.partial(self.real_and_continued, params),
            generation=generation,
            params=params,
            model_of=self.model,
            weighed=self.weighed,
        )

    def sampled_by(self, generator: Estimator) -> "TrainingData":
        """The same, where models are sampled by another estimator."""
        return dataclasses.replace(self, generator=generator)

    def model(self, params: Params, key, n) -> Data:
        """n fresh draws from a model."""
        raise NotImplementedError

    def real(self, key, n) -> Data:
        """n real points."""
        raise NotImplementedError

    def of_points(self, data: Dataset) -> Data:
        """Points in the form that workflows pass on."""
        raise NotImplementedError

    def to_fit(self, data: Data, params: Params = None) -> Data:
        """The same in the form that the family is fitted to.

        params: of the newest model; None before there is one.
        """
        raise NotImplementedError

    def after_fit(self, carry: Any, fitted: Data) -> Any:
        """What a workflow carries on, once the model is fitted to a training set."""
        return carry

    def merge(self, a: Data, b: Data) -> Data:
        """The pooled data."""
        raise NotImplementedError

    def subsample(self, key, data: Data, n) -> Data:
        """n of the points, without replacement."""
        raise NotImplementedError

    def real_and_continued(self, params: Params, key, n: int, m: int) -> tuple[Data, Data]:
        """n real points, and what a model makes of m others."""
        order_key, model_key = split(key)
        n, m = self._count(n), self._count(m)
        x = self._of_source(order_key, n + m)
        arguments = (model_key, params, x[n:])
        continued = results.points("continued", self.generator.continued, arguments, m)
        real, made = (self.of_points(points.of_sample(part)) for part in (x[:n], continued))
        return real, made

    def weighed(self, data: Data, w) -> Data:
        """The same points, each of which counts w times as much in the fit."""
        raise NotImplementedError

    def reserve(self, data: Data, last_generation: int | None = None) -> Data:
        """The same with space for every generation up to the last."""
        return data

    def append(self, pool: Data, data: Data) -> Data:
        """The pool with more data."""
        return self.merge(pool, data)

    def compact(self, data: Data) -> Data:
        """The same in as many slots as one training set has."""
        return data

    def _of_source(self, key, n: int):
        """n real points x [n, ...]."""
        return results.points(functions.SOURCE, self.source.sample, (key, n), n)

    def _count(self, n):
        """A number of points; host loops need it as an int."""
        n = results.count("n of the supply", n)
        if isinstance(n, Tracer):
            return step_function(n, n, sizes.NO_DERIVATIVE)
        return n if isinstance(n, int) or self.estimator.traceable else int(n)

    def _sampled(self, sample, n, params) -> Dataset:
        """n points of sample(count); in all the slots of a training set where n is traced.

        params: of the model that they are drawn from, or None.
        """
        n = self._count(n)
        data = points.of_sample(*((sample(n),) if isinstance(n, int) else (sample(self.slots), n)))
        if not self.estimator.traceable:  # points may be anything
            return data
        discrete = not jnp.issubdtype(jnp.result_type(data.x), jnp.inexact)
        return step_function(data, params, CHOICES) if discrete else data

    def _real_points(self, key, n):
        return self._sampled(functools.partial(self._of_source, key), n, self.source.params)


class StatisticsData(TrainingData):
    """Sufficient statistics, drawn by their exact law where the family knows it."""

    def model(self, params, key, n):
        return self.generator.draw(key, params, self._count(n))

    def real(self, key, n):
        draw = statistics_draw(self.source, self.estimator)
        if draw is not None:
            return draw(key, self._count(n))
        return self.of_points(self._real_points(key, n))

    def of_points(self, data):
        return results.summarised(self.estimator, *data)

    def to_fit(self, data, params=None):
        return data

    def merge(self, a, b):
        merge: Any = self.estimator.merge  # of others, where `general` is True
        pooled = merge(a, b, general=True) if self.general else merge(a, b)
        spanned = self.estimator.statistics.spanned
        return pooled if spanned is None or self.first is None else spanned(pooled, self.first)

    def subsample(self, key, data, n):
        return self.estimator.subsample(key, data, self._count(n))

    def weighed(self, data, w):
        weigh = self.estimator.statistics.weighed
        assert callable(weigh)  # families without are held as points, or refused
        return weigh(data, w)


class PointData(TrainingData):
    """Points. Families that are traced keep them in buffers of fixed size."""

    def model(self, params, key, n):
        def sample(count):
            arguments = (key, params, count)
            return results.points("sample", self.generator.sample, arguments, count)

        return self._sampled(sample, n, params)

    def real(self, key, n):
        return self._real_points(key, n)

    def of_points(self, data):
        return data

    def to_fit(self, data, params=None):
        if self.general:
            summarise: Any = self.estimator.summarise
            return summarise(*data, general=True)
        return results.summarised(self.estimator, *self._of_weight(data))

    def merge(self, a, b):
        return points.merge(a, b)

    def weighed(self, data, w):
        return points.weighed(data, w)

    def _of_weight(self, data):
        """The points, of which those of weight 0 have left their slots."""
        return points.without_weightless(data) if self.weighs else data

    def subsample(self, key, data, n):
        n = self._count(n)
        return points.subsample(key, data, n, self.slots if self.buffered else n)

    def reserve(self, data, last_generation=None):
        if not self.buffered:
            return data
        if last_generation is None:
            raise InputError("a workflow reserves space in its init, not in its next")
        return points.reserve(data, self.slots * (last_generation + 1))

    def append(self, pool, data):
        return points.append(pool, data) if self.buffered else points.merge(pool, data)

    def compact(self, data):
        return points.compact(data, self.slots) if self.buffered else data

    @property
    def buffered(self) -> bool:
        """Whether the points lie in buffers of fixed size."""
        return self.estimator.traceable


class RelativeData(PointData):
    """Points relative to the newest model; those of generation 0 as they are, until it is fitted.

    Whatever a workflow carries is told anew after every fit.
    """

    def supply(self, params, previous_size, last_generation=None, *, generation=0):
        made = super().supply(params, previous_size, last_generation, generation=generation)
        if params is None:
            return made
        return made._replace(
            real=functools.partial(self._real_relative_to, params),
            model_of=functools.partial(self._model_relative_to, params),
        )

    def _model_relative_to(self, newest, params, key, n):
        x, weight = super().model(params, key, n)
        return Dataset(self._relative.placed(newest, x), weight)

    def _real_relative_to(self, params, key, n):
        x, weight = self.real(key, n)
        return Dataset(self._relative.placed(params, x), weight)

    def model(self, params, key, n):
        return self._sampled(functools.partial(self._relative.sample, key), n, params)

    def real_and_continued(self, params, key, n, m):
        raise InputError(
            f"{self.estimator.name} holds points relative to its newest model, which "
            "continues none; take by='law'"
        )

    def to_fit(self, data, params=None):
        if params is None:
            return super().to_fit(data)
        return self._relative.summarise(params, *self._of_weight(data))

    def after_fit(self, carry, fitted):
        def moved(leaf):
            return self._relative.moved(fitted, leaf) if isinstance(leaf, Dataset) else leaf

        return jax.tree.map(moved, carry, is_leaf=lambda leaf: isinstance(leaf, Dataset))

    @property
    def _relative(self) -> Relative:
        relative = self.estimator.statistics.relative
        assert relative is not None
        return relative


def statistics_draw(source: Source, estimator: Estimator):
    """The source's `draw` where it gives the very statistics that a family is fitted to."""
    return source.draw if source.statistics is estimator.statistics.kind else None
