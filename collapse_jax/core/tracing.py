"""Whether Python is called by JAX, which traces a program, or by a person."""

import functools
import operator
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import Literal, get_opaque_trace_state

from collapse_jax.errors import InputError, real

# Limits of `errors.real`.
_WITHIN = {
    "at_least": operator.ge,
    "above": operator.gt,
    "at_most": operator.le,
    "below": operator.lt,
}


def inside_a_program() -> bool:
    """Whether this is called inside `jit`, `vmap`, `grad`, `scan` or another transformation."""
    return get_opaque_trace_state() != _outside()


def real_or_traced(name: str, value: Any, **limits: Any) -> Any:
    """A real number as `errors.real` checks it; a traced one is nan where it is out of its range.

    Args:
        name: what an error calls it.
        value: the number.
        **limits: of `errors.real`.

    Raises:
        InputError: if it is out of its range, or an array of another shape.
    """
    if not isinstance(value, jax.Array):
        return real(name, value, **limits)
    if value.shape != ():
        raise InputError(f"{name} has shape {list(value.shape)}; it must be one number")
    if not isinstance(value, Tracer):
        real(name, value, **limits)
        return value
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return value
    ends = {limit: limits[limit] for limit in _WITHIN if limits.get(limit) is not None}
    sound = jnp.isfinite(value)
    for limit, end in ends.items():
        sound &= _WITHIN[limit](value, end)
    return jnp.where(sound, value, jnp.nan)


def depends(function: Callable, first: Any, *others: Any) -> bool:
    """Whether what a function gives is computed from its first argument; nothing is computed.

    Args:
        function: of arrays, or of trees of them.
        first, others: its arguments, or their shapes.
    """
    program = jax.make_jaxpr(function)(first, *others).jaxpr
    touched = set(program.invars[: len(jax.tree.leaves(first))])

    def is_touched(variables):
        return any(one in touched for one in variables if not isinstance(one, Literal))

    for equation in program.eqns:
        if is_touched(equation.invars):
            touched.update(equation.outvars)
    return is_touched(program.outvars)


@functools.cache
def _outside():
    """The state of a thread in which nothing is traced."""
    states = []
    thread = threading.Thread(target=lambda: states.append(get_opaque_trace_state()))
    thread.start()
    thread.join()
    return states[0]
