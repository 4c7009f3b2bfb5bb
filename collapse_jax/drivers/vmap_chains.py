"""`jax.vmap` over chains, or one chain after the other where batched LAPACK calls would wait for
each other for ever.
"""

import functools

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

# jaxlib before this one cuts a batched LAPACK call on the CPU into pieces that wait for the threads
# that wait for them (ParallelBatchMap in its lapack library): as many calls at once as there are
# cores never end. Batches of one are not cut.
_FIXED_IN = (0, 11, 1)
_LAPACK = {
    "cholesky", "triangular_solve", "eigh", "eig", "svd", "qr", "geqrf", "geqp3", "householder_product", "ormqr", "lu", "schur",
    "sylvester", "hessenberg", "tridiagonal", "tridiagonal_solve", "pivoted_cholesky",
}  # fmt: skip


def vmap_chains(function, in_axes: tuple[int, ...], out_axes: int = 0):
    """`jax.vmap(function, in_axes, out_axes)` for arguments whose every leaf has the chains on the
    same axis.

    Where this jaxlib may hang, functions that call LAPACK run one chain after the other: the same
    numbers up to rounding.
    """

    def mapped(*arguments):
        if not (_may_hang() and _calls_lapack(function, in_axes, arguments)):
            return jax.vmap(function, in_axes, out_axes)(*arguments)
        first = tuple(
            jax.tree.map(functools.partial(jnp.moveaxis, source=axis, destination=0), argument)
            for axis, argument in zip(in_axes, arguments, strict=True)
        )
        found = jax.lax.map(lambda one: function(*one), first)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, out_axes), found)

    return mapped


def _may_hang():
    version = tuple(
        int("".join(filter(str.isdigit, part)) or 0) for part in jaxlib.__version__.split(".")[:3]
    )
    return jax.default_backend() == "cpu" and version < _FIXED_IN


def _calls_lapack(function, in_axes, arguments):
    ones = [
        jax.tree.map(
            lambda leaf, axis=axis: jax.ShapeDtypeStruct(np.delete(leaf.shape, axis), leaf.dtype),
            argument,
        )
        for axis, argument in zip(in_axes, arguments, strict=True)
    ]
    return not _LAPACK.isdisjoint(_primitives(jax.make_jaxpr(function)(*ones)))


def _primitives(node):
    """Names of all primitives in a jaxpr, and in those inside it."""
    if isinstance(node, list | tuple):
        return set().union(*map(_primitives, node))
    jaxpr = getattr(node, "jaxpr", node)
    if not hasattr(jaxpr, "eqns"):
        return set()
    inner = (_primitives(list(equation.params.values())) for equation in jaxpr.eqns)
    return {equation.primitive.name for equation in jaxpr.eqns}.union(*inner)
