"""Kernels whose last array axis runs over chains.

Under `vmap` that axis is the batch, so that every operation is one long vector.
"""

import functools
from collections.abc import Callable

import jax
import jax.core
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from collapse_jax.random.derivatives import COUNTS, step_function

_chains_last_p = Primitive("chains_last")
_chains_last_p.multiple_results = True


class chains_last:
    """Decorator: the function of a single chain, from a kernel that works on many.

    Plain `vmap` of a per-chain function moves the chains to the first axis wherever shapes differ,
    which costs a transposition each time. The decorated function takes and returns arrays without
    the axis of chains.

    Args:
        kernel: `kernel(*arrays, **static)` gets arrays [..., chains], with chains = 1 where an
            argument is the same for all. It returns a list of arrays [..., chains], and must treat
            the chains alike. It stays at hand as the attribute `kernel`. Its floats are
            differentiated as they are computed; its integers are counts, which have no derivative
            with respect to floats (see `derivatives`).
    """

    def __init__(self, kernel: Callable[..., list]):
        functools.update_wrapper(self, kernel)
        self.kernel = kernel

    def __call__(self, *arrays: jax.typing.ArrayLike, **static) -> list[Array]:
        bound = functools.partial(self.kernel, **static) if static else self.kernel
        return _chains_last_p.bind(
            *(jnp.asarray(array) for array in arrays),
            kernel=_Bound(self.kernel, tuple(sorted(static.items())), bound),
        )


class _Bound:
    """A kernel with its static arguments; equal ones are compiled once."""

    def __init__(self, kernel, static, bound):
        self._identity, self._bound = (kernel, static), bound

    def call(self, *arrays):
        return [
            result
            if jnp.issubdtype(result.dtype, jnp.inexact)
            else step_function(result, arrays, COUNTS)
            for result in self._bound(*arrays)
        ]

    def __hash__(self):
        return hash(self._identity)

    def __eq__(self, other):
        return isinstance(other, _Bound) and self._identity == other._identity


def _of_one_chain(*arrays, kernel):
    return [result[..., 0] for result in kernel.call(*(array[..., None] for array in arrays))]


def _batched(arrays, axes, *, kernel):
    chains = next(
        array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None
    )
    last = [
        array[..., None] if axis is None else jnp.moveaxis(array, axis, -1)
        for array, axis in zip(arrays, axes, strict=True)
    ]
    results = [
        jnp.broadcast_to(result, (*result.shape[:-1], chains)) for result in kernel.call(*last)
    ]
    return results, [result.ndim - 1 for result in results]


def _differentiated(primals, tangents, *, kernel):
    """The derivative of what the kernel computes, with respect to the arrays that move."""
    moving = [place for place, tangent in enumerate(tangents) if type(tangent) is not ad.Zero]

    def of_moving(*moved):
        arrays = list(primals)
        for place, array in zip(moving, moved, strict=True):
            arrays[place] = array
        return _of_one_chain(*arrays, kernel=kernel)

    results, derivatives = jax.jvp(
        of_moving, [primals[place] for place in moving], [tangents[place] for place in moving]
    )
    return results, [
        derivative
        if jnp.issubdtype(result.dtype, jnp.inexact)
        else ad.Zero(jax.typeof(result).to_tangent_aval())
        for result, derivative in zip(results, derivatives, strict=True)
    ]


_chains_last_p.def_impl(jax.jit(_of_one_chain, static_argnames="kernel"))
_chains_last_p.def_abstract_eval(
    lambda *arrays, kernel: [
        jax.core.ShapedArray(result.shape, result.dtype)
        for result in jax.eval_shape(
            functools.partial(_of_one_chain, kernel=kernel),
            *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays),
        )
    ]
)
mlir.register_lowering(_chains_last_p, mlir.lower_fun(_of_one_chain, multiple_results=True))
batching.primitive_batchers[_chains_last_p] = _batched
ad.primitive_jvps[_chains_last_p] = _differentiated
