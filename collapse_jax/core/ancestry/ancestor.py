"""Points that are copies, each labelled with the real draw that it descends from.

A label is a row of integers: the generation in which the real draw entered, its number, and, if
common ancestors are requested, the point that was the ancestor at each generation.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.factory import estimator
from collapse_jax.core.rows import Rows
from collapse_jax.core.types import Dataset, Estimator, FitInfo, Source, Workflow
from collapse_jax.errors import InputError
from collapse_jax.random.bits import key_words, uniform, variate_words
from collapse_jax.random.multinomial import inverted

# Columns of a label before the ancestors at each generation.
ENTERED, NUMBER, FIRST_ANCESTOR = 0, 1, 2


class Lineages(NamedTuple):
    """The training set of a generation by its labels.

    data: `Dataset`, x int32 [slots, columns].
    generation: int32 [].
    """

    data: Dataset
    generation: jax.Array


class Labels(NamedTuple):
    """The contents of labels, and how they are encoded.

    generations: the last generation of the run.
    ancestors: whether a label has the ancestor at each generation.
    rows: number of rows of a fixed real data set, in which a row is one real draw, however often it
        enters; None if every real point is a separate draw.
    limit: the largest whole number that a label can contain.
    """

    generations: int
    ancestors: bool = True
    rows: int | None = None
    limit: int = 2**31 - 1

    @property
    def columns(self) -> int:
        """Integers of a label."""
        return FIRST_ANCESTOR + (self.generations + 1) * self.ancestors

    @property
    def most(self) -> int:
        """Points of one generation that can be told apart."""
        return self.limit // (self.generations + 1)

    def of_real(self, generation: jax.Array | int, number: jax.Array, first: int) -> jax.Array:
        """Labels [n, columns] of n real draws that enter at a generation.

        Args:
            generation: it; may be traced.
            number: [n] of the draws.
            first: how many points the generation has made before.
        """
        n = number.shape[0]
        entered = jnp.full(n, generation, jnp.int32)
        label = jnp.stack([entered, number.astype(jnp.int32)], axis=1)
        if not self.ancestors:
            return label
        none = jnp.full((n, self.generations + 1), -1, jnp.int32)
        return self._made(generation, jnp.concatenate([label, none], axis=1), first)

    def of_copies(self, generation: jax.Array | int, label: jax.Array, first: int) -> jax.Array:
        """The labels [n, columns] of parents as those of the copies that a generation makes."""
        return self._made(generation, label, first) if self.ancestors else label

    def _made(self, generation, label, first):
        """The labels with their own points as ancestors from this generation on."""
        n = label.shape[0]
        if first + n > self.most:
            raise InputError(
                f"a generation has {first + n} points, but with {self.generations} generations a "
                f"genealogy can distinguish at most {self.most}; give fewer points or generations"
            )
        own = generation * self.most + first + jnp.arange(n, dtype=jnp.int32)
        later = jnp.arange(self.generations + 1) >= generation
        paths = jnp.where(later, own[:, None], label[:, FIRST_ANCESTOR:])
        return jnp.concatenate([label[:, :FIRST_ANCESTOR], paths], axis=1)

    def source(self, family: Estimator) -> Source:
        """Real draws as generation 0 has them, in the form of the family of copies."""
        rows = None if self.rows is None else Rows(np.arange(self.rows, dtype=np.int32))

        def sample(key, n):
            number = jnp.arange(n, dtype=jnp.int32) if rows is None else rows(key, n)
            return self.of_real(0, number, 0)

        return Source(sample, size=self.rows, family=family)


class _Clerk:
    """Writes the labels of what one generation is given, whatever a workflow asks for."""

    def __init__(self, labels, generation, written=0):
        self._labels, self._generation, self._written = labels, generation, written

    def supply(self, supply):
        """The supply, whose points carry labels of this generation."""

        def model(key, n):
            return self._copied(supply.model(key, n))

        def real(key, n):
            return self._entered(supply.real(key, n))

        def real_and_continued(key, n, m):
            kept, continued = supply.real_and_continued(key, n, m)
            return self._entered(kept), self._copied(continued)

        return supply._replace(model=model, real=real, real_and_continued=real_and_continued)

    def _copied(self, data):
        label = self._labels.of_copies(self._generation, data.x, self._first(data.x))
        return data._replace(x=label)

    def _entered(self, data):
        first, number = self._first(data.x), data.x[:, NUMBER]
        if self._labels.rows is None:
            number = first + jnp.arange(len(number), dtype=jnp.int32)
        return data._replace(x=self._labels.of_real(self._generation, number, first))

    def _first(self, x):
        first = self._written
        self._written += x.shape[0]
        return first


def labelled(workflow: Workflow, labels: Labels) -> Workflow:
    """Returns the workflow over points that are labelled with the real draws they descend from.

    Raises:
        InputError: for a workflow that chooses points by their values.
    """
    if workflow.filters:
        raise InputError(
            f"{workflow.name} chooses points by their values, which a genealogy without a model "
            "does not have; use cj.genealogy_of(process, key, ...), which has the points of a "
            "family"
        )

    reserves = []  # whether sets grow, which a workflow says in its init

    def init(supply, data):
        def reserve(data):
            reserves.append(True)
            return supply.reserve(data)

        written = data.x.shape[0]  # the points of the first set
        clerk = _Clerk(labels, 0, written)
        inner = workflow.init(clerk.supply(supply)._replace(reserve=reserve), data)
        return jnp.asarray(0, jnp.int32), inner

    @functools.wraps(workflow.next)
    def next_set(key, carry, supply, n):
        generation, inner = carry[0] + 1, carry[1]
        inner, data = workflow.next(key, inner, _Clerk(labels, generation).supply(supply), n)
        # A model that is its points must have as many slots in every generation.
        return (generation, inner), data if reserves else supply.compact(data)

    return Workflow(workflow.name, init, next_set)


def ancestor(labels: Labels) -> Estimator:
    """Returns the family of copies: a model is its training set, and a draw is one of its points.

    Metrics: those of `METRICS` for which the labels have the information.
    """

    def init(key, data):
        return Lineages(data, jnp.asarray(-1, jnp.int32))

    def fit(key, params, data):
        return Lineages(data, params.generation + 1), FitInfo.exact()

    def sample(key, params, n):
        u = uniform(*variate_words(*key_words(key), jnp.arange(n, dtype=jnp.uint32)))
        return params.data.x[inverted(jnp.cumsum(params.data.weight), u)]

    def continued(key, params, x):
        return sample(key, params, x.shape[0])

    made = estimator(fit, sample, name="ancestor", init=init, continued=continued, check=_any)
    return made._replace(metrics=metrics_of(labels))


def _any(x):
    return None


def metrics_of(labels: Labels) -> dict[str, Callable]:
    """Returns name -> function of `Lineages`: the metrics of a genealogy."""
    by_row = labels.rows is not None
    metrics = {
        "living_ancestors": lambda params: living_ancestors(params, by_row),
        "largest_family": lambda params: largest_family(params, by_row),
        "identity": lambda params: identity(params, by_row),
        "diversity": lambda params: diversity(params, by_row),
        "real_age": real_age,
        "reach": lambda params: reach(params, labels.generations),
    }
    if labels.ancestors:
        metrics["common_ancestor_age"] = lambda params: common_ancestor_age(params, labels.most)
    return metrics


def living_ancestors(params: Lineages, by_row: bool) -> jax.Array:
    """Returns the number [] of real draws with a descendant in the training set, int32."""
    return jnp.sum(_families(params, by_row)[0] > 0, dtype=jnp.int32)


def largest_family(params: Lineages, by_row: bool) -> jax.Array:
    """Returns the largest share [] of the training set that descends from a single real draw."""
    families, weight = _families(params, by_row)
    return jnp.max(families) / jnp.sum(weight)


def identity(params: Lineages, by_row: bool) -> jax.Array:
    """Returns P(two different points descend from the same real draw) []; 1 for one point."""
    families, weight = _families(params, by_row)
    alone, total = jnp.sum(weight**2), jnp.sum(weight) ** 2
    pairs = total - alone
    return jnp.where(pairs > 0, (jnp.sum(families**2) - alone) / jnp.where(pairs > 0, pairs, 1), 1)


def diversity(params: Lineages, by_row: bool) -> jax.Array:
    """Returns P(two draws from the model descend from different real draws) []."""
    families, weight = _families(params, by_row)
    return 1 - jnp.sum((families / jnp.sum(weight)) ** 2)


def real_age(params: Lineages) -> jax.Array:
    """Returns the generations [] since the real draws entered, averaged over the training set."""
    x, weight = params.data
    entered = jnp.sum(weight * x[:, ENTERED]) / jnp.sum(weight)
    return params.generation - entered


def reach(params: Lineages, generations: int) -> jax.Array:
    """Returns the shares [generations + 1] of points with ancestors in a generation's real data."""
    x, weight = params.data
    shares = jnp.zeros(generations + 1).at[x[:, ENTERED]].add(weight)
    return shares / jnp.sum(weight)


def common_ancestor_age(params: Lineages, most: int) -> jax.Array:
    """Returns the generations [] back to the newest common ancestor of all points; inf if none."""
    x, weight = params.data
    paths, taken = x[:, FIRST_ANCESTOR:], (weight > 0)[:, None]
    least = jnp.min(jnp.where(taken, paths, np.iinfo(np.int32).max), axis=0)
    greatest = jnp.max(jnp.where(taken, paths, -1), axis=0)
    made = jnp.max(jnp.where(least == greatest, least // most, -1))
    return jnp.where(made >= 0, (params.generation - made).astype(float), jnp.inf)


def _families(params, by_row):
    """(total weight of the points of each real draw, once per draw and 0 elsewhere; weights)."""
    x, weight = params.data
    keys = [x[:, NUMBER]] if by_row else [x[:, ENTERED], x[:, NUMBER]]
    *keys, sorted_weight = jax.lax.sort((*keys, weight), num_keys=len(keys), is_stable=False)
    changes = jnp.zeros(len(weight) - 1, bool)
    for column in keys:
        changes = changes | (column[1:] != column[:-1])
    ends = jnp.ones(1, bool)
    begins, finishes = jnp.concatenate([ends, changes]), jnp.concatenate([changes, ends])
    total = jnp.cumsum(sorted_weight)
    before = jax.lax.cummax(jnp.where(begins, total - sorted_weight, 0))
    return jnp.where(finishes, total - before, 0), weight


# What can be recorded of the training set of each generation:
# living_ancestors     real draws that have a descendant
# largest_family       share of the points that descend from the real draw with most of them
# identity             P(two different points share a real draw); 1 where there is one point
# diversity            P(two fresh draws of the model descend from different real draws)
# real_age             generations since the real draws entered, on average over the points
# reach                [generations + 1] shares that descend from each generation's real data
# common_ancestor_age  generations back to the newest point that all descend from, or inf
METRICS = (*metrics_of(Labels(0)),)
