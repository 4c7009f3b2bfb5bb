"""Whether a function takes numbers from elsewhere than its arguments."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def takes_from_outside(function: Callable, key: jax.Array) -> bool:
    """Whether two programs of function(key) hold other constants.

    NumPy's and Python's generators, and the time, are asked while JAX traces a function. What they
    give becomes a constant of the program, the same for all keys.
    """
    first = _constants(jax.make_jaxpr(lambda key: function(key))(key))
    # With a device of its own, JAX does not take what it has traced inside before.
    with jax.default_device(jax.local_devices()[0]):
        second = _constants(jax.make_jaxpr(lambda key: function(key))(key))
    return len(first) != len(second) or not all(map(_equal, first, second))


def _constants(node) -> list:
    """The constants of a jaxpr, and of those inside it, in their order."""
    if isinstance(node, list | tuple):
        return [constant for one in node for constant in _constants(one)]
    found = [*getattr(node, "consts", ())]
    jaxpr = getattr(node, "jaxpr", node)
    for equation in getattr(jaxpr, "eqns", ()):
        found += [variable.val for variable in equation.invars if hasattr(variable, "val")]
        found += _constants(list(equation.params.values()))
    return found


def _equal(a, b):
    if jnp.issubdtype(getattr(a, "dtype", type(None)), jax.dtypes.extended):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
