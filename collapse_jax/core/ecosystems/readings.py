"""What a model of an ecosystem reads: fresh draws of several models, as one set."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.ecosystems.over_models import over_models
from collapse_jax.core.flows.counts import rounded
from collapse_jax.core.protocols import Data
from collapse_jax.core.training_data import PointData, StatisticsData, TrainingData
from collapse_jax.core.types import Workflow
from collapse_jax.core.workflows import _random_counts, mix
from collapse_jax.random.bits import fold_in, split

# Shares of models and real data that a workflow is watched with while nothing is computed.
_TO_WATCH = (0.5, 0.5)


class StatisticsOfPoints(StatisticsData):
    """Statistics of points that models of another family make."""

    def model(self, params, key, n):
        return self.of_points(PointData.model(self, params, key, n))  # pyright: ignore


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Models that one model reads, all of one family.

    data: how the reader takes what they make.
    numbers: uint32 [sources] in the ecosystem, which tell their random numbers apart.
    places: [sources] among all that the reader reads.
    params: [sources, ...].
    """

    data: TrainingData
    numbers: Any
    places: np.ndarray
    params: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """`Supply.model` of one model: draws from the mixture of the models that it reads.

    data: how the reader's training sets are held.
    groups: the models that it reads.
    weights: [sources] of theirs, in the order of their numbers; they need not sum to 1.
    shares: of models and of real data, together 1.
    random_counts: whether it is drawn how many points each of them makes.
    mixed: the mixture as a model of the family; None where there is none.
    axis: as for `over_models`.
    """

    data: TrainingData
    groups: tuple[Group, ...]
    weights: Any
    shares: tuple[Any, Any]
    random_counts: bool
    mixed: Any
    axis: Any

    def __call__(self, key: jax.Array, n: Any) -> Data:
        """n fresh draws."""
        if self.mixed is not None:
            return self.data.model(self.mixed, key, n)
        if sum(len(group.places) for group in self.groups) == 1:
            (group,) = self.groups
            params = jax.tree.map(lambda leaf: leaf[0], group.params)
            return group.data.model(params, key, n)
        count_key, draw_key = split(key)
        counts, parts = self._counts(count_key, n), []
        for group in self.groups:

            def draw(number, params, count, group=group):
                return group.data.model(params, fold_in(draw_key, number), count)

            made = over_models(draw, self.axis)(group.numbers, group.params, counts[group.places])
            parts += [
                jax.tree.map(lambda leaf, i=i: leaf[i], made) for i in range(len(group.places))
            ]
        return self.data.compact(functools.reduce(self.data.merge, parts))

    def _counts(self, key, n):
        """int32 [sources] how many points each makes, n together."""
        if self.random_counts:
            return _random_counts(key, n, tuple(self.weights))
        until = np.cumsum(self.weights) / np.sum(self.weights)
        ends = [*(rounded(float(share), n) for share in until[:-1]), n]
        return jnp.diff(jnp.stack([jnp.asarray(end, jnp.int32) for end in [0, *ends]]))


def coupled(workflow: Workflow, *, takes_real: bool, random_counts: bool) -> Workflow:
    """The workflow whose newest model is a mixture of models, or of models and real data.

    Args:
        workflow: what is made of it.
        takes_real: whether real data is part of the mixture; it then enters as in `mix`.
        random_counts: as for `mix`.
    """
    if not takes_real:
        return workflow

    def next_set(key, carry, supply, n):
        def model(key, n):
            synthetic, real = getattr(supply.model, "shares", _TO_WATCH)
            mixture = mix(synthetic, 0.0, real, random_counts=random_counts)
            return mixture.next(key, (), supply, n)[1]

        return workflow.next(key, carry, supply._replace(model=model), n)

    # Who wrote the workflow decides what is looked at in it.
    functools.update_wrapper(next_set, workflow.next)
    return Workflow(workflow.name, workflow.init, next_set, workflow.filters)
