"""The saved points of a grid: statistics of batches, from one call or several parallel calls.

A call for the whole grid saves below checkpoints/grid, a call for a part below
checkpoints/points_I_of_N. A checkpoint names its points. Checkpoints of versions before 0.3 do not;
they contain the batch with their number.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from collapse_jax.app.commands.numbered_points import Numbering
from collapse_jax.drivers.grids import Batch, Gathered, flat
from collapse_jax.errors import DamagedError
from collapse_jax.runs import distributed
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder

_PART = re.compile(r"points_([1-9][0-9]{0,8})_of_([1-9][0-9]{0,8})")
_WHOLE = "grid"
# Numbers of points that a line names.
_MOST_NAMED = 8


def name_of_part(part: tuple[int, int]) -> str:
    """Returns the name of the part (I, N) in the checkpoints and locks of a folder."""
    return f"points_{part[0]}_of_{part[1]}"


def points_of_part(part: tuple[int, int], count: int) -> np.ndarray:
    """Returns the numbers of the points of the part (I, N) of a grid of `count` points."""
    return np.arange(part[0] - 1, count, part[1])


class SavedPoints:
    """Checkpoints of batches, each with the statistics of its points.

    is_done: bool [points], which points are saved. A call for a part knows only its own points.
    """

    def __init__(
        self,
        folder: RunFolder,
        part: tuple[int, int] | None,
        whole: Sequence[Batch],
        numbering: Numbering,
        last_generation: int,
        say: Callable[[str], object],
    ):
        """Reads the checkpoints; damaged ones are set aside, and unfinished ones are deleted.

        Args:
            folder: The run folder, locked.
            part: The part of this call; None is all.
            whole: The batches of all points, whose numbers old checkpoints use.
            numbering: The numbers of the grid's points.
            last_generation: The generation that the batches must contain.
            say: Called with a line about a damaged checkpoint.
        """
        self._whole, self._last, self._numbering = whole, last_generation, numbering
        self._count = sum(len(batch.numbers) for batch in whole)
        own = _WHOLE if part is None else name_of_part(part)
        self._own = Checkpoints(folder.checkpoints / own, say=say)
        distributed.barrier()
        self._parts = {} if part is not None else dict(_parts_in(folder))
        self._all = [self._own, *(Checkpoints(path, say=say) for path in self._parts.values())]
        self.is_done = np.zeros(self._count, bool)
        # (where, its number, its points, names of its arrays) of each checkpoint.
        self._entries = [
            (checkpoints, *entry)
            for checkpoints in self._all
            for entry in self._whole_ones(checkpoints)
        ]
        if part is not None and numbering.has_grown:
            self._see_others(folder)

    def _see_others(self, folder):
        """Takes what other calls have saved as done, where a grid grew after it was simulated.

        Nothing of theirs is changed, and what cannot be read is made again.
        """
        paths = [folder.checkpoints / _WHOLE, *(path for _, path in _parts_in(folder))]
        for path in paths:
            if path == self._own.folder or not path.is_dir():
                continue
            others = Checkpoints(path, say=lambda line: None, read_only=True)
            for number in others.generations():
                with contextlib.suppress(DamagedError, OSError, KeyError):
                    record, _ = others.restore_record(number)
                    points = self._numbering.points_of(number, record, self._whole)
                    if points is not None and record["generations"][-1] >= self._last:
                        self.is_done[points] = True
            others.close()

    def _whole_ones(self, checkpoints) -> Iterator[tuple[int, np.ndarray, set[str]]]:
        """(number, points, names) of the checkpoints that reach the last generation."""
        for number in checkpoints.generations():
            try:
                record, arrays = checkpoints.restore_record(number)
            except DamagedError as error:
                checkpoints.set_aside(number, error)
                continue
            points = self._numbering.points_of(number, record, self._whole)
            if record["generations"][-1] >= self._last and points is not None:
                self.is_done[points] = True
                yield number, points, set(arrays)
            elif checkpoints is self._own:
                checkpoints.delete(number)

    def missing_parts(self) -> list[str]:
        """Returns a line for every part that some call started and that is incomplete."""
        lines = []
        for count in sorted({count for _, count in self._parts}):
            for first in range(1, count + 1):
                points = points_of_part((first, count), self._count)
                left = int((~self.is_done[points]).sum())
                if left:
                    lines.append(f"points {first}/{count}: {left:,} of {len(points):,} are missing")
        if len(lines) > _MOST_NAMED:
            lines[_MOST_NAMED:] = [f"and {len(lines) - _MOST_NAMED} parts more"]
        return lines

    def left(self, batches: Sequence[Batch]) -> list[tuple[int, Batch]]:
        """Returns (number to save it by, its unfinished points) for each batch of this call."""
        rest = [(number, batch.without(self.is_done)) for number, batch in enumerate(batches)]
        rest = [(number, batch) for number, batch in rest if len(batch.numbers)]
        used = set(self._own.generations())
        if used.isdisjoint(number for number, _ in rest):
            return rest
        # Others have these numbers, of the grid as it was.
        return [(max(used) + 1 + place, batch) for place, (_, batch) in enumerate(rest)]

    def save(self, number: int, batch: Batch, generations: np.ndarray, statistics: dict) -> None:
        """Saves the statistics of a batch, metric -> statistic -> [points, recorded, ...]."""
        points = batch.numbers.tolist()
        keys = [self._numbering.keys[point] for point in points]
        record = {"generations": generations.tolist(), "points": points, "keys": keys}
        state = {"points": np.array(len(points))}
        arrays = flat(statistics)
        self._own.save(number, state, record, arrays)
        self.is_done[batch.numbers] = True
        self._entries.append((self._own, number, batch.numbers, set(arrays)))

    def gathered(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(generations, "statistic:metric" -> [points, recorded, ...]) of all saved batches."""
        whole, generations = Gathered(self._count), np.zeros(0, int)
        for checkpoints, number, points, _ in self._entries:
            record, arrays = checkpoints.restore_record(number)
            generations = np.array(record["generations"])
            whole.put(points, {name: values.astype(float) for name, values in arrays.items()})
        return generations, whole.arrays

    def lacking(self, names: Sequence[str]) -> Iterator[tuple[list[str], np.ndarray, Callable]]:
        """Yields (missing metrics, points, function that adds statistics) for each checkpoint.

        Added arrays, "statistic:metric" -> [points, ...], are stored next to those that were saved.
        """
        for checkpoints, number, points, there in self._entries:
            missing = [name for name in names if f"mean:{name}" not in there]
            if missing:
                yield missing, points, functools.partial(checkpoints.add, number)

    def close(self) -> None:
        """Waits until everything has been written."""
        for checkpoints in self._all:
            checkpoints.close()


def _parts_in(folder):
    """((I, N), folder of checkpoints) of all parts that calls have started, in order."""
    found = []
    for path in folder.checkpoints.glob("points_*"):
        name = _PART.fullmatch(path.name)
        if name and path.is_dir():
            found.append(((int(name[1]), int(name[2])), path))
    return sorted(found, key=lambda one: (one[0][1], one[0][0]))
