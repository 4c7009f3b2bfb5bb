"""Whether Python is called by JAX, which traces a program, or by a person."""

import functools
import threading
from typing import Any

import jax
from jax.extend.core import get_opaque_trace_state

from collapse_jax.errors import InputError, real


def inside_a_program() -> bool:
    """Whether this is called inside `jit`, `vmap`, `grad`, `scan` or another transformation."""
    return get_opaque_trace_state() != _outside()


def real_or_traced(name: str, value: Any, **limits: Any) -> Any:
    """A real number as `errors.real` checks it; a traced one, or a JAX array [], as it is.

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
    return value


@functools.cache
def _outside():
    """The state of a thread in which nothing is traced."""
    states = []
    thread = threading.Thread(target=lambda: states.append(get_opaque_trace_state()))
    thread.start()
    thread.join()
    return states[0]
