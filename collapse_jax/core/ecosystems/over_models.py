"""Many models as one batch: functions of one model, mapped over models, whatever maps the chains.

Under `jax.vmap` over chains a second `jax.vmap` over models would take the kernels of families that
have their chains on the last axis apart (`random.chains_last`). Here models and chains become one
axis, so that a kernel meets models * chains as if they were so many chains.
"""

import itertools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import core as jax_core

from collapse_jax.random.chains_last import chains_last

Tree = Any


def over_models(function: Callable, chain_axis: Literal[0, -1]) -> Callable:
    """The function of many models, from that of one: every argument gets a first axis of models.

    Args:
        function: of trees of arrays. What it closes over is the same for all models; it may be
            traced.
        chain_axis: where drivers put the chains: -1 makes one axis of models and chains, 0 takes
            one model after the other (LAPACK calls on a batch may hang, see `drivers.vmap_chains`).
            A single model is called as it is.
    """

    def of_all(*arguments):
        count = np.shape(jax.tree.leaves(arguments)[0])[0]
        if count == 1:
            result = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], result)
        if chain_axis == 0:
            return jax.lax.map(lambda own: function(*own), jax.tree.map(_as_array, arguments))
        return _in_one_axis(function, arguments)

    return of_all


def taken(trees: list[Tree], places: np.ndarray, chain_axis: Literal[0, -1]) -> Tree:
    """Models at some places [...] of several trees of models behind each other: [..., leaf].

    Args:
        trees: of one structure, each with a first axis of models.
        places: among the models of all trees.
        chain_axis: as for `over_models`.
    """

    def of_leaf(*leaves):
        if chain_axis == 0:
            return jnp.concatenate(leaves)[places]
        return _taken(*leaves, places=tuple(places.ravel().tolist()), shape=places.shape)[0]

    return jax.tree.map(of_leaf, *trees)


@chains_last
def _taken(*leaves, places, shape):
    """[*shape, ..., chains] of leaves [models, ..., chains] behind each other."""
    chains = max(leaf.shape[-1] for leaf in leaves)
    whole = jnp.concatenate([jnp.broadcast_to(leaf, (*leaf.shape[:-1], chains)) for leaf in leaves])
    # Slices, for XLA on the CPU gathers element by element.
    starts = [0, *(i for i in range(1, len(places)) if places[i] != places[i - 1] + 1), len(places)]
    parts = [
        whole[places[start] : places[end - 1] + 1] for start, end in itertools.pairwise(starts)
    ]
    return [jnp.concatenate(parts).reshape(*shape, *whole.shape[1:])]


def _in_one_axis(function, arguments):
    leaves, tree = jax.tree.flatten(jax.tree.map(_as_array, arguments))
    impls = [_impl(leaf) for leaf in leaves]

    def of_words(*words):
        given = zip(words, impls, strict=True)
        return function(*tree.unflatten([_as_key(leaf, impl) for leaf, impl in given]))

    words = [_as_words(leaf) for leaf in leaves]
    of_one = [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in words]
    closed, shapes = jax.make_jaxpr(of_words, return_shape=True)(*of_one)
    # What it closes over, as arguments: a primitive must not hold what is traced.
    shared = tuple(map(_impl, closed.consts))
    results = _mapped(*map(_as_words, closed.consts), *words, program=closed.jaxpr, shared=shared)
    return jax.tree.unflatten(jax.tree.structure(shapes), results)


@chains_last
def _mapped(*arrays, program, shared):
    """A program of one model over models and chains.

    arrays: first what all models share [..., chains], then what each has [models, ..., chains].
    program: of one model and one chain.
    shared: for each that is shared how its keys are made of it, or None.
    """
    chains = max(array.shape[-1] for array in arrays)
    models = arrays[len(shared)].shape[0]
    joined, axes = [], []
    for array in arrays[: len(shared)]:
        if array.shape[-1] == 1:
            joined.append(array[..., 0])
            axes.append(None)
            continue
        every = (*array.shape[:-1], models, chains)
        joined.append(jnp.broadcast_to(array[..., None, :], every).reshape(*every[:-2], -1))
        axes.append(-1)
    for array in arrays[len(shared) :]:
        own = jnp.broadcast_to(array, (*array.shape[:-1], chains))
        joined.append(jnp.moveaxis(own, 0, -2).reshape(*own.shape[1:-1], -1))
        axes.append(-1)

    def of_one(*words):
        consts = [_as_key(leaf, impl) for leaf, impl in zip(words, shared, strict=False)]
        return jax_core.eval_jaxpr(program, consts, *words[len(shared) :])

    results = _apart(jax.vmap(of_one, axes, -1), joined)
    return [
        jnp.moveaxis(result.reshape(*result.shape[:-1], models, chains), -2, 0)
        for result in results
    ]


def _apart(function, arrays):
    """function(*arrays), compiled apart from what is done before and after.

    XLA on the CPU would else compute function's long vectors number by number, at places that it
    finds by division, as whoever makes the arrays or takes single models of the results has them.
    """
    words = [array for array in arrays if array.dtype == jnp.uint32]
    if not words:
        return function(*arrays)
    # True, which no compiler knows.
    always = jnp.max(words[0].ravel()[:8]) >= jnp.min(words[0].ravel()[:8])
    shapes = jax.eval_shape(function, *arrays)

    def never(*_):
        return [jnp.zeros(leaf.shape, leaf.dtype) for leaf in shapes]

    return jax.lax.cond(always, function, never, *arrays)


def _as_array(leaf):
    return leaf if _is_key(leaf) else jnp.asarray(leaf)


def _is_key(leaf):
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _impl(leaf):
    return str(jax.random.key_impl(leaf)) if _is_key(leaf) else None


def _as_words(leaf):
    return jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)


def _as_key(words, impl):
    return words if impl is None else jax.random.wrap_key_data(words, impl=impl)
