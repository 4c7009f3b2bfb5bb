"""Shapes and types of one chain's state and metrics, found without computing anything.

They are kept, because tracing takes longer than many a simulation.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import results
from collapse_jax.core.process import keeps_buffers
from collapse_jax.core.recipes.keys import context
from collapse_jax.core.types import Process


def state_shapes(
    process: Process,
    key: jax.Array,
    last_generation: int,
    settings: Mapping[str, np.ndarray] | None = None,
):
    """(state, info) of one chain at generation 0; settings: name -> [points] of a grid."""
    dtypes = None
    if settings is not None:
        dtypes = tuple((name, np.asarray(values).dtype) for name, values in settings.items())
    # One trace for all runs of a process whose states do not grow.
    grows = settings is not None or keeps_buffers(process)
    last = last_generation if grows else 0
    return _state_shapes(process.init, key.dtype, last, dtypes, context())


# Bounded, for what is kept keeps a process alive; under: the options of JAX, such as 64 bits.
@functools.lru_cache(256)
def _state_shapes(init, key_dtype, last_generation, dtypes, under):
    at_point = ()
    if dtypes is not None:
        at_point = ({name: jax.ShapeDtypeStruct((), dtype) for name, dtype in dtypes},)
    return jax.eval_shape(
        lambda key, *settings: init(key, last_generation, *settings),
        jax.ShapeDtypeStruct((), key_dtype),
        *at_point,
    )


def metric_shapes(measure: tuple[tuple[str, Callable], ...], state) -> dict:
    """Name -> shape and type of each metric of one chain.

    Args:
        measure: (name, function of the state) of each metric.
        state: that of one chain, in arrays or in shapes and types.
    """
    leaves, tree = jax.tree.flatten(state)
    shapes = tuple((tuple(leaf.shape), jnp.dtype(leaf.dtype)) for leaf in leaves)
    return _metric_shapes(measure, tree, shapes, context())


@functools.lru_cache(256)
def _metric_shapes(measure, tree, shapes, under):
    state = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return jax.eval_shape(
        lambda state: {
            name: jnp.asarray(results.measured(name, function, state)) for name, function in measure
        },
        state,
    )
