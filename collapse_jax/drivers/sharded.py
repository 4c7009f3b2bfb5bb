"""Compiled programs for pieces of a simulation, whose chains may be spread over several devices."""

import inspect
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax

# Tiles run on threads of ours: XLA's own lose more on small vectors than they win.
_CPU_OPTIONS = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_multi_thread_eigen": False}
# Program -> the shapes that it is compiled for.
_compiled: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_compiling = threading.Lock()


def compiled(
    function: Callable,
    mesh: jax.sharding.Mesh | None = None,
    in_axes: Mapping[str, int] | None = None,
    out_axes: int | tuple[int, ...] = 0,
    donate: tuple[str, ...] = (),
) -> Callable:
    """`jax.jit` for tiles; with a mesh, each device computes its own chains alone.

    The compiler, left to itself, would not see that it can in sorts and in lists of constants.

    Args:
        function: of positional arguments, static ones bound by `functools.partial`.
        mesh: the devices; None for a single one.
        in_axes: argument -> its axis of chains; those left out are the same on all devices.
        out_axes: the axis of chains of the result, or of each result of a tuple.
        donate: arguments whose memory the results may use.
    """
    names = tuple(inspect.signature(function).parameters)
    if mesh is not None:
        axes = tuple((in_axes or {}).get(name) for name in names)
        function = _on_each_device(function, mesh, axes, out_axes)
    return jax.jit(
        function,
        donate_argnums=[names.index(name) for name in donate],
        compiler_options=_CPU_OPTIONS if jax.default_backend() == "cpu" else None,
    )


def called(program: Callable, *arguments: Any) -> Any:
    """What a program of `compiled` gives; threads that call it together wait for one compilation.

    JAX, left to itself, compiles it once in each of them.
    """
    leaves, tree = jax.tree.flatten(arguments)
    shapes = (tree, *((leaf.shape, leaf.dtype, getattr(leaf, "sharding", None)) for leaf in leaves))
    if shapes not in _compiled.get(program, ()):
        with _compiling:
            if shapes not in _compiled.setdefault(program, set()):
                program.lower(*arguments).compile()
                _compiled[program].add(shapes)
    return program(*arguments)


def _on_each_device(function, mesh, in_axes, out_axes):
    def on_each(*arguments):
        results = jax.eval_shape(function, *arguments)
        if isinstance(out_axes, tuple):
            out_specs = tuple(map(_specs, results, out_axes))
        else:
            out_specs = _specs(results, out_axes)
        in_specs = tuple(map(_specs, arguments, in_axes))
        shards = jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )
        return shards(*arguments)

    return on_each


def _specs(tree, axis):
    return jax.tree.map(lambda leaf: _spec(leaf.ndim, axis), tree)


def _spec(dimensions, axis):
    """How an array lies on the devices: cut along `axis`, or the same on all where that is None."""
    parts = [None] * dimensions
    if axis is not None:
        parts[axis] = "chains"
    return jax.sharding.PartitionSpec(*parts)


def mesh_of(array: jax.Array) -> jax.sharding.Mesh | None:
    """The devices that chains are spread over; None for a single one."""
    mesh = getattr(array.sharding, "mesh", None)
    return mesh if isinstance(mesh, jax.sharding.Mesh) else None


def sharding_of(
    mesh: jax.sharding.Mesh | None, dimensions: int, axis: int
) -> jax.sharding.NamedSharding | None:
    """How an array with its chains on an axis lies on the devices; None for a single one."""
    return None if mesh is None else jax.sharding.NamedSharding(mesh, _spec(dimensions, axis))
