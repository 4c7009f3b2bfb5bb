"""`switch`: different workflows in different generations.

The attribute `carries` of a workflow's `next` names its carry if other workflows can use it too:
"pool", all points so far, or "previous", the previous training set.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from collapse_jax.core.recipes.made import recorded
from collapse_jax.core.types import Dataset, Workflow
from collapse_jax.errors import InputError, made_by, whole


class Carry(NamedTuple):
    """The carry of a switch.

    own: the carry of each workflow; () if it is one of the following.
    pool: all points so far, which `accumulate` and `accumulate_subsample` share; or ().
    previous: the previous training set, for a mix that takes from it; or ().
    """

    own: tuple
    pool: Any = ()
    previous: Any = ()


@recorded
def switch(workflows: Mapping[int, Workflow]) -> Workflow:
    """Returns a workflow that changes from one workflow to another at given generations.

    `switch({0: replace(), 50: mix(0.9, 0, 0.1)})` collapses for 49 generations, and mixes real data
    into the training set of generation 50 and of every later one. Before the first switch, the
    numbers are those of the first workflow alone.

    A workflow can use the data of the workflows before it: the previous training set of `mix` is
    the set of the generation before, and the pool of `accumulate` contains all training sets. Any
    other carry of a workflow starts at generation 0 and changes only in that workflow's
    generations.

    Args:
        workflows: generation -> the workflow that makes the training sets from that generation on.
            The first one must begin at 0. Put a curation around the switch; its numbers may be
            functions of the generation.

    Raises:
        InputError: for anything else, and for workflows that have a curation themselves.

    References:
        Derived here (theory.schedules: recovery and its half-life).
    """
    if not isinstance(workflows, Mapping):
        raise InputError(
            f"workflows of switch is {workflows!r:.200}; it must be {{GENERATION: WORKFLOW, ...}}, "
            "such as {0: replace(), 50: mix(0.9, 0, 0.1)}"
        )
    begins = sorted(whole("a generation of switch", begin, 0) for begin in workflows)
    if not begins or begins[0] != 0:
        given = ", ".join(map(str, begins)) or "nothing"
        raise InputError(f"switch begins at {given}; one workflow must begin at generation 0")
    if 1 in begins:
        raise InputError(
            "switch has workflows at 0 and 1, but generation 0 is fitted to real data, so the "
            "workflow at 0 would never be used; give the workflow of 1 at 0"
        )
    parts = tuple(workflows[begin] for begin in begins)
    for begin, part in zip(begins, parts, strict=True):
        _check_part(begin, made_by(f"switch[{begin}]", part, Workflow, "one of cj.workflows"))
    return parts[0] if len(parts) == 1 else _switched(tuple(begins), parts)


def _check_part(begin, part):
    if part.filters:
        raise InputError(
            f"switch[{begin}] is {part.name}, which has a curation; put the curation around the "
            "switch (its numbers may be functions of the generation)"
        )
    if getattr(part.next, "remembers", False):
        raise InputError(
            f"switch[{begin}] is {part.name}, which needs the models of all generations; put "
            "contaminated around the switch"
        )


def _switched(begins, parts):
    def init(supply, data):
        own = tuple(() if _carries(part) else part.init(supply, data) for part in parts)
        pool = supply.reserve(data) if _any_carries(parts, "pool") else ()
        previous = data if _any_carries(parts, "previous") else ()
        if previous != () and pool != ():
            previous = _like(pool, previous)
        return Carry(own, pool, previous)

    def next_set(key, carry, supply, n):
        active = sum(supply.generation >= begin for begin in begins) - 1
        if not isinstance(active, Tracer):
            return _made(parts, int(active), key, carry, supply, n)
        made = [_made(parts, place, key, carry, supply, n) for place in range(len(parts))]
        return _selected(active, parts, carry, made)

    next_set.parts = parts
    next_set.within = parts
    next_set.schedules = tuple(
        schedule.between(first, last)
        for part, first, last in zip(parts, begins, (*begins[1:], None), strict=True)
        for schedule in getattr(part.next, "schedules", ())
    )

    def reweighted(model, real):
        changed = (part.reweighted(model, real) if part.reweighted else part for part in parts)
        return switch(dict(zip(begins, changed, strict=True)))

    names = ", ".join(f"{begin}: {part.name}" for begin, part in zip(begins, parts, strict=True))
    any_real = any(part.reweighted for part in parts)
    return Workflow(f"switch({names})", init, next_set, reweighted=reweighted if any_real else None)


def _carries(part):
    """ "pool" or "previous" for the kind of a workflow's carry; None for any other kind."""
    return getattr(part.next, "carries", None)


def _any_carries(parts, what):
    return any(_carries(part) == what for part in parts)


def _made(parts, place, key, carry, supply, n):
    """(carry, data) where the workflow at a place makes the set."""
    part, kind = parts[place], _carries(parts[place])
    given = carry.own[place] if kind is None else getattr(carry, kind)
    after, data = part.next(key, given, supply, n)
    own, pool, previous = carry
    if kind is None:
        own = (*own[:place], after, *own[place + 1 :])
    if pool != ():
        pool = after if kind == "pool" else supply.append(pool, _set_of(part, data, supply))
    if previous != ():
        # Data that lies in buffers is made compact as a copy; on the host it is of any size.
        previous = _like(previous, data) if supply.compact(data) is not data else data
    return Carry(own, pool, previous), data


def _set_of(part, data, supply):
    """Data that is no larger than one training set, for which a pool has space."""
    if isinstance(data, Dataset) and len(data.weight) > len(supply.compact(data).weight):
        raise InputError(
            f"{part.name} makes training sets of more than sample_size points, so it cannot be "
            "switched with accumulate, whose pool has space for sample_size points per generation"
        )
    return data


def _like(held, data):
    """The data in as many slots as what is held has."""
    if not isinstance(data, Dataset) or len(held.weight) == len(data.weight):
        return data
    empty = len(held.weight) - len(data.weight)
    if empty < 0:
        raise InputError(
            f"a workflow of switch makes training sets of {len(data.weight)} points, but a mix "
            f"with beta draws from sets of {len(held.weight)}; give workflows with sets of one size"
        )
    return jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, empty), *[(0, 0)] * (leaf.ndim - 1)]), data)


def _selected(active, parts, carry, made):
    """What the active workflow made; `active` is traced."""
    carries, sets = zip(*made, strict=True)

    def select(*leaves):
        dtype = jnp.result_type(*leaves)
        return jax.lax.select_n(active, *(jnp.asarray(leaf, dtype) for leaf in leaves))

    if all(isinstance(data, Dataset) for data in sets):
        largest = max(sets, key=lambda data: len(data.weight))
        sets = [_like(largest, data) for data in sets]
    return jax.tree.map(select, *carries), jax.tree.map(select, *sets)
