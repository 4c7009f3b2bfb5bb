"""`jax.vmap` over chains; one after the other where batched LAPACK calls never end.

Can go, for plain `jax.vmap`, once the package requires jaxlib >= 0.11.1.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np

# jaxlib before this one cuts a batched LAPACK call on the CPU into pieces that wait for the threads
# that wait for them (ParallelBatchMap in its lapack library): as many calls at once as there are
# cores never end. Batches of one are not cut.
_FIXED_IN = (0, 11, 1)
_LAPACK = set(
    "cholesky eig eigh geqp3 geqrf hessenberg householder_product lu ormqr pivoted_cholesky qr "
    "schur svd sylvester triangular_solve tridiagonal tridiagonal_solve".split()
)


def vmap_chains(function: Callable, in_axes: tuple[int, ...], out_axes: int = 0) -> Callable:
    """`jax.vmap` where every leaf of an argument has the chains on the same axis.

    Where this jaxlib may hang, functions that call LAPACK run one chain after the other: the same
    numbers up to rounding.
    """

    def mapped(*arguments):
        if not (_may_hang() and _calls_lapack(function, in_axes, arguments)):
            return jax.vmap(function, in_axes, out_axes)(*arguments)
        chains_first = tuple(
            jax.tree.map(functools.partial(jnp.moveaxis, source=axis, destination=0), argument)
            for axis, argument in zip(in_axes, arguments, strict=True)
        )
        results = jax.lax.map(lambda of_one: function(*of_one), chains_first)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, out_axes), results)

    return mapped


def _may_hang():
    parts = jaxlib.version.__version__.split(".")[:3]
    version = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)
    return jax.default_backend() == "cpu" and version < _FIXED_IN


def _calls_lapack(function, in_axes, arguments):
    def of_one_chain(leaf, axis):
        return jax.ShapeDtypeStruct(np.delete(leaf.shape, axis), leaf.dtype)

    shapes = [
        jax.tree.map(functools.partial(of_one_chain, axis=axis), argument)
        for axis, argument in zip(in_axes, arguments, strict=True)
    ]
    return not _LAPACK.isdisjoint(_primitives(jax.make_jaxpr(function)(*shapes)))


def _primitives(node):
    """Names of all primitives in a jaxpr, and in those inside it."""
    if isinstance(node, list | tuple):
        return set().union(*map(_primitives, node))
    jaxpr = getattr(node, "jaxpr", node)
    if not hasattr(jaxpr, "eqns"):
        return set()
    inner = (_primitives(list(equation.params.values())) for equation in jaxpr.eqns)
    return {equation.primitive.name for equation in jaxpr.eqns}.union(*inner)
