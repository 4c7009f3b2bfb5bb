"""Which point a number stands for, in a folder whose grid got more values on its axes.

Checkpoints name their points by keys, which are hashes of settings. Those of older versions have
numbers alone, in the order of the grid that the folder began with; before it grows, the keys of
that grid are written to checkpoints/points.json.
"""

import json
from collections.abc import Sequence

import numpy as np

from collapse_jax.drivers.grids import Batch
from collapse_jax.drivers.streams import words_of
from collapse_jax.errors import InputError, first_line
from collapse_jax.runs import distributed
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.folder import RunFolder

FILE = "points.json"


def keys_of(names: Sequence[str]) -> list[str]:
    """The key of each point, by its name: 16 hexadecimal digits.

    Args:
        names: as `SimulateSettings.stream_name` gives them.
    """
    return [f"{first:08x}{second:08x}" for first, second in words_of(names).tolist()]


class Numbering:
    """Numbers of the points of a grid by their keys."""

    def __init__(self, folder: RunFolder, names: Sequence[str]):
        """Reads what the folder kept of the grid that it began with.

        Args:
            folder: the run folder.
            names: [points] of the grid.
        """
        self.keys = keys_of(names)
        self._number = {key: number for number, key in enumerate(self.keys)}
        self._first = distributed.of_first(lambda: _read(folder))

    @property
    def has_grown(self) -> bool:
        """Whether the grid had fewer values when it began."""
        return self._first is not None

    def points_of(self, number: int, record: dict, whole: Sequence[Batch]) -> np.ndarray | None:
        """Numbers of the points of a checkpoint; None where some are not of this grid.

        Args:
            number: of the checkpoint.
            record: of it.
            whole: the batches of all points, which the oldest checkpoints are numbered by.
        """
        if "keys" in record:
            return self._found(record["keys"])
        if self._first is None:
            return np.array(record["points"], int) if "points" in record else whole[number].numbers
        first = record["points"] if "points" in record else self._first["batches"][number]
        return self._found([self._first["keys"][point] for point in first])

    def _found(self, keys):
        numbers = [self._number.get(key, -1) for key in keys]
        return None if -1 in numbers else np.array(numbers, int)


def keep_first(folder: RunFolder, names: Sequence[str], batches: Sequence[Batch]) -> None:
    """Keeps the keys of the grid that a folder began with, before it grows.

    Args:
        folder: the run folder; it is not opened yet, and is locked while this is written.
        names: [points] of that grid.
        batches: of that grid.
    """

    def write():
        path = folder.checkpoints / FILE
        if path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        first = {
            "keys": keys_of(names),
            "batches": [batch.numbers.tolist() for batch in batches],
        }
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(first), encoding="utf-8")

    folder.lock()
    distributed.on_first(write)


def _read(folder):
    path = folder.checkpoints / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {name: values[name] for name in ("keys", "batches")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} is damaged ({first_line(error, 200)}), and tells which points are there; "
            "choose another --out"
        ) from None
