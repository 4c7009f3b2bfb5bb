"""Marks: how what is traced, and so cannot raise, says that a number was none.

A reward that is nan chooses nothing, and a weight that is nan counts for nothing. Under tracing
the point, and then the model that is fitted to it, is marked; a driver finds the mark and runs that
generation again operation by operation, where the function that gave nan is named.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from collapse_jax.core.functions import is_ours
from collapse_jax.core.protocols import Data, Params
from collapse_jax.core.types import Dataset, Process, State
from collapse_jax.errors import DivergenceError, InputError


def mark(x: jax.Array, unsound: jax.Array) -> jax.Array:
    """The points [n, ...], with nan or the least integer in the places of those that are unsound.

    Args:
        x: [n, ...], floats or integers.
        unsound: [n], bool.

    Raises:
        InputError: for points of another type, in which no mark can be told from a value.
    """
    return jnp.where(unsound.reshape(-1, *[1] * (x.ndim - 1)), _mark_of(x.dtype), x)


def is_marked(x: jax.Array) -> jax.Array:
    """[n], which of the points [n, ...] hold a mark."""
    value = _mark_of(x.dtype)
    marked = jnp.isnan(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x == value
    return marked.reshape(x.shape[0], -1).any(1)


def holds_mark(data: Data) -> jax.Array | bool:
    """Whether a training set of points holds a marked one, or a weight that is nan; [] bool."""
    if not isinstance(data, Dataset):
        return False
    weight = jnp.asarray(data.weight)
    unsound = jnp.isnan(weight).any() if jnp.issubdtype(weight.dtype, jnp.inexact) else False
    if not jnp.issubdtype(data.x.dtype, jnp.number):  # bools, or a host's texts
        return unsound
    return unsound | (is_marked(jnp.asarray(data.x)) & (weight != 0)).any()


def spoiled(params: Params, unsound: jax.Array | bool) -> Params:
    """The model, of nan and 0 alone where `unsound` [] is true."""

    def spoil(leaf):
        nothing = jnp.nan if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else 0
        return jnp.where(unsound, jnp.asarray(nothing, jnp.result_type(leaf)), leaf)

    return jax.tree.map(spoil, params)


def generation_of(generation: jax.Array, unsound: jax.Array | bool) -> jax.Array:
    """The number of a generation, or -1 where its training set was unsound."""
    return jnp.where(unsound, -1, generation)


def is_spoiled(state: State) -> jax.Array:
    """Whether the training set of a state's model was unsound; [] bool."""
    return jnp.asarray(state.generation) < 0


def raise_by_name(process: Process, key: jax.Array, before: State, generation: int) -> None:
    """Makes a generation again, operation by operation, where a function that gave nan is named.

    Where no function of others' chooses or weights points, nothing is done: a fit became nan.

    Args:
        process: the process.
        key: that of the generation.
        before: the state before it.
        generation: its number, for the error text.

    Raises:
        DivergenceError: if a reward, a verdict or a weight was no number.
    """
    workflow = process.parts.workflow
    if not process.runtime.traceable or not (workflow.filters or not is_ours(workflow.next)):
        return
    try:
        process.step(key, before)
    except DivergenceError as error:
        raise DivergenceError(f"generation {generation}: {error}") from None
    except Exception:  # what else fails here is not what failed
        pass


def check_sound(unsound: Any, text: str) -> None:
    """Raises `DivergenceError` for what is known to be unsound; what is traced is left to marks.

    Args:
        unsound: bools of any shape.
        text: the error's.
    """
    if not isinstance(unsound, Tracer) and bool(jnp.any(unsound)):
        raise DivergenceError(text)


def _mark_of(dtype):
    if jnp.issubdtype(dtype, jnp.inexact):
        return jnp.asarray(jnp.nan, dtype)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise InputError(
            f"points are of type {dtype}; to be chosen by rewards or verdicts they must be floats "
            "or integers"
        )
    limits = jnp.iinfo(dtype)
    return jnp.asarray(limits.min if limits.min < 0 else limits.max, dtype)
