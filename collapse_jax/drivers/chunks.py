"""A simulation chunk by chunk: generation 0 first, then up to `chunk` records at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from collapse_jax.core.types import State
from collapse_jax.drivers.all_chains import AllChains, Sink
from collapse_jax.drivers.plan import Simulation
from collapse_jax.drivers.trace import Trace


class Records(NamedTuple):
    """What was recorded at some generations.

    generations: [recorded] their numbers.
    arrays: name -> [chain, recorded, ...], or [recorded, ...] for statistics over chains.
    """

    generations: np.ndarray
    arrays: dict[str, np.ndarray]


class Chunk(NamedTuple):
    """`Records` of all chains, and their state.

    generations: [recorded] their numbers.
    arrays: name -> [chain, recorded, ...], or [recorded, ...] for statistics over chains.
    copy_state: () -> the state of all chains [chain, ...] after the last of them, on the host. It
        is gone once the next chunk is asked for.
    state_bytes: () -> bytes of the states of this process's chains.
    """

    generations: np.ndarray
    arrays: dict[str, np.ndarray]
    copy_state: Callable[[], State]
    state_bytes: Callable[[], int] = lambda: 0


def chunks_of(simulation: Simulation, sink: Sink) -> Iterator[Chunk]:
    """The chunks of a simulation from its start or its `after`; their arrays are the sink's."""
    plan, recorded = simulation.plan, simulation.recorded
    with AllChains(simulation, sink) as chains:
        if plan.after is None:
            done = 0
            started = chains.start()
            yield Chunk(np.zeros(1, int), started, chains.copy_state, chains.state_bytes)
        else:
            done, state = plan.after
            chains.restore(state)
        left = recorded[recorded > done]
        # The same for every call, so that a shorter one is not another program.
        rows = min(plan.chunk, len(left))
        while len(left):
            now = left[: plan.chunk]
            compaction = simulation.process.runtime.compaction
            if compaction is not None:
                chains.compact(compaction)
                # Support falls like 1 / generation: a pause at every doubling keeps what is
                # carried small.
                pause = max(2 * done, 1)
                if left[0] > pause:
                    chains.skip(done, pause, rows)
                    done = pause
                    continue
                now = now[now <= pause]
            advanced = chains.advance(done, now, rows)
            yield Chunk(now, advanced, chains.copy_state, chains.state_bytes)
            done, left = int(now[-1]), left[len(now) :]


def join_chunks(chunks: Sequence[Chunk | Records]) -> Trace:
    """The `Trace` of the chunks of `simulate_chunks`, in their order."""
    joined = join_records(chunks, axis=1)
    return Trace(joined.arrays, joined.generations)


def join_records(parts: Sequence[Chunk | Records], axis: int) -> Records:
    """Records behind each other; axis: that of what is recorded, 1, or 0 of statistics."""
    if len(parts) == 1:
        return Records(parts[0].generations, parts[0].arrays)
    arrays = {
        name: np.concatenate([part.arrays[name] for part in parts], axis)
        for name in parts[0].arrays
    }
    return Records(np.concatenate([part.generations for part in parts]), arrays)
