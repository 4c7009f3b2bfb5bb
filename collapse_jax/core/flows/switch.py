"""Workflows one after another.

A workflow's `next` says by its attribute `carries` what its carry is, where others know it too:
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
    """What a switch hands on.

    own: what each workflow carries by itself; () where that is one of the following.
    pool: all points so far, which `accumulate` and `accumulate_subsample` share; or ().
    previous: the previous training set, for a mix that takes from it; or ().
    """

    own: tuple
    pool: Any = ()
    previous: Any = ()


@recorded
def switch(workflows: Mapping[int, Workflow]) -> Workflow:
    """One workflow up to a generation, another from there on, and so forth.

    `switch({0: replace(), 50: mix(0.9, 0, 0.1)})` collapses for 49 generations, and mixes real data
    into the training set of generation 50 and of every later one. Until a switch, the numbers are
    those of the first workflow alone.

    What was made under one workflow is known to the next: the previous training set of `mix` is the
    one that was trained on, and the pool of `accumulate` holds all training sets. Another
    workflow's own carry begins with generation 0, and changes in its own generations only.

    Args:
        workflows: generation -> the workflow that makes the training sets from there on. The first
            one begins at 0. A curation goes around the switch; its numbers may be functions of the
            generation.

    Raises:
        InputError: for anything else, and for workflows with curations of their own.

    References:
        Derived here (theory.schedules: recovery and its half-life).
    """
    if not isinstance(workflows, Mapping):
        raise InputError(
            f"workflows of switch is {workflows!r:.200}; it must be {{GENERATION: WORKFLOW, ...}}, "
            "as {0: replace(), 50: mix(0.9, 0, 0.1)}"
        )
    begins = sorted(whole("a generation of switch", begin, 0) for begin in workflows)
    if not begins or begins[0] != 0:
        given = ", ".join(map(str, begins)) or "nothing"
        raise InputError(f"switch begins at {given}; one workflow must begin at generation 0")
    if 1 in begins:
        raise InputError(
            "switch has workflows at 0 and 1, but generation 0 is fitted to real data and asks for "
            "none: the workflow of 0 would never be asked; give the other one at 0"
        )
    parts = tuple(workflows[begin] for begin in begins)
    for begin, part in zip(begins, parts, strict=True):
        _check_part(begin, made_by(f"switch[{begin}]", part, Workflow, "one of cj.workflows"))
    return parts[0] if len(parts) == 1 else _switched(tuple(begins), parts)


def _check_part(begin, part):
    if part.filters:
        raise InputError(
            f"switch[{begin}] is {part.name}, with a curation of its own; give the curation around "
            "the switch, whose numbers may be functions of the generation"
        )
    if getattr(part.next, "remembers", False):
        raise InputError(
            f"switch[{begin}] is {part.name}, which follows the models of all generations; put "
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
    """ "pool" or "previous" for what a workflow's carry is; None for one of its own."""
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
            f"{part.name} makes sets of more than sample_size points, and cannot be switched with "
            "accumulate, whose pool has space for one set of each generation"
        )
    return data


def _like(held, data):
    """The data in as many slots as what is held has."""
    if not isinstance(data, Dataset) or len(held.weight) == len(data.weight):
        return data
    empty = len(held.weight) - len(data.weight)
    if empty < 0:
        raise InputError(
            f"a workflow of switch makes sets of {len(data.weight)} points, and a mix with beta "
            f"takes from sets of {len(held.weight)}"
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
