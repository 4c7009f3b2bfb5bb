"""Errors for derivatives of counts, choices and rounded values, which JAX cannot give.

A count of points, a drawn label or the position of the largest number is a step function of the
parameters. Its derivative is 0 wherever it exists, but the derivative of its mean is not.
"""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from collapse_jax.errors import InputError

# values..., of... -> values...
_step_p = Primitive("step_function")
_step_p.multiple_results = True

COUNTS = (
    "counts are whole numbers, and have no derivative with respect to the probabilities that "
    "they are drawn with; differentiate a closed form, or take differences of simulations"
)
CHOICES = (
    "which outcome is drawn has no derivative with respect to its probability; differentiate a "
    "closed form, or take differences of simulations"
)

CUT = (
    "which outcomes a model is cut down to has no derivative with respect to the probability p "
    "that it keeps; take differences of simulations"
)


def step_function(values: Any, of: Any, why: str) -> Any:
    """Returns the values unchanged, and marks them as a step function of other numbers.

    Programs without derivatives are not affected.

    Args:
        values: any tree of arrays.
        of: the tree of numbers that they depend on. Only floats can be differentiated.
        why: the message of the error, which states what has no derivative and what to do instead.

    Raises:
        InputError: where JAX differentiates with respect to a number in `of`, whether by `grad`,
            `jvp`, `linearize`, `jacfwd` or `jacrev`, and under `jit`, `vmap` and `scan` too.
    """
    moving = [leaf for leaf in jax.tree.leaves(of) if _may_move(leaf)]
    if not moving:
        return values
    leaves, tree = jax.tree.flatten(values)
    arrays = map(jnp.asarray, leaves)
    return tree.unflatten(_step_p.bind(*arrays, *moving, count=len(leaves), why=why))


def _may_move(leaf):
    return isinstance(leaf, jax.core.Tracer) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _refuse(primals, tangents, *, count, why):
    if any(type(tangent) is not ad.Zero for tangent in tangents[count:]):
        raise InputError(why)
    return _step_p.bind(*primals, count=count, why=why), tangents[:count]


_step_p.def_impl(lambda *arrays, count, why: list(arrays[:count]))
_step_p.def_abstract_eval(lambda *avals, count, why: list(avals[:count]))
mlir.register_lowering(_step_p, lambda _, *arrays, count, why: list(arrays[:count]))
ad.primitive_jvps[_step_p] = _refuse
batching.primitive_batchers[_step_p] = lambda arrays, axes, *, count, why: (
    _step_p.bind(*arrays, count=count, why=why),
    axes[:count],
)
