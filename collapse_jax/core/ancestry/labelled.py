"""A family whose points are copies, each with a label of the real draw that it descends from.

The labelled family draws, pools and fits exactly as the family itself does, with the same keys.
Labels are further columns of the points. If a family draws counts directly, there is one label for
each thing that is counted, drawn given the counts.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import points
from collapse_jax.core.ancestry.ancestor import (
    ENTERED,
    FIRST_ANCESTOR,
    NUMBER,
    Labels,
    Lineages,
)
from collapse_jax.core.protocols import Params
from collapse_jax.core.types import Dataset, Estimator, Runtime
from collapse_jax.numerics.choices import one_of_equals
from collapse_jax.random.bits import fold_in, key_words, variate_words

# Keys of what a label needs beside the draws of the family: numbers that these do not count up to.
_PARENT, _ORDER = np.uint32(2**32 - 3), np.uint32(2**32 - 4)


class Labelled(NamedTuple):
    """A model, and the labels of the training set that it was fitted to.

    model: the family's own parameters.
    data: its training set, a `Dataset` or `LabelledCounts`.
    generation: int32 [].
    """

    model: Params
    data: Any
    generation: Any


class LabelledCounts(NamedTuple):
    """Counts, and a label for each thing that is counted.

    counts: the family's own statistics.
    things: `Dataset`, x int32 [slots, 1 + columns]: the category and the label.
    """

    counts: Any
    things: Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Beside:
    """A family of points with labels as further columns.

    family: it.
    shape: of a point; () for numbers.
    cells: labels of a point: 1, or one for each of its parts that may descend from another draw.
    labelling: what labels hold.
    """

    family: Estimator
    shape: tuple[int, ...]
    cells: int
    labelling: Labels

    def values(self, x: jax.Array) -> jax.Array:
        """The points themselves [n, ...]."""
        return x[:, : self._size].reshape(x.shape[0], *self.shape)

    def labels(self, x: jax.Array) -> jax.Array:
        """Labels int32 [n, cells, columns]."""
        whole = x[:, self._size :].astype(jnp.int32)
        return whole.reshape(x.shape[0], self.cells, self.labelling.columns)

    def packed(self, values: jax.Array, labels: jax.Array) -> jax.Array:
        """Points and labels as one array."""
        n = values.shape[0]
        flat = [values.reshape(n, -1), labels.reshape(n, -1).astype(values.dtype)]
        return jnp.concatenate(flat, axis=1)

    def entered(self, data: Dataset, generation: Any, first: int) -> Dataset:
        """Real points with the generation in which they enter, and further numbers."""
        labels = self.labels(data.x)
        labels = labels.at[:, :, ENTERED].set(generation).at[:, :, NUMBER].add(first)
        labels = labels.at[:, :, FIRST_ANCESTOR:].set(-1)
        return data._replace(x=self.packed(self.values(data.x), labels))

    def made(self, data: Dataset, generation: Any, first: int) -> Dataset:
        """Points that begin their own line in a generation, after others of it."""
        labels = self.labels(data.x).reshape(-1, self.labelling.columns)
        labels = self.labelling.of_copies(generation, labels, first)
        return data._replace(x=self.packed(self.values(data.x), labels))

    def slots(self, data: Dataset) -> int:
        """How many numbers of real draws a set may use."""
        return data.x.shape[0]

    def lines(self, data: Dataset) -> int:
        """How many points that begin a line it has."""
        return data.x.shape[0] * self.cells

    def plain(self, data: Dataset) -> Dataset:
        """The training set without labels."""
        return Dataset(self.values(data.x), data.weight)

    def lineages(self, params: Labelled) -> Lineages:
        """The labels of a training set, one row for each cell."""
        labels = self.labels(params.data.x).reshape(-1, self.labelling.columns)
        return Lineages(
            Dataset(labels, jnp.repeat(params.data.weight, self.cells)), params.generation
        )

    def real(self, values: jax.Array, numbers: jax.Array) -> jax.Array:
        """Real points of generation 0, by the numbers [n] of their draws."""
        n = values.shape[0]
        number = jnp.broadcast_to(numbers[:, None], (n, self.cells)).ravel()
        return self.packed(values, self.labelling.of_real(0, number, 0))

    def estimator(self) -> Estimator:
        """The labelled family."""
        family = self.family

        def init(key, data):
            return _begun(family.init(key, self._summarised(data)), data)

        def fit(key, params, data):
            model, info = family.fit(key, _model(params), self._summarised(data))
            return Labelled(model, data, _next(params)), info

        def sample(key, params, n):
            values = family.sample(key, params.model, n)
            copied = family.model.copied
            assert copied is not None
            place = copied(key, params.model, self.plain(params.data), n)
            labels = self.labels(params.data.x).reshape(-1, self.labelling.columns)
            return self.packed(values, labels[place.reshape(n, self.cells)])

        sample.seen = self.values  # what rewards and verdicts are asked about
        return _like(family, init=init, fit=fit, sample=sample, data=Dataset)

    def _summarised(self, data):
        return self.family.summarise(self.values(data.x), data.weight)

    @property
    def _size(self):
        return int(np.prod(self.shape))


@dataclasses.dataclass(frozen=True, eq=False)
class Counted:
    """A family of counts, with a label for each thing that is counted.

    family: it.
    capacity: how many things are held at most.
    labelling: what labels hold.
    by_rows: whether real points come one by one, [n, 2] with the number of their row.
    """

    family: Estimator
    capacity: int
    labelling: Labels
    by_rows: bool = False

    def entered(self, data: LabelledCounts, generation: Any, first: int) -> LabelledCounts:
        """As of `Beside`."""
        x = data.things.x.at[:, 1 + ENTERED].set(generation).at[:, 1 + NUMBER].add(first)
        x = x.at[:, 1 + FIRST_ANCESTOR :].set(-1)
        return data._replace(things=data.things._replace(x=x))

    def made(self, data: LabelledCounts, generation: Any, first: int) -> LabelledCounts:
        """As of `Beside`."""
        x = data.things.x
        label = self.labelling.of_copies(generation, x[:, 1:], first)
        x = jnp.concatenate([x[:, :1], label], axis=1)
        return data._replace(things=data.things._replace(x=x))

    def slots(self, data: LabelledCounts) -> int:
        """As of `Beside`."""
        return self.capacity

    def lines(self, data: LabelledCounts) -> int:
        """As of `Beside`."""
        return self.capacity

    def lineages(self, params: Labelled) -> Lineages:
        """As of `Beside`."""
        things = params.data.things
        return Lineages(Dataset(things.x[:, 1:], things.weight), params.generation)

    def real(self, counts: Any) -> LabelledCounts:
        """Real counts of generation 0, whose draws are numbered in the order of categories."""
        category, filled = self._listed(counts)
        number = jnp.arange(self.capacity, dtype=jnp.int32)
        x = jnp.concatenate([category[:, None], self.labelling.of_real(0, number, 0)], axis=1)
        return LabelledCounts(counts, Dataset(x, filled.astype(float)))

    def estimator(self) -> Estimator:
        """The labelled family."""
        family = self.family

        def init(key, data):
            return _begun(family.init(key, data.counts), data)

        def fit(key, params, data):
            model, info = family.fit(key, _model(params), data.counts)
            return Labelled(model, data, _next(params)), info

        def sample(key, params, n):
            x = family.sample(key, params.model, n)
            return jnp.stack([x, jnp.zeros_like(x)], axis=1) if self.by_rows else x

        def summarise(x, weight):
            if not self.by_rows:
                return self.real(family.summarise(x, weight))
            x = x.astype(jnp.int32)
            labels = self.labelling.of_real(0, x[:, 1], 0)
            things = Dataset(jnp.concatenate([x[:, :1], labels], axis=1), weight)
            things = points.compact(things, self.capacity)
            return LabelledCounts(family.summarise(x[:, 0], weight), things)

        def draw(key, params, n):
            counts = family.draw(key, params.model, n)
            category, filled = self._listed(counts)
            things = params.data.things
            own_key = fold_in(key, _PARENT)
            chosen = one_of_equals(own_key, things.x[:, 0], things.weight, category)
            x = jnp.concatenate([category[:, None], things.x[chosen, 1:]], axis=1)
            return LabelledCounts(counts, Dataset(x, filled.astype(float)))

        def merge(a, b):
            pooled = points.merge(a.things, b.things)
            return LabelledCounts(
                family.merge(a.counts, b.counts), points.compact(pooled, self.capacity)
            )

        def subsample(key, data, n):
            counts = family.subsample(key, data.counts, n)
            return LabelledCounts(counts, self._some(fold_in(key, _ORDER), data.things, counts))

        made = _like(family, init=init, fit=fit, sample=sample, data=LabelledCounts)
        statistics = made.statistics._replace(
            summarise=summarise, merge=merge, draw=draw, subsample=subsample
        )
        return made._replace(statistics=statistics)

    def _listed(self, counts):
        """(category [capacity] of each thing counted, in their order, whether there is one)."""
        ends = jnp.cumsum(counts.counts)
        place = jnp.arange(self.capacity, dtype=jnp.int32)
        which = jnp.minimum(jnp.searchsorted(ends, place, side="right"), len(ends) - 1)
        return counts.categories[which].astype(jnp.int32), place < ends[-1]

    def _some(self, key, things, counts):
        """Of each category as many things as are counted, in random choice."""
        ordered, category, rank = _shuffled(key, things)
        wanted = counts.counts[jnp.minimum(category, len(counts.counts) - 1)]
        taken = (ordered.weight > 0) & (rank < wanted)
        return points.compact(ordered._replace(weight=taken.astype(float)), self.capacity)


def _begun(model, data):
    """What there is before the first fit; None for families that have nothing."""
    return None if model is None else Labelled(model, data, jnp.asarray(-1, jnp.int32))


def _model(params):
    return None if params is None else params.model


def _next(params):
    """The generation of a fit."""
    return jnp.asarray(0, jnp.int32) if params is None else params.generation + 1


def _shuffled(key, things):
    """(the things by category, in random order within it, their categories, their ranks there)."""
    count = len(things.weight)
    word = variate_words(*key_words(key), jnp.arange(count, dtype=jnp.uint32))[0]
    nowhere = jnp.iinfo(jnp.int32).max
    category = jnp.where(things.weight > 0, things.x[:, 0], nowhere)
    category, _, slot = jax.lax.sort((category, word, jnp.arange(count)), num_keys=2)
    rank = jnp.arange(count) - jnp.searchsorted(category, category, side="left")
    return Dataset(things.x[slot], things.weight[slot]), category, rank


def _like(family, *, init, fit, sample, data):
    """The family with other functions; what measures it looks at the model alone."""

    def measure(metric):
        return lambda params: metric(params.model)

    def distance(function):
        return lambda params, reference: function(params.model, reference.model)

    def reshaped(function):
        if function is None:
            return None
        return lambda params, amount: params._replace(model=function(params.model, amount))

    def no_check(x):
        return None

    statistics = family.statistics._replace(
        kind=data,
        summarise=points.summarise,
        merge=points.merge,
        draw=None,
        subsample=None,
        check=no_check,
        relative=None,
        spanned=None,
    )
    model = family.model._replace(
        log_prob=None,
        continued=None,
        copied=None,
        tempered=reshaped(family.tempered),
        nucleus=reshaped(family.nucleus),
    )
    measures = family.measures._replace(
        metrics={name: measure(one) for name, one in family.metrics.items()},
        distances={name: distance(one) for name, one in family.distances.items()},
    )
    return Estimator(
        family.name, fit, sample, init, statistics, measures, model, Runtime(family.traceable)
    )
