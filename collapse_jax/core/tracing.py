"""Whether Python is called by JAX, which traces a program, or by a person."""

import functools
import threading

from jax.extend.core import get_opaque_trace_state


def inside_a_program() -> bool:
    """Whether this is called inside `jit`, `vmap`, `grad`, `scan` or another transformation."""
    return get_opaque_trace_state() != _outside()


@functools.cache
def _outside():
    """The state of a thread in which nothing is traced."""
    states = []
    thread = threading.Thread(target=lambda: states.append(get_opaque_trace_state()))
    thread.start()
    thread.join()
    return states[0]
