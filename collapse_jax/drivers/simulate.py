"""The traceable driver: chains by `vmap`, generations by `scan`, spread over all devices."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import InputError
from collapse_jax.metrics import resolve_metrics
from collapse_jax.trace import Trace
from collapse_jax.types import Process, State

_DEFAULT_METRICS = ("mean", "variance", "log_variance")


class Chunk(NamedTuple):
    """Some generations of all chains.

    generations: [recorded] their numbers. arrays: name -> [chain, recorded, ...].
    copy_state(): the state of all chains after the last of them, on the host; it is gone once the next chunk is asked for.
    """

    generations: np.ndarray
    arrays: dict[str, np.ndarray]
    copy_state: Callable[[], State]


def simulate(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    chains: int = 1,
    metrics: Iterable = _DEFAULT_METRICS,
    chunk: int = 100,
    progress: Callable[[int], None] = lambda generation: None,
) -> Trace:
    """Metrics of chains 0 .. chains - 1 at generations 0 .. generations: `trace[name]` is a NumPy array [chain, generation, ...].

    metrics: names that the estimator offers, or functions of the state. chunk: generations in one compiled call; progress is called
    with the newest generation after each. Chain c uses `fold_in(key, c)`, and generation g of it `fold_in(fold_in(key, c), g)`:
    asking for more chains or generations, other chunks or devices, changes no number. (Integers bit for bit; float32 up to rounding,
    2e-5 relative in the tests, because XLA fuses programs of other shapes differently.)
    Raises `InputError` for sizes that have no meaning, an unknown metric, or an estimator that is not traceable (use `run`).
    """
    parts = []
    for part in simulate_chunks(process, key, generations=generations, chains=chains, metrics=metrics, chunk=chunk):
        parts.append(part)
        progress(int(part.generations[-1]))
    return join_chunks(parts)


def simulate_chunks(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    chains: int = 1,
    metrics: Iterable = _DEFAULT_METRICS,
    chunk: int = 100,
    after: tuple[int, State] | None = None,
) -> Iterator[Chunk]:
    """The same as `simulate`, chunk by chunk: generation 0 first, then `chunk` generations at a time.

    after: (generation, state of all chains) from which to go on, as an earlier chunk's `copy_state` gave it.
    """
    for name, value, least in (("generations", generations, 0), ("chains", chains, 1), ("chunk", chunk, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} is {value!r}; it must be an integer of at least {least}")
    if not process.estimator.traceable:
        raise InputError("this estimator fits or samples on the host; use run instead of simulate")
    measure = tuple(resolve_metrics(process.estimator, metrics).items())
    keys = _chain_keys(key, chains)
    if after is None:
        state, first = _start(process.init, measure, generations, keys)
        yield Chunk(np.zeros(1, int), _on_host(first, chains), functools.partial(_first_chains, state, chains))
        done = 0
    else:
        done, state = after
        state = _padded(jax.vmap(lambda one: process.resize(one, generations))(state), len(keys))
        state = state if len(jax.devices()) == 1 else jax.device_put(state, keys.sharding)
    while done < generations:
        numbers = np.arange(done + 1, min(done + chunk, generations) + 1)
        state, values = _go_on(process.step, measure, state, keys, jnp.asarray(numbers))
        done = int(numbers[-1])
        yield Chunk(numbers, _on_host(values, chains), functools.partial(_first_chains, state, chains))


def join_chunks(chunks: list[Chunk]) -> Trace:
    """The `Trace` of chunks in their order."""
    names = chunks[0].arrays
    arrays = {name: np.concatenate([part.arrays[name] for part in chunks], axis=1) for name in names}
    return Trace(arrays, np.concatenate([part.generations for part in chunks]))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _start(init, measure, last_generation, keys):
    def one(key):
        state, _ = init(jax.random.fold_in(key, 0), last_generation)
        return state, _measured(measure, state)

    state, values = jax.vmap(one)(keys)
    return state, jax.tree.map(lambda value: value[None], values)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _go_on(step, measure, state, keys, generations):
    def one_generation(state, generation):
        def one(key, state):
            state, _ = step(jax.random.fold_in(key, generation), state)
            return state, _measured(measure, state)

        return jax.vmap(one)(keys, state)

    return jax.lax.scan(one_generation, state, generations)


def _measured(measure, state):
    return {name: jnp.asarray(function(state)) for name, function in measure}


def _chain_keys(key, chains):
    """Keys of the chains, spread over all devices; their number is padded to a multiple of the devices."""
    devices = jax.devices()
    padded = math.ceil(chains / len(devices)) * len(devices)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(padded, dtype=jnp.uint32))
    if len(devices) == 1:
        return keys
    mesh = jax.make_mesh((len(devices),), ("chain",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.device_put(keys, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("chain")))


def _padded(state, chains):
    def pad(leaf):
        return jnp.concatenate([leaf, jnp.repeat(leaf[-1:], chains - len(leaf), axis=0)]) if len(leaf) < chains else jnp.array(leaf)

    return jax.tree.map(pad, state)


def _first_chains(state, chains):
    return jax.tree.map(lambda leaf: np.array(leaf[:chains]), state)


def _on_host(values, chains):
    """NumPy arrays [chain, recorded, ...] of device arrays [recorded, chain, ...]."""
    return {name: np.swapaxes(np.asarray(value), 0, 1)[:chains] for name, value in values.items()}
