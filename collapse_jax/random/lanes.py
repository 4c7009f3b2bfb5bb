"""Kernels whose last array axis runs over chains: under `vmap` that axis is the batch, so that
every operation is one long vector.
"""

import functools

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

_lanes_p = Primitive("chain_lanes")
_lanes_p.multiple_results = True


def lanes(kernel):
    """The function of single chains of a kernel that works on many.

    kernel(*arrays, **static) gets arrays [..., chains] (chains = 1 where an argument is the same
    for all) and returns a list of
    arrays [..., chains]; it must treat the chains alike. The result takes and returns arrays
    without that axis. Plain `vmap` of a per-chain function moves the chains to the first axis
    wherever shapes differ, which costs a transposition each time.
    """

    @functools.wraps(kernel)
    def of_one_chain(*arrays, **static):
        bound = functools.partial(kernel, **static) if static else kernel
        return _lanes_p.bind(
            *(jnp.asarray(array) for array in arrays),
            kernel=_Bound(kernel, tuple(sorted(static.items())), bound),
        )

    of_one_chain.kernel = kernel
    return of_one_chain


class _Bound:
    """A kernel with its static arguments, equal to another of the same two, so that nothing is
    compiled twice.
    """

    def __init__(self, kernel, static, bound):
        self._identity, self.call = (kernel, static), bound

    def __hash__(self):
        return hash(self._identity)

    def __eq__(self, other):
        return isinstance(other, _Bound) and self._identity == other._identity


def _one(*arrays, kernel):
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


_lanes_p.def_impl(jax.jit(_one, static_argnames="kernel"))
_lanes_p.def_abstract_eval(
    lambda *arrays, kernel: [
        jax.core.ShapedArray(result.shape, result.dtype)
        for result in jax.eval_shape(
            functools.partial(_one, kernel=kernel),
            *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays),
        )
    ]
)
mlir.register_lowering(_lanes_p, mlir.lower_fun(_one, multiple_results=True))
batching.primitive_batchers[_lanes_p] = _batched
