"""The records of chains on disk, and the state from which the chains continue."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from collapse_jax.core.types import State
from collapse_jax.drivers.chunks import Chunk, Records, join_records
from collapse_jax.errors import DamagedError
from collapse_jax.runs.checkpoint import Checkpoints

# States that stay: one to go back to where the newest is damaged.
_STATES_KEPT = 2


class SavedRecords:
    """Checkpoints that each contain the records since the previous one, so each is written once.

    The newest two also contain the state. If a checkpoint on which newer ones build is damaged, all
    chains start again. Checkpoints of version 0.1.0 contain everything up to their generation and
    do not build on others.

    axis: the axis of recorded generations in the arrays.
    after: (generation, state) from which to continue; None at the start.
    """

    # The checkpoints that hold the parts, in their order.
    _numbers: list[int]

    def __init__(
        self, folder: pathlib.Path, template: State, axis: int, say: Callable[[str], None]
    ):
        self._checkpoints, self._axis = Checkpoints(folder, say=say), axis
        self._parts: list[Records] = []
        self._numbers = []
        self.after: tuple[int, State] | None = None
        for generation in reversed(self._checkpoints.generations()[-_STATES_KEPT:]):
            if self._restored(generation, template):
                return
        for generation in self._checkpoints.generations():
            self._checkpoints.delete(generation)

    def _restored(self, newest, template):
        """Whether everything up to a generation is undamaged; damaged checkpoints are set aside."""
        at, parts, numbers = newest, [], []
        try:
            state = self._checkpoints.restore_state(newest, template)
            while at is not None:
                record, arrays = self._checkpoints.restore_record(at)
                parts.append(Records(np.array(record["generations"]), arrays))
                numbers.append(at)
                at = record.get("after")
        except DamagedError as error:
            if at in self._checkpoints.generations():
                self._checkpoints.set_aside(at, error)
            return False
        self._parts, self._numbers = parts[::-1], numbers[::-1]
        self.after = (newest, state)
        return True

    def save(self, generation: int, chunks: Sequence[Chunk]) -> None:
        """Saves the chunks since the last call, up to a generation, and the state there."""
        part = join_records(chunks, self._axis)
        before = self._checkpoints.generations()
        record = {"generations": part.generations.tolist(), "after": before[-1] if before else None}
        self._checkpoints.save(generation, chunks[-1].copy_state(), record, part.arrays)
        for earlier in before[-2:-1]:
            self._checkpoints.drop_state(earlier)
        self._parts.append(part)
        self._numbers.append(generation)

    @property
    def chains(self) -> int | None:
        """Returns the number of saved chains; None if nothing is saved."""
        return None if self.after is None else len(jax.tree.leaves(self.after[1])[0])

    @property
    def generations(self) -> np.ndarray:
        """[recorded] the generations that are saved."""
        return np.concatenate([np.zeros(0, int), *(part.generations for part in self._parts)])

    def lacks(self, name: str) -> bool:
        """Whether a saved part contains neither a metric nor its statistics over chains."""
        return any(not {name, f"{name}_mean"} & part.arrays.keys() for part in self._parts)

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds what was measured later, for all `generations`, next to what was saved."""
        first = 0
        for number, part in zip(self._numbers, self._parts, strict=True):
            until = first + len(part.generations)
            own = (slice(None),) * self._axis + (slice(first, until),)
            new = {name: np.ascontiguousarray(values[own]) for name, values in arrays.items()}
            self._checkpoints.add(number, new)
            part.arrays.update(new)
            first = until

    def joined(self) -> Records:
        """Returns everything that was recorded; to be called once.

        A part is released as it is joined, so that at most one metric is in memory twice.
        """
        parts, self._parts = self._parts, []
        generations = np.concatenate([part.generations for part in parts])
        names = [name for name in parts[0].arrays if all(name in part.arrays for part in parts)]
        arrays = {
            name: np.concatenate([part.arrays.pop(name) for part in parts], self._axis)
            for name in names
        }
        return Records(generations, arrays)

    def close(self) -> None:
        """Waits until everything has been written."""
        self._checkpoints.close()
