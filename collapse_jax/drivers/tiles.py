"""Compiled pieces of a simulation: tiles of chains that fit the machine, advanced over some
generations and measured at some of them.
"""

import functools
import math
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.drivers.vmap_chains import vmap_chains
from collapse_jax.random.bits import fold_in

# By chain axis: numbers held by a tile on a CPU, few enough for its caches, and its fewest chains:
# vectors over chains want to be long.
_CPU_NUMBERS, _CPU_FEWEST, _CPU_MOST = {0: 2**20, -1: 2**21}, {0: 64, -1: 2048}, 16384
# Whatever that says, a tile holds no more than this.
_CPU_LARGEST = 2**25
# On accelerators: enough to fill one.
_ACCELERATOR_NUMBERS = 2**30
# XLA's own threads lose more on small vectors than they win; whole tiles run on threads of ours
# instead.
_CPU_OPTIONS = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_multi_thread_eigen": False}


class Lanes(NamedTuple):
    """What tells chains apart. keys: [chains]. settings: () or (name -> [chains],) for a process of
    `process_grid`.
    """

    keys: jax.Array
    settings: tuple = ()


def shapes(process, key, last_generation, settings=None):
    """Shapes of (state, info) of one chain at generation 0."""
    kinds = (
        None
        if settings is None
        else tuple((name, np.asarray(values).dtype) for name, values in settings.items())
    )
    return _shapes(process.init, key.dtype, last_generation, kinds)


@functools.cache
def _shapes(init, key_type, last_generation, kinds):
    # Kept, because tracing takes longer than many a simulation.
    extra = (
        () if kinds is None else ({name: jax.ShapeDtypeStruct((), kind) for name, kind in kinds},)
    )
    return jax.eval_shape(
        lambda key, *settings: init(key, last_generation, *settings),
        jax.ShapeDtypeStruct((), key_type),
        *extra,
    )


def measured_shapes(measure, state):
    """name -> shape and type of what is measured of the state of one chain (arrays, or shapes and
    types).
    """
    leaves, tree = jax.tree.flatten(state)
    return _measured_shapes(
        measure, tree, tuple((tuple(leaf.shape), jnp.dtype(leaf.dtype)) for leaf in leaves)
    )


@functools.cache
def _measured_shapes(measure, tree, leaves):
    state = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])
    return jax.eval_shape(
        lambda state: {name: jnp.asarray(function(state)) for name, function in measure}, state
    )


def chains_in_tile(process, key, chains: int, settings=None, devices=None) -> int:
    """Chains that one compiled call takes on: 4, 5, 6, 7 or 8 times a power of two (times the
    devices), with few to spare.

    devices: those of this process that are used; all by default, here and below.
    """
    at_once, devices = workers(devices), len(devices or jax.local_devices())
    each = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(process, key, 1, settings)))
    if jax.default_backend() == "cpu":
        axis = process.runtime.chain_axis
        fewest = min(_CPU_FEWEST[axis], max(_CPU_LARGEST // each, 1))
        most = min(max(_CPU_NUMBERS[axis] // each, fewest), _CPU_MOST)
    else:
        most = max(_ACCELERATOR_NUMBERS // each, 1)
    most = 2 ** max(math.floor(math.log2(most)), 0)
    share = -(-chains // (devices * at_once))
    if share <= most:
        return devices * min(most, min(size for size in _sizes_near(share) if size >= share))

    def work(size):
        """Chains that each worker computes, the spare ones included."""
        return -(-chains // (devices * size * at_once)) * size

    return devices * min(_sizes_near(most), key=lambda size: (work(size), -size))


def _sizes_near(chains):
    """Sizes from half of what holds that many chains up to it: few of them, so that few programs
    are compiled.
    """
    power = 2 ** math.ceil(math.log2(chains))
    return sorted({-(-power * eighths // 8) for eighths in (4, 5, 6, 7, 8)})


def workers(devices=None) -> int:
    """How many tiles run at once: one a core on a CPU that is a single device, else one (the
    devices are busy by themselves).
    """
    alone = jax.default_backend() == "cpu" and len(devices or jax.local_devices()) == 1
    return (
        len(os.sched_getaffinity(0))
        if alone and hasattr(os, "sched_getaffinity")
        else (os.cpu_count() or 1)
        if alone
        else 1
    )


def chain_keys(key, chains, settings=None, points=None, devices=None) -> Lanes:
    """Keys of the numbered chains, and the settings at the numbered points of a grid, spread over
    the devices.
    """
    devices = devices or jax.local_devices()
    sharding = None
    if len(devices) > 1:
        mesh = jax.sharding.Mesh(np.asarray(devices), ("chains",))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("chains"))
    keys = _keys(key, jax.device_put(np.asarray(chains, np.uint32), sharding))
    extra = (
        ()
        if settings is None
        else ({name: np.asarray(values)[points] for name, values in settings.items()},)
    )
    return Lanes(
        keys, jax.tree.map(lambda values: jax.device_put(jnp.asarray(values), sharding), extra)
    )


def placed(leaf, axis: int, like: Lanes):
    """An array on the devices that the lanes `like` are on, its axis of chains spread as they are."""
    sharding = _spread(leaf.ndim, axis, like)
    return jnp.asarray(leaf) if sharding is None else jax.device_put(leaf, sharding)


def _spread(dimensions, axis, like):
    mesh = _mesh(like.keys)
    return None if mesh is None else jax.sharding.NamedSharding(mesh, _spec(dimensions, axis))


@jax.jit
def _keys(key, numbers):
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)


@functools.cache
def compiled(function, static=(), donated=(), axes=None, mesh=None):
    """`jax.jit` with the options for pieces that run on threads of ours.

    axes, mesh: the axis of chains of each argument that is not static (None: it has none), and of
    each result; with a mesh every device then computes its own chains alone, which the compiler,
    left to itself, would not see in sorts and lists of constants.
    """
    options = _CPU_OPTIONS if jax.default_backend() == "cpu" else None
    if mesh is None:
        return jax.jit(
            function, static_argnums=static, donate_argnums=donated, compiler_options=options
        )

    def apart(*arguments):
        def own(*dynamic):
            places = iter(dynamic)
            return function(
                *(one if number in static else next(places) for number, one in enumerate(arguments))
            )

        dynamic = tuple(one for number, one in enumerate(arguments) if number not in static)
        inward, outward = axes
        specs = _specs(jax.eval_shape(own, *dynamic), outward)
        return jax.shard_map(
            own, mesh=mesh, in_specs=_specs(dynamic, inward), out_specs=specs, check_vma=False
        )(*dynamic)

    return jax.jit(apart, static_argnums=static, donate_argnums=donated, compiler_options=options)


def _specs(trees, axes):
    """How the chains of several trees lie on the devices; of one tree where `axes` is a number."""
    if not isinstance(axes, tuple):
        return jax.tree.map(lambda leaf: _spec(leaf.ndim, axes), trees)
    return tuple(
        jax.tree.map(lambda leaf, axis=axis: _spec(leaf.ndim, axis), tree)
        for tree, axis in zip(trees, axes, strict=True)
    )


def _spec(dimensions, axis):
    return jax.sharding.PartitionSpec(
        *(
            None if axis is None or place != axis % dimensions else "chains"
            for place in range(dimensions)
        )
    )


def _mesh(leaf):
    return leaf.sharding.mesh if isinstance(leaf.sharding, jax.sharding.NamedSharding) else None


def start(process, measure, last_generation, lanes: Lanes):
    """(state, measured [1, ..., chains]) of generation 0, the chains on the process's axis of the
    state.
    """
    started = compiled(
        _start, (0, 1, 2, 3), (), ((0,), (process.runtime.chain_axis, -1)), _mesh(lanes.keys)
    )
    return started(process.init, process.runtime.chain_axis, measure, last_generation, lanes)


def room(process, measure, rows: int, state, lanes: Lanes):
    """name -> [rows, ..., chains], zeros: arrays for the records of a tile."""
    of_one_chain = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            np.delete(leaf.shape, process.runtime.chain_axis), leaf.dtype
        ),
        state,
    )

    def zeros(one):
        shape = (rows, *one.shape, len(lanes.keys))
        return jnp.zeros(shape, one.dtype, device=_spread(len(shape), -1, lanes))

    return jax.tree.map(zeros, measured_shapes(measure, of_one_chain))


def advance(process, measure, rows: int, state, lanes: Lanes, done: int, recorded, records):
    """(state, records) after the generations done + 1 .. recorded[-1], measured at each of
    `recorded`.

    records: from `room(..., rows, ...)` or an earlier call, used up with the state: memory that a
    process touches for the first time costs more than a simulation of small models. Rows beyond the
    recorded ones keep what they hold.
    """
    padded = np.zeros(rows, np.int32)
    padded[: len(recorded)] = recorded
    axis = process.runtime.chain_axis
    advanced = compiled(
        _advance,
        (0, 1, 2),
        (3, 8),
        ((axis, 0, None, None, None, -1), (axis, -1)),
        _mesh(lanes.keys),
    )
    return advanced(
        process.step,
        process.runtime.chain_axis,
        measure,
        state,
        lanes,
        np.int32(done),
        padded,
        np.int32(len(recorded)),
        records,
    )


def _start(init, axis, measure, last_generation, lanes):
    state = vmap_chains(
        lambda key, settings: init(fold_in(key, 0), last_generation, *settings)[0], (0, 0), axis
    )(*lanes)
    return state, jax.tree.map(lambda value: value[None], _measured(measure, axis, state))


def _advance(step, axis, measure, state, lanes, done, recorded, count, records):
    paired, unpaired = _pairing(state)

    def one_generation(generation, carried):
        def one(key, settings, state):
            return step(fold_in(key, generation), state, *settings)[0]

        return paired(vmap_chains(one, (0, 0, axis), axis)(*lanes, unpaired(carried)))

    def one_record(i, carry):
        carried, last, records = carry
        carried = jax.lax.fori_loop(last + 1, recorded[i] + 1, one_generation, carried)
        values = _measured(measure, axis, unpaired(carried))
        return (
            carried,
            recorded[i],
            jax.tree.map(lambda rows, value: rows.at[i].set(value), records, values),
        )

    carried, _, records = jax.lax.fori_loop(0, count, one_record, (paired(state), done, records))
    return unpaired(carried), records


def _pairing(state):
    """Functions that carry the float leaves of a state two by two, as one complex array, and back.

    XLA on the CPU computes what two results share, random bits above all, once for each array of
    results.
    """
    leaves, tree = jax.tree.flatten(state)
    floats = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    pairs = [
        (i, j)
        for i, j in zip(floats[::2], floats[1::2], strict=False)
        if _alike(leaves[i], leaves[j])
    ]
    if jax.default_backend() != "cpu":
        pairs = []
    seconds = {j for _, j in pairs}

    def paired(state):
        leaves = jax.tree.leaves(state)
        for i, j in pairs:
            leaves[i] = jax.lax.complex(leaves[i], leaves[j])
        return [leaf for i, leaf in enumerate(leaves) if i not in seconds]

    def unpaired(carried):
        places = iter(carried)
        leaves = [None if i in seconds else next(places) for i in range(tree.num_leaves)]
        for i, j in pairs:
            leaves[i], leaves[j] = jnp.real(leaves[i]), jnp.imag(leaves[i])
        return jax.tree.unflatten(tree, leaves)

    return paired, unpaired


def _alike(leaf, other):
    return (
        leaf.shape == other.shape
        and leaf.dtype == other.dtype
        and leaf.dtype in (jnp.float32, jnp.float64)
    )


def _measured(measure, axis, state):
    values = vmap_chains(
        lambda state: {name: jnp.asarray(function(state)) for name, function in measure}, (axis,)
    )(state)
    return jax.tree.map(lambda value: jnp.moveaxis(value, 0, -1), values)


def lane_with_nan(process, state) -> int | None:
    """The first chain of a tile whose model holds nan."""
    leaves, axis = jax.tree.leaves(state.params), process.runtime.chain_axis
    if not leaves:
        return None
    found = np.asarray(
        compiled(_lane_with_nan, (0,), (), ((axis,), 0), _mesh(leaves[0]))(axis, state.params)
    )
    first, devices = leaves[0].shape[axis] // len(found), np.flatnonzero(found >= 0)
    return int(devices[0] * first + found[devices[0]]) if len(devices) else None


def _lane_with_nan(axis, params):
    def of_one(params):
        leaves = [
            leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.inexact)
        ]
        return (
            jnp.any(jnp.stack([jnp.isnan(leaf).any() for leaf in leaves]))
            if leaves
            else jnp.zeros((), bool)
        )

    found = jax.vmap(of_one, in_axes=axis)(params)
    return jnp.where(found.any(), jnp.argmax(found), -1)[None]


def most_alive(process, state) -> int:
    """How many parts the fullest chain of a tile has alive."""
    axis = process.runtime.chain_axis
    mesh = _mesh(jax.tree.leaves(state)[0])
    return int(
        np.max(
            compiled(_most_alive, (0, 1), (), ((axis,), 0), mesh)(
                process.runtime.compaction.num_in_use, axis, state
            )
        )
    )


def _most_alive(living, axis, state):
    return jnp.max(jax.vmap(lambda state: living(state.params), in_axes=axis)(state))[None]


def relisted(process, size: int, state):
    """The tile with room for `size` parts in each model."""
    axis = process.runtime.chain_axis
    mesh = _mesh(jax.tree.leaves(state)[0])
    return compiled(_relisted, (0, 1, 2), (), ((axis,), axis), mesh)(
        process.runtime.compaction.to_size, axis, size, state
    )


def _relisted(relist, axis, size, state):
    return jax.vmap(
        lambda state: state._replace(params=relist(state.params, size)), in_axes=axis, out_axes=axis
    )(state)
