"""The devices that a command runs on.

No number depends on them, so they are not among the settings of a run folder.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from collapse_jax.app.config.checks import at_least
from collapse_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices and processes of one call; the next call on the same run folder may have others."""

    devices: int | None = None
    """Use the first N devices of each process; by default all."""
    distributed: bool = False
    """This is one process of several: found through Slurm, Open MPI, Kubernetes or a TPU pod, or
    told by the next three options."""
    coordinator: str | None = None
    """HOST:PORT where process 0 listens, reached by all."""
    num_processes: int | None = None
    process_id: int | None = None
    """0 to num_processes - 1; process 0 writes the run folder."""

    def check(self) -> None:
        """Raises `InputError` for the first field whose value means nothing."""
        if self.devices is not None:
            at_least(self, 1, "devices")
        names = ("coordinator", "num_processes", "process_id")
        missing = [name for name in names if getattr(self, name) is None]
        if missing and len(missing) < len(names):
            given = next(name for name in names if name not in missing)
            raise InputError(
                f"{given} is {getattr(self, given)}, but {', '.join(missing)} is not given; give "
                "all three, or --distributed alone"
            )
        if self.coordinator is None or self.num_processes is None or self.process_id is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise InputError(f"coordinator is {self.coordinator!r}; it must be HOST:PORT")
        at_least(self, 1, "num_processes")
        if not 0 <= self.process_id < self.num_processes:
            raise InputError(
                f"process_id is {self.process_id}; it must be 0 to {self.num_processes - 1}, one "
                "of num_processes"
            )

    def check_for(self, settings: Any) -> None:
        """`check`, and that the fields go with the command's settings."""
        self.check()

    def given(self, settings: Any, devices: Sequence) -> tuple:
        """What the command's function gets: here the devices of this process.

        Args:
            settings: The command's settings.
            devices: Those to use, of all processes.
        """
        from collapse_jax.runs import distributed

        here = distributed.process()
        return ([device for device in devices if device.process_index == here],)


@dataclasses.dataclass(frozen=True)
class PointDevices(Devices):
    """Devices and processes of a call that simulates the points of a grid, or a part of them."""

    points: str = ""
    """I/N: simulate the points I, I + N, I + 2N ... of the grid alone, for I from 1 to N. Other
    calls may simulate the others in the same folder meanwhile; the call without this, once they are
    done, gathers all, and simulates what is missing."""

    def part(self) -> tuple[int, int] | None:
        """(I, N), or None for all points.

        Raises:
            InputError: if `points` is not I/N.
        """
        if not self.points:
            return None
        first, _, count = self.points.partition("/")
        if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
            raise InputError(f"points is {self.points!r}; it must be I/N, with I from 1 to N")
        return int(first), int(count)

    def check_for(self, settings: Any) -> None:
        """`check`, and that the settings have a point for every part.

        Args:
            settings: Those of the command; its `axes` span the grid.
        """
        self.check()
        part, axes = self.part(), settings.axes()
        if part is None:
            return
        count = math.prod(map(len, axes.values())) if axes else 1
        if not axes:
            raise InputError(
                f"points is {self.points!r}, but the settings are one point; give several values "
                "of one, as --gamma 0:1:11"
            )
        if part[1] > count:
            raise InputError(f"points is {self.points!r}, but the grid has {count} points")

    def given(self, settings: Any, devices: Sequence) -> tuple:
        """What the command's function gets: the devices of this process, and the part."""
        return *super().given(settings, devices), self.part()


@dataclasses.dataclass(frozen=True)
class ModelDevices(Devices):
    """Devices and processes of a call that trains a model."""

    shard_parameters: bool = False
    """Cut every parameter and both its moments into one part a device, for models that do not fit
    one; by default each has all."""

    def given(self, settings: Any, devices: Sequence) -> tuple:
        """What the command's function gets: a `Placement`."""
        from collapse_jax.runs.placement import Placement

        return (Placement(tuple(devices), self.shard_parameters),)


@dataclasses.dataclass(frozen=True)
class SeedDevices(ModelDevices):
    """Devices and processes of a call that trains several models, a seed each."""

    only_seeds: int | tuple[int, ...] = ()
    """Make these seeds alone, beside other calls that make the others in the same folder; the call
    without this, once they are done, records and draws all."""

    def check_for(self, settings: Any) -> None:
        """`check`, and that `only_seeds` are different seeds of the settings.

        Args:
            settings: Those of the command; `seeds` is the number of all.
        """
        self.check()
        for seed in self._only():
            if not 0 <= seed < settings.seeds or self._only().count(seed) > 1:
                raise InputError(
                    f"only_seeds is {','.join(map(str, self._only()))}; it must be made of "
                    f"different numbers from 0 to {settings.seeds - 1}"
                )

    def given(self, settings: Any, devices: Sequence) -> tuple:
        """What the command's function gets: a `Placement`, and the seeds to make; () is all."""
        return *super().given(settings, devices), tuple(sorted(self._only()))

    def _only(self):
        return self.only_seeds if isinstance(self.only_seeds, tuple) else (self.only_seeds,)
