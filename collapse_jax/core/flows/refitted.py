"""Curations with a state that is refitted in every generation, such as a verifier that drifts.

In each generation a curation of `core.curation` is made from the newest state. The state is part of
the workflow's carry, so `cj.simulate` and `cj.run` save it and run many chains of it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core import points, workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.flows.order import refuse_around
from collapse_jax.core.functions import check_arguments, generator_of, wrong
from collapse_jax.core.recipes.made import recorded
from collapse_jax.core.tracing import real_or_traced
from collapse_jax.core.types import Dataset, Estimator, Supply, Workflow
from collapse_jax.errors import InputError, one_of, whole
from collapse_jax.random.bits import fold_in, split

Wrapper = Callable[[Workflow], Workflow]
# The key of a state's fit: a number that no draw counts up to, nor the model's own fit uses.
_FIT = np.uint32(2**32 - 2)
AGAINST = ("fresh", "first", "pool")


@recorded
def refitted(
    curation: Callable[[Any], Wrapper],
    fit: Callable[[jax.Array, Any, Dataset], Any],
    *,
    start: Any,
    refresh: "float | jax.Array" = 1.0,
    every: int = 1,
) -> Wrapper:
    """Returns a curation with a state that is refitted to each new training set.

    Generation 1 is curated with the state `start`. After each training set the state becomes
    (1 - refresh) * state + refresh * fit(key, state, training set), and the next generation is
    curated with it. It must be the outermost curation, because curations around it would choose
    before it.

    Args:
        curation: state -> one of `cj.curation` that chooses among points, made with that state,
            such as `lambda state: cj.curation.verified(lambda x: accept(state, x))`.
        fit: (key, state, data) -> another state; data is the new training set, a `Dataset` of
            weighted points.
        start: the first state, any pytree of numbers; or a function that returns it, given the
            first, real training set (a `Dataset`).
        refresh: the share of the state that a refit replaces, in [0, 1]; a number, or a traced
            scalar, so that it can be an axis of a grid. With 0 the curation is always that of
            `start`, bit for bit.
        every: the state is refitted after each generation whose number is a multiple of this.

    Raises:
        InputError: for a refresh outside [0, 1], an `every` below 1, or functions with other
            arguments; when the process is made, for a workflow that continues real points, a
            curation that does not choose points, and a fit whose result has another structure than
            `start`.

    References:
        Derived, see `theory.drifting_verifier`; curation itself: Ferbach et al. 2024, arXiv
        2407.09499, and Feng et al. 2024, arXiv 2406.07515.
    """
    check_arguments("fit of refitted", fit, ("key", "state", "data"))
    rule = _Rule("refitted", curation, start, refresh, every)

    def after(key, state, data, generation):
        return rule.renewed(fit, state, fit(fold_in(key, _FIT), state, data), generation)

    return _wrapper(rule, lambda key, state, supply, n, other, generation: state, after, None)


@recorded
def trained(
    curation: Callable[[Any], Wrapper],
    fit: Callable[[jax.Array, Any, Dataset, Dataset], Any],
    *,
    start: Any,
    against: Literal["fresh", "first", "pool"] = "fresh",
    examples: int | None = None,
    refresh: "float | jax.Array" = 1.0,
    every: int = 1,
) -> Wrapper:
    """Returns a curation by a detector that is trained to distinguish real from synthetic points.

    Before a generation's training set is made, the state becomes (1 - refresh) * state + refresh *
    fit(key, state, real, made), and the detector with that state curates that generation. It must
    be the outermost curation, because curations around it would choose before it.

    Args:
        curation: state -> one of `cj.curation`, as in `refitted`.
        fit: (key, state, real, made) -> another state; `real` and `made` are each a `Dataset` of
            weighted points, and `made` contains fresh draws from the newest model.
        start: the first state, as in `refitted`.
        against: the points that are used as real: "fresh" points from the source in every
            generation, "first", always the training set of generation 0, or "pool", the newest
            training set, including its synthetic points.
        examples: number of the model's points, and of fresh real points, in the detector's training
            set; by default the number of points in a training set.
        refresh: the share of the state that training replaces, in [0, 1]; a number or a traced
            scalar.
        every: the detector is trained before generations 1, 1 + every, 1 + 2 * every ...

    Raises:
        InputError: as `refitted`; for an unknown `against`, for `examples` below 1 or with an
            `against` that does not use it, and, for "pool", if training sets change their shape
            (`accumulate`).

    References:
        Derived; after Drayson et al. 2025, "Machine-generated text detection prevents language
        model collapse", whose detector is not retrained.
    """
    check_arguments("fit of trained", fit, ("key", "state", "real", "made"))
    one_of("against", against, AGAINST)
    if examples is not None:
        whole("examples", examples, 1)
    rule = _Rule("trained", curation, start, refresh, every)

    def before(key, state, supply, n, other, generation):
        fit_key, model_key, real_key = split(fold_in(key, _FIT), 3)
        count = n if examples is None else examples
        made = supply.model(model_key, count)
        known = supply.real(real_key, count) if against == "fresh" else other
        return rule.renewed(fit, state, fit(fit_key, state, known, made), generation - 1)

    return _wrapper(rule, before, None, None if against == "fresh" else against)


@dataclasses.dataclass(frozen=True)
class _Rule:
    """Shared part of both: the curation of a state, and how a state is renewed."""

    kind: str
    curation: Callable[[Any], Wrapper]
    start: Any
    refresh: Any
    every: int

    def __post_init__(self):
        check_arguments(f"curation of {self.kind}", self.curation, ("state",))
        if callable(self.start):
            check_arguments(f"start of {self.kind}", self.start, ("data",))
        whole("every", self.every, 1)
        rate = real_or_traced("refresh", self.refresh, at_least=0, at_most=1)
        object.__setattr__(self, "refresh", rate)

    def first(self, data):
        """The first state, as arrays."""
        state = self.start(data) if callable(self.start) else self.start
        leaves = jax.tree.leaves(state)
        if not leaves or not all(jnp.issubdtype(_kind_of(leaf), jnp.number) for leaf in leaves):
            raise InputError(
                f"start of {self.kind} is {state!r:.100}; it must be a pytree of numbers, or a "
                "function of the first training set that returns one"
            )
        whole_numbers = not all(jnp.issubdtype(_kind_of(leaf), jnp.inexact) for leaf in leaves)
        if whole_numbers and (isinstance(self.refresh, Tracer) or self.refresh not in (0, 1)):
            raise InputError(
                f"start of {self.kind} contains integers, so refresh must be 0 or 1; give floats "
                "for another refresh"
            )
        return jax.tree.map(lambda leaf: jnp.array(leaf, _kind_of(leaf)), state)

    def renewed(self, fit, old, new, generation):
        """A share of the state replaced, after a generation that `every` divides."""
        shapes = [
            (jax.tree.structure(state), [jnp.shape(leaf) for leaf in jax.tree.leaves(state)])
            for state in (old, new)
        ]
        if shapes[0] != shapes[1]:
            raise wrong(f"fit of {self.kind}", fit, new, "a state with the structure of start")
        due = generation % self.every == 0

        def blended(before, after):
            after = jnp.asarray(after, before.dtype)
            if jnp.issubdtype(before.dtype, jnp.inexact):
                rate = jnp.asarray(self.refresh, before.dtype)
                part = (1 - rate) * before + rate * after
                # A whole share is the fit itself, and none leaves the state as it was.
                after = jnp.where(rate == 1, after, jnp.where(rate == 0, before, part))
            elif self.refresh == 0:
                return before
            return jnp.where(due, after, before)

        return jax.tree.map(blended, old, new)

    def curated(self, state, supply, workflow):
        """The supply, whose model's points are chosen by the curation of a state."""
        wrapper = self.curation(state)
        made = wrapper(workflows.replace()) if callable(wrapper) else wrapper
        if not isinstance(made, Workflow):
            raise wrong(f"curation of {self.kind}", self.curation, wrapper, "one of cj.curation")
        if not made.filters:
            raise InputError(
                f"curation of {self.kind} returned {made.name}, which does not choose points; it "
                "must return one such as cj.curation.verified or best_of"
            )

        def model_of(params, key, n):
            older = supply._replace(model=lambda key, n: supply.model_of(params, key, n))
            return _chosen(made, older, key, n, bool(workflow.filters))

        def model(key, n):
            return _chosen(made, supply, key, n, bool(workflow.filters))

        def no_continuation(key, n, m):
            raise InputError(
                f"{workflow.name} lets the model continue real points, among which {self.kind} "
                "cannot choose; give mix instead"
            )

        chosen = {"model": model, "model_of": model_of}
        return supply._replace(**chosen, real_and_continued=no_continuation)


def _chosen(curation: Workflow, supply: Supply, key, n, marks):
    """n points of a supply's model that a curation has chosen."""
    is_traced = isinstance(key, Tracer)
    known = isinstance(n, int | np.integer)
    count = n
    if not known:  # in all the slots of a training set
        count = jax.eval_shape(lambda key: supply.model(key, n).x, key).shape[0]

    def sample(key, params, count):
        return supply.model(key, n).x

    sample.marks = marks
    shim = estimator(_no_fit, sample, name="the model", init=_no_init, traceable=is_traced)
    x = generator_of(curation, shim).sample(key, None, count)
    return points.of_sample(x) if known else points.of_sample(x, n)


def _wrapper(rule, before, after, keeps):
    """A wrapper that renews a state before or after each training set.

    keeps: what else is carried: "first", the first training set, "pool", the newest one, or None.
    """

    def wrap(workflow: Workflow) -> Workflow:
        refuse_around(rule.kind, workflow)

        def init(supply, data):
            carry = jnp.asarray(0, jnp.int32), rule.first(data), workflow.init(supply, data)
            return carry if keeps is None else (*carry, data)

        def next_set(key, carry, supply, n):
            generation, state, inner, *other = carry
            generation = generation + 1
            other = other[0] if other else None
            state = before(key, state, supply, n, other, generation)
            inner, data = workflow.next(key, inner, rule.curated(state, supply, workflow), n)
            if after is not None:
                state = after(key, state, data, generation)
            carry = generation, state, inner
            if keeps is None:
                return carry, data
            return (*carry, other if keeps == "first" else _like(other, data, workflow)), data

        next_set.outermost = True
        next_set.schedules = getattr(workflow.next, "schedules", ())
        return Workflow(
            f"{rule.kind}({workflow.name})", init, next_set, (*workflow.filters, _by_points)
        )

    return wrap


def _like(before, data, workflow):
    """A training set, which must have as many slots as the one before."""
    if jnp.shape(before.weight) != jnp.shape(data.weight):
        raise InputError(
            f"against is 'pool', but the training sets of {workflow.name} grow; give 'first' or "
            "'fresh'"
        )
    return data


def _by_points(estimator: Estimator) -> Estimator:
    """The estimator without direct draws of statistics, because curations choose among points."""
    return estimator._replace(draw=None)


def _kind_of(leaf):
    """The type of a leaf as an array; text and objects have none."""
    if isinstance(leaf, bool | int | float):
        return jnp.result_type(type(leaf))
    return getattr(leaf, "dtype", np.dtype(object))


def _no_fit(key, params, data):
    raise NotImplementedError("nothing is fitted to the points that a curation chooses among")


def _no_init(key, data):
    return None
