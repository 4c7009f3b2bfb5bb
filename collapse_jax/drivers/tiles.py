"""Tiles: batches of chains that fit the machine, advanced and measured by one compiled call.

Shapes, with `chains` those of one tile:

    key, settings   [chains]
    leaf of a state [chains, ...], or [..., chains] where the process's `runtime.chain_axis` is -1
    metric          [rows, ..., chains], rows the records that one call has memory for

On several devices every axis of chains is cut into one part a device, and no program exchanges
anything. Programs are kept by what is static in them: functions, axes, metrics and devices.
"""

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.marks import is_spoiled
from collapse_jax.core.results import same_structure
from collapse_jax.core.types import Compaction, Process, State
from collapse_jax.drivers.complex_pairs import complex_pairs
from collapse_jax.drivers.host_keys import folded_on_host
from collapse_jax.drivers.shapes import metric_shapes, state_shapes
from collapse_jax.drivers.sharded import called, compiled, mesh_of, sharding_of
from collapse_jax.drivers.vmap_chains import vmap_chains
from collapse_jax.random.bits import fold_in, is_threefry, packed, unpacked

# By chain axis: numbers held by a tile on a CPU, few enough for its caches, and its fewest chains:
# vectors over chains want to be long.
_CPU_NUMBERS, _CPU_FEWEST, _CPU_MOST = {0: 2**20, -1: 2**21}, {0: 64, -1: 2048}, 16384
# Whatever that says, a tile holds no more than this.
_CPU_LARGEST = 2**25
# On accelerators: enough to fill one.
_ACCELERATOR_NUMBERS = 2**30
# Bounded, for a program keeps its process alive.
_keep_programs = functools.lru_cache(256)

Measure = tuple[tuple[str, Callable], ...]


class ChainBatch(NamedTuple):
    """What tells chains apart.

    keys: [chains].
    settings: () or (name -> [chains],) for a process of `process_grid`.
    """

    keys: jax.Array
    settings: tuple = ()


def chains_in_tile(
    process: Process,
    key: jax.Array,
    chains: int,
    settings: Mapping[str, np.ndarray] | None = None,
    devices: Sequence | None = None,
) -> int:
    """Chains that one compiled call takes on, with few to spare.

    Args:
        process: the process.
        key: any key of the simulation.
        chains: how many there are in all.
        settings: name -> [points] of a grid.
        devices: those of this process that are used; None for all, here and below.

    Returns:
        4, 5, 6, 7 or 8 times a power of two, times the devices.
    """
    at_once, num_devices = workers(devices), len(devices or jax.local_devices())
    shapes = state_shapes(process, key, 1, settings)
    each = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    if jax.default_backend() == "cpu":
        axis = process.runtime.chain_axis
        models = process.runtime.models
        fewest = min(max(_CPU_FEWEST[axis] // models, 1), max(_CPU_LARGEST // each, 1))
        most = min(max(_CPU_NUMBERS[axis] // each, fewest), max(_CPU_MOST // models, 1))
    else:
        most = max(_ACCELERATOR_NUMBERS // each, 1)
    most = 2 ** max(math.floor(math.log2(most)), 0)
    share = -(-chains // (num_devices * at_once))
    if share <= most:
        return num_devices * min(most, min(size for size in _sizes_near(share) if size >= share))

    def work(size):
        """Chains that each worker computes, the spare ones included."""
        return -(-chains // (num_devices * size * at_once)) * size

    return num_devices * min(_sizes_near(most), key=lambda size: (work(size), -size))


def _sizes_near(chains):
    """Sizes from half of what holds that many chains up to it: few, so that few are compiled."""
    power = 2 ** math.ceil(math.log2(chains))
    return sorted({-(-power * eighths // 8) for eighths in (4, 5, 6, 7, 8)})


def workers(devices: Sequence | None = None) -> int:
    """How many tiles run at once: one a core on a CPU that is a single device, else one."""
    if jax.default_backend() != "cpu" or len(devices or jax.local_devices()) > 1:
        return 1  # the devices are busy by themselves
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def chain_batch(
    key: jax.Array,
    chains: np.ndarray,
    settings: Mapping[str, np.ndarray] | None = None,
    points: np.ndarray | None = None,
    devices: Sequence | None = None,
    words: np.ndarray | None = None,
) -> ChainBatch:
    """Keys of the numbered chains, and the settings at the numbered points of a grid.

    Args:
        key: that of the simulation.
        chains: [chains] the number of each at its point.
        settings: name -> [points] of a grid.
        points: [chains] the number of each chain's point.
        devices: those to spread the chains over.
        words: [points, 2] what tells the streams of the points apart (`streams.words_of`); None
            gives chains of one number the same key at all points.
    """
    devices = devices or jax.local_devices()
    mesh = jax.sharding.Mesh(np.asarray(devices), ("chains",)) if len(devices) > 1 else None
    sharding = sharding_of(mesh, 1, 0)
    folded = [chains] if words is None else [*np.asarray(words)[points].T, chains]
    folded = [np.asarray(numbers, np.uint32) for numbers in folded]
    if _on_host(mesh) and is_threefry(key):
        keys = folded_on_host(key, *folded)
    else:
        keys = _folded(key, *(jax.device_put(numbers, sharding) for numbers in folded))
    if _is_another(devices):
        # Programs run where their arguments are bound to.
        keys = jax.device_put(keys, devices[0])
    if settings is None:
        return ChainBatch(keys)
    at_points = {name: np.asarray(values)[points] for name, values in settings.items()}
    placed = {
        name: jax.device_put(jnp.asarray(values), sharding) for name, values in at_points.items()
    }
    return ChainBatch(keys, (placed,))


def _is_another(devices):
    """Whether a single device is asked for, which is not the one that JAX takes by itself."""
    default = jax.config.jax_default_device or jax.local_devices()[0]  # pyright: ignore
    return len(devices) == 1 and devices[0] != default


@jax.jit
def _folded(key, *numbers):
    """Keys [chains]: each of the numbers, [chains] all, folded into the key in turn."""
    return jax.vmap(lambda *own: functools.reduce(jax.random.fold_in, own, key))(*numbers)


def placed(leaf, axis: int, like: ChainBatch) -> jax.Array:
    """An array on the devices of a batch, its axis of chains cut as the batch's is."""
    sharding = sharding_of(mesh_of(like.keys), leaf.ndim, axis)
    return jnp.asarray(leaf) if sharding is None else jax.device_put(leaf, sharding)


def start(process: Process, measure: Measure, last_generation: int, batch: ChainBatch):
    """(state, name -> [1, ..., chains]) of generation 0."""
    axis = process.runtime.chain_axis
    program = start_program(process.init, axis, measure, last_generation, mesh_of(batch.keys))
    return called(program, batch)


@_keep_programs
def start_program(init, axis, measure, last_generation, mesh):
    """The compiled `_start`."""
    function = functools.partial(_start, init, axis, measure, last_generation)
    return compiled(function, mesh, in_axes={"batch": 0}, out_axes=(axis, -1))


def _start(init, axis, measure, last_generation, batch):
    def of_one(key, settings):
        return init(fold_in(key, 0), last_generation, *settings)[0]

    state = vmap_chains(of_one, (0, 0), axis)(*batch)
    return state, jax.tree.map(lambda value: value[None], _measured(measure, axis, state))


def allocate(process: Process, measure: Measure, rows: int, state: State, batch: ChainBatch):
    """Name -> zeros [rows, ..., chains]: memory for the records of a tile."""
    axis = process.runtime.chain_axis
    of_one_chain = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.delete(leaf.shape, axis), leaf.dtype), state
    )
    mesh = mesh_of(batch.keys)

    def zeros(metric):
        shape = (rows, *metric.shape, len(batch.keys))
        if _on_host(mesh):  # a copy is quicker than the compilation of a program
            return jax.device_put(np.zeros(shape, metric.dtype), may_alias=False)
        return jnp.zeros(shape, metric.dtype, device=sharding_of(mesh, len(shape), -1))

    return jax.tree.map(zeros, metric_shapes(measure, of_one_chain))


def advance(
    process: Process,
    measure: Measure,
    rows: int,
    state: State,
    batch: ChainBatch,
    done: int,
    recorded: Sequence[int],
    records: dict,
):
    """(state, records) after the generations done + 1 .. recorded[-1].

    Args:
        process: the process.
        measure: (name, function of the state) of each metric.
        rows: how many records there is memory for.
        state: that of generation `done`; its memory is used up.
        batch: the chains.
        done: the newest generation.
        recorded: the generations to measure, at most `rows`.
        records: from `allocate`, or from an earlier call; its memory is used up, because memory
            that a process touches for the first time costs more than a simulation of small models.
            Rows beyond the recorded ones keep what they hold.
    """
    padded = np.zeros(rows, np.int32)
    padded[: len(recorded)] = recorded
    axis = process.runtime.chain_axis
    program = advance_program(process.step, axis, measure, mesh_of(batch.keys))
    which = (np.int32(done), padded, np.int32(len(recorded)))
    return called(program, state, batch, *which, records)


@_keep_programs
def advance_program(step, axis, measure, mesh):
    """The compiled `_advance`."""
    return compiled(
        functools.partial(_advance, step, axis, measure),
        mesh,
        in_axes={"state": axis, "batch": 0, "records": -1},
        out_axes=(axis, -1),
        donate=("state", "records"),
    )


def _advance(step, axis, measure, state, batch, done, recorded, count, records):
    # A loop over records [rows], of which `count` are meant, around a loop over generations.
    to_pairs, from_pairs = complex_pairs(state)

    # XLA on the CPU computes the hash of a key once for each array of results; where there is one
    # array anyway, a key that is carried would only be another pass over memory.
    carries = sum(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in to_pairs(state)) > 1

    def keys_at(generation):
        of_one = functools.partial(_key_at, generation)
        return jax.vmap(of_one)(batch.keys) if carries else batch.keys

    def one_generation(generation, carry):
        keys, pairs = carry

        def of_one(key, settings, state):
            key = unpacked(key) if carries else fold_in(key, generation)
            later = step(key, state, *settings)[0]
            same_structure(state, later)
            return later

        of_all = vmap_chains(of_one, (0, 0, axis), axis)
        later = of_all(keys, batch.settings, from_pairs(pairs))
        return keys_at(generation + 1), to_pairs(later)

    def one_record(i, carry):
        chains, last, records = carry
        chains = jax.lax.fori_loop(last + 1, recorded[i] + 1, one_generation, chains)
        values = _measured(measure, axis, from_pairs(chains[1]))
        # A slice and not `at[i].set`, which would read the rows first, for i may be out of range.
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0)
        return chains, recorded[i], jax.tree.map(put, records, values)

    carry = ((keys_at(done + 1), to_pairs(state)), done, records)
    (_, pairs), _, records = jax.lax.fori_loop(0, count, one_record, carry)
    return from_pairs(pairs), records


def _key_at(generation, key):
    return packed(fold_in(key, generation))


def _measured(measure, axis, state):
    """Name -> [..., chains]."""
    values = vmap_chains(
        lambda state: {name: jnp.asarray(function(state)) for name, function in measure}, (axis,)
    )(state)
    return jax.tree.map(lambda value: jnp.moveaxis(value, 0, -1), values)


def chain_with_nan(process: Process, state: State) -> int | None:
    """The place in its tile of the first chain whose model holds nan."""
    leaves, axis = jax.tree.leaves(state.params), process.runtime.chain_axis
    if not leaves:
        return None
    mesh = mesh_of(leaves[0])
    if _on_host(mesh):
        return _chain_with_nan_on_host(axis, state)
    # [devices]: on each the place of its first such chain, or -1.
    places = np.asarray(_nan_program(axis, mesh)(state))
    devices = np.flatnonzero(places >= 0)
    chains_a_device = leaves[0].shape[axis] // len(places)
    return int(devices[0] * chains_a_device + places[devices[0]]) if len(devices) else None


def _chain_with_nan_on_host(axis, state):
    """`chain_with_nan` by NumPy, which reads the same memory and compiles nothing."""
    wrong: list[Any] = [np.asarray(state.generation) < 0]
    for leaf in jax.tree.leaves(state.params):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            is_nan = np.moveaxis(np.isnan(np.asarray(leaf)), axis, 0)
            wrong.append(is_nan.any(tuple(range(1, is_nan.ndim))))
    places = np.flatnonzero(np.any(wrong, axis=0))
    return int(places[0]) if len(places) else None


def _on_host(mesh):
    """Whether a tile lies in the memory of the host, on a single device."""
    return mesh is None and jax.default_backend() == "cpu"


@_keep_programs
def _nan_program(axis, mesh):
    return compiled(functools.partial(_chain_with_nan, axis), mesh, in_axes={"state": axis})


def _chain_with_nan(axis, state):
    def has_nan(state):
        leaves = [
            leaf
            for leaf in jax.tree.leaves(state.params)
            if jnp.issubdtype(leaf.dtype, jnp.inexact)
        ]
        return jnp.any(jnp.stack([is_spoiled(state), *(jnp.isnan(leaf).any() for leaf in leaves)]))

    is_nan = jax.vmap(has_nan, in_axes=axis)(state)  # [chains]
    return jnp.where(is_nan.any(), jnp.argmax(is_nan), -1)[None]


def most_in_use(compaction: Compaction, axis: int, state: State) -> int:
    """How many parts the fullest chain of a tile has in use; axis: that of chains."""
    program = _in_use_program(compaction.num_in_use, axis, mesh_of(jax.tree.leaves(state)[0]))
    return int(np.max(called(program, state)))  # of [devices]


@_keep_programs
def _in_use_program(num_in_use, axis, mesh):
    function = functools.partial(_most_in_use, num_in_use, axis)
    return compiled(function, mesh, in_axes={"state": axis})


def _most_in_use(num_in_use, axis, state):
    return jnp.max(jax.vmap(lambda state: num_in_use(state.params), in_axes=axis)(state))[None]


def compact(compaction: Compaction, axis: int, size: int, state: State) -> State:
    """The tile with space for `size` parts in each model; axis: that of chains."""
    mesh = mesh_of(jax.tree.leaves(state)[0])
    return called(compact_program(compaction.to_size, axis, size, mesh), state)


@_keep_programs
def compact_program(to_size, axis, size, mesh):
    """The compiled `_compact`."""
    function = functools.partial(_compact, to_size, axis, size)
    return compiled(function, mesh, in_axes={"state": axis}, out_axes=axis)


def _compact(to_size, axis, size, state):
    def of_one(state):
        return state._replace(params=to_size(state.params, size))

    return jax.vmap(of_one, in_axes=axis, out_axes=axis)(state)
